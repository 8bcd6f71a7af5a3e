"""The parts of the HTML page as plain texts and numbers; the template escapes every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final

from omniconv.records import dataclass
from omniconv.report import charts
from omniconv.report.charts import Figure
from omniconv.report.inspection import Inspection
from omniconv.report.layers import LayerRow
from omniconv.report.words import count_words, number, seconds_words, times_words

MOST_MAPS: Final = 24
MOST_FORMS: Final = 3


@dataclass(frozen=True, slots=True)
class MapPicture:
    """One small picture: where it goes and what is written above it."""

    id: str
    title: str
    note: str


@dataclass(slots=True)
class Maps:
    """The pictures of one section, and how many were left out."""

    items: list[MapPicture] = field(default_factory=list)
    more: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table: what is shown, what it is sorted by, and how long its bar is [%]."""

    text: str
    value: str
    title: str = ""
    bar: str | None = None


COLUMNS: Final = (
    ("#", "number"),
    ("layer", "text"),
    ("kind", "text"),
    ("output", "text"),
    ("parameters", "number"),
    ("MACs", "number"),
    ("executed", "number"),
    ("multiplications", "number"),
    ("bytes", "number"),
    ("FLOP/byte", "number"),
    ("time", "number"),
    ("of roofline", "number"),
    ("field", "number"),
    ("stride", "number"),
)


def make_rows(rows: Sequence[LayerRow]) -> list[list[Cell]]:
    """The cells of the layer table, in the order of :data:`COLUMNS`."""
    slowest = max((row.seconds or 0.0 for row in rows), default=0.0)
    heaviest = max((row.macs for row in rows), default=0)
    return [_cells(index, row, heaviest, slowest) for index, row in enumerate(rows)]


def _cells(index: int, row: LayerRow, heaviest: int, slowest: float) -> list[Cell]:
    share, done = row.roofline_share, row.multiplications
    stride = [str(value) for value in row.field_stride if value is not None]
    first = next((value for value in row.field_stride if value is not None), None)
    return [
        Cell(str(index), str(index)),
        Cell(row.name, row.name, f"{row.name}\n{row.text}"),
        Cell(row.kind, row.kind),
        Cell(times_words(row.output_shape), times_words(row.output_shape)),
        Cell(count_words(row.parameters) if row.parameters else "", str(row.parameters)),
        Cell(count_words(row.macs) if row.macs else "", str(row.macs), "", _bar(row.macs, heaviest)),
        Cell(f"{row.executed_macs / row.macs:.1%}" if row.macs else "", _ratio(row.executed_macs, row.macs)),
        Cell(count_words(done) if row.macs and done is not None else "", str(done or 0)),
        Cell(count_words(row.bytes), str(row.bytes)),
        Cell(f"{row.intensity:.1f}" if row.macs else "", number(row.intensity) if row.macs else ""),
        Cell(
            seconds_words(row.seconds) if row.seconds else "",
            number(row.seconds) if row.seconds else "",
            "",
            _bar(row.seconds or 0.0, slowest),
        ),
        Cell(f"{share:.0%}" if share is not None else "", number(share) if share is not None else ""),
        Cell(times_words(row.field_size), str(max(row.field_size, default=""))),
        Cell("x".join(dict.fromkeys(stride)), "" if first is None else number(float(first))),
    ]


def _ratio(part: float, whole: float) -> str:
    return number(part / whole) if whole else ""


def _bar(value: float, largest: float) -> str | None:
    return f"{100 * value / largest:.1f}" if value and largest else None


def make_tiles(found: Inspection) -> list[dict[str, str]]:
    """The figures of the summary."""
    cost, times = found.cost, found.times
    parameter_bytes = found.program.element.bytes * cost.parameters
    executed = cost.executed_macs / cost.macs if cost.macs else 0.0
    tiles = [
        {"title": "parameters", "value": count_words(cost.parameters), "note": f"{count_words(parameter_bytes)}B"},
        {"title": "MACs", "value": count_words(cost.macs), "note": f"{executed:.1%} executed; 1 MAC = 2 FLOP"},
        {
            "title": "bytes moved",
            "value": f"{count_words(cost.bytes)}B",
            "note": f"{cost.intensity:.1f} FLOP for each byte",
        },
        {"title": "layers", "value": str(len(found.layers)), "note": f"{_count_kinds(found)} kinds"},
    ]
    if times is not None and times.total:
        speed = 2e-9 * cost.macs / times.total
        tiles.append(
            {
                "title": "time of one call",
                "value": seconds_words(times.total),
                "note": f"{speed:.1f} GFLOP/s on {times.threads} thread" + ("s" if times.threads > 1 else ""),
            }
        )
    bound = sum(row.bound_seconds or 0.0 for row in found.layers if row.macs)
    if bound:
        note = "of layers with work, one after the other"
        tiles.append({"title": "least time on this machine", "value": seconds_words(bound), "note": note})
    if found.field is not None:
        size = times_words(found.field.size)
        note = "through global operators" if found.field.whole else f"of {times_words(found.field.input_shape[2:])}"
        tiles.append({"title": "receptive field", "value": size, "note": note})
    return tiles


