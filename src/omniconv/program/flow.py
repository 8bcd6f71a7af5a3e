r"""`Flow`: how positions along one axis of an input flow through a program, and when each position of a value is ready.

Of every value that depends on the input one axis moves with that of the input: at r positions for each of the input's.
Boxes of a step's result say what they read (`Step.cut`), so a position o is *ready* as soon as all is there that the
box of it alone reads. Away from both ends a step moves alike: q positions further on in the result are p positions
further on in what it reads. Then, for a *hop* of n input positions with :math:`n r_x / p` whole for every read,

.. math:: \mathrm{ready}_v(i + n) = \mathrm{ready}_v(i) + n r_v ,

and all that a step reads moves by whole positions too: from hop to hop, it is the same step.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import field, replace
from fractions import Fraction
from typing import Final

from omniconv.errors import UnsupportedError
from omniconv.program.carry import Carry, find_carry
from omniconv.program.cut import Box, Cut, Interval, whole
from omniconv.program.program import Program
from omniconv.program.steps import PostOp, ProgramStep
from omniconv.records import dataclass

MOST_PERIOD: Final = 1024
"""Positions of a result after which a step repeats itself, at most."""
NEED: Final = "dependences that are local along the axis of a stream"


class _WholeError(Exception):
    """A step reads all positions of a value."""


class TooShortError(Exception):
    """The program is for too few positions to see how they flow."""


@dataclass(slots=True, eq=False)
class FlowStep:
    """A step along the way.

    Attributes:
        step, label: of the program.
        axis: of its result.
        sources: for each value that it reads, the axis that moves; ``None`` where none does.
        carry: where it goes on with a state.
        period: positions of the result after which it repeats itself, and those of each moving read.
    """

    step: ProgramStep
    label: str
    axis: int
    sources: tuple[int | None, ...]
    carry: Carry | None
    period: tuple[int, tuple[int, ...]] = (1, ())

    @property
    def moving(self) -> Iterator[tuple[int, str, int]]:
        """Number, name and axis of each read that moves."""
        for number, (name, axis) in enumerate(zip(self.step.reads, self.sources, strict=True)):
            if axis is not None:
                yield number, name, axis


@dataclass(slots=True, eq=False)
class Flow:
    """A program seen along an axis.

    Attributes:
        program, tensor, source: the program, the value that is wanted, the input that flows.
        axes: of each value that moves, the axis.
        links: the steps between, in order.
        rates: positions of each moving value for one of the input.
        hop: input positions after which all repeats itself.
        ends: a number of input positions, a multiple of the hop, and the size of each value for so many. A position
            that lies behind the end of a value would not be there if the input ended, so it is not ready either.
    """

    program: Program
    tensor: str
    source: str
    axes: dict[str, int]
    links: list[FlowStep]
    rates: dict[str, Fraction] = field(default_factory=dict)
    hop: int = 1
    ends: tuple[int, dict[str, int]] | None = None
    _known: dict[tuple[str, int], tuple[Interval, tuple[Interval, ...]]] = field(default_factory=dict, repr=False)
    _heads: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, program: Program, tensor: str, source: str, axis: int) -> Flow:
        """The flow from an axis of an input to whichever axis of a value moves with it.

        Raises:
            UnsupportedError: a step in the way, by its label.
            TooShortError: too few positions to see.
        """
        rank = len(program.shapes[tensor])
        refusal = None if rank else UnsupportedError(f"{tensor!r} is one number", need=NEED)
        for found in sorted(range(rank), key=lambda n: (n != axis, n)):
            try:
                flow = _trace(program, tensor, source, found)
            except UnsupportedError as error:
                refusal = refusal or error
                continue
            if flow.axes[source] == axis:
                flow.measure()
                return flow
            problem = f"axis {found} of {tensor!r} moves with axis {flow.axes[source]} of {source!r}, not with {axis}"
            refusal = refusal or UnsupportedError(problem, need=NEED)
        assert refusal is not None
        raise refusal

    def along(self, program: Program) -> Flow:
        """The same flow in the program for another number of positions.

        Raises:
            UnsupportedError: it has other steps.
        """
        steps = {step.y: (step, label) for step, label in zip(program.steps, program.labels, strict=True)}
        links = []
        for link in self.links:
            step, label = steps.get(link.step.y, (None, ""))
            if type(step) is not type(link.step) or step.reads != link.step.reads:
                raise UnsupportedError(
                    "the steps of the model depend on the number of positions", need=NEED, at=link.label
                )
            links.append(replace(link, step=step, label=label))
        return Flow(program, self.tensor, self.source, self.axes, links, self.rates, self.hop, self.ends)

    def size(self, name: str) -> int:
        """Positions of a moving value."""
        return self.program.shapes[name][self.axes[name]]

    def cut(self, link: FlowStep, span: Interval) -> Cut:
        """A span of a step's result."""
        shapes = self.program.shapes
        box = _span(shapes[link.step.y], link.axis, span)
        if link.carry is None:
            return link.step.cut(shapes, box)
        reads = []
        for name, axis in zip(link.step.reads, link.sources, strict=True):
            shape = shapes[name]
            reads.append(whole(shape) if axis is None else _span(shape, axis, (span[0], min(span[1], shape[axis]))))
        return Cut(link.step, box, tuple(reads))

    def reads(self, link: FlowStep, position: int) -> tuple[Interval, tuple[Interval, ...]]:
        """What one position of a step's result is computed with, and what that reads of each value that moves."""
        key = link.step.y, position
        found = self._known.get(key)
        if found is None:
            try:
                cut = self.cut(link, (position, position + 1))
            except UnsupportedError as error:
                raise UnsupportedError(error.problem, need=NEED, at=link.label) from None
            spans = tuple(cut.reads[number][axis] for number, _, axis in link.moving)
            found = self._known[key] = cut.box[link.axis], spans
        return found

    def ready(self, count: int) -> dict[str, int]:
        """Positions of each moving value that are ready when so many of the input have come, and more will come."""
        found = {self.source: count}
        for link in self.links:
            size = self._end(link, count)
            there = [found[name] for _, name, _ in link.moving]
            at = min(max(int(count * self.rates.get(link.step.y, Fraction(0))), 0), size)
            while at < size and self._is_ready(link, at, there):
                at += 1
            while at > 0 and not self._is_ready(link, at - 1, there):
                at -= 1
            heads = zip(self._head(link), there, strict=True)
            limits = [n for ends, have in heads if (n := bisect_right(ends, have)) < len(ends)]
            found[link.step.y] = min([at, *limits])
        return found

    def is_clear(self, first: int, last: int) -> bool:
        """Whether steps, while so many positions of the input come, read neither end of any value."""
        before, after = self.ready(first), self.ready(last)
        for link in self.links:
            y = link.step.y
            low, high = before[y], after[y]
            tail = link.carry.tail if link.carry else 0
            if high >= self.size(y) - tail or high - low != self.rates[y] * (last - first):
                return False
            spans = zip(link.moving, self.reads(link, low)[1], self.reads(link, high - 1)[1], strict=True)
            if not all(a[0] > 0 and b[1] < self.size(name) for (_, name, _), a, b in spans):
                return False
        return True

    def delay(self, count: int) -> Fraction:
        """Positions of the input that must come after that which a result stands at, seen where so many have come."""
        return count - self.ready(count)[self.tensor] / self.rates[self.tensor]

    def _end(self, link: FlowStep, count: int) -> int:
        """Positions that a value has if the input has so many."""
        y = link.step.y
        size = self.size(y)
        if self.ends is not None:
            base, sizes = self.ends
            size = max(min(int(sizes[y] + self.rates[y] * (count - base)), size), 0)
        return max(size - (link.carry.tail if link.carry else 0), 0)

    def _head(self, link: FlowStep) -> tuple[tuple[int, ...], ...]:
        """Where each moving read of the first positions ends, up to each of them: of those that touch the beginning.

        Where padding reflects, the first position waits for more than those behind it.
        """
        found = self._heads.get(link.step.y)
        if found is None:
            most = [0 for _ in link.moving]
            rows = []
            for position in range(self.size(link.step.y)):
                spans = self.reads(link, position)[1]
                if all(span[0] > 0 for span in spans):
                    break
                most = [max(end, span[1]) for end, span in zip(most, spans, strict=True)]
                rows.append(most)
            found = self._heads[link.step.y] = tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in most)
        return found

    def _is_ready(self, link: FlowStep, position: int, there: list[int]) -> bool:
        return all(span[1] <= have for span, have in zip(self.reads(link, position)[1], there, strict=True))

    def measure(self) -> None:
        """Find the period of each step, the rate of each value, and the hop."""
        self.rates[self.source] = Fraction(1)
        for link in self.links:
            steps, moves = link.period = self._find_period(link)
            found = {self.rates[name] * steps / move for (_, name, _), move in zip(link.moving, moves, strict=True)}
            if len(found) != 1:
                rates = ", ".join(map(str, sorted(found)))
                raise UnsupportedError(f"{link.step.word} joins values of rates {rates}", need=NEED, at=link.label)
            self.rates[link.step.y] = found.pop()
            for (_, name, _), move in zip(link.moving, moves, strict=True):
                self.hop = math.lcm(self.hop, (self.rates[name] / move).denominator)

    def _find_period(self, link: FlowStep) -> tuple[int, tuple[int, ...]]:
        """The least number of positions after which a step repeats itself."""
        size = self.size(link.step.y)
        if link.carry is not None:
            return 1, tuple(1 for _ in link.moving)
        middle = size // 2
        for period in range(1, MOST_PERIOD + 1):
            if middle + 2 * period + 2 > size - size // 4:
                raise TooShortError
            moves = {self._move(link, middle + at, middle + at + period) for at in range(period + 2)}
            move = moves.pop()
            if not moves and move is not None:
                return period, move
        raise UnsupportedError(
            f"{link.step.word} does not repeat itself within {MOST_PERIOD} positions", need=NEED, at=link.label
        )

    def _move(self, link: FlowStep, a: int, b: int) -> tuple[int, ...] | None:
        """By how much all that is read moves from one position to another; ``None`` where it changes."""
        (box, spans), (later, others) = self.reads(link, a), self.reads(link, b)
        pairs = list(zip(((box), *spans), ((later), *others), strict=True))
        moves = [other[0] - span[0] for span, other in pairs]
        same = all(other[1] - span[1] == move for (span, other), move in zip(pairs, moves, strict=True))
        return tuple(moves[1:]) if same and moves[0] == b - a and min(moves) > 0 else None


