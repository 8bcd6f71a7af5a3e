"""A picture of a corpus: for each kind, how much of what the machine can do every runtime reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from omniconv.bench.compare import OURS, fastest
from omniconv.bench.corpus import Measured, geometric_mean, group_by_kind, list_runtimes
from omniconv.bench.roofline import Roofline
from omniconv.integers import say_count

COLOURS: Final = {
    OURS: "#0b6e4f",
    "ONNX Runtime": "#4c78a8",
    "OpenVINO": "#9467bd",
    "PyTorch": "#e4572e",
    "ncnn": "#c9a227",
    "XNNPACK": "#7f7f7f",
}
OTHER: Final = "#b0b0b0"


def list_shares(measured: Iterable[Measured]) -> dict[str, dict[str, tuple[float, int]]]:
    """For each kind and runtime: geometric mean of its share of the limit in its best layout, and over how many."""
    measured = list(measured)
    runtimes = (OURS, *list_runtimes(measured))
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for kind, items in group_by_kind(measured).items():
        found[kind] = {}
        for runtime in runtimes:
            shares = []
            for item in items:
                group = item.comparison.ours if runtime == OURS else item.comparison.peers
                best = fastest(
                    result for result in group if result.runtime == runtime and not (result.exact or result.solo)
                )
                if best is not None:
                    shares.append(item.bound.seconds / best.median)
            mean = geometric_mean(shares)
            if mean is not None:
                found[kind][runtime] = (mean, len(shares))
    return found


def draw_corpus(measured: Sequence[Measured], roofline: Roofline, machine: Mapping[str, Any], path: Path) -> Path:
    """Draw bars by kind into a .png or .svg file."""
    figures = import_module("matplotlib.figure")  # not pyplot: a Figure needs no display and leaves no state behind
    ticker = import_module("matplotlib.ticker")
    shares = list_shares(measured)
    runtimes = list(dict.fromkeys(name for row in shares.values() for name in row))
    counts = {kind: len(items) for kind, items in group_by_kind(measured).items()}
    kinds = list(shares)
    highest = max((share for row in shares.values() for share, _ in row.values()), default=1.0)
    height = 0.8 / max(len(runtimes), 1)
    figure = figures.Figure(
        figsize=(10, 1.6 + 0.24 * len(kinds) * max(len(runtimes) * 0.62, 1.6)), layout="constrained"
    )
    axes = figure.subplots()
    for place, runtime in enumerate(runtimes):
        rows = [index for index, kind in enumerate(kinds) if runtime in shares[kind]]
        values = [shares[kinds[index]][runtime][0] for index in rows]
        where = [index + (place - (len(runtimes) - 1) / 2) * height for index in rows]
        axes.barh(where, values, height * 0.9, color=COLOURS.get(runtime, OTHER), label=runtime, zorder=2)
        for y, value, index in zip(where, values, rows, strict=True):
            complete = shares[kinds[index]][runtime][1] == counts[kinds[index]]
            note = f"{value:.0%}" + ("" if complete else f" ({shares[kinds[index]][runtime][1]})")
            axes.text(value + highest * 0.005, y, note, va="center", fontsize=6, color="#333333")
    axes.axvline(1.0, color="#222222", linewidth=1.2, linestyle="--", zorder=3, label="limit of this machine")
    axes.set_yticks(range(len(kinds)), [f"{kind} ({counts[kind]})" for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xlim(0, max(highest * 1.08, 1.05))
    axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "share of the roofline of a direct sum, geometric mean over the layers of a kind; "
        "Winograd filtering may exceed it"
    )
    threads = say_count(roofline.threads, "thread")
    commit = machine.get("commit") or "unknown"
    axes.set_title(
        f"{machine['cpu']}, {threads}, {roofline.target}, {roofline.peak * 1e-9:.0f} GFLOP/s; float32, batch 1\n"
        f"every runtime in its best layout; in brackets the number of layers (of those it can run, where fewer); "
        f"commit {commit}",
        fontsize=8,
        loc="left",
    )
    figure.legend(loc="outside upper center", ncols=len(runtimes) + 1, frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)
    return path
