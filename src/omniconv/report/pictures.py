"""Pictures of analyses, drawn with matplotlib: each function returns a figure, and `save` writes it as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.analysis import Connectivity, Coverage, Overlap, ReceptiveField, Separability
from omniconv.analysis.separability import Unfolding
from omniconv.report.comparison import LayerComparison
from omniconv.report.shrink import as_plane, shrink, tile_counts
from omniconv.report.words import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN: Final = "#0b6e4f"
BLUE: Final = "#4c78a8"
ORANGE: Final = "#e07b39"
GREY: Final = "#a9b4c0"
HOLE: Final = "#d1495b"
INK: Final = "#1f2933"
MUTED: Final = "#6b7785"
COLOURS: Final = "YlGnBu"
MOST_NUMBERS: Final = 400
"""Cells up to which each is labelled with its value."""


def make_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure without pyplot: it needs no display and leaves no state behind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as its ending says. The same figure gives the same file."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "omniconv"}):
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def draw_comparison(found: LayerComparison, machine: str = "") -> Figure:
    """Bars of parameters, MACs and measured time of every kind for one layer."""
    items = found.alternatives
    panels: list[tuple[str, list[float | None], str]] = [
        ("parameters", [item.cost.parameters if item.cost else None for item in items], ""),
        ("multiply-accumulates [MAC]", [item.cost.macs if item.cost else None for item in items], ""),
    ]
    timed = any(item.seconds for item in items)
    if timed:
        panels.append(("measured time [s]", [item.seconds for item in items], "s"))
    figure, axes = make_figure(3.6 * len(panels) + 1.4, 1.3 + 0.3 * len(items), 1, len(panels), sharey=True)
    for place, (title, values, unit) in enumerate(panels):
        _draw_bars(axes[place], values, title, unit)
        if unit:
            least = [item.bound_seconds or np.nan for item in items]
            label = "least time of a direct sum on this machine"
            axes[place].plot(
                least, range(len(items)), "|", zorder=5, color=HOLE, markersize=11, markeredgewidth=2, label=label
            )
            figure.legend(loc="outside lower right", fontsize=7, frameon=False)
    axes[0].set_yticks(range(len(items)), [item.kind for item in items])
    axes[0].set_ylim(len(items) - 0.5, -0.5)
    where = f"{machine}, {found.threads} thread{'s' if found.threads > 1 else ''}" if timed and machine else ""
    figure.suptitle(found.layer.text + (f"\n{where}" if where else ""), fontsize=10, color=INK, x=0.01, ha="left")
    return figure


def _draw_bars(axes: Axes, values: Sequence[float | None], title: str, unit: str) -> None:
    sizes = [value or np.nan for value in values]
    first = sizes[0]
    colours = [ORANGE if size > first * 1.02 else GREEN if size < first * 0.98 else GREY for size in sizes]
    axes.barh(range(len(sizes)), sizes, 0.72, color=colours, zorder=2)
    axes.axvline(first, color=MUTED, linewidth=1, linestyle=":", zorder=1)
    axes.set_xscale("log")
    low, high = np.nanmin(sizes), np.nanmax(sizes)
    axes.set_xlim(low / 2, high * 9)
    for y, size in enumerate(sizes):
        if np.isfinite(size):
            note = f" {_number(size, unit)}" + (f"  ({first / size:.3g}x less)" if size < first * 0.98 else "")
            text = axes.text(size, y, note, va="center", fontsize=7, color=INK)
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85})
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.grid(axis="x", color="#e3e7eb", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=7)


def _number(value: float, unit: str = "") -> str:
    """Three digits with a prefix.

    Example:
        >>> _number(231211008), _number(0.00213, "s"), _number(576)
        ('231 M', '2.13 ms', '576')
    """
    steps = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
    limit, prefix = next(((limit, prefix) for limit, prefix in steps if value >= limit), (1.0, ""))
    return f"{value / limit:.3g} {prefix}{unit}".rstrip()


def draw_overlap(found: Overlap) -> Figure:
    """The overlap as a heat map over a few periods, borders left out, or over the image where there is one."""
    plane = as_plane(found.image if found.image is not None else tile_counts(found.counts))
    figure, axes = _draw_map(np.where(plane > 0, plane, np.nan), 5.6, whole=plane.size <= MOST_NUMBERS)
    levels = ":".join(f"{level:g}" for level in found.levels)
    words = {"even": "even", "uneven": f"uneven, {levels}", "holes": f"holes, {levels}"}[found.verdict]
    what = "taps that meet in each output" if found.direction == "output" else "uses of each input"
    _label(axes, f"{what}: {words}", found.name)
    return figure


def draw_coverage(found: Coverage) -> Figure:
    """Number of paths to each position of the field; holes in red."""
    plane = as_plane(np.asarray(found.paths, np.float64))
    figure, axes = _draw_map(np.where(plane > 0, plane, np.nan), 5.6, whole=plane.size <= MOST_NUMBERS // 2)
    size = "x".join(map(str, found.size))
    holes = "no holes" if found.full else "holes in red"
    _label(axes, f"reads {found.fraction:.1%} of its field of {size} ({holes})", "paths to each position")
    return figure


def draw_connectivity(found: Connectivity) -> Figure:
    """The matrix: which input channels reach which output channels, and over how many paths."""
    plane = shrink(np.asarray(found.paths, np.float64), 256)
    figure, axes = _draw_map(
        np.where(plane > 0, plane, np.nan), 5.6, whole=plane.size <= MOST_NUMBERS // 2, hole="#eef1f4"
    )
    axes.set_xlabel("input channel", fontsize=8)
    axes.set_ylabel("output channel", fontsize=8)
    _label(axes, f"{found.fraction:.1%} of the pairs are connected", "paths from each input to each output channel")
    return figure


def draw_support(found: ReceptiveField) -> Figure:
    """The input positions that one output depends on."""
    figure, axes = _draw_map(shrink(as_plane(found.support.astype(np.float64)), 512), 5.6, whole=False)
    size = "x".join(map(str, found.size))
    _label(
        axes, f"field of {size}, {found.density:.1%} of its bounding box is read", f"{found.tensor} on {found.source}"
    )
    return figure


def draw_separability(found: Separability | dict[str, Unfolding], name: str = "") -> Figure:
    """Energy that each rank leaves out, form by form, over the share of the parameters it costs."""
    forms = found.forms if isinstance(found, Separability) else found
    figure, axes = make_figure(9, 3.6, 1, 2)
    palette = (GREEN, BLUE, ORANGE, "#8e6bbf", HOLE)
    for colour, (form, item) in zip(palette, forms.items(), strict=False):
        errors = np.maximum(np.asarray(item.errors), 1e-16)
        ranks = np.arange(errors.size)
        style = {"color": colour, "marker": "o", "markersize": 3 if errors.size < 40 else 0, "linewidth": 1.4}
        axes[0].plot(ranks, 1 - errors, label=form, **style)
        axes[1].plot(np.asarray(item.parameters) / item.dense, errors, label=form, **style)
    axes[0].set_xlabel("rank", fontsize=8)
    axes[0].set_title("energy that the first ranks hold", fontsize=9, loc="left")
    axes[0].set_ylim(0, 1.03)
    if max(item.errors.size for item in forms.values()) > 20:
        axes[0].set_xscale("symlog", linthresh=4)
    axes[1].set_yscale("log")
    axes[1].set_ylim(1e-4, 1.5)
    axes[1].set_xlim(0, 1.5)
    axes[1].axvline(1, color=MUTED, linestyle=":", linewidth=1)
    axes[1].set_xlabel("share of the parameters", fontsize=8)
    axes[1].set_title("relative squared error", fontsize=9, loc="left")
    for each in axes:
        each.grid(color="#e3e7eb")
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=7)
    axes[1].legend(fontsize=7, frameon=False)
    if name:
        figure.suptitle(visible(name).replace("$", r"\$"), fontsize=10, x=0.01, ha="left", color=INK)
    return figure


def _draw_map(
    plane: npt.NDArray[np.float64], width: float, *, whole: bool | None = None, hole: str = HOLE
) -> tuple[Figure, Any]:
    """A heat map with square cells; a number in each where there are few; what is not finite in the colour of holes."""
    from matplotlib import colormaps

    rows, columns = plane.shape
    figure, axes = make_figure(width, float(np.clip(width * rows / columns + 0.7, 1.6, 8)))
    colours = colormaps[COLOURS].with_extremes(bad=hole)
    high = float(np.nanmax(plane)) if np.isfinite(plane).any() else 1.0
    image = axes.imshow(plane, cmap=colours, vmin=0, vmax=high, interpolation="nearest")
    if plane.size <= MOST_NUMBERS if whole is None else whole:
        for (row, column), value in np.ndenumerate(plane):
            dark = np.isfinite(value) and value > 0.55 * high
            text = f"{value:g}" if np.isfinite(value) else "0"
            size = float(np.clip(150 / max(rows, columns), 4, 9))
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else INK)
    elif rows > 1:
        figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    axes.tick_params(labelsize=7)
    axes.locator_params(integer=True)
    if rows == 1:
        axes.set_yticks([])
    return figure, axes


def _label(axes: Axes, title: str, note: str) -> None:
    """A title in bold words and a smaller line; texts are never read as formulas."""
    safe = visible(note).replace("$", r"\$")
    axes.set_title(f"{title}\n{safe if len(safe) <= 90 else safe[:87] + '...'}", fontsize=8, loc="left", color=INK)