def _span(shape: tuple[int, ...], axis: int, span: Interval) -> Box:
    return tuple(span if n == axis else (0, size) for n, size in enumerate(shape))


def _trace(program: Program, tensor: str, source: str, axis: int) -> Flow:
    """The axis of every value, carried back from that of the result."""
    moving = {source}
    for step in program.steps:
        if not moving.isdisjoint(step.reads):
            moving.add(step.y)
    if tensor not in moving:
        raise UnsupportedError(f"{tensor!r} does not depend on {source!r}", need="a result that does")
    axes, links = {tensor: axis}, []
    for step, label in zip(reversed(program.steps), reversed(program.labels), strict=True):
        if step.y not in axes or step.y not in moving:
            continue
        try:
            link = _link(program, step, label, axes, moving)
        except UnsupportedError as error:
            # What a step says of tiles holds here too; what would help does not.
            need = error.need if "forward" in error.need or "lens" in error.need else NEED
            raise UnsupportedError(error.problem, need=need, fix=error.fix, at=label) from None
        except _WholeError:
            why, at = _find_whole(program, step, label)
            raise UnsupportedError(why, need=NEED, at=at) from None
        links.append(link)
    return Flow(program, tensor, source, axes, links[::-1])


def _find_whole(program: Program, step: ProgramStep, label: str) -> tuple[str, str]:
    """Which step makes one position of a result depend on all: this one, or the nearest behind what it reads.

    Raises:
        TooShortError: none, so that there are only too few positions.
    """
    made = {other.y: (other, name) for other, name in zip(program.steps, program.labels, strict=True)}
    waiting = [(step, label)]
    for found, at in waiting:
        for part in program.dependence(found).parts:
            for form in part.forms:
                why = getattr(getattr(form, "blocks", form), "why", "")
                if why:
                    return why if "positions" in why else f"{why} reads all positions", at
        waiting += [made.pop(name) for name in found.reads if name in made]
    # Windows that reach over both ends.
    raise TooShortError


