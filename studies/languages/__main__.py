"""Train or take a multilingual model, run it over treebanks of several languages, and ask what its heads do.

    python -m studies.languages --data shared/data/ud --out output/languages
    python -m studies.languages --data shared/data/ud --out output/languages --model bert-base-multilingual-cased

Writes OUT/NAME.csv and OUT/NAME.md (the table), OUT/NAME.png (the figure), and the store OUT/store. Stopped, the same
command continues. Without --model a small BERT is trained on three quarters of the sentences.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from studies.languages import asking, drawing, small_bert, texts

_QUICK = small_bert.Size(layers=2, heads=2, width=16, vocabulary=4000, tokens=2000)


def main() -> None:
    """Do the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Folder of the treebanks.")
    parser.add_argument(
        "--out", type=Path, required=True, help="Folder of everything that is written."
    )
    parser.add_argument(
        "--model", help="A trained multilingual checkpoint; without it, a small one is trained."
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=small_bert.Size.tokens,
        help="Tokens that the small one is trained on, repeated ones counted.",
    )
    parser.add_argument(
        "--limit", type=int, default=300, help="Sentences of each treebank, a random sample."
    )
    parser.add_argument("--twins", type=int, default=1, help="Random-weights twins.")
    parser.add_argument(
        "--quick", action="store_true", help="A few sentences and steps, to see that it runs."
    )
    study(parser.parse_args())


def study(arguments: argparse.Namespace) -> None:
    """Do the study with the arguments of `main`."""
    out, quick = arguments.out, arguments.quick
    parts = texts.divide(arguments.data, out / "texts", 100 if quick else None)
    if arguments.model:
        model, asked = arguments.model, ["all"]
    else:
        size = _QUICK if quick else replace(small_bert.Size(), tokens=arguments.tokens)
        lines = {
            treebank: {part: texts.sentences(files[part]) for part in texts.PARTS}
            for treebank, files in parts.items()
        }
        small_bert.train(lines, out / "small-bert", size)
        model, asked = f"{out / 'small-bert' / 'model'}=small-bert", list(texts.PARTS)
    files = [files[part] for part in asked for files in parts.values()]
    runs = asking.fill(
        out / "store", model, files, 5 if quick else arguments.limit, arguments.twins
    )
    rows = asking.ask(out / "store", runs, least=5 if quick else 50)
    name = runs[0].partition("/")[0]
    rows.write_csv(out / f"{name}.csv")
    (out / f"{name}.md").write_text(asking.table(rows), "utf-8")
    drawing.draw(rows, out / f"{name}.png")
    print(asking.table(rows))


if __name__ == "__main__":
    main()
