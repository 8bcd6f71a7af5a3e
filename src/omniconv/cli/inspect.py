"""``omniconv inspect``: what a model is made of, and what each layer costs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from omniconv.bench.profile import KindTotal, Step, take_profile, total_by_kind
from omniconv.cli.console import format_count, format_shape, format_time, make_table, out, print_json, progress
from omniconv.cli.model import Network, count, fix_shapes, open_model, profile_input, random_arrays, read_inputs
from omniconv.cli.options import Json, Model, Shapes, Threads, parse_shapes


def inspect(
    model: Model,
    shape: Shapes = None,
    threads: Threads = 1,
    measure: Annotated[
        bool, typer.Option("--time/--no-time", help="Run the model and show what each layer takes.")
    ] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Show the compiled plan as well.")] = False,
    json: Json = False,
) -> None:
    """Show every layer of a [bold]model[/bold]: kind, shape, parameters, multiply-accumulates (MACs), time.

    1 MAC = 2 FLOP. A layer without a time was folded into another one.
    """
    inputs = read_inputs(model)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    network = open_model(model, shapes, threads)
    steps: list[Step] = []
    if measure:
        x = profile_input(random_arrays(inputs, shapes, 0))
        with progress("measuring"):
            steps = take_profile(lambda: network.profile(x))
    totals = total_by_kind(steps, network.layers)
    times: dict[str, float] = {}
    for step in steps:
        times[step.name] = times.get(step.name, 0.0) + step.seconds
    if json:
        print_json(describe(model.name, network, times, totals, threads))
        return
    console = out()
    columns = ["layer", "kind", "input", "output", "parameters", "MACs"] + ["time"] * measure
    rows = []
    for layer in network.layers:
        row = [layer.name, layer.kind, format_shape(layer.input_shape), format_shape(layer.output_shape)]
        row += [format_count(layer.parameters), format_count(layer.macs)]
        if measure:
            row.append(format_time(times[layer.name]) if layer.name in times else "")
        rows.append(row)
    console.print(make_table(model.name, columns, rows, left=2))
    if measure:
        console.print()
        console.print(kinds_table("By kind", totals))
    parameters, macs = (sum(getattr(layer, key) for layer in network.layers) for key in ("parameters", "macs"))
    console.print(
        f"\n{format_count(parameters)} parameters, {format_count(macs)} MACs, {network.arena_bytes / 2**20:.1f} MiB "
        f"between layers; compiled for {network.target} in {format_time(network.compile_seconds)}, "
        f"{count(network.cached_kernels)} of {count(network.kernels)} kernels cached"
    )
    if plan:
        console.print("\n" + network.explain(), markup=False, highlight=False, soft_wrap=True)


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


def describe(
    name: str, network: Network, times: dict[str, float], totals: list[KindTotal], threads: int
) -> dict[str, Any]:
    """The report of `inspect` as one document."""
    return {
        "model": name,
        "inputs": dict(network.inputs),
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "text": layer.text,
                "input_shape": layer.input_shape,
                "output_shape": layer.output_shape,
                "parameters": layer.parameters,
                "macs": layer.macs,
                "seconds": times.get(layer.name),
            }
            for layer in network.layers
        ],
        "kinds": totals,
        "threads": threads,
        "target": str(network.target),
        "compile_seconds": network.compile_seconds,
        "kernels": count(network.kernels),
        "cached_kernels": count(network.cached_kernels),
        "arena_bytes": network.arena_bytes,
    }
