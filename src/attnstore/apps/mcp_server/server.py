"""The server that `attnstore mcp` starts: the tools, one sentence for each error, stdio or HTTP on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from attnstore import extras
from attnstore.apps.mcp_server.heads import HeadTools
from attnstore.apps.mcp_server.holdings import Holdings
from attnstore.apps.mcp_server.pictures import PictureTools
from attnstore.apps.mcp_server.questions import QuestionTools
from attnstore.apps.mcp_server.texts import INSTRUCTIONS, Texts
from attnstore.errors import AttnstoreError, UnknownNameError
from attnstore.naming import near
from attnstore.storage.location import Location
from attnstore.web.query_jobs import Limits, Questions
from attnstore.web.served_store import ServedStore
from attnstore.web.site import FOLDER, Site

_OPTION = re.compile(r"give --param (\w+)=…")  # what a terminal is told
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class StoreServer(MCPServer[Any]):
    """A server of the Model Context Protocol over a store.

    site: the explorer's state over the store, whose queries run in bounded processes.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(
            "attnstore", title="Attention maps", instructions=INSTRUCTIONS,
            version=version("attnstore"), log_level="ERROR",
        )  # fmt: skip
        self._site = site
        holdings, asking, pictures = Holdings(site), QuestionTools(site), PictureTools(site)
        tools: list[Callable[..., Any]] = [
            holdings.list_runs, HeadTools(site).describe_head, holdings.list_analyses, holdings.describe_analysis,
            asking.run_analysis, holdings.list_views, holdings.describe_view, asking.sql, asking.find,
            holdings.list_findable, pictures.show_map, pictures.show_heads, pictures.show_mean_maps,
        ]  # fmt: skip
        for tool in tools:
            self.add_tool(tool, description=_paragraphs(tool.__doc__ or ""), annotations=_READS)
        texts = Texts(site)
        self.resource("attnstore://views", name="views")(texts.views)
        self.resource("attnstore://views/{view}", name="view")(texts.view)
        self.resource("attnstore://analyses", name="analyses")(texts.analyses)
        self.resource("attnstore://analyses/{name}", name="analysis")(texts.analysis)
        self.prompt()(texts.explain_head)
        self.prompt()(texts.compare_runs)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> Any:
        """Call a tool; a mistake of the caller is one sentence."""
        try:
            self._require(name, arguments)
            await anyio.to_thread.run_sync(self._site.store.check)
            answer = await super().call_tool(name, arguments, context)
        except (AttnstoreError, ToolError) as error:
            sentence = _sentence(error, name)
            if sentence is None:
                raise
            return CallToolResult(content=[TextContent(type="text", text=sentence)], is_error=True)
        return _without_blanks(answer)

    async def read_resource(self, uri: Any, context: Context[Any, Any] | None = None) -> Any:
        """Read a resource; a mistake of the caller is one sentence."""
        try:
            await anyio.to_thread.run_sync(self._site.store.check)
            return await super().read_resource(uri, context)
        except (AttnstoreError, ResourceError) as error:
            sentence = _sentence(error, str(uri))
            if sentence is None:
                raise
            kind = ResourceNotFoundError if _has(error, UnknownNameError) else ResourceError
            raise kind(sentence) from error

    def _require(self, name: str, arguments: dict[str, Any]) -> None:
        """Raise UnknownNameError for a tool that there is not, and for an argument that it does not take."""
        tools = {tool.name: tool for tool in self._tool_manager.list_tools()}
        if name not in tools:
            raise UnknownNameError(
                f"There is no tool {name!r}{near(name, tools) or '; there are ' + ', '.join(tools)}"
            )
        known = tools[name].parameters.get("properties", {})
        for argument in arguments:
            if argument not in known:
                listed = f"; it takes {', '.join(known)}." if known else "; it takes none."
                raise UnknownNameError(
                    f"The tool {name} takes no {argument!r}{near(argument, known) or listed}"
                )


def _sentence(error: BaseException, name: str) -> str | None:
    """Return the sentence of the mistake behind an error; None for one that is no mistake of the caller."""
    while not isinstance(error, AttnstoreError | ImportError | ValidationError):
        if error.__cause__ is None:
            return None
        error = error.__cause__
    if isinstance(error, ImportError):
        return str(extras.missing(error))
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        argument = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"The tool {name} needs a value for {argument}."
        said = first["msg"][:1].lower() + first["msg"][1:]
        return f"The tool {name} has {argument} = {str(first['input'])[:80]!r}: {said}."
    return _OPTION.sub(r"give \1 in `parameters`", str(error))


def _has(error: BaseException, kind: type[BaseException]) -> bool:
    while not isinstance(error, kind):
        if error.__cause__ is None:
            return False
        error = error.__cause__
    return True


def _without_blanks(answer: Any) -> Any:
    """Write the text of an answer without indents: the data are the same, and a third as long."""
    if isinstance(answer, CallToolResult) and answer.structured_content is not None:
        texts = [part for part in answer.content if isinstance(part, TextContent)]
        if len(texts) == len(answer.content):
            text = json.dumps(answer.structured_content, ensure_ascii=False, separators=(",", ":"))
            answer.content = [TextContent(type="text", text=text)]
    return answer


def _paragraphs(docstring: str) -> str:
    """Return a docstring with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


def run(
    path: Location,
    port: int | None = None,
    analyses: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve a store until the other side ends: over stdin and stdout, or over HTTP on loopback.

    Args:
        path: The store.
        port: Of HTTP; None for stdin and stdout.
        analyses: A folder of one's own analyses.
        limits: Limits of one query.

    Raises:
        StoreError: There is no store.
    """
    store = ServedStore(path, analyses)
    site = Site(store, Questions(store, limits), {"static": FOLDER}, ())

    def end(number: int) -> None:
        site.close()
        os._exit(128 + number)  # a thread that waits for stdin would keep the process

    def leave(number: int, _frame: Any) -> None:  # not here: this thread may hold a lock
        threading.Thread(target=end, args=(number,), daemon=True).start()

    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, leave)
    try:
        site.questions.warm()
        server = StoreServer(site)
        if port is None:
            server.run("stdio")
        else:
            server.run("streamable-http", port=port)
    finally:
        site.close()
