"""`make_page`: an inspection as one HTML file that needs nothing else, neither files nor a network.

Every text of the model is escaped by the template; texts inside figures by :func:`omniconv.report.charts.plain`; the
figures are a JSON block whose ``<`` are escaped. On top of that a content security policy allows the page's own
scripts by their hashes and nothing else, so that a text that slipped through could not run or load anything.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import omniconv
from omniconv.inline import hash_inline, write_json
from omniconv.integers import say_count
from omniconv.report import charts, sections
from omniconv.report.charts import Figure
from omniconv.report.findings import level_of
from omniconv.report.inspection import Inspection
from omniconv.report.rendering import render_page, write_whole
from omniconv.report.words import times_words

SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("summary", "Summary"),
    ("findings", "Findings"),
    ("layers", "Layers"),
    ("costs", "Cost"),
    ("roofline", "Roofline"),
    ("field", "Receptive field"),
    ("overlap", "Overlap"),
    ("coverage", "Coverage"),
    ("connectivity", "Connectivity"),
    ("separability", "Separability"),
)
PACKAGES: Final = ("jinja2", "plotly")
"""What making a page needs; the extra ``report`` brings them."""


def make_page(found: Inspection, *, date: str = "") -> str:
    """The whole page.

    Args:
        found: inspected with all parts.
        date: printed at the end; nothing by default, so that equal inspections give equal pages.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    folder = files("omniconv.report") / "templates"
    text, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.css", "report.js")
    )
    plotly: str = get_plotlyjs()
    figures = make_figures(found)
    maps = sections.make_maps(found, figures)
    return render_page(
        text,
        **maps,
        **make_texts(found, date),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        plotly=Markup(plotly),  # noqa: S704 - Plotly's own file
        hashes=Markup(" ".join(f"'{hash_inline(item)}'" for item in (plotly, script))),  # noqa: S704
        figures=Markup(write_json(figures)),  # noqa: S704 - escaped there
    )


def write_page(found: Inspection, path: Path, *, date: str = "") -> Path:
    """Write the page, whole or not at all."""
    return write_whole(make_page(found, date=date), path)


def make_figures(found: Inspection) -> dict[str, Figure]:
    """The large figures, by the id of their place."""
    rows = found.layers
    roofline = None if found.times is None else found.times.roofline
    figures = {
        "chart-bars": charts.chart_bars(rows),
        "chart-treemap": charts.chart_treemap(rows, tree_measure(found)),
        "chart-growth": charts.chart_growth(rows, _input_sizes(found)),
    }
    if roofline is not None:
        figures["chart-roofline"] = charts.chart_roofline(rows, roofline)
    if found.spectra:
        figures["chart-energy"] = charts.chart_energy(found.spectra)
    return figures


def tree_measure(found: Inspection) -> str:
    """What the areas of the treemap stand for: time where it was measured, else MACs."""
    return "seconds" if any(row.seconds for row in found.layers) else "macs"


def _input_sizes(found: Inspection) -> tuple[int, ...]:
    if found.field is not None:
        return found.field.input_shape[2:]
    return next((found.program.shapes[name][2:] for name in found.program.inputs), ())


def make_texts(found: Inspection, date: str) -> dict[str, Any]:
    """All texts and tables, not escaped yet."""
    program, times = found.program, found.times
    roofline = None if times is None else times.roofline
    note = ""
    if roofline is not None:
        roofs = ", ".join(f"{level.name} {level.copy * 1e-9:.0f} GB/s" for level in roofline.levels)
        note = f"Measured: {roofline.peak * 1e-9:.0f} GFLOP/s; copies {roofs}."
        note += " Speed counts the MACs of direct sums: filtered layers may exceed the roof."
    machine = ""
    if times is not None:
        cpu = times.details.get("cpu", "")
        threads = say_count(times.threads, "thread")
        machine = ", ".join(part for part in (cpu, threads, times.target) if part)
    return {
        "name": found.name,
        "inputs": [f"{name} {times_words(program.shapes[name])}" for name in program.inputs],
        "outputs": [f"{name} {times_words(program.shapes[name])}" for name in program.outputs],
        "machine": machine,
        "sections": [item for item in SECTIONS if item[0] != "roofline" or roofline is not None],
        "tiles": sections.make_tiles(found),
        "findings": [
            {"level": level_of(item), "topic": item.topic, "where": item.where, "text": item.text, "fix": item.fix}
            for item in found.findings
        ],
        "problems": found.problems,
        "columns": [{"title": title, "type": kind} for title, kind in sections.COLUMNS],
        "rows": sections.make_rows(found.layers),
        "treemap_note": f"areas are {'time' if tree_measure(found) == 'seconds' else 'multiply-accumulates'}",
        "has_roofline": roofline is not None,
        "roofline_note": note,
        "field": sections.describe_field(found),
        "has_spectra": bool(found.spectra),
        "version": omniconv.__version__,
        "date": date,
    }
