"""Figures of the HTML page, as plain data for Plotly's own JavaScript; nothing here imports it.

Plotly reads a few tags in texts (bold, links), so every text that comes from a model goes through `plain`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.analysis import Connectivity, Coverage, Overlap, ReceptiveField
from omniconv.bench.roofline import Roofline
from omniconv.report.inspection import Stack
from omniconv.report.layers import LayerRow
from omniconv.report.shrink import as_plane, shrink, tile_counts
from omniconv.report.spectra import LayerSpectrum
from omniconv.report.words import visible

Figure: TypeAlias = dict[str, Any]

PALETTE: Final = (
    "#0b6e4f", "#4c78a8", "#e07b39", "#8e6bbf", "#c9a227", "#d1495b", "#3aa6a0", "#7a5c3e", "#5b8c2a", "#b0579b",
    "#6b7785", "#2f4b7c",
)  # fmt: skip
SCALE: Final = [[0, "#eef6f3"], [0.25, "#b7dccd"], [0.5, "#5fb08d"], [0.75, "#1f7f5c"], [1, "#083f2d"]]
HOLE: Final = "#e9b3ba"
GRID: Final = "#e6eaee"
SHORT: Final = 48


def plain(text: str, most: int = 0) -> str:
    """A text that Plotly shows as it is; long ones shortened in the middle.

    Example:
        >>> plain('<a href="x">&', 0), plain("abcdefghij", 5)
        ('&lt;a href=&quot;x&quot;&gt;&amp;', 'ab…ij')
    """
    if most and len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return html.escape(visible(text))


def _figure(data: list[Figure], height: int, **layout: Any) -> Figure:
    base: Figure = {
        "height": height,
        "margin": {"l": 64, "r": 20, "t": 12, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1f2933"},
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "bordercolor": "#c5ccd3", "namelength": -1},
        "colorway": list(PALETTE),
        "showlegend": False,
    }
    return {"data": data, "layout": {**base, **layout}}


def _axis(title: str = "", **options: Any) -> Figure:
    return {"title": {"text": title}, "gridcolor": GRID, "zeroline": False, "linecolor": "#c5ccd3", **options}


def colour_kinds(rows: Sequence[LayerRow]) -> dict[str, str]:
    """A colour for each kind, those with most work first; the rest share the last."""
    work: dict[str, int] = {}
    for row in rows:
        work[row.kind] = work.get(row.kind, 0) + row.macs + 1
    order = sorted(work, key=lambda kind: -work[kind])
    return {kind: PALETTE[min(place, len(PALETTE) - 1)] for place, kind in enumerate(order)}


def chart_bars(rows: Sequence[LayerRow]) -> Figure:
    """Shares of MACs, bytes and time, layer by layer, one strip below the other."""
    strips: list[tuple[str, list[float]]] = [
        ("MACs", [row.macs for row in rows]),
        ("bytes", [row.bytes for row in rows]),
    ]
    if any(row.seconds for row in rows):
        strips.append(("time", [row.seconds or 0.0 for row in rows]))
    colours = colour_kinds(rows)
    names = [f"{index}: {plain(row.name, SHORT)}<br>{plain(row.kind)}" for index, row in enumerate(rows)]
    data, layout = [], {}
    for place, (title, values) in enumerate(strips):
        number = "" if place == 0 else str(place + 1)
        total = sum(values) or 1
        data.append(
            {
                "type": "bar",
                "x": list(range(len(rows))),
                "y": [100 * value / total for value in values],
                "xaxis": "x",
                "yaxis": f"y{number}",
                "hovertext": names,
                "marker": {"color": [colours[row.kind] for row in rows], "line": {"width": 0}},
                "hovertemplate": "%{hovertext}<br>%{y:.2f} % of all " + title + "<extra></extra>",
            }
        )
        top = 1 - place / len(strips)
        layout[f"yaxis{number}"] = _axis(f"{title} [%]", domain=[top - 0.88 / len(strips), top], rangemode="tozero")
    layout["xaxis"] = _axis("layer, in order of execution", anchor=f"y{len(strips) if len(strips) > 1 else ''}")
    return _figure(data, 130 * len(strips) + 60, bargap=0.15, **layout)


def chart_treemap(rows: Sequence[LayerRow], measure: str) -> Figure:
    """Kinds and their layers by time, or by MACs: areas are shares."""
    values = [float(getattr(row, measure) or 0) for row in rows]
    colours = colour_kinds(rows)
    kinds = [kind for kind in colours if any(v for v, row in zip(values, rows, strict=True) if row.kind == kind)]
    # Parents hold nothing of their own ("remainder"): Plotly adds up, so that no rounding can make them too small.
    boxes: list[tuple[str, str, str, float, str]] = [("all", "network", "", 0.0, "#dfe5ea")]
    boxes += [(f"kind:{kind}", plain(kind), "all", 0.0, colours[kind]) for kind in kinds]
    boxes += [
        (f"layer:{index}", plain(row.name, SHORT), f"kind:{row.kind}", value, colours[row.kind])
        for index, (row, value) in enumerate(zip(rows, values, strict=True))
        if value
    ]
    ids, labels, parents, sizes, fills = (list(column) for column in zip(*boxes, strict=True))
    trace = {
        "type": "treemap", "ids": ids, "labels": labels, "parents": parents, "values": sizes,
        "branchvalues": "remainder", "marker": {"colors": fills, "line": {"width": 1, "color": "#ffffff"}},
        "texttemplate": "%{label}<br>%{percentRoot:.1%}", "tiling": {"pad": 1},
        "hovertemplate": "%{label}<br>%{percentRoot:.2%} of the network<extra></extra>",
        "pathbar": {"thickness": 22},
    }  # fmt: skip
    return _figure([trace], 420, margin={"l": 4, "r": 4, "t": 28, "b": 4})


def chart_roofline(rows: Sequence[LayerRow], limits: Roofline) -> Figure:
    """Every layer with work by intensity and speed, under the roofs of this machine."""
    found = [row for row in rows if row.macs and row.intensity and (row.seconds or row.bound_seconds)]
    colours = colour_kinds(rows)
    data: list[Figure] = []
    low = min([row.intensity for row in found], default=0.1) / 2
    high = max([row.intensity for row in found], default=100.0) * 2
    dashes = ("dot", "dash", "dashdot", "solid")
    for place, level in enumerate(limits.levels):
        corner = limits.peak / level.copy
        points = sorted({low, min(max(corner, low), high), high})
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{plain(level.name)} {level.copy * 1e-9:.0f} GB/s",
                "x": points,
                "y": [1e-9 * min(limits.peak, x * level.copy) for x in points],
                "hoverinfo": "name",
                "line": {"color": "#6b7785", "width": 1.5, "dash": dashes[(place - len(limits.levels)) % len(dashes)]},
            }
        )
    for kind in colours:
        group = [row for row in found if row.kind == kind]
        if group:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": plain(kind),
                    "x": [row.intensity for row in group],
                    "y": [2e-9 * row.macs / (row.seconds or row.bound_seconds or 1) for row in group],
                    "text": [plain(row.name, SHORT) for row in group],
                    "marker": {
                        "color": colours[kind],
                        "size": 9,
                        "line": {"width": 1, "color": "#ffffff"},
                        "symbol": ["circle" if row.seconds else "circle-open" for row in group],
                    },
                    "hovertemplate": "%{text}<br>%{x:.3g} FLOP/byte, %{y:.3g} GFLOP/s",
                }
            )
    return _figure(
        data,
        430,
        showlegend=True,
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 64, "r": 20, "t": 12, "b": 90},
        xaxis=_axis("arithmetic intensity [FLOP/byte]", type="log", dtick="D2"),
        yaxis=_axis("speed [GFLOP/s]", type="log", dtick="D2"),
    )


def chart_growth(rows: Sequence[LayerRow], sizes: Sequence[int]) -> Figure:
    """Receptive field of each layer on each axis, and the size of the input."""
    data: list[Figure] = []
    for axis, size in enumerate(sizes):
        if axis and all(len(set(row.field_size)) < 2 for row in rows) and len(set(sizes)) == 1:
            break
        kept = [(index, row) for index, row in enumerate(rows) if len(row.field_size) > axis and not row.whole]
        label = "field" if len(sizes) == 1 or len(data) == 0 else f"field, axis {axis}"
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label,
                "x": [index for index, _ in kept],
                "y": [row.field_size[axis] for _, row in kept],
                "line": {"shape": "hv", "width": 2, "color": PALETTE[axis]},
                "marker": {"size": 4},
                "text": [
                    f"{plain(row.name, SHORT)}<br>stride {plain(str(row.field_stride[axis] or 'none'))}"
                    for _, row in kept
                ],
                "hovertemplate": "%{text}<br>%{y} positions<extra></extra>",
            }
        )
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "input",
                "x": [0, max(len(rows) - 1, 1)],
                "y": [size, size],
                "line": {"dash": "dash", "color": "#d1495b", "width": 1.5},
                "hovertemplate": "input: %{y}<extra></extra>",
            }
        )
    return _figure(
        data,
        320,
        showlegend=True,
        legend={"orientation": "h", "y": 1.12},
        xaxis=_axis("layer, in order of execution"),
        yaxis=_axis("input positions", rangemode="tozero"),
    )


def _map(
    plane: npt.NDArray[np.float64],
    hover: str,
    *,
    numbers: bool = False,
    hole: str = "",
    scale: bool = True,
    square: bool = True,
) -> Figure:
    """A heat map; what is not finite stays in the colour of the ground."""
    rows, columns = plane.shape
    values = [[None if math.isnan(v) else v for v in line] for line in plane.tolist()]
    high = float(np.nanmax(plane)) if np.isfinite(plane).any() else 1.0
    trace: Figure = {
        "type": "heatmap", "z": values, "zmin": 0, "zmax": high, "colorscale": SCALE,
        "showscale": scale and not numbers, "hovertemplate": hover + "<extra></extra>",
        "xgap": 0 if hole or max(plane.shape) > 24 else 1, "ygap": 0 if hole or max(plane.shape) > 24 else 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "exponentformat": "power"}, "hoverongaps": False,
    }  # fmt: skip
    if numbers:
        trace["texttemplate"] = "%{z:.4~g}"
    height = min(max(int(340 * rows / columns), 90), 360) if square else 340
    anchor = {"scaleanchor": "x", "constrain": "domain"} if square else {}
    return _figure(
        [trace],
        height + 40,
        plot_bgcolor=hole or "rgba(0,0,0,0)",
        margin={"l": 48, "r": 10, "t": 8, "b": 36},
        xaxis=_axis(showgrid=False, constrain="domain", dtick=1 if columns <= 10 else None),
        yaxis=_axis(
            showgrid=False, autorange="reversed", dtick=1 if rows <= 10 else None, showticklabels=rows > 1, **anchor
        ),
    )


def chart_overlap(found: Overlap) -> Figure:
    """Counts over some periods."""
    plane = as_plane(found.image if found.image is not None else tile_counts(found.counts))
    return _map(shrink(plane), "position %{y}, %{x}<br>%{z:.4g} taps", numbers=plane.size <= 300)


def chart_coverage(found: Coverage) -> Figure:
    """Paths to each position of the field; holes stay in the colour of the ground."""
    plane = as_plane(np.asarray(found.paths, np.float64))
    plane = shrink(np.where(plane > 0, plane, np.nan)) if max(plane.shape) <= 256 else shrink(plane)
    return _map(
        plane, "position %{y}, %{x}<br>%{z:.6g} paths", numbers=plane.size <= 200, hole="" if found.full else HOLE
    )


def chart_connectivity(found: Connectivity) -> Figure:
    """Paths from input channels to output channels."""
    plane = shrink(np.asarray(found.paths, np.float64), 128)
    plane = np.where(plane > 0, plane, np.nan)
    figure = _map(plane, "output %{y}, input %{x}<br>%{z:.6g} paths", hole="#f4f6f8", square=False)
    figure["layout"]["xaxis"]["title"] = {"text": "input channel"}
    figure["layout"]["yaxis"]["title"] = {"text": "output channel"}
    return figure


def chart_support(found: ReceptiveField) -> Figure:
    """The input positions that the middle output depends on."""
    plane = shrink(as_plane(found.support.astype(np.float64)))
    return _map(plane, "position %{y}, %{x}<br>read: %{z:.2g}", scale=False)


def chart_energy(spectra: Sequence[LayerSpectrum]) -> Figure:
    """Energy that rank 1 holds, layer by layer."""
    data: list[Figure] = [{
        "type": "bar", "x": list(range(len(spectra))), "y": [100 * item.first for item in spectra],
        "text": [plain(item.name, SHORT) for item in spectra], "marker": {
            "color": [PALETTE[0] if item.first >= 0.95 else PALETTE[1] for item in spectra]
        }, "textposition": "none", "hovertemplate": "%{text}<br>rank 1 holds %{y:.2f} %<extra></extra>",
    }]  # fmt: skip
    return _figure(
        data,
        260,
        xaxis=_axis("layer with a kernel", dtick=1 if len(spectra) <= 20 else None),
        yaxis=_axis("energy of rank 1 [%]", range=[0, 102]),
        bargap=0.2,
    )


def chart_forms(item: LayerSpectrum) -> Figure:
    """Error of each form over the share of the parameters that it costs."""
    data: list[Figure] = []
    for colour, (name, form) in zip(PALETTE, item.forms.items(), strict=False):
        errors = np.maximum(form.errors, 1e-12)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if errors.size <= 40 else "lines",
                "name": name,
                "x": [cost / form.dense for cost in form.parameters],
                "y": errors.tolist(),
                "line": {"color": colour},
                "text": [f"rank {rank}" for rank in range(errors.size)],
                "hovertemplate": "%{text}: error %{y:.3g} at %{x:.0%} of the parameters",
            }
        )
    return _figure(
        data,
        340,
        showlegend=True,
        legend={"orientation": "h", "y": -0.28},
        margin={"l": 64, "r": 12, "t": 12, "b": 100},
        xaxis=_axis("share of the parameters", range=[0, 1.5], tickformat=".0%"),
        yaxis=_axis("relative squared error", type="log", range=[-4, 0.1], dtick=1, exponentformat="power"),
    )


def stack_title(stack: Stack) -> str:
    """The rates of a stack in words."""
    rates = ", ".join(str(max(conv.dilation)) for conv in stack.chain.convs)
    return f"dilations {rates}"
