"""`inspect_program`: one network with every analysis, as one record that tables, JSON and the HTML page are made of."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from omniconv.analysis import (
    AxisStreaming,
    Connectivity,
    Cost,
    Coverage,
    Finding,
    Machine,
    Overlap,
    ReceptiveField,
    Record,
    Tiling,
    connectivity,
    cost,
    coverage,
    find_stacks,
    last_spatial,
    overlaps,
    receptive_field,
    streaming,
    tiling,
)
from omniconv.bench.roofline import Roofline
from omniconv.graph import Gap
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.report.findings import Evidence, find_all
from omniconv.report.groups import GroupedRun, find_runs
from omniconv.report.layers import LayerRow, as_roofline, find_fields, find_heaviest, make_rows
from omniconv.report.spectra import LayerSpectrum, find_spectra
from omniconv.spec import Chain

T = TypeVar("T")

PARTS: Final = ("field", "overlap", "coverage", "connectivity", "separability")
"""Analyses that can be asked for beside the layer table."""


@dataclass(frozen=True, slots=True)
class Times(Record):
    """What was measured.

    Attributes:
        layers: by name; those that are missing were folded into others [s].
        boundary: conversions of inputs and outputs [s].
        threads: that shared the work.
        target: the instruction set.
        roofline: what the machine can do at most, or ``None`` where that was not measured.
        details: machine and versions, for reports.
        multiplications: of layers that are filtered, by name: how many are done.
    """

    layers: Mapping[str, float]
    boundary: float = 0.0
    threads: int = 1
    target: str = ""
    roofline: Roofline | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    multiplications: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> float:
        """One call [s]."""
        return sum(self.layers.values()) + self.boundary


@dataclass(frozen=True, slots=True)
class Stack(Record):
    """A stack of dilated layers: the name of its last one, its layers, what it covers."""

    name: str
    chain: Chain
    found: Coverage


@dataclass(frozen=True, slots=True)
class Inspection(Record):
    """A network with what is known about it; parts that were not asked for are ``None``.

    Attributes:
        name: of the model.
        program: the network after its passes.
        cost: in total and by step.
        layers: one row a step.
        findings: most important first.
        problems: what could not be read.
        times: what was measured.
        field: of the last value with more than one position, or of the first output.
        overlaps: every transposed convolution.
        stacks: every stack of dilated convolutions.
        connectivity: from the first input to the value of ``field``.
        runs: grouped layers one behind the other.
        spectra: every kernel of at least two axes.
        tiling: whether the first output is computed in tiles, with which halo, and what stands in the way.
        streaming: whether it runs along each axis as its input comes, with which delay, and what stands in the way.
        seconds: what each part took [s].
    """

    name: str
    program: Program
    cost: Cost
    layers: tuple[LayerRow, ...]
    findings: tuple[Finding, ...]
    problems: tuple[Gap, ...] = ()
    times: Times | None = None
    field: ReceptiveField | None = None
    overlaps: tuple[tuple[str, Overlap], ...] | None = None
    stacks: tuple[Stack, ...] | None = None
    connectivity: Connectivity | None = None
    runs: tuple[GroupedRun, ...] | None = None
    spectra: tuple[LayerSpectrum, ...] | None = None
    tiling: Tiling | None = None
    streaming: tuple[AxisStreaming, ...] = ()
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(slots=True)
class _Clock:
    """Times the parts."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def run(self, part: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
        return result


def inspect_program(
    name: str,
    program: Program,
    *,
    parts: Collection[str] = (),
    problems: Sequence[Gap] = (),
    times: Times | None = None,
    limits: Roofline | Machine | None = None,
) -> Inspection:
    """Everything about a network.

    Args:
        name: for titles.
        program: the network.
        parts: which of :data:`PARTS` to carry out in full. Findings look at all of them but separability anyway.
        problems: what the program lacks, from :func:`omniconv.graph.to_partial_program`.
        times: measured times.
        limits: what the machine can do; default that of ``times``.

    Example:
        >>> from omniconv.analysis.subject import as_program
        >>> from omniconv.spec import Conv
        >>> layer = Conv.of(8, 8, 3, stride=2, padding=1, transposed=True)
        >>> found = inspect_program("up", as_program(layer, (1, 8, 16, 16)), parts=["overlap"])
        >>> found.cost.macs, found.overlaps[0][1].levels
        (147456, (1.0, 2.0, 4.0))
    """
    clock = _Clock()
    source = _find_source(program)
    tensor = _find_tensor(program)
    roofline = None if limits is None else as_roofline(limits)
    if roofline is None and times is not None:
        roofline = times.roofline
    costs = clock.run("cost", lambda: _cost(program, times))
    fields = clock.run("field", lambda: find_fields(program, source))
    rows = make_rows(
        program, costs.layers, times=None if times is None else times.layers, limits=roofline, fields=fields
    )
    wanted = set(parts)
    seen = None
    if "field" in wanted and source is not None and tensor is not None:
        seen = clock.run("field", lambda: receptive_field(program, tensor, source=source))
    met = clock.run("overlap", lambda: overlaps(program)) if "overlap" in wanted else None
    stacks = clock.run("coverage", lambda: _find_stacks(program)) if "coverage" in wanted else None
    runs = clock.run("connectivity", lambda: find_runs(program))
    joined = None
    if "connectivity" in wanted and source is not None and tensor is not None:
        joined = clock.run("connectivity", lambda: connectivity(program, tensor, source=source))
    spectra = clock.run("separability", lambda: find_spectra(program)) if "separability" in wanted else None
    cut: Tiling | None = None
    flows: tuple[AxisStreaming, ...] = ()
    if source is not None and program.outputs:
        flows = clock.run("streaming", lambda: streaming(program, program.outputs[0], source))
        cut = clock.run("tiling", lambda: tiling(program, program.outputs[0], source))
    evidence = Evidence(program, rows, problems, runs, spectra or ())
    findings = clock.run("findings", lambda: find_all(evidence))
    return Inspection(
        name,
        program,
        costs,
        rows,
        findings,
        tuple(problems),
        times,
        seen,
        met,
        stacks,
        joined,
        runs if "connectivity" in wanted else None,
        spectra,
        cut,
        flows,
        clock.seconds,
    )


def _cost(program: Program, times: Times | None) -> Cost:
    """The cost, with the multiplications of layers that are filtered where the network was measured."""
    found = cost(program)
    if times is None or not times.multiplications:
        return found
    heaviest = find_heaviest(found.layers)
    return cost(program, filtered={heaviest[name]: n for name, n in times.multiplications.items() if name in heaviest})


def _find_source(program: Program) -> str | None:
    """The first input with positions, else the first input."""
    images = [name for name in program.inputs if len(program.shapes[name]) > 2]
    return next(iter([*images, *program.inputs]), None)


def _find_tensor(program: Program) -> str | None:
    return (last_spatial(program) or program.outputs[0]) if program.outputs else None


def _find_stacks(program: Program) -> tuple[Stack, ...]:
    return tuple(Stack(label, chain, coverage(chain)) for label, chain in find_stacks(program))
