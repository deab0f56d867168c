"""`attnstore mcp`: the store for an assistant, by the Model Context Protocol."""

from __future__ import annotations

import click

from attnstore.cli.options import analyses_option
from attnstore.cli.serve import free_port
from attnstore.storage import location

LOOPBACK = "127.0.0.1"


@click.command()
@click.option("--http", "port", type=click.IntRange(0, 65535), metavar="PORT",
              help="Listen on that port of this machine, at /mcp, instead of on stdin; 0 takes a free one.")  # fmt: skip
@analyses_option
@click.pass_obj
def mcp(store: str, port: int | None, analyses: str | None) -> None:
    """Serve a store to an assistant (Model Context Protocol), read-only; clients start this command.

    \b
    Example: attnstore --store storage mcp --http 8766
    """
    from attnstore.apps.mcp_server import server  # the extra mcp, which other commands do without

    backend = location.find(store)
    if port is not None:
        port = free_port(LOOPBACK, port)
        click.echo(f"attnstore mcp of {backend.name}: http://{LOOPBACK}:{port}/mcp  (Ctrl-C ends it)", err=True)  # fmt: skip
    server.run(backend, port, analyses)
