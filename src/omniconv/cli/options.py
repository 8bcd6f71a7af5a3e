"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from omniconv.cli.exits import UsageProblemError
from omniconv.processors import MAX_THREADS, take_threads
from omniconv.spec import Shape

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
DEFAULT_THREADS: Final = "the cores this process may use"


def threads_option(what: str, default: str) -> Any:
    """``--threads``; without it the value is ``None``."""
    return typer.Option("--threads", "-t", min=1, max=MAX_THREADS, help=what, show_default=default)


Threads: TypeAlias = Annotated[
    int | None, threads_option("Threads of a call.", f"{DEFAULT_THREADS}, fewer for small work")
]
EqualThreads: TypeAlias = Annotated[int | None, threads_option("Threads of each contender.", DEFAULT_THREADS)]
TileThreads: TypeAlias = Annotated[
    int | None, threads_option("Threads of a tile or batch.", f"{DEFAULT_THREADS}; on a cluster those of its jobs")
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        "-s",
        metavar="[NAME=]N,C,H,W",
        help="Shape of an input, e.g. x=1,3,224,224; once for each input. The name may be left out when there is one.",
    ),
]
Model: TypeAlias = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]
UseTuned: TypeAlias = Annotated[bool, typer.Option("--tuned", help="Use what `omniconv tune` has measured here.")]
Dtype: TypeAlias = Annotated[
    str, typer.Option("--dtype", metavar="TYPE", help="What to compute with: float32 or float64.", show_default=True)
]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Refuse a model part of which would run on the host, in NumPy.")
]
Cluster: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="ADDRESS", help="Compute on the workers of this scheduler of Dask: tcp://host:8786."
    ),
]
Output: TypeAlias = Annotated[str | None, typer.Option("--output", help="The output, where the model has several.")]
Exact: TypeAlias = Annotated[bool, typer.Option("--exact", help="Keep to direct sums, as compile(exact=True) does.")]
Precision: TypeAlias = Annotated[
    str,
    typer.Option(
        "--precision", metavar="TYPE", help="What weights, and values between layers, are kept in: float32 or bfloat16."
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", min=0, help="Seed of random inputs.")]


def equal_threads(asked: int | None) -> int:
    """Threads that contenders all get: what was asked for, or as many as a large network gets by default."""
    return take_threads(asked).number


def parse_shape(text: str) -> tuple[str, Shape]:
    """Read ``[name=]1,3,224,224`` (also with ``x`` between the sizes).

    Example:
        >>> parse_shape("x=1,3,224,224"), parse_shape("1x64x56")
        (('x', (1, 3, 224, 224)), ('', (1, 64, 56)))
    """
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(",") if size.strip())
    except ValueError:
        raise UsageProblemError(f"--shape {text}: sizes are not integers; need e.g. x=1,3,224,224") from None
    if not shape or any(size < 0 for size in shape):
        raise UsageProblemError(f"--shape {text}: no sizes, or negative ones; need e.g. x=1,3,224,224")
    return name.strip(), shape


def parse_shapes(texts: Sequence[str] | None, names: Sequence[str] = ()) -> dict[str, Shape] | None:
    """Read all ``--shape`` options; a shape without a name belongs to the only input.

    Args:
        texts: values of the option.
        names: names of the inputs of the model.
    """
    found: dict[str, Shape] = {}
    for text in texts or ():
        name, shape = parse_shape(text)
        if not name:
            if len(names) != 1:
                listed = ", ".join(names) or "unknown"
                raise UsageProblemError(f"--shape {text}: name the input it belongs to; the model has {listed}")
            name = names[0]
        if names and name not in names:
            raise UsageProblemError(f"--shape {text}: no input {name!r}; the model has {', '.join(names)}")
        if name in found:
            raise UsageProblemError(f"--shape {text}: input {name!r} has two shapes")
        found[name] = shape
    return found or None
