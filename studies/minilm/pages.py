"""The two pages of the study, made from the file of its numbers and, for what was not measured again, from `earlier.json`.

    python -m studies.minilm.pages OUT/numbers.json

keeps the numbers as docs/study-minilm.json and writes docs/study-minilm.md and docs/claims.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2

from studies.minilm import claims, grid, literature, questions, reading
from studies.minilm.reading import Numbers

DOCS = Path(__file__).parents[2] / "docs"
NUMBERS = DOCS / "study-minilm.json"
PAGES = ("study-minilm.md", "claims.md")
_EARLIER = Path(__file__).parent / "earlier.json"


def main() -> None:
    """Write the pages of the documentation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", type=Path, help="The file of numbers that the study wrote.")
    file = parser.parse_args().numbers
    if file.resolve() != NUMBERS.resolve():
        shutil.copyfile(file, NUMBERS)
    for page in write(json.loads(NUMBERS.read_text("utf-8")), DOCS):
        print(page)


def write(content: dict[str, Any], folder: Path) -> list[Path]:
    """Write the pages into a folder.

    Args:
        content: The content of numbers.json.
        folder: Where they go.

    Returns:
        Their files.
    """
    files = []
    for name in PAGES:
        files.append(folder / name)
        files[-1].write_text(page(name, content), "utf-8")
    return files


def page(name: str, content: dict[str, Any]) -> str:
    """Return the text of a page.

    Args:
        name: One of PAGES.
        content: The content of numbers.json.
    """
    numbers = Numbers(content, json.loads(_EARLIER.read_text("utf-8")))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # the pages are Markdown of this repository, and its numbers are the only input
    )  # fmt: skip
    environment.tests["search"] = lambda text, part: part in text
    environment.filters |= {
        "number": reading.number, "percent": reading.percent, "whole": reading.whole, "interval": reading.interval,
        "p": reading.p_value, "signed": reading.signed, "title": reading.title,
    }  # fmt: skip
    return environment.get_template(f"{name}.j2").render(
        n=numbers, c=content, earlier=numbers.earlier, where=reading.where, questions=questions,
        literature=list(literature.findings(numbers)), claims=list(claims.verdicts(numbers)),
        layers=range(6), full=sum(len(row.seeds) for row in grid.trainings(grid.FULL, grid.TASKS) if row.init != "none"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