def _link(program: Program, step: ProgramStep, label: str, axes: dict[str, int], moving: set[str]) -> FlowStep:
    """A step, and the axes of what it reads, which are noted."""
    shapes, axis = program.shapes, axes[step.y]
    size = shapes[step.y][axis]
    carry = find_carry(step, shapes, axis)
    if carry is not None:
        if any(name in moving for name in carry.first if name is not None):
            raise UnsupportedError(f"{step.word} begins with a state that is computed from the input")
        sources = [axis if name in moving else None for name in step.reads]
    else:
        cut = step.cut(shapes, _span(shapes[step.y], axis, (size // 2, size // 2 + 1)))
        sources = [
            _source(step, read, shapes[name], moves=name in moving)
            for name, read in zip(step.reads, cut.reads, strict=True)
        ]
        _check_constants(step, cut)
    for name, found in zip(step.reads, sources, strict=True):
        if found is not None and axes.setdefault(name, found) != found:
            raise UnsupportedError(f"{name!r} is read along axis {axes[name]} and along axis {found}")
    return FlowStep(step, label, axis, tuple(sources), carry)


def _source(step: ProgramStep, read: Box, shape: tuple[int, ...], *, moves: bool) -> int | None:
    """The axis of a value along which one position of the result reads a part."""
    parts = [n for n, (span, size) in enumerate(zip(read, shape, strict=True)) if span != (0, size)]
    if moves and len(parts) == 1:
        return parts[0]
    if moves and parts:
        raise UnsupportedError(f"{step.word} reads a part along several axes")
    if moves:
        raise _WholeError
    if parts:
        raise UnsupportedError(f"a constant of shape {tuple(shape)} has a value for each position")
    return None


def _check_constants(step: ProgramStep, cut: Cut) -> None:
    """Refuse operands that hold a number for each position."""
    before: tuple[PostOp, ...] = getattr(step, "post", ())
    after: tuple[PostOp, ...] = getattr(cut.step, "post", ())
    for old, new in zip(before, after, strict=True):
        if getattr(old.operand, "shape", None) != getattr(new.operand, "shape", None):
            raise UnsupportedError(f"the operand of {old.op} has a value for each position")
