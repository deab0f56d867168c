"""The command `look`: the attention of a sentence typed in."""

from __future__ import annotations

from pathlib import Path

import click

from attnstore.cli.options import as_utf8
from attnstore.cli.show import draw


@click.command()
@click.argument("model")
@click.argument("text")
@click.option("--pair", metavar="TEXT", help="The second text of a pair.")
@click.option("--layer", type=int, metavar="N", help="Layer to show, from 0.  [default: the first]")
@click.option("--head", type=int, metavar="N", help="Head to show, from 0.  [default: the first]")
@click.option("--out", metavar="FILE",
              help="Write it there: .html holds every map, .png, .svg and .pdf one.")  # fmt: skip
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto",
              show_default=True, help="Where the forward pass runs.")  # fmt: skip
def look(
    model: str, text: str, pair: str | None, layer: int | None, head: int | None,
    out: str | None, device: str,
) -> None:  # fmt: skip
    """Show a model's attention over a sentence; nothing is kept.

    \b
    Example: attnstore look bert-base-uncased "The cat sat on the mat." --out cat.html
    """
    if out and not out.endswith(".html"):
        from attnstore.plotting import figures  # matplotlib takes long to import

        figures.kind_of(out)
    from attnstore.capture.look import look as captured  # imports torch

    page = bool(out and out.endswith(".html"))
    layers, heads = (None, None) if page else ([layer or 0], [head or 0])
    view = captured(
        model, as_utf8(text), None if pair is None else as_utf8(pair),
        layer=layer, head=head, layers=layers, heads=heads, device=device,
    )  # fmt: skip
    if page:
        click.echo(view.to_html(Path(str(out))))
        return
    state = view.data["state"]
    title = f"{view.title}, layer {state['layer']}, head {state['head']}"
    draw(view.maps[0, 0], view.data["tokens"], title, out)
