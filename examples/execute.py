"""Execute the notebooks of this folder and keep what they show: `make notebooks`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

INSTALL = "install"
"""Tag of a cell that installs packages; it is not executed where attnstore is installed already."""
_FOLDER = Path(__file__).parent


def execute(path: Path, folder: Path, kernel: str = "python3") -> nbformat.NotebookNode:
    """Execute a notebook in a folder, and return it with its outputs.

    What differs from one execution to the next stays out: times, and what is written to stderr.

    Raises:
        CellExecutionError: A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name=kernel, skip_cells_with_tag=INSTALL,
        record_timing=False, resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata.language_info = {"name": "python"}
    return notebook


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(_FOLDER.glob("*.ipynb"))):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), path)
        print(path.name)
