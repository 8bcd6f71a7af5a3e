"""What ``omniconv inspect`` prints: the layer table, a table for each analysis, and the JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from omniconv.analysis import Connectivity
from omniconv.analysis.record import to_plain
from omniconv.bench.profile import KindTotal
from omniconv.cli.console import STYLE, format_count, format_shape, format_time, make_table
from omniconv.cli.model import CompiledModel, count
from omniconv.report.inspection import Inspection
from omniconv.report.layers import LayerRow
from omniconv.report.words import visible

MOST_CELLS: Final = 4096
"""Cells up to which a matrix is written as JSON."""


def show_layers(console: Console, found: Inspection) -> None:
    """One table: a row for each layer."""
    timed = found.times is not None
    columns = ["layer", "kind", "output", "params", "MACs", "exec.", "bytes", "FLOP/B"]
    columns += ["mult.", "time", "roof"] * timed + ["field/stride"]
    longest = max(20, 20 + (console.width - 120) // 2)
    table = RichTable(title=Text(visible(found.name)), collapse_padding=True, **STYLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 2 else "right", overflow="fold", no_wrap=index > 1)
    for row in found.layers:
        table.add_row(*(Text(cell) for cell in make_row(row, timed, longest)))
    console.print(table)


def make_row(row: LayerRow, timed: bool, longest: int) -> list[str]:
    """The cells of one layer."""
    work = row.macs > 0
    cells = [shorten(row.name, longest), row.kind, format_shape(row.output_shape)]
    cells += [format_count(row.parameters) if row.parameters else "", format_count(row.macs) if work else ""]
    cells += [f"{row.executed_macs / row.macs:.0%}" if work else "", format_count(row.bytes)]
    cells += [f"{row.intensity:.1f}" if work else ""]
    if timed:
        share = row.roofline_share
        cells += [format_count(row.multiplications) if work and row.multiplications is not None else ""]
        cells += [format_time(row.seconds) if row.seconds else "", "" if share is None else f"{share:.0%}"]
    strides = "x".join(dict.fromkeys(str(stride) for stride in row.field_stride if stride is not None))
    size = "all" if row.whole else "x".join(map(str, dict.fromkeys(row.field_size)))
    return [*cells, f"{size} / {strides}" if strides else size]


def shorten(name: str, most: int = 28) -> str:
    """The end of a long name, where names differ.

    Example:
        >>> shorten("features/block/conv1/Conv", 12)
        '…/conv1/Conv'
    """
    name = visible(name)
    return name if len(name) <= most else "…" + name[1 - most :]


def show_parts(console: Console, found: Inspection, parts: Sequence[str]) -> None:
    """A table for each analysis that was asked for."""
    tables = {
        "field": _field,
        "overlap": _overlap,
        "coverage": _coverage,
        "connectivity": _connectivity,
        "separability": _separability,
    }
    for part in parts:
        title, columns, rows = tables[part](found)
        title = escape(visible(title))
        if rows:
            safe = [[escape(visible(str(cell))) for cell in row] for row in rows]
            console.print(make_table(title, columns, safe))
        else:
            console.print(f"[bold]{title}[/bold]\nnothing to analyse\n")


Table = tuple[str, Sequence[str], list[Sequence[object]]]


def _field(found: Inspection) -> Table:
    columns = ("axis", "size", "stride", "centre of output 0", "padding", "aligned", "sees all through")
    seen = found.field
    if seen is None:
        return "Receptive field", columns, []
    rows: list[Sequence[object]] = [
        (
            axis.axis - 2,
            axis.size,
            "none" if axis.stride is None else axis.stride,
            axis.offset,
            axis.padding,
            "yes" if axis.aligned else "no",
            shorten(", ".join(axis.whole), 40),
        )
        for axis in seen.axes
    ]
    density = f"{seen.density:.0%} of its bounding box" if seen.support.any() else "nothing"
    title = f"Receptive field of {shorten(seen.tensor)} on {shorten(seen.source)}; the middle output reads {density}"
    return title, columns, rows


def _overlap(found: Inspection) -> Table:
    rows: list[Sequence[object]] = []
    for label, item in found.overlaps or ():
        best = sorted(item.remedies, key=lambda remedy: remedy.name != "kernel")[:2]
        better = "; ".join(f"{remedy.advice} ({remedy.mac_ratio:.2g}x MACs)" for remedy in best)
        rows.append((shorten(label), item.verdict, ":".join(f"{level:g}" for level in item.levels), better))
    return "Overlap of transposed convolutions", ("layer", "verdict", "levels", "better"), rows


def _coverage(found: Inspection) -> Table:
    rows: list[Sequence[object]] = []
    for stack in found.stacks or ():
        rates = ",".join(str(max(conv.dilation)) for conv in stack.chain.convs)
        holds = [axis.rule_holds for axis in stack.found.axes if axis.rule_holds is not None]
        rule = "" if not holds else "accepts" if all(holds) else "refuses"
        better = ",".join(map(str, stack.found.suggestion))
        size = format_shape(stack.found.size)
        rows.append((shorten(stack.name), rates, size, f"{stack.found.fraction:.1%}", rule, better))
    columns = ("ends with", "dilations", "field", "covered", "usual rule", "better")
    return "Coverage of dilated stacks", columns, rows


def _connectivity(found: Inspection) -> Table:
    rows: list[Sequence[object]] = []
    if found.connectivity is not None:
        joined = found.connectivity
        rows.append((f"{shorten(joined.source)} to {shorten(joined.tensor)}", "", "", *_connected(joined)))
    for run in found.runs or ():
        groups = "/".join(dict.fromkeys(map(str, run.groups))) + (", shuffled" if run.shuffled else "")
        rows.append(
            (f"{shorten(run.layers[0])} to {shorten(run.layers[-1])}", len(run.layers), groups, *_connected(run.found))
        )
    return "Connectivity of channels", ("from, to", "layers", "groups", "outputs x inputs", "connected", "parts"), rows


def _connected(found: Connectivity) -> tuple[str, str, int]:
    return format_shape(found.matrix.shape), f"{found.fraction:.1%}", len(found.blocks)


def _separability(found: Inspection) -> Table:
    rows: list[Sequence[object]] = []
    for item in found.spectra or ():
        form, rank, share = item.cheapest()
        rows.append((shorten(item.name), format_shape(item.shape), f"{item.first:.2%}", form, rank, f"{share:.0%}"))
    columns = ("layer", "weights", "energy of rank 1", "cheapest form for 99 %", "rank", "of parameters")
    return "Separability of kernels", columns, rows


def describe(
    found: Inspection, parts: Sequence[str], totals: Sequence[KindTotal], network: CompiledModel | None
) -> dict[str, Any]:
    """The report of `inspect` as one document."""
    program = found.program
    report: dict[str, Any] = {
        "model": found.name,
        "inputs": {name: program.shapes[name] for name in program.inputs},
        "outputs": {name: program.shapes[name] for name in program.outputs},
        "parameters": found.cost.parameters,
        "macs": found.cost.macs,
        "executed_macs": found.cost.executed_macs,
        "multiplications": None if found.times is None else found.cost.multiplications,
        "activations": found.cost.activations,
        "bytes": found.cost.bytes,
        "intensity": found.cost.intensity,
        "layers": [{**to_plain(row), "roofline_share": row.roofline_share} for row in found.layers],
        "kinds": list(totals),
        "findings": to_plain(found.findings),
        "problems": to_plain(found.problems),
        "tiling": to_plain(found.tiling),
        "streaming": to_plain(found.streaming),
        "analysis_seconds": dict(found.seconds),
    }
    if network is not None:
        report |= {
            "threads": network.threads,
            "threads_why": network.threads_why,
            "target": str(network.target),
            "compile_seconds": network.compile_seconds,
            "kernels": count(network.kernels),
            "cached_kernels": count(network.cached_kernels),
            "arena_bytes": network.arena_bytes,
            "tiers": network.tiers,
        }
    if found.times is not None and found.times.roofline is not None:
        report |= {
            "seconds": found.times.total,
            "roofline": found.times.roofline.as_dict(),
            "machine": dict(found.times.details),
        }
    makers = {
        "field": describe_field,
        "overlap": describe_overlap,
        "coverage": describe_coverage,
        "connectivity": describe_connectivity,
        "separability": describe_separability,
    }
    return report | {part: makers[part](found) for part in parts}


def describe_field(found: Inspection) -> dict[str, Any] | None:
    """The field without its arrays."""
    seen = found.field
    if seen is None:
        return None
    return {
        "tensor": seen.tensor,
        "source": seen.source,
        "axes": to_plain(seen.axes),
        "position": seen.position,
        "density": seen.density,
        "interior": seen.interior,
        "aligned": seen.aligned,
        "whole": seen.whole,
    }


def describe_overlap(found: Inspection) -> list[dict[str, Any]]:
    """Every transposed convolution."""
    return [
        {"layer": label, "verdict": item.verdict, "levels": item.levels, **to_plain(item)}
        for label, item in found.overlaps or ()
    ]


def describe_coverage(found: Inspection) -> list[dict[str, Any]]:
    """Every dilated stack."""
    return [
        {
            "layer": stack.name,
            "dilations": [conv.dilation for conv in stack.chain.convs],
            "size": stack.found.size,
            "fraction": stack.found.fraction,
            "full": stack.found.full,
            "suggestion": stack.found.suggestion,
            "axes": to_plain(stack.found.axes),
        }
        for stack in found.stacks or ()
    ]


def describe_connectivity(found: Inspection) -> list[dict[str, Any]]:
    """The network, then every run of grouped layers."""
    items: list[tuple[tuple[str, ...], tuple[int, ...], Connectivity]] = []
    if found.connectivity is not None:
        items.append(((), (), found.connectivity))
    items += [(run.layers, run.groups, run.found) for run in found.runs or ()]
    return [
        {
            "layers": layers,
            "groups": groups,
            "source": joined.source,
            "tensor": joined.tensor,
            "fraction": joined.fraction,
            "full": joined.full,
            "blocks": joined.blocks,
            "matrix": joined.matrix.astype(int).tolist() if joined.matrix.size <= MOST_CELLS else None,
        }
        for layers, groups, joined in items
    ]


def describe_separability(found: Inspection) -> list[dict[str, Any]]:
    """Every kernel: the error of each rank of each form."""
    return [
        {
            "layer": item.name,
            "shape": item.shape,
            "rank_1_energy": item.first,
            "cheapest": dict(zip(("form", "rank", "parameters"), item.cheapest(), strict=True)),
            "forms": {
                name: {"errors": form.errors.tolist(), "parameters": form.parameters}
                for name, form in item.forms.items()
            },
        }
        for item in found.spectra or ()
    ]
