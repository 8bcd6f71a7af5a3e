"""`draw_parts`: the analyses of a network as pictures in a folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omniconv.report.inspection import Inspection
from omniconv.report.pictures import (
    draw_connectivity,
    draw_coverage,
    draw_overlap,
    draw_separability,
    draw_support,
    save,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_parts(found: Inspection, parts: Collection[str], folder: Path) -> list[Path]:
    """One SVG file for each layer or stack of each part; names are numbered, and safe whatever the model says."""
    written = []
    for index, (part, name, figure) in enumerate(_figures(found)):
        if part in parts:
            safe = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[-40:] or "layer"
            written.append(save(figure, folder / f"{index:03d}-{part}-{safe}.svg"))
    return written


def _figures(found: Inspection) -> Iterator[tuple[str, str, Figure]]:
    if found.field is not None:
        yield "field", found.field.tensor, draw_support(found.field)
    for label, overlap in found.overlaps or ():
        yield "overlap", label, draw_overlap(overlap)
    for stack in found.stacks or ():
        yield "coverage", stack.name, draw_coverage(stack.found)
    if found.connectivity is not None:
        yield "connectivity", found.connectivity.tensor, draw_connectivity(found.connectivity)
    for run in found.runs or ():
        yield "connectivity", run.layers[-1], draw_connectivity(run.found)
    for item in found.spectra or ():
        yield "separability", item.name, draw_separability(item.forms, item.name)
