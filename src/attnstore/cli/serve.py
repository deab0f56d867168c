"""`attnstore serve`: the explorer over a store, in a browser."""

from __future__ import annotations

import secrets
import socket
import webbrowser

import click

from attnstore.cli.options import analyses_option
from attnstore.errors import UsageError
from attnstore.storage import location


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; another than this machine's own needs a token.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True,
              help="Port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--token", envvar="ATTNSTORE_TOKEN", metavar="TEXT",
              help="What others must show; also from ATTNSTORE_TOKEN.  [default: made up where needed]")  # fmt: skip
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@analyses_option
@click.pass_obj
def serve(
    store: str, host: str, port: int, token: str | None, show: bool, analyses: str | None
) -> None:
    """Explore a store in a browser; nothing leaves this machine.

    \b
    Example: attnstore serve --open
    """
    from attnstore.apps.labeling import pages as labeling
    from attnstore.web import server  # the web server, which other commands do without
    from attnstore.web.security import loopback

    backend = location.find(store)
    if not loopback(host) and token is None:
        token = secrets.token_urlsafe(18)
    port = free_port(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")

    def started() -> None:
        click.echo(f"attnstore explorer of {backend.name}: {address}  (Ctrl-C ends it)")
        if show:
            webbrowser.open(address)

    server.run(backend, host, port, token, started, [labeling.app], analyses)


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises UsageError if it cannot be listened on."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except OSError as error:
        raise UsageError(
            f"{host}, port {port}, cannot be listened on ({error.strerror}); choose another --port."
        ) from error
