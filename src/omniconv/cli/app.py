"""The application: global options and the list of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from omniconv import __version__
from omniconv.cli.bench import bench
from omniconv.cli.compare import compare
from omniconv.cli.compile import compile  # noqa: A004 - the name of the command
from omniconv.cli.console import out
from omniconv.cli.demo import demo
from omniconv.cli.exits import MEANINGS
from omniconv.cli.explain import explain
from omniconv.cli.explore import explore
from omniconv.cli.inspect import inspect
from omniconv.cli.kinds import kinds
from omniconv.cli.map import map  # noqa: A004 - the name of the command
from omniconv.cli.quantize import quantize
from omniconv.cli.run import run
from omniconv.cli.stream import stream
from omniconv.cli.study import study
from omniconv.cli.tile import tile
from omniconv.cli.tune import tune

CODES = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
    name="omniconv",
    epilog=CODES,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        out().print(f"omniconv {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A compiler for convolutions: every kind described once, compiled to machine code for its exact shapes."""
    if context.invoked_subcommand is None:
        context.get_help()


SEE = "See what it does"
MODELS = "Models"

app.command(rich_help_panel=SEE)(demo)
app.command(rich_help_panel=SEE)(kinds)
app.command(rich_help_panel=SEE)(explain)
app.command(rich_help_panel=SEE)(explore)
app.command(rich_help_panel=SEE)(compare)
app.command(rich_help_panel=SEE)(study)
app.command(rich_help_panel=MODELS)(inspect)
app.command(rich_help_panel=MODELS)(compile)
app.command(rich_help_panel=MODELS)(run)
app.command(rich_help_panel=MODELS)(tile)
app.command(rich_help_panel=MODELS)(map)
app.command(rich_help_panel=MODELS)(stream)
app.command(rich_help_panel=MODELS)(quantize)
app.command(rich_help_panel=MODELS)(bench)
app.command(rich_help_panel=MODELS)(tune)
