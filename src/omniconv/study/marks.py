"""Charts of a study as inline SVG, coloured by the style sheet of the page, so that they are light or dark with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from omniconv.study.claims import MARGIN
from omniconv.study.study import DecoderResult, KindResult

WIDTH, ROW, LEFT, RIGHT, FOOT = 860, 26, 170, 130, 26


def chart_differences(kinds: Sequence[KindResult]) -> Markup:
    """A dot with its interval for each kind: accuracy against the standard network [points]."""
    items = kinds[1:]
    ends = [100 * end for item in items for end in (item.difference.low, item.difference.high)]
    low, high = min(-2.0, *ends), max(2.0, *ends)
    height = ROW * len(items) + FOOT

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    margin = 100 * MARGIN
    parts = [
        f'<rect class="band" x="{x(-margin):.1f}" y="0" width="{x(margin) - x(-margin):.1f}" height="{height - FOOT}"/>'
    ]
    step = next(size for size in (1, 2, 5, 10, 20, 50, 100) if (high - low) / size <= 12)
    for tick in range(math.ceil(low / step) * step, math.floor(high) + 1, step):
        line = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{line}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - FOOT}"/>')
        parts.append(f'<text class="soft" x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle">{tick:+d}</text>')
    for place, item in enumerate(items):
        y, found = ROW * (place + 0.5), item.difference
        sort = "worse" if found.high < 0 else "better" if found.low > 0 else "even"
        ends_x = x(100 * found.low), x(100 * found.high)
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(item.kind)}</text>')
        parts.append(
            f'<line class="{sort}" stroke-width="3" x1="{ends_x[0]:.1f}" x2="{ends_x[1]:.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="{sort}" cx="{x(100 * found.value):.1f}" cy="{y}" r="5"/>')
        words = f"{100 * found.value:+.1f}, width {item.width}"
        parts.append(f'<text class="soft" x="{WIDTH - RIGHT + 10}" y="{y + 4}">{words}</text>')
    return _figure(height, parts, "Accuracy of each kind against the standard network, in points")


def chart_grids(decoders: Sequence[DecoderResult]) -> Markup:
    """Two bars on a logarithmic scale for each way of enlarging in two dimensions."""
    items = [item for item in decoders if item.dims == 2]
    low, high = -6.0, 0.0
    height = 40 * len(items) + FOOT

    def x(value: float) -> float:
        return LEFT + (min(max(math.log10(max(value, 1e-12)), low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = []
    for tick in range(int(low), int(high) + 1):
        place = x(10.0**tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="{height - FOOT}"/>')
        parts.append(
            f'<text class="soft" x="{place:.1f}" y="{height - 8}" text-anchor="middle">{100 * 10.0**tick:g} %</text>'
        )
    for place, item in enumerate(items):
        y = 40 * place + 4
        parts.append(f'<text x="{LEFT - 10}" y="{y + 20}" text-anchor="end">{escape(item.name)}</text>')
        for offset, sort, value in ((0, "first", item.untrained.value), (16, "second", item.grid.value)):
            end = x(value)
            parts.append(
                f'<rect class="{sort}" x="{LEFT}" y="{y + offset}" width="{end - LEFT:.1f}" height="14" rx="2"/>'
            )
            parts.append(f'<text class="soft" x="{end + 6:.1f}" y="{y + offset + 11}">{100 * value:.2g} %</text>')
    return _figure(height, parts, "Share of the energy at the frequencies of the grid, before and after training")


def _figure(height: float, parts: Sequence[str], title: str) -> Markup:
    label = escape(title)
    body = "\n".join(parts)
    return Markup(f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">\n{body}\n</svg>')  # noqa: S704 - escaped above
