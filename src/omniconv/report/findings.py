"""Everything worth knowing about a network in plain words: analyses, measured times and gaps, most important first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Final

from omniconv.analysis import Finding, find_findings
from omniconv.analysis.findings import TOPICS as NETWORK_TOPICS
from omniconv.graph import Gap
from omniconv.integers import say_count
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.report.groups import GroupedRun
from omniconv.report.layers import LayerRow
from omniconv.report.spectra import ENERGY, LayerSpectrum

LEVELS: Final = ((0.7, "high"), (0.4, "medium"), (0.15, "low"), (0.0, "note"))
"""Least severity of each level."""
SEPARABLE: Final = 0.95
"""Energy of rank 1 from which kernels are called separable."""
SLOW_TIME: Final = 0.1
SLOW_RATIO: Final = 3.0
"""A layer is slow for its work if it takes this share of the time, and so many times its share of the work."""
IDLE_SHARE: Final = 0.3
"""Share of the roofline below which a heavy layer is worth a look."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What findings are drawn from; what was not looked at is empty."""

    program: Program
    rows: Sequence[LayerRow] = ()
    problems: Sequence[Gap] = ()
    runs: Sequence[GroupedRun] = ()
    spectra: Sequence[LayerSpectrum] = field(default=())


def find_all(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, most important first; equal ones in the order of :data:`RULES`."""
    found = [finding for rule in RULES for finding in rule(evidence)]
    return tuple(sorted(found, key=lambda finding: -finding.severity))


def level_of(finding: Finding) -> str:
    """The level of a finding: ``"high"``, ``"medium"``, ``"low"`` or ``"note"``.

    Example:
        >>> level_of(Finding("overlap", "up", 0.9, "")), level_of(Finding("field", "y", 0.05, ""))
        ('high', 'note')
    """
    return next(name for least, name in LEVELS if finding.severity >= least)


def say(finding: Finding) -> str:
    """The finding as one line.

    Example:
        >>> say(Finding("overlap", "up2", 0.7, "3x3 stride 2 leaves a 1:2:4 overlap", "use a 4x4 kernel"))
        'up2: 3x3 stride 2 leaves a 1:2:4 overlap; use a 4x4 kernel'
    """
    text = f"{finding.where}: {finding.text}" if finding.where else finding.text
    return f"{text}; {finding.fix}" if finding.fix else text


def _gaps(evidence: Evidence) -> Iterator[Finding]:
    """Nodes that are not supported, and what they keep from being known."""
    for problem in evidence.problems:
        if problem.cause:
            continue
        blocked = [item for item in evidence.problems if item.cause == problem.where]
        text = problem.text
        if blocked:
            text += f"; {say_count(len(blocked), 'more node')} behind it cannot be analysed"
        elif problem.known:
            text += "; what is behind it is analysed as if it began here"
        yield Finding("gap", problem.where, 1.0, text, f"instead: {problem.nearest}" if problem.nearest else "")


def _network(evidence: Evidence) -> Iterator[Finding]:
    """Overlap, coverage, connectivity, field and cost, from the analyses."""
    broken = bool(evidence.problems)
    topics = tuple(topic for topic in NETWORK_TOPICS if not (broken and topic in ("field", "connectivity")))
    yield from find_findings(evidence.program, topics)


def _grouped(evidence: Evidence) -> Iterator[Finding]:
    """Runs of grouped layers that leave outputs without some inputs."""
    for run in evidence.runs:
        if run.found.full:
            continue
        where = f"{run.layers[0]} to {run.layers[-1]}"
        groups = str(run.groups[0]) if len(set(run.groups)) == 1 else "/".join(map(str, run.groups))
        seen = _share(run.found.fraction)
        text = f"{len(run.layers)} layers in {groups} groups let each output see {seen} of the inputs"
        if run.shuffled:
            text += " in spite of the shuffle"
        fix = (
            "fewer groups, or one more shuffled layer" if run.shuffled else "a channel shuffle between them repairs it"
        )
        yield Finding("connectivity", where, 0.6, text, fix)


def _share(fraction: float) -> str:
    """A share as ``1/n`` where it is one.

    Example:
        >>> _share(0.25), _share(0.3)
        ('1/4', '30%')
    """
    whole = round(1 / fraction) if fraction else 0
    return f"1/{whole}" if whole > 1 and abs(fraction * whole - 1) < 1e-9 else f"{fraction:.0%}"


def _time(evidence: Evidence) -> Iterator[Finding]:
    """Layers that take much more time than their work, and work-free layers that add up."""
    timed = [row for row in evidence.rows if row.seconds]
    total = sum(row.seconds or 0.0 for row in timed)
    work = sum(row.macs for row in evidence.rows)
    if len(timed) < 2 or not total or not work:
        return
    for row in sorted(timed, key=lambda row: -(row.seconds or 0.0))[:5]:
        time, macs = (row.seconds or 0.0) / total, row.macs / work
        if time >= SLOW_TIME and macs and time > SLOW_RATIO * macs:
            text = f"takes {time:.0%} of the time but does {_percent(macs)} of the multiply-accumulates"
            yield Finding("time", row.name, min(0.6, 0.25 + time / 2), text)
        share = row.roofline_share
        if time >= SLOW_TIME / 2 and share is not None and share < IDLE_SHARE:
            text = f"takes {time:.0%} of the time and reaches {share:.0%} of what this machine allows it"
            yield Finding("time", row.name, min(0.5, 0.15 + time / 2), text)
    free = [row for row in timed if not row.macs]
    share = sum(row.seconds or 0.0 for row in free) / total
    if share > 2 * SLOW_TIME:
        kinds = sorted(
            {row.kind for row in free}, key=lambda kind: -sum(r.seconds or 0 for r in free if r.kind == kind)
        )
        text = f"{len(free)} layers without multiply-accumulates ({', '.join(kinds[:3])}) take {share:.0%} of the time"
        yield Finding("time", "", 0.2 + share / 4, text)


def _percent(share: float) -> str:
    """Whole per cents, and one digit below ten.

    Example:
        >>> _percent(0.25), _percent(0.0512), _percent(0.00001)
        ('25%', '5.1%', 'under 0.1%')
    """
    if share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _separable(evidence: Evidence) -> Iterator[Finding]:
    """Layers whose trained kernels are nearly products, and layers of low rank that would save much."""
    near = [item for item in evidence.spectra if item.first >= SEPARABLE and min(item.shape[2:4]) > 1]
    if near:
        best = max(near, key=lambda item: math.prod(item.shape))
        more = f", and {_nearly(min(item.first for item in near))} in {len(near) - 1} more" if len(near) > 1 else ""
        kh, kw = best.shape[2], math.prod(best.shape[3:])
        yield Finding(
            "separability",
            best.name,
            0.3,
            f"kernels are separable: rank 1 holds {_nearly(best.first)} of their energy{more}",
            f"a {kh}x1 and a 1x{kw} filter for each pair, {(kh + kw) / (kh * kw):.0%} of the parameters",
        )
    others = [item for item in evidence.spectra if item not in near]
    saving = [(item.cheapest(), item) for item in others]
    saving = [(found, item) for found, item in saving if 0 < found[2] < 0.5]
    if saving:
        (form, rank, share), item = max(saving, key=lambda pair: (1 - pair[0][2]) * math.prod(pair[1].shape))
        more = f"; {len(saving) - 1} more layers keep as much in less than half of theirs" if len(saving) > 1 else ""
        text = f"rank {rank} of the {form} form keeps {ENERGY:.0%} of the energy in {share:.0%} of the parameters{more}"
        yield Finding("separability", item.name, 0.25, text)


def _nearly(energy: float) -> str:
    """A share near 1, with a digit where it would round to 100 %.

    Example:
        >>> _nearly(0.97), _nearly(0.9991), _nearly(1.0)
        ('97%', '99.9%', '100%')
    """
    return f"{energy:.0%}" if energy < 0.99 or energy > 1 - 1e-9 else f"{min(energy, 0.999):.1%}"


RULES: Final[tuple[Callable[[Evidence], Iterator[Finding]], ...]] = (_gaps, _network, _grouped, _time, _separable)
"""Each rule looks at one aspect and yields what it finds."""
