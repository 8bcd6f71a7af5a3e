"""`make_quant_page`: what became of a network that was quantised, as one HTML file without scripts.

Every text of the model is escaped by the template; a content security policy lets the page load and run nothing.
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Final

import omniconv
from omniconv.limits import format_size
from omniconv.quantization.report import PRECISIONS, LayerReport, QuantReport
from omniconv.records import dataclass
from omniconv.report.rendering import render_page, write_whole

COLUMNS: Final = (
    "layer",
    "operator",
    "computed as",
    "dB",
    "alone [dB]",
    "points",
    *(f"{name} [us]" for name in PRECISIONS),
    "range",
    "seen",
    "bytes",
    "bytes then",
)
FULL: Final = 60.0
"""Signal to noise whose bar is whole [dB]."""


@dataclass(frozen=True, slots=True)
class QuantCell:
    """One cell of the table, with a bar where it is a share [%]."""

    text: str
    bar: float | None = None


def make_quant_page(name: str, found: QuantReport) -> str:
    """The whole page of a model of this name."""
    from markupsafe import Markup

    folder = files("omniconv.report") / "templates"
    text, style = ((folder / item).read_text(encoding="utf-8") for item in ("quantization.html", "report.css"))
    return render_page(
        text,
        name=name,
        note=f"{found.samples} samples, ranges by {found.ranges}",
        style=Markup(style),  # noqa: S704 - a file of this package
        tiles=make_quant_tiles(found),
        kept=found.kept,
        others=list(found.others.items()),
        columns=COLUMNS,
        rows=[make_cells(layer) for layer in found.layers],
        version=omniconv.__version__,
    )


def write_quant_page(name: str, found: QuantReport, path: Path) -> Path:
    """Write the page, whole or not at all."""
    return write_whole(make_quant_page(name, found), path)


def make_quant_tiles(found: QuantReport) -> list[dict[str, str]]:
    """The numbers at the head of the page."""
    count = len(found.layers)
    tiles = [
        ("layers in integers", f"{count - len(found.kept)} of {count}", ""),
        ("signal to noise", f"{found.snr:.1f} dB", "of the worst output"),
    ]
    if found.drop is not None:
        base = "" if found.accuracy is None else f"of {found.accuracy:.2f} % top-1"
        tiles.append(("points lost", f"{found.drop:.2f}", base))
    tiles.append(("bytes", format_size(found.bytes_after), f"from {format_size(found.bytes_before)}"))
    rewrites = f"{found.folded} norms folded, {found.absorbed} pairs shifted, {found.corrected} biases corrected"
    tiles.append(("pairs equalised", str(found.equalised), rewrites))
    for name, seconds in found.times.items():
        tiles.append(
            (
                name,
                f"{seconds * 1e3:.3g} ms" if isinstance(seconds, float) else "",
                str(seconds) if isinstance(seconds, str) else "a call",
            )
        )
    return [{"title": title, "value": value, "note": note} for title, value, note in tiles]


def make_cells(layer: LayerReport) -> list[QuantCell]:
    """The cells of one layer."""
    limits = "" if layer.low is None or layer.high is None else f"{layer.low:.4g} to {layer.high:.4g}"
    seen = "" if layer.seen is None else f"{layer.seen[0]:.4g} to {layer.seen[1]:.4g}"
    return [
        QuantCell(layer.name),
        QuantCell(layer.op),
        QuantCell(layer.precision),
        _decibels(layer.snr),
        _decibels(layer.alone),
        QuantCell("" if layer.drop is None else f"{layer.drop:.2f}"),
        *(_show_time(layer, name) for name in PRECISIONS),
        QuantCell(limits),
        QuantCell(seen),
        QuantCell(str(layer.bytes_before)),
        QuantCell(str(layer.bytes_after)),
    ]


def _decibels(value: float | None) -> QuantCell:
    if value is None:
        return QuantCell("")
    return QuantCell(
        f"{value:.1f}", round(100 * min(max(value / FULL, 0.0), 1.0), 1) if not math.isnan(value) else None
    )


def _show_time(layer: LayerReport, name: str) -> QuantCell:
    """What a layer takes at a precision [us]."""
    if layer.timed_with:
        return QuantCell(f"with {layer.timed_with}")
    return QuantCell(f"{1e6 * layer.seconds[name]:.1f}" if name in layer.seconds else "")
