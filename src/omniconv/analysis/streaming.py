"""Whether a program can run along an axis as its input comes, with which delay, and what stands in the way."""

from __future__ import annotations

from fractions import Fraction

from omniconv.analysis.record import Record
from omniconv.analysis.subject import find_source, find_tensor
from omniconv.errors import UnsupportedError
from omniconv.program.flow import Flow, TooShortError
from omniconv.program.program import Program
from omniconv.program.steps import RecurrentStep
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class AxisStreaming(Record):
    """One axis of the input.

    Attributes:
        axis: of the input.
        hop: positions of the input that are computed together; 0 where something stands in the way.
        delay: positions of the input that must come after that which a result stands at, to make it ready.
        obstacle: what stands in the way, by operator and node; empty where nothing does.
    """

    axis: int
    hop: int
    delay: Fraction
    obstacle: str


def streaming(program: Program, tensor: str | None = None, source: str | None = None) -> tuple[AxisStreaming, ...]:
    """How a program runs along each axis that may be one of time or space.

    Example:
        >>> from omniconv.analysis.subject import as_program
        >>> from omniconv.spec import Conv
        >>> streaming(as_program(Conv.of(1, 1, 5, dims=1, stride=2, padding=2), (1, 1, 64)))[0]
        AxisStreaming(axis=2, hop=2, delay=Fraction(2, 1), obstacle='')

    Raises:
        SpecError: no such value or input.
    """
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    rank = len(program.shapes[source])
    if any(isinstance(step, RecurrentStep) for step in program.steps):
        found = [_along(program, tensor, source, axis) for axis in range(rank)]
        moving = tuple(each for each in found if each.hop)
        return moving or tuple(each for each in found if "needs all" not in each.obstacle)[-1:]
    return tuple(_along(program, tensor, source, axis) for axis in range(min(2, rank - 1), rank))


def _along(program: Program, tensor: str, source: str, axis: int) -> AxisStreaming:
    size = program.shapes[source][axis]
    short = AxisStreaming(axis, 0, Fraction(0), f"{size} positions are too few to see all that is read")
    try:
        flow = Flow.of(program, tensor, source, axis)
        middle = size // 2 // flow.hop * flow.hop
        if not middle or not flow.is_clear(middle, middle + flow.hop):
            return short
    except UnsupportedError as error:
        at = f" {error.at!r}" if error.at else ""
        return AxisStreaming(axis, 0, Fraction(0), f"{error.problem}{at}")
    except TooShortError:
        return short
    return AxisStreaming(axis, flow.hop, flow.delay(middle), "")