def _count_kinds(found: Inspection) -> int:
    return len({row.kind for row in found.layers})


def describe_field(found: Inspection) -> str:
    """The field of the last value in one or two sentences."""
    seen = found.field
    if seen is None:
        return ""
    strides = ", ".join("none" if stride is None else str(stride) for stride in dict.fromkeys(seen.stride))
    most = "" if seen.exact else "at most "
    text = f"A position of {seen.tensor} sees {most}{times_words(seen.size)} positions of {seen.source}"
    text += f", with stride {strides} and {times_words(seen.padding)} positions of padding."
    if seen.whole:
        text += f" It sees the whole input through {len(seen.whole)} global operators, such as {seen.whole[0]}."
    if not seen.aligned:
        text += " Branches that are joined are not centred on the same positions."
    return text


def make_maps(found: Inspection, figures: dict[str, Figure]) -> dict[str, Any]:
    """The small pictures of all sections; their figures go into ``figures``."""
    overlap, coverage, connectivity, forms = Maps(), Maps(), Maps(), Maps()
    for label, item in found.overlaps or ():
        levels = ":".join(f"{level:g}" for level in item.levels)
        best = min(item.remedies, key=lambda remedy: remedy.name != "kernel", default=None)
        fix = "" if best is None else f"; better: {best.advice}"
        _add(overlap, figures, "overlap", label, f"{item.verdict} ({levels}){fix}", charts.chart_overlap(item))
    for stack in found.stacks or ():
        text = f"{charts.stack_title(stack)}: reads {stack.found.fraction:.1%} of {times_words(stack.found.size)}"
        if stack.found.suggestion:
            text += f"; better: {', '.join(map(str, stack.found.suggestion))}"
        _add(coverage, figures, "coverage", stack.name, text, charts.chart_coverage(stack.found))
    if found.connectivity is not None:
        joined = found.connectivity
        text = f"{joined.fraction:.1%} of the pairs of channels are connected"
        title = f"{joined.source} to {joined.tensor}"
        _add(connectivity, figures, "connectivity", title, text, charts.chart_connectivity(joined))
    for run in found.runs or ():
        text = f"{len(run.layers)} grouped layers: {run.found.fraction:.1%} connected"
        text += ", with a shuffle between" if run.shuffled else ", without a shuffle"
        title = f"{run.layers[0]} to {run.layers[-1]}"
        _add(connectivity, figures, "connectivity", title, text, charts.chart_connectivity(run.found))
    for spectrum in sorted(found.spectra or (), key=lambda each: each.cheapest()[2])[:MOST_FORMS]:
        form, rank, share = spectrum.cheapest()
        text = f"{form} form, rank {rank}: 99 % of the energy with {share:.0%} of the parameters"
        _add(forms, figures, "forms", spectrum.name, text, charts.chart_forms(spectrum))
    support = None
    if found.field is not None and len(found.field.input_shape) > 2:
        at = ", ".join(map(str, found.field.position))
        note = f"{found.field.support.mean():.1%} of the input, {found.field.density:.1%} of the bounding box"
        support = MapPicture("support-0", f"What output {at} depends on, exactly", note)
        figures[support.id] = charts.chart_support(found.field)
    return {"overlap": overlap, "coverage": coverage, "connectivity": connectivity, "forms": forms, "support": support}


def _add(maps: Maps, figures: dict[str, Figure], section: str, title: str, note: str, figure: Figure) -> None:
    if len(maps.items) >= MOST_MAPS:
        maps.more += 1
        return
    name = f"{section}-{len(maps.items)}"
    maps.items.append(MapPicture(name, title, note))
    figures[name] = figure
