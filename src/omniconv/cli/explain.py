"""``omniconv explain``: one kind in full, and the plan of one of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.panel import Panel
from rich.text import Text

from omniconv.bench.cost import count_macs, count_parameters, list_steps
from omniconv.cli.arguments import find_kind, parse_settings
from omniconv.cli.console import format_count, format_shape, make_table, out, print_json
from omniconv.cli.explore import serve
from omniconv.cli.options import Json, Threads, parse_shape
from omniconv.errors import OmniconvError
from omniconv.explorer.start import Start
from omniconv.kinds import Kind
from omniconv.kinds.docs import sections
from omniconv.kinds.typical import typical_arguments
from omniconv.reference import random_weights
from omniconv.spec import Shape, Spec


def explain(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A name that [bold]omniconv kinds[/bold] lists.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]", help="Arguments of its constructor, e.g. in_channels=64 stride=2."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", "-s", metavar="N,C,H,W", help="Shape of the input; default: one that fits.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan/--no-plan", help="Compile the layer and show its plan.")] = True,
    threads: Threads = None,
    json: Json = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the layer in the explorer, in the browser.")] = False,
) -> None:
    """Explain one [bold]kind[/bold]: formula, use, cost, samples; and the compiled plan of one layer of it.

    Example: omniconv explain depthwise in_channels=96 kernel_size=5 padding=same -s 1,96,28,28
    """
    found = find_kind(kind)
    spec, size = build(found, settings or (), None if shape is None else parse_shape(shape)[1])
    if open_:
        serve(Start(spec, size, found.name))
        return
    text = compiled_plan(spec, size, threads) if plan else None
    parts = sections(found)
    report: dict[str, Any] = {
        "kind": found.name,
        "summary": found.summary,
        "signature": found.signature,
        "doc": parts,
        "traits": sorted(found.traits),
        "samples": [str(sample) for sample in found.samples],
        "layer": {
            "text": spec.text(size),
            "input_shape": size,
            "output_shape": spec.output_shape(size),
            "weight_shapes": spec.weight_shapes,
            "parameters": count_parameters(spec, bias=False),
            "macs": count_macs(spec, size),
        },
        "plan": text,
    }
    if json:
        print_json(report)
    else:
        show(found, parts, spec, size, text)


def build(kind: Kind, settings: Sequence[str], shape: Shape | None) -> tuple[Spec, Shape]:
    """The layer to explain: typical arguments, changed by the settings, and a shape that fits it."""
    given = parse_settings(kind, settings)
    arguments = {**typical_arguments(kind), **given}
    try:
        spec = kind.constructor(**arguments)
    except OmniconvError:
        if given or not kind.samples:
            raise
        spec = kind.build(kind.samples[0])
        shape = shape or tuple(kind.samples[0].shape)
    if shape is None:
        shape = (1, spec.in_channels, *{1: (1024,), 2: (56, 56), 3: (16, 28, 28)}[spec.dims])
    spec.output_shape(shape)
    return spec, shape


def compiled_plan(spec: Spec, shape: Shape, threads: int | None) -> str:
    """What the compiler chose for this layer, and why."""
    from omniconv.api import compile as compile_spec

    compiled = compile_spec(spec, shape, random_weights(spec, np.random.default_rng(0)), threads=threads)
    return str(compiled.explain())


def show(kind: Kind, parts: dict[str, str], spec: Spec, shape: Shape, plan: str | None) -> None:
    """Print everything about a kind."""
    console = out()
    console.print(Panel(Text(parts["Summary"]), title=f"[bold]{kind.name}[/bold]", title_align="left"))
    for name, text in parts.items():
        if name == "Summary" or not text:
            continue
        console.print(Text(name, style="bold"))
        console.print(Text("\n".join("  " + line if line else "" for line in text.splitlines())), soft_wrap=True)
        console.print()
    console.print(Text("Samples", style="bold"))
    for sample in kind.samples:
        console.print(Text(f"  {kind.name}({sample}) on {format_shape(sample.shape)}"), soft_wrap=True)
    console.print()
    rows = [
        (name, text, format_shape(produced), format_count(parameters), format_count(macs))
        for name, text, produced, parameters, macs in list_steps(spec, shape)
    ]
    title = f"A layer of it: {format_shape(shape)} to {format_shape(spec.output_shape(shape))}"
    console.print(make_table(title, ("step", "problem", "output", "parameters", "MACs"), rows, left=2))
    parameters, macs = count_parameters(spec, bias=False), count_macs(spec, shape)
    console.print(f"{format_count(parameters)} parameters without biases, {format_count(macs)} MACs (1 MAC = 2 FLOP)")
    if plan is not None:
        console.print(Text("\nCompiled plan", style="bold"))
        console.print(Text(plan), soft_wrap=True)
