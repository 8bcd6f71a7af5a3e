"""`make_study_page`: a study as one HTML file that needs nothing else and runs nothing, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import omniconv
from omniconv.report.rendering import render_page
from omniconv.study.marks import chart_differences, chart_grids
from omniconv.study.study import KindResult, Study
from omniconv.study.tables import make_accuracies, make_decoders, make_settings, make_times
from omniconv.study.words import write_paragraph

SECTIONS: Final = (
    ("claims", "Claims"),
    ("same-width", "Same width"),
    ("same-time", "Same time"),
    ("times", "Paper and clock"),
    ("checkerboard", "Checkerboard"),
    ("how", "How"),
)
JUDGED: Final = (
    "Each by a rule that was written before the run. Undecided: more seeds or images would tell. Intervals are of 95 %."
)
SAME_WIDTH: Final = "Every network has as many channels as the standard one."
SAME_TIME: Final = (
    "Widths were chosen before training so that a step of it takes PyTorch as long as the standard network's, as "
    "nearly as widths allow."
)
GRID: Final = (
    "Decoders make images from 16 numbers; the last layer enlarges. Taps are what omniconv.overlap counts in each "
    "phase, energies what untrained layers have there."
)


def make_study_page(found: Study) -> str:
    """The whole page. Equal studies give equal pages."""
    from markupsafe import Markup

    style = "".join(
        (files(room) / "templates" / name).read_text(encoding="utf-8")
        for room, name in (("omniconv.report", "report.css"), ("omniconv.study", "study.css"))
    )
    text = (files("omniconv.study") / "templates" / "study.html").read_text(encoding="utf-8")
    seeds = found.settings["seeds"]
    return render_page(
        text,
        style=Markup(style),  # noqa: S704 - files of this package
        name=found.data["name"],
        about=f"{len(found.same_width)} kinds of convolution in one network, {seeds} seeds: {found.data['task']}",
        machine=f"{found.machine['cpu']}, 1 thread",
        sections=SECTIONS,
        judged=JUDGED,
        claims=[
            {
                "name": claim.name,
                "title": claim.title,
                "verdict": claim.verdict,
                "rule": claim.rule,
                "paragraph": write_paragraph(claim),
            }
            for claim in found.claims
        ],
        groups=[
            _group("same-width", "Same width", SAME_WIDTH, found.same_width),
            _group("same-time", "Same measured time", SAME_TIME, found.same_time),
        ],
        times=make_times(found),
        times_note="Times fewer and times faster than the standard network of the same width; times are of one image.",
        grid=make_decoders(found.decoders),
        grid_chart=chart_grids(found.decoders),
        grid_note=GRID,
        how=make_settings(found),
        notes=found.notes,
        version=omniconv.__version__,
    )


def _group(key: str, title: str, note: str, kinds: Sequence[KindResult]) -> dict[str, object]:
    """A chart and a table of one comparison."""
    table = make_accuracies(title, kinds)
    return {"id": key, "title": title, "note": note, "chart": chart_differences(kinds), "table": table}
