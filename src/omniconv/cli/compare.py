"""``omniconv compare``: every kind of convolution side by side, for one layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.bench.roofline import measure_roofline
from omniconv.cli.console import advance, format_count, format_time, make_table, out, print_json, progress
from omniconv.cli.options import EqualThreads, Json, equal_threads
from omniconv.cli.outputs import PICTURES, check_output
from omniconv.integers import say_count
from omniconv.report.arrivals import measure_arrival, summarise_arrivals
from omniconv.report.comparison import Alternative, LayerComparison, LayerSizes, compare_kinds

NOTES = (
    "all make an output of the same shape, without biases; 1 MAC = 2 FLOP; executed: only taps that land inside",
    "multiplications: those done, fewer than MACs where filtering saves some",
    "least time: for the multiplications or to move each tensor once",
    "fewer, faster: how many times, against the standard layer in the first row; times are channels last, batch 1",
)


def compare(
    in_channels: Annotated[int, typer.Option("--in-channels", "-i", min=1, help="Channels of the input.")] = 64,
    out_channels: Annotated[int, typer.Option("--out-channels", "-o", min=1, help="Channels of the output.")] = 128,
    kernel: Annotated[int, typer.Option("--kernel", "-k", min=1, help="Taps on each axis.")] = 3,
    size: Annotated[int, typer.Option("--size", "-s", min=1, help="Input positions on each axis.")] = 56,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Distance of neighbouring outputs.")] = 1,
    groups: Annotated[int, typer.Option("--groups", "-g", min=1, help="Groups of the kinds that need them.")] = 4,
    dims: Annotated[int, typer.Option("--dims", min=1, max=3, help="Spatial axes.")] = 2,
    measure: Annotated[bool, typer.Option("--time/--no-time", help="Compile and measure each.")] = True,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw parameters, MACs and times into this .png or .svg file.")
    ] = None,
    threads: EqualThreads = None,
    json: Json = False,
) -> None:
    """Put [bold]every kind of convolution[/bold] side by side for one layer: what it costs on paper, and what it takes.

    Kinds that enlarge their input start from a smaller one, so that all make the same output.
    """
    threads = equal_threads(threads)
    layer = LayerSizes(in_channels, out_channels, kernel, size, stride, groups, dims)
    check_output("--picture", picture, PICTURES, ["matplotlib"])
    found = carry_out(layer, measure=measure, threads=threads)
    machine = describe_machine(threads)
    if picture is not None:
        from omniconv.report.pictures import draw_comparison, save

        save(draw_comparison(found, machine["cpu"]), picture)
    if json:
        print_json(describe(found, machine))
        return
    show(found)
    if picture is not None:
        out().print(f"picture written to {picture}", highlight=False, soft_wrap=True)


def carry_out(layer: LayerSizes, *, measure: bool, threads: int) -> LayerComparison:
    """Measure the machine and the layers."""
    limits = None
    if measure:
        keep_freed_memory()
        with progress("measuring the machine"):
            limits = measure_roofline(None, threads)
    with progress("measuring the layers") as bar:
        return compare_kinds(
            layer, measure=measure, threads=threads, limits=limits, on_round=lambda _, share: advance(bar, share)
        )


def show(found: LayerComparison) -> None:
    """Print the tables, what they leave out, and how to read them."""
    console = out()
    limits = found.limits
    paper = ("kind", "parameters", "MACs", "executed", "values", "bytes", "FLOP/byte", "fewer par.", "fewer MACs")
    rows = [paper_row(found, item) for item in found.alternatives]
    console.print(make_table(f"{found.layer.text}: on paper", paper, rows))
    columns = ("kind", "how it differs", "multiplications", "least time", "time", "reached", "faster")
    if limits is not None:
        rows = [time_row(found, item) for item in found.alternatives]
        console.print(make_table("On this machine", columns, rows, left=2))
    else:
        rows = [[item.kind, ", ".join(item.notes)] for item in found.alternatives if item.notes]
        console.print(make_table("", columns[:2], rows, left=2))
    if found.refused:
        console.print("[bold]Cannot express this layer[/bold]")
    for item in found.refused:
        console.print(f"  {item.kind}: {item.reason}", markup=False, soft_wrap=True)
    summary = summarise_arrivals(found)
    if summary:
        console.print(summary, highlight=False, soft_wrap=True)
    for note in NOTES[: 1 if limits is None else len(NOTES)]:
        console.print(note, style="dim", soft_wrap=True)
    if limits is not None:
        threads = say_count(found.threads, "thread")
        rates = f"{limits.peak * 1e-9:.0f} GFLOP/s at most, {limits.levels[-1].copy * 1e-9:.1f} GB/s from memory"
        console.print(f"{rates} ({threads}, {limits.target})", style="dim", soft_wrap=True)


def paper_row(found: LayerComparison, item: Alternative) -> list[str]:
    """What one kind costs."""
    cost, saved = item.cost, found.savings(item)
    assert cost is not None
    counts = (cost.parameters, cost.macs, cost.executed_macs, cost.activations, cost.bytes)
    ratios = (saved["parameters"], saved["macs"])
    return [item.kind, *map(format_count, counts), f"{cost.intensity:.1f}", *(f"{ratio:.3g}x" for ratio in ratios)]


def time_row(found: LayerComparison, item: Alternative) -> list[str]:
    """What one kind takes."""
    least, taken, faster = item.bound_seconds or 0.0, item.seconds, found.savings(item)["time"]
    done = "" if item.multiplications is None else format_count(item.multiplications)
    if taken is None or faster is None:
        return [item.kind, ", ".join(item.notes), done, format_time(least), "", "", ""]
    times = [format_time(least), format_time(taken), f"{least / taken:.0%}", f"{faster:.3g}x"]
    return [item.kind, ", ".join(item.notes), done, *times]


def describe(found: LayerComparison, machine: dict[str, Any]) -> dict[str, Any]:
    """The report as one document."""
    return {
        "layer": found.layer.to_dict(),
        "machine": machine,
        "roofline": None if found.limits is None else found.limits.as_dict(),
        "threads": found.threads,
        "standard": found.standard.kind,
        "kinds": [describe_kind(found, item) for item in found.alternatives],
        "summary": summarise_arrivals(found),
        "refused": [{"kind": item.kind, "reason": item.reason} for item in found.refused],
    }


def describe_kind(found: LayerComparison, item: Alternative) -> dict[str, Any]:
    """One kind in the document."""
    cost = item.cost
    assert cost is not None
    assert item.spec is not None
    return {
        "kind": item.kind,
        "text": item.spec.text(item.shape),
        "input_shape": item.shape,
        "notes": item.notes,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "executed_macs": cost.executed_macs,
        "multiplications": item.multiplications,
        "activations": cost.activations,
        "bytes": cost.bytes,
        "intensity": cost.intensity,
        "bound_seconds": item.bound_seconds,
        "seconds": item.seconds,
        "savings": found.savings(item),
        "arrived": measure_arrival(found, item),
    }
