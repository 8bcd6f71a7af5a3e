"""``omniconv tile``: run a model over an image of any size, tile by tile, or show the tiles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.cli.console import format_time, out, print_json
from omniconv.cli.exits import UsageProblemError
from omniconv.cli.model import refuse_saved
from omniconv.cli.options import Cluster, Dtype, Exact, Json, Model, Output, Shapes, TileThreads, parse_shape
from omniconv.tiles import TilePlan, plan_tiles, tiled
from omniconv.tiles.opening import open_source, settle_axes
from omniconv.tiles.subject import open_subject


def tile(
    model: Model,
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]IN... [NAME=]OUT...",
            help="IN: a .npy or .tif file, or a .zarr folder. OUT: .npy, .zarr, .ome.zarr or .tif. By name where the "
            "model has several.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[str, typer.Option("--memory", "-m", help="What tiles may take, e.g. 500M.")] = "2GB",
    axes: Annotated[
        str | None, typer.Option("--axes", help="A letter for each axis of IN, C for channels, e.g. TCZYX.")
    ] = None,
    level: Annotated[
        int, typer.Option("--level", min=0, help="Resolution of images that have several, the finest first.")
    ] = 0,
    shape: Shapes = None,
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
    refuse_saved(model)
    options: dict[str, Any] = {
        "output": output,
        "two_pass": two_pass,
        "threads": threads,
        "exact": exact,
        "dtype": dtype,
    }
    if plan:
        show(_plan(model, places or [], shape, axes, level, memory, options), json=json)
        return
    if shape is not None:
        raise UsageProblemError("--shape belongs to --plan; need tile MODEL IN OUT")
    images, results = _sort(model, places or [])
    if not images or not results:
        raise UsageProblemError("tile needs MODEL IN OUT; or --plan, with IN or --shape")
    start = time.perf_counter()
    options |= {"axes": axes, "level": level, "memory": memory, "resume": resume, "cluster": cluster or False}
    found = tiled(str(model), _alone(images), _alone(results), **options)
    seconds = time.perf_counter() - start
    made = found if isinstance(found, dict) else {"": found}
    if json:
        shapes = {name: y.shape for name, y in made.items()} if isinstance(found, dict) else found.shape
        written = _alone({name: str(path) for name, path in results.items()})
        print_json({"model": model.name, "result": written, "shape": shapes, "seconds": seconds})
        return
    for name, y in made.items():
        sizes = "x".join(map(str, y.shape))
        where = results.get(name, next(iter(results.values()))) if name in results or not name else "nowhere"
        out().print(f"{sizes} written to {where} in {format_time(seconds)}", highlight=False, soft_wrap=True)


def _alone(named: dict[str, Any]) -> Any:
    """What has no name, or all by name."""
    return named[""] if set(named) == {""} else named


def _sort(model: Path, places: list[str], *, plan: bool = False) -> tuple[dict[str, Path], dict[str, Path]]:
    """Which places are images, and which results: those with the name of an input are images; of those without a name
    the last is the result.
    """
    images: dict[str, Path] = {}
    results: dict[str, Path] = {}
    inputs: list[str] = []
    alone = []
    for text in places:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            alone.append(Path(text))
            continue
        if not inputs:
            inputs = [item.name for item in open_subject(str(model), None, None, None, exact=None).inputs]
        goal = images if name in inputs else results
        if name in goal:
            raise UsageProblemError(f"tile: two places for {name!r}")
        goal[name] = Path(path)
    free = [images] * (not images) + [results] * (not results and not plan)
    if len(alone) > len(free):
        named = f"; {', '.join(results)} is no input, which are {', '.join(inputs)}" if inputs and results else ""
        need = "NAME=PATH where there are several"
        raise UsageProblemError(f"tile: {alone[-1]} is one place too many{named}; need {need}")
    # IN before OUT; where one of them is missing, it is found out by who asks.
    for place, goal in zip(alone, free, strict=False):
        goal[""] = place
    return images, results


def _plan(
    model: Path,
    places: list[str],
    shapes: list[str] | None,
    axes: str | None,
    level: int,
    memory: str,
    options: dict[str, Any],
) -> TilePlan:
    images, _ = _sort(model, places, plan=True)
    if bool(images) == bool(shapes):
        raise UsageProblemError("tile --plan needs IN or --shape, one of them")
    sources = {name: open_source(path, level) for name, path in images.items()}
    sizes = {name: tuple(source.array.shape) for name, source in sources.items()}
    known = settle_axes(axes, sources)
    if shapes:
        sizes = dict(map(parse_shape, shapes))
        if len(sizes) != len(shapes):
            raise UsageProblemError("--shape: two shapes of one input")
        known = None
    letters: Any = axes if known is None else _alone(known)
    return plan_tiles(str(model), _alone(sizes), memory, axes=letters, **options)


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
