"""``omniconv tile``: run a model over an image of any size, tile by tile, or show the tiles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.cli.console import format_time, out, print_json
from omniconv.cli.exits import UsageProblemError
from omniconv.cli.options import Cluster, Dtype, Exact, Json, Model, Output, TileThreads
from omniconv.tiles import TilePlan, plan_tiles, tiled
from omniconv.tiles.storage import open_image


def tile(
    model: Model,
    image: Annotated[
        Path | None, typer.Argument(metavar="IN", help="A .npy or .tif file, or a .zarr folder.", show_default=False)
    ] = None,
    result: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="A .npy file or a .zarr folder.", show_default=False)
    ] = None,
    memory: Annotated[str, typer.Option("--memory", "-m", help="What tiles may take, e.g. 500M.")] = "2GB",
    axes: Annotated[
        str | None, typer.Option("--axes", help="A letter for each axis of IN, C for channels, e.g. TCZYX.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", "-s", metavar="N,C,H,W", help="With --plan: a shape in place of IN.")
    ] = None,
    output: Output = None,
    two_pass: Annotated[
        bool, typer.Option("--two-pass", help="Find reductions over all positions by passes before the result.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the tiles, and compute nothing but one of them.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on where an earlier run stopped, or begin anew.")
    ] = True,
    exact: Exact = False,
    threads: TileThreads = None,
    dtype: Dtype = "float32",
    cluster: Cluster = None,
    json: Json = False,
) -> None:
    """Run a [bold]model[/bold] over an image of any size, tile by tile: the same result as of the whole.

    What is read beyond a tile follows from the layers. OUT appears when it is whole; a run that was stopped goes on.
    """
    options: dict[str, Any] = {
        "axes": axes,
        "output": output,
        "two_pass": two_pass,
        "threads": threads,
        "exact": exact,
        "dtype": dtype,
    }
    if plan:
        show(_plan(model, image, shape, memory, options), json=json)
        return
    if image is None or result is None or shape is not None:
        raise UsageProblemError("tile needs MODEL IN OUT; or --plan, with IN or --shape")
    start = time.perf_counter()
    found = tiled(str(model), image, result, memory=memory, resume=resume, cluster=cluster or False, **options)
    seconds = time.perf_counter() - start
    if json:
        print_json({"model": model.name, "result": str(result), "shape": found.shape, "seconds": seconds})
        return
    sizes = "x".join(map(str, found.shape))
    out().print(f"{sizes} written to {result} in {format_time(seconds)}", highlight=False, soft_wrap=True)


def _plan(model: Path, image: Path | None, shape: str | None, memory: str, options: dict[str, Any]) -> TilePlan:
    from omniconv.cli.options import parse_shape

    if (image is None) == (shape is None):
        raise UsageProblemError("tile --plan needs IN or --shape, one of them")
    sizes = parse_shape(shape)[1] if shape is not None else tuple(open_image(image).shape)
    return plan_tiles(str(model), sizes, memory, **options)


def show(plan: TilePlan, *, json: bool) -> None:
    """The table and the picture, and the time of all tiles by that of one."""
    seconds = plan.measure_seconds()
    if json:
        document = {name: value for name, value in plan.to_dict().items() if name != "lines"}
        print_json(
            document | {"tiles": plan.tiles, "kinds": plan.kinds, "recompute": plan.recompute, "seconds": seconds}
        )
        return
    console = out()
    console.print(str(plan), markup=False, highlight=False, soft_wrap=True)
    console.print(f"time: {format_time(seconds)}, by that of one tile\n", markup=False, highlight=False, soft_wrap=True)
    console.print(plan.picture(), markup=False, highlight=False, soft_wrap=True)
