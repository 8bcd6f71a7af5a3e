"""``omniconv inspect``: what a model is made of, what each layer costs, sees and takes, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.analysis import AxisStreaming, Tiling
from omniconv.bench.machine import describe_machine
from omniconv.bench.profile import KindTotal, TimedStep, take_profile, total_by_kind
from omniconv.bench.roofline import measure_roofline
from omniconv.cli.console import format_count, format_time, make_table, out, print_json, progress
from omniconv.cli.inspect_report import describe, show_layers, show_parts
from omniconv.cli.model import (
    CompiledModel,
    ModelInput,
    count,
    fix_shapes,
    open_model,
    profile_input,
    random_arrays,
    read_inputs,
)
from omniconv.cli.options import Dtype, Json, Model, Precision, Shapes, Strict, Threads, UseTuned, parse_shapes
from omniconv.cli.outputs import PAGES, check_output, check_output_folder
from omniconv.errors import UnsupportedError
from omniconv.graph import to_partial_program
from omniconv.limits import format_size
from omniconv.program.element import find_element
from omniconv.report.findings import level_of, say
from omniconv.report.inspection import PARTS, Inspection, Times, inspect_program
from omniconv.report.words import visible
from omniconv.spec import Shape

COLOURS = {"high": "bold red", "medium": "yellow", "low": "cyan", "note": "dim"}
BOUNDARY = "(boundary)"


def inspect(
    model: Model,
    shape: Shapes = None,
    field: Annotated[bool, typer.Option("--field", help="Receptive field of the last layers.")] = False,
    overlap: Annotated[bool, typer.Option("--overlap", help="Overlap (checkerboard) of every upsampling.")] = False,
    coverage: Annotated[bool, typer.Option("--coverage", help="Coverage (gridding) of dilated stacks.")] = False,
    connectivity: Annotated[bool, typer.Option("--connectivity", help="Which channels reach which.")] = False,
    separability: Annotated[bool, typer.Option("--separability", help="Rank and energy of every kernel.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with all analyses and interactive plots.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Draw the analyses asked for into this folder, as SVG.")
    ] = None,
    threads: Threads = None,
    tuned: UseTuned = False,
    strict: Strict = False,
    dtype: Dtype = "float32",
    precision: Precision = "float32",
    measure: Annotated[
        bool, typer.Option("--time/--no-time", help="Run the model and show what each layer takes.")
    ] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Show the compiled plan as well.")] = False,
    json: Json = False,
) -> None:
    """Show every layer of a [bold]model[/bold], what it costs, takes and sees, and what is worth knowing about it.

    1 MAC = 2 FLOP. A layer without a time was folded into another one. Operators that are not compiled are left out of
    the analyses and named; those that run on the host are timed, by kind.
    """
    flags = (field, overlap, coverage, connectivity, separability)
    parts = [name for name, wanted in zip(PARTS, flags, strict=True) if wanted]
    check_output("--html", html, PAGES, ["jinja2", "plotly"])
    check_output_folder("--pictures", pictures, ["matplotlib"])
    element = find_element(dtype)
    inputs = read_inputs(model)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    with progress(f"reading {model.name}"):
        program, problems = to_partial_program(str(model), shapes=shapes, element=element)
    network: CompiledModel | None = None
    steps: list[TimedStep] = []
    times = None
    if measure or plan or strict:
        try:
            network = open_model(model, shapes, threads, tuned=tuned, dtype=dtype, precision=precision, strict=strict)
        except UnsupportedError:
            if strict or not problems:
                raise
    if network is not None and measure:
        steps, times = take_times(network, inputs, shapes)
    wanted_parts = PARTS if html is not None or (pictures is not None and not parts) else parts
    with progress("analysing"):
        found = inspect_program(model.name, program, parts=wanted_parts, problems=problems, times=times)
    totals = [] if network is None else total_by_kind(steps, network.layers)
    if html is not None:
        from omniconv.report.page import write_page

        write_page(found, html)
    if pictures is not None:
        from omniconv.report.drawing import draw_parts

        pictures.mkdir(exist_ok=True)
        draw_parts(found, parts or PARTS, pictures)
    if json:
        print_json(describe(found, parts, totals, network))
        return
    show(found, parts, totals, network)
    for path in (html, pictures):
        if path is not None:
            out().print(f"written to {path}", highlight=False, markup=False, soft_wrap=True)
    if plan and network is not None:
        out().print("\n" + network.explain(), markup=False, highlight=False, soft_wrap=True)


def take_times(
    network: CompiledModel, inputs: Sequence[ModelInput], shapes: dict[str, Shape]
) -> tuple[list[TimedStep], Times]:
    """Profile the model on random inputs, and measure the machine."""
    threads = network.threads
    x = profile_input(random_arrays(inputs, shapes, 0, network.dtypes))
    with progress("measuring"):
        steps = take_profile(lambda: network.profile(x))
        limits = measure_roofline(None, threads)
    layers: dict[str, float] = {}
    for step in steps:
        layers[step.name] = layers.get(step.name, 0.0) + step.seconds
    boundary = layers.pop(BOUNDARY, 0.0)
    machine = describe_machine(threads)
    filtered = {step.name: step.multiplications for step in steps if step.multiplications != step.macs}
    return steps, Times(layers, boundary, threads, str(network.target), limits, machine, filtered)


def show(found: Inspection, parts: Sequence[str], totals: list[KindTotal], network: CompiledModel | None) -> None:
    """Print everything."""
    console = out()
    show_layers(console, found)
    if totals:
        console.print()
        console.print(kinds_table("By kind", totals))
    console.print()
    show_parts(console, found, parts)
    if found.findings:
        console.print("[bold]Findings[/bold]")
    for finding in found.findings:
        level = level_of(finding)
        console.print(f"  [{COLOURS[level]}]{level:7}[/]", end="")
        console.print(visible(say(finding)), markup=False, highlight=False, soft_wrap=True)
    if found.tiling is not None:
        console.print(visible(say_tiling(found.tiling)), markup=False, highlight=False, soft_wrap=True)
    for axis in found.streaming:
        console.print(visible(say_streaming(axis)), markup=False, highlight=False, soft_wrap=True)
    cost = found.cost
    line = f"\n{format_count(cost.parameters)} parameters, {format_count(cost.macs)} MACs, "
    line += f"{cost.executed_macs / cost.macs:.1%} of them executed, " if cost.macs else ""
    line += f"{format_count(cost.multiplications)} multiplications done, " if cost.multiplications != cost.macs else ""
    line += f"{format_size(cost.bytes)} moved"
    if network is not None:
        line += (
            f", {format_size(network.arena_bytes)} between layers; compiled for {network.target} in "
            f"{format_time(network.compile_seconds)}, {count(network.cached_kernels)} of {count(network.kernels)} "
            "kernels cached"
        )
        line += f"; {network.tiers}" if network.tiers is not None else ""
    if found.times is not None:
        line += f"; {format_time(found.times.total)} a call"
    console.print(line, highlight=False)


def say_tiling(found: Tiling) -> str:
    """Whether a model is computed in tiles, and how.

    Example:
        >>> say_tiling(Tiling("y", "x", (), ("mean over all positions 'pool'",)))
        "In the way of tiles: mean over all positions 'pool'"
    """
    if found.obstacles:
        return f"In the way of tiles: {'; '.join(found.obstacles)}"
    halos = [f"{axis.halo[0]} + {axis.halo[1]}" for axis in found.axes]
    grids = [str(axis.grid) for axis in found.axes]
    return f"Tiles: halo {', '.join(halos)} input positions; they begin at multiples of {', '.join(grids)}"


def say_streaming(found: AxisStreaming) -> str:
    """Whether a model runs along an axis as its input comes, and how.

    Example:
        >>> from fractions import Fraction
        >>> say_streaming(AxisStreaming(2, 4, Fraction(5, 2), ""))
        'Streams along axis 2: 5/2 positions late, in hops of 4'
    """
    if found.obstacle:
        return f"In the way of streams along axis {found.axis}: {found.obstacle}"
    late = f"{found.delay} positions late" if found.delay > 0 else "at once"
    return f"Streams along axis {found.axis}: {late}, in hops of {found.hop}"


def kinds_table(title: str, totals: list[KindTotal]) -> Any:
    """The table of kinds, as `inspect` and `demo` show it."""
    columns = ("kind", "steps", "parameters", "MACs", "of MACs", "time", "of time", "GFLOP/s")
    rows = [
        (
            total.kind,
            total.steps,
            format_count(total.parameters),
            format_count(total.macs),
            f"{total.macs_share:.1%}",
            format_time(total.seconds),
            f"{total.share:.1%}",
            f"{2e-9 * total.macs / total.seconds:.1f}" if total.macs and total.seconds else "",
        )
        for total in totals
    ]
    return make_table(title, columns, rows)
