"""Optional packages and the extra of attnstore that brings each: a missing one is a sentence."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from attnstore.errors import MissingExtraError

EXTRAS = {
    "torch": "models", "transformers": "models", "accelerate": "models", "datasets": "models",
    "safetensors": "models", "tokenizers": "models", "huggingface_hub": "models",
    "prefect": "flows", "matplotlib": "plots", "mpl_toolkits": "plots", "obstore": "s3",
    "prefect_dask": "dask", "dask": "dask", "distributed": "dask", "pandas": "dask",
    "prefect_ray": "ray", "ray": "ray", "spacy": "spacy", "bertviz": "bertviz", "sklearn": "training",
    "captum": "attribution", "mcp": "mcp", "mcp_types": "mcp",
}  # fmt: skip
"""Extra of attnstore that brings a package, by the name under which the package is imported."""


def require(*packages: str) -> None:
    """Check that packages can be found, without importing them.

    Args:
        packages: Names under which packages are imported, such as "torch".

    Raises:
        MissingExtraError: A package is not installed; the sentence names the extra that brings it.
    """
    for package in packages:
        if not _is_installed(package):
            raise missing(ModuleNotFoundError(f"No module named {package!r}", name=package))


def missing(error: ImportError) -> MissingExtraError:
    """Turn a failed import into an error with one sentence and the command that fixes it.

    Args:
        error: What the import raised.
    """
    return MissingExtraError(_sentence(error), name=error.name)


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


def _sentence(error: ImportError) -> str:
    package = (error.name or "").split(".")[0]
    reason = (str(error).strip().splitlines() or ["no reason is given"])[0].rstrip(".")
    if not package:
        return f"A package that this needs cannot be imported: {reason}."
    wanted = f"attnstore[{EXTRAS[package]}]" if package in EXTRAS else package.replace("_", "-")
    if isinstance(error, ModuleNotFoundError):
        return f"The package {package} is not installed; `pip install '{wanted}'` brings it."
    return (
        f"The package {package} cannot be used ({reason}); `pip install --upgrade '{wanted}'` "
        "may bring one that fits."
    )
