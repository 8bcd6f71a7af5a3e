"""The field along each axis of an input: the interval maps of all output phases, read as size, stride and centre."""

from __future__ import annotations

from fractions import Fraction

from omniconv.analysis.hull import Reach
from omniconv.analysis.reach import find_phases
from omniconv.analysis.record import Record
from omniconv.program.program import Program
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class PhaseField(Record):
    """The field of the output positions ``residue + period * q`` on one axis.

    Attributes:
        residue: which outputs.
        size: last - first + 1 of the hull [positions]; 0 where the output reads nothing.
        low: first position of the hull for output ``residue``; negative in the padding.
    """

    residue: int
    size: int
    low: int


@dataclass(frozen=True, slots=True)
class AxisField(Record):
    """The field along one spatial axis of the input.

    Attributes:
        axis: of the input.
        output_axis: of the value, which moves the field; ``None`` where none does.
        size: of the hull, the largest over the phases [input positions].
        stride: input positions between the fields of neighbouring outputs; ``None`` where no output axis moves it.
        offset: output o is centred on offset + o stride, on average over the phases [input positions].
        padding: input positions by which the field of output 0 (of the first that reads anything) begins before the
            input ("effective padding").
        aligned: all branches agree on stride and centre.
        whole: names of the operators that cover the whole axis; empty for a local field.
        period: outputs after which the field repeats, moved by whole positions.
        phases: the field of each output phase.
        exact: every phase reads its first and its last position, and moves with the stride. Otherwise ``size`` and
            ``phases`` are bounds: branches of unlike strides, joins along the axis, resizes whose tables show no
            period, more phases than are worked out.
    """

    axis: int
    output_axis: int | None
    size: int
    stride: Fraction | None
    offset: Fraction
    padding: int
    aligned: bool
    whole: tuple[str, ...]
    period: int
    phases: tuple[PhaseField, ...]
    exact: bool = True


def find_axes(program: Program, tensor: str, source: str, *, gates: bool = True) -> tuple[AxisField, ...]:
    """The field of ``tensor`` on each spatial axis of ``source``."""
    phases = find_phases(program, tensor, gates=gates)
    sizes = program.shapes[source]
    return tuple(
        _axis(axis, sizes[axis], phases.on_axis(source, axis), phases.period, phases.exact)
        for axis in range(2, len(sizes))
    )


def _axis(axis: int, size: int, found: list[Reach | None], period: int, complete: bool) -> AxisField:
    seen = [item for item in found if item is not None]
    if not seen:
        return AxisField(axis, None, 0, None, Fraction(0), 0, True, (), 1, (PhaseField(0, 0, 0),), complete)
    whole = frozenset().union(*(item.whole for item in seen))
    moving = next((item for item in seen if item.origin is not None), None)
    stride = None if moving is None else moving.rate
    origin = None if moving is None else moving.origin
    aligned = all(item.aligned for item in seen)
    exact = complete and all(item.exact for item in seen) and len({item.rate for item in seen}) == 1
    if whole:
        phases: tuple[PhaseField, ...] = (PhaseField(0, size, 0),)
        return AxisField(
            axis, origin, size, stride, Fraction(size - 1, 2), 0, aligned, tuple(sorted(whole)), 1, phases, exact
        )
    own = 1 if stride is None else _own_period(found, period, stride)
    phases = tuple(
        PhaseField(o, 0 if item is None else item.high - item.low + 1, 0 if item is None else item.low)
        for o, item in enumerate(found[:own])
    )
    first = found[0] or seen[0]
    centres = [
        Fraction(item.low + item.high, 2) - o * (stride or 0) for o, item in enumerate(found[:own]) if item is not None
    ]
    centre = sum(centres, Fraction(0)) / len(centres)
    extent = max(phase.size for phase in phases)
    return AxisField(axis, origin, extent, stride, centre, -min(0, first.low), aligned, (), own, phases, exact)


def _own_period(found: list[Reach | None], period: int, stride: Fraction) -> int:
    """The period of the hull on one axis: a divisor of the period of all axes together."""
    if period > len(found):
        return len(found)
    for own in range(1, period + 1):
        if period % own or (own * stride).denominator > 1:
            continue
        advance = int(own * stride)
        pairs = zip(found, found[own:], strict=False)
        if all(_same(a, b, advance) for a, b in pairs):
            return own
    return period


def _same(a: Reach | None, b: Reach | None, advance: int) -> bool:
    if a is None or b is None:
        return a is b
    return (a.low + advance, a.high + advance) == (b.low, b.high)
