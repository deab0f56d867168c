"""Locations of a model: a local folder, an installed package, or the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path

from attnstore.errors import ModelError
from attnstore.models import adapters, weights
from attnstore.models.file_hashes import TOKENIZER_SETTINGS, VOCABULARIES
from attnstore.models.json_files import read_any, read_json
from attnstore.naming import near

PACKAGE = "package:"
"""Prefix of a model that comes in an installed Python package."""

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./+-]+)?")
_MODULES = "modules.json"
_LOWER_CASE = "sentence_bert_config.json"
_NO_SUCH_MODEL = "is neither a local folder nor a model you can read on the Hugging Face Hub{near}"
_OFFLINE = (
    "is neither a local folder nor complete in the Hugging Face cache, and the Hub cannot be"
    " reached; check the network or give a folder{near}"
)
_HUB_REFUSALS = {
    "GatedRepoError": "is gated; accept its terms at https://huggingface.co/{repo} and log in",
    "RevisionNotFoundError": "does not exist; see https://huggingface.co/{repo} for its branches",
    "RepositoryNotFoundError": _NO_SUCH_MODEL,
    "HFValidationError": _NO_SUCH_MODEL,
    "LocalEntryNotFoundError": _OFFLINE,
}
"""What an exception of huggingface_hub, a library imported only if needed, means to the user."""


Ready = Callable[[Path], str | None]
"""What is missing in a folder, None where it is complete."""


def locate(source: str, ready: Ready) -> tuple[Path, str | None, str]:
    """Return folder, Hub commit and default name of a model that exists."""
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if source.startswith(PACKAGE):
        package = source.removeprefix(PACKAGE).replace("-", "_")
        return _in_package(package, ready), None, package
    if os.path.isdir(path):
        return path, None, _called(path)
    if os.path.exists(path):
        raise ModelError(f"{source} is a file; give the folder that holds config.json")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(
            f"there is no folder {source}, and a Hugging Face Hub id looks like owner/name"
            f"{_near_folders(source)}"
        )
    repo, _, revision = source.partition("@")
    folder = _download(repo, revision or None)
    return folder, folder.name, repo.rpartition("/")[2]


def _called(folder: Path) -> str:
    """Return the default name of a folder; a Trainer's `mrpc/checkpoint-500` is mrpc-500."""
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return f"{folder.parent.name}-{step[1]}" if step and folder.parent.name else folder.name


def _near_folders(source: str) -> str:
    path = Path(os.path.expanduser(source))
    return near(path.name, [f.name for f in path.parent.glob("*") if f.is_dir()])


def _in_package(package: str, ready: Ready) -> Path:
    """Return the folder with config.json of an installed package: its own, or one just below."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        pip = f"pip install {package.replace('_', '-')}"
        raise ModelError(f"the Python package {package!r} is not installed; try: {pip}")
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = [f for f in (root, *sorted(root.iterdir())) if (f / "config.json").is_file()]
    if not folders:
        raise ModelError(f"the Python package {package!r} holds no model: no config.json in {root}")
    return next((folder for folder in folders if ready(folder) is None), folders[0])


def _download(repo: str, revision: str | None) -> Path:
    """Return the snapshot folder of a Hub model; its name is the commit. Offline, the local cache's."""
    from huggingface_hub import snapshot_download  # 0.2 s that only a Hub model needs to pay

    def fetch(names: list[str], below: Path | None = None) -> Path:
        prefix = "" if below is None else f"{below.relative_to(folder).as_posix()}/"
        patterns = [prefix.removeprefix("./") + name for name in names]
        commit = revision if below is None else folder.name
        return Path(snapshot_download(repo, revision=commit, allow_patterns=patterns))

    files = ["config.json", *VOCABULARIES, *TOKENIZER_SETTINGS, "tokenizer.*.json"]
    files += [*weights.SAFETENSORS, "model-*.safetensors"]
    try:
        folder = fetch([*files, _MODULES, adapters.CONFIG, adapters.FILE])
        encoder = encoder_folder(folder)
        if encoder != folder:
            fetch([*files, _LOWER_CASE], encoder)
        if not any(encoder.glob("*.safetensors")):
            fetch([*weights.PICKLES, "pytorch_model-*.bin"], encoder)
    except ModelError:
        raise
    except Exception as error:  # whatever a network and a disk can do
        what = f"model {repo!r}" + (f" at revision {revision!r}" if revision else "")
        for cause in type(error).__mro__:
            if sentence := _HUB_REFUSALS.get(cause.__name__):
                finding = sentence.format(repo=repo, near=_near_folders(repo))
                raise ModelError(f"{what} {finding}") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"{what} cannot be downloaded; try again ({reason})") from error
    return folder


def encoder_folder(folder: Path) -> Path:
    """Return the folder of the encoder in a folder of sentence-transformers; any other folder itself.

    Raises ModelError where its modules.json names no encoder in the folder, or one whose texts are
    written in lower case before the tokenizer sees them.
    """
    path = folder / _MODULES
    if not path.is_file():
        return folder
    modules = read_any(path)
    listed = [m for m in modules if isinstance(m, dict)] if isinstance(modules, list) else []
    encoders = [m for m in listed if str(m.get("type")).rpartition(".")[2] == "Transformer"]
    below = encoders[0].get("path") if encoders else None
    if not isinstance(below, str) or not weights.inside(below):
        raise ModelError(
            f"{path} of sentence-transformers names no Transformer module in its folder; give the"
            " folder that holds the config.json of its encoder"
        )
    encoder = folder / below
    settings = encoder / _LOWER_CASE
    if settings.is_file() and read_json(settings).get("do_lower_case"):
        raise ModelError(
            f"{settings} has texts written in lower case before they become tokens, which attnstore"
            f" does not do: write them so, and give the folder of the encoder alone ({encoder})"
            if below
            else f"{settings} says do_lower_case, which attnstore does not do; write your texts in "
            "lower case and remove that key"
        )
    return encoder
