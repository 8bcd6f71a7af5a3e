"""`draw_study`: a study as a picture, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from omniconv.report.pictures import BLUE, GREEN, GREY, HOLE, INK, MUTED, ORANGE, make_figure
from omniconv.report.words import visible
from omniconv.study.claims import MARGIN
from omniconv.study.study import KindResult, Study
from omniconv.study.tables import HEADINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (GREY, MUTED, BLUE, GREEN)


def draw_study(found: Study) -> Figure:
    """Accuracy against the standard network with intervals, what was saved on paper and on the clock, and the grid."""
    kinds = found.same_width
    figure, axes = make_figure(14, 1.6 + 0.32 * max(len(kinds), 7), 1, 4, width_ratios=(1.2, 1.2, 1.2, 1.0))
    names = [item.kind for item in kinds[1:]]
    for place, (title, group) in enumerate((("same width", found.same_width), ("same time", found.same_time))):
        _draw_differences(axes[place], f"accuracy, {title} [points]", group[1:])
        axes[place].set_yticks(
            range(len(names)), names if place == 0 else [f"width {item.width}" for item in group[1:]]
        )
        axes[place].set_ylim(len(names) - 0.5, -0.5)
    _draw_savings(axes[2], kinds)
    axes[2].set_ylim(len(names) - 0.5, -0.5)
    _draw_grids(axes[3], found)
    seeds = found.settings["seeds"]
    title = f"{found.data['task']}; {seeds} seeds; intervals of 95 %, the band is the margin\n{found.machine['cpu']}"
    figure.suptitle(visible(title).replace("$", r"\$"), fontsize=9, color=INK, x=0.01, ha="left")
    return figure


def _draw_differences(axes: Axes, title: str, kinds: Sequence[KindResult]) -> None:
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="#edf0f3", zorder=0)
    axes.axvline(0, color=MUTED, linewidth=1)
    for y, item in enumerate(kinds):
        found = item.difference
        colour = HOLE if found.high < 0 else GREEN if found.low > 0 else GREY
        axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([100 * found.value], [y], "o", color=colour, markersize=5)
    _finish(axes, title)


def _draw_savings(axes: Axes, kinds: Sequence[KindResult]) -> None:
    base = kinds[0]
    for y, item in enumerate(kinds[1:]):
        paper = base.macs / item.macs
        axes.barh(y, paper - 1, 0.6, left=1, color="#f3d3bf", zorder=1, label="MACs" if y == 0 else None)
        for colour, (name, heading) in zip(_COLOURS, HEADINGS.items(), strict=True):
            marker = "o" if name.startswith("omniconv") else "s"
            label = heading if y == 0 else None
            axes.plot(
                [1 / item.times[name].ratio.value], [y], marker, color=colour, markersize=5, label=label, linestyle=""
            )
    axes.axvline(1, color=MUTED, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks([])
    axes.legend(fontsize=6.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=3)
    _finish(axes, "times fewer MACs, times faster than standard")


def _draw_grids(axes: Axes, found: Study) -> None:
    items = [item for item in found.decoders if item.dims == 2]
    places = np.arange(len(items))
    least = 1e-7
    axes.barh(
        places - 0.18, [max(item.untrained.value, least) for item in items], 0.34, color=ORANGE, label="untrained"
    )
    axes.barh(places + 0.18, [max(item.grid.value, least) for item in items], 0.34, color=BLUE, label="error, trained")
    axes.set_xscale("log")
    axes.set_yticks(places, [item.name for item in items])
    axes.set_ylim(len(items) - 0.5, -0.5)
    axes.legend(fontsize=6.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=3)
    _finish(axes, "share of energy at the grid, 2-D")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.grid(axis="x", color="#e3e7eb", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=7)
