"""``omniconv explore``: the explorer in a browser, or as a file."""

from __future__ import annotations

import errno
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from omniconv.cli.arguments import find_kind
from omniconv.cli.console import out, print_json
from omniconv.cli.exits import UsageProblemError
from omniconv.cli.options import Json, parse_shape
from omniconv.cli.outputs import PAGES, check_output
from omniconv.explorer.answers import ANSWERS
from omniconv.explorer.data import make_data
from omniconv.explorer.document import make_document
from omniconv.explorer.exploration import Exploration
from omniconv.explorer.server import PageServer
from omniconv.explorer.start import Start, find_start


def explore(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND or LINE]",
            help="A name that [bold]omniconv kinds[/bold] lists, or a problem line in quotes.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", "-s", metavar="N,C,H,W", help="Shape of the input; default: one that fits.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the page to a file instead (.html).")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="Port to listen on; default 0: any that is free.", show_default=False
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    json: Json = False,
) -> None:
    """Explore a [bold]kind[/bold]: see what it reads and writes, change it, run it on a picture; all in one page.

    Example: omniconv explore "dilated ic1 oc1 ih16 iw16 kh3 kw3 dh2 dw2"
    """
    if html is not None and port is not None:
        raise UsageProblemError("--port belongs to the page that is served; --html writes a file")
    check_output("--html", html, PAGES)
    if what is not None and len(what.split()) == 1:
        what = find_kind(what).name
    start = find_start(what, None if shape is None else parse_shape(shape)[1])
    if html is not None:
        _tell(str(Exploration(start).save(html)), json=json)
    else:
        serve(start, port=port or 0, open_=open_, json=json)


def _tell(page: str, *, json: bool) -> None:
    if json:
        print_json({"page": page})
    else:
        out().print(f"page: {page}", soft_wrap=True, highlight=False)


def serve(start: Start, *, port: int = 0, open_: bool = True, json: bool = False) -> None:
    """Serve the page until the user interrupts.

    Raises:
        UsageProblemError: a port that is taken, or that this user may not listen on.
    """
    page = make_document(make_data(start.spec, start.shape, kind=start.kind, served=True), served=True)
    try:
        server = PageServer(page, ANSWERS, port)
    except OSError as error:
        problem = {errno.EADDRINUSE: "is taken", errno.EACCES: "may not be listened on"}.get(error.errno or 0)
        if problem is None:
            raise
        raise UsageProblemError(f"port {port} {problem}; need a free one, e.g. --port 0") from None
    _tell(server.url, json=json)
    if not json:
        out().print("for this machine only; Ctrl-C ends it", style="dim")
    if open_:
        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        if not json:
            out().print("ended")
    finally:
        server.server_close()
