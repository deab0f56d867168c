"""Train, run, disable and ask: the whole study of MiniLM, and the pages that show it.

    python -m studies.minilm --glue FOLDER --ud FOLDER --gap FOLDER --framenet FOLDER --out output/study
    python -m studies.minilm --out output/quick --glue FOLDER --ud FOLDER --gap FOLDER --framenet FOLDER --quick

Writes OUT/numbers.json and the pages made from it, OUT/study-minilm.md and OUT/claims.md, beside the store, the
checkpoints and what each step took. Stopped, the same command continues; done, it takes as long as the questions do.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from studies.minilm import asking, filling, grid, pages


def main() -> None:
    """Do the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of everything written.")
    parser.add_argument("--glue", type=Path, help="Folder of the tasks of GLUE.")
    parser.add_argument("--ud", type=Path, help="Folder of en_ewt-ud-dev.conllu.")
    parser.add_argument("--gap", type=Path, help="Folder of gap-development.tsv.")
    parser.add_argument("--framenet", type=Path, help="Folder of a FrameNet release.")
    parser.add_argument("--spacy", default="en_core_web_sm", help="A spaCy pipeline; '' for none.")
    parser.add_argument("--tasks", default=",".join(grid.TASKS), help="Tasks of GLUE.")
    parser.add_argument("--seeds", type=int, default=grid.FULL.seeds, help="Seeds of a training.")
    parser.add_argument("--parts", default="", help="Only the steps of these parts: runs,twins …")
    parser.add_argument("--no-fill", action="store_true", help="Only ask what the store holds.")
    parser.add_argument("--quick", action="store_true", help="A few inputs, to see that it runs.")
    study(parser.parse_args())


def study(arguments: argparse.Namespace) -> None:
    """Do the study with the arguments of `main`."""
    place = filling.Place(arguments.out)
    sources = grid.Sources(
        arguments.glue, arguments.ud, arguments.gap, arguments.framenet, arguments.spacy or None
    )
    size = grid.QUICK if arguments.quick else replace(grid.FULL, seeds=arguments.seeds)
    parts = [part for part in arguments.parts.split(",") if part]
    if not arguments.no_fill:
        filling.fill(place, sources, size, tuple(arguments.tasks.split(",")), parts)
    if parts:
        return
    numbers = asking.ask(place, sources)
    for file in pages.write(numbers, arguments.out):
        print(file)


if __name__ == "__main__":
    main()
