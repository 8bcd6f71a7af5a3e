"""`StreamPlan`: the stretches of all streams of a network, each compiled when a stream first comes to it.

A plan looks at the program for some number of positions, large enough for what lies in the middle of it to see neither
end (:mod:`omniconv.program.flow`). There it takes the *steady* stretch, from hop to hop. Until every value has reached
its delay, stretches are cut at the beginning itself; what the steady ones would read before the first position is what
their steps find at the border (`Step.border`). The end is cut out of the program for so many positions as there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np

from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.shared import Shared
from omniconv.errors import ShapeError, UnsupportedError
from omniconv.forks import own_locks
from omniconv.integers import ceil_div
from omniconv.program.cut import whole
from omniconv.program.describe import describe_program
from omniconv.program.flow import NEED, Flow, TooShortError
from omniconv.program.part import cut_program
from omniconv.program.program import Program
from omniconv.program.steps import ResizeStep
from omniconv.program.stretch import Mark, StreamPart, cut_stretch, keep, state_name
from omniconv.records import dataclass
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.runtime.inputs import Array
from omniconv.spec import Shape
from omniconv.target.model import Target

Lower: TypeAlias = Callable[[Shape], tuple[Program, frozenset[str]]]
"""The program for an input of some shape, which is never run as a whole, and which of its outputs are boolean."""

LENGTHS: Final = tuple(11520 * 4**n for n in range(6))
"""Positions of the programs that are looked at: multiples of all small strides."""
TABLE_STEPS: Final = 2.0**20
"""Weights of a resize are told apart in steps of 1 / this: those of equal phases differ by the rounding of
coordinates.
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """How far results lag behind.

    Attributes:
        exact: positions of the input that must come after that which a result stands at [samples]; negative where
            results come before it.
        waiting: positions more that wait, at most, until there is a whole hop of them [samples].
    """

    exact: Fraction
    waiting: int

    @property
    def samples(self) -> int:
        """Positions of the input between a result and the one that makes it ready, at most [samples]."""
        return max(ceil_div(self.exact.numerator, self.exact.denominator), 0) + self.waiting


@dataclass(slots=True, eq=False)
class Leg:
    """A stretch, and its machine code; none where nothing is computed."""

    stretch: StreamPart
    run: Executable | None


class StreamPlan:
    """How a network is computed along one axis. Thread-safe: streams share it.

    Args:
        lower: the program for any number of positions.
        shape: of the input; its size along the axis means nothing.
        axis: of the input, channels first.
        output: the name of one of the outputs; default: the only one.
        options, target: how stretches are compiled.
        at: for messages.

    Attributes:
        hop: positions of the input that are computed together, or multiples of it.
        most: hops that one stretch may have.
        steady: from here on all stretches are steady [positions].
        start: so many positions are computed first, at once: with fewer there is no result [positions].
        source, tensor: names of the input and the output.
        dtype: NumPy's type of both; ``truth`` says whether the output is boolean.

    Raises:
        UnsupportedError: what stands in the way, by operator and node.
        ShapeError: several inputs or outputs, or sizes that do not fit.
    """

    def __init__(
        self, lower: Lower, shape: Shape, axis: int, output: str | None, options: Options, target: Target, at: str
    ) -> None:
        self._lower, self.shape, self.axis, self.at = lower, shape, axis, at
        self.options, self.target = replace(options, layout="NCHW", row_major=frozenset()), target
        self._begin()
        self.flow, self.middle = self._find_flow(output)
        self.source, self.tensor, self.hop = self.flow.source, self.flow.tensor, self.flow.hop
        self.dtype = self.flow.program.element.dtype
        self._margins = self._find_margins()
        self.digest = self._check_alike()
        self._at_middle = self.mark(self.middle)
        self.steady = self._find_steady()
        self.start = self._find_start()
        self.states = self._first_states()

    def _begin(self) -> None:
        self._shared, self._pool = Shared(), ArenaPool()
        self._made: dict[tuple[int, int, bool], Leg] = {}
        own_locks(self)

    def forget_locks(self) -> None:
        """See :mod:`omniconv.forks`."""
        self._lock = threading.Lock()

    # -- what a stream asks

    @property
    def delay(self) -> Fraction:
        """Positions of the input that must come after that which a result stands at."""
        return self.flow.delay(self.middle)

    def room(self, count: int) -> Shape:
        """The shape of so many positions of the result."""
        shape, axis = self.flow.program.shapes[self.tensor], self.out_axis
        return (*shape[:axis], count, *shape[axis + 1 :])

    @property
    def rate(self) -> Fraction:
        """Positions of the result for one of the input."""
        return self.flow.rates[self.tensor]

    @property
    def out_axis(self) -> int:
        """The axis of the result that moves."""
        return self.flow.axes[self.tensor]

    def part_shape(self, count: int) -> Shape:
        """The shape of so many positions of the input."""
        return (*self.shape[: self.axis], count, *self.shape[self.axis + 1 :])

    def on(self, position: int, count: int) -> Leg:
        """The stretch of so many positions from a position on; both are multiples of the hop."""
        return self._find(position if position < self.steady else self.middle, count, last=False)

    def end(self, position: int, count: int) -> Leg:
        """The stretch of the last positions, of which there are fewer than a hop.

        Raises:
            ShapeError: the network has no result for so many positions in all.
        """
        return self._find(position if position < self.steady else self.middle, count, last=True)

    def kept_shapes(self, position: int) -> dict[str, Shape]:
        """What is kept where a stream stands."""
        found = {}
        for name, (first, ready) in self._stand(position).kept.items():
            shape, axis = self.flow.program.shapes[name], self.flow.axes[name]
            if first < ready:
                found[name] = (*shape[:axis], ready - first, *shape[axis + 1 :])
        return found

    def settle(self, position: int, kept: dict[str, Array]) -> dict[str, Array]:
        """What was kept, made as wide as steady stretches read it, where they begin."""
        found = dict(kept)
        for name, shape in self.kept_shapes(position).items():
            axis, old = self.flow.axes[name], kept.get(name)
            have = 0 if old is None else old.shape[axis]
            if have < shape[axis]:
                wide = np.full(shape, (self._fills or {}).get(name, 0.0), self.dtype)
                if old is not None:
                    wide[(*(slice(None),) * axis, slice(shape[axis] - have, None))] = old
                found[name] = wide
        return found

    def mark(self, position: int) -> Mark:
        """Where a stream stands, in the program that the plan looks at."""
        return keep(self.flow, self.flow.ready(position), self._margins)

    # -- inside

    def _stand(self, position: int) -> Mark:
        return self._at_middle if position >= self.steady else self.mark(position)

    def _find(self, position: int, count: int, *, last: bool) -> Leg:
        key = position, count, last
        made = self._made.get(key)
        if made is not None:  # nobody waits while another stream compiles something else
            return made
        with self._lock:
            found = self._made.get(key)
            if found is None:
                flow = self.flow
                after = None if last else self.mark(position + count)
                if last:
                    flow = flow.along(self._program(position + count))
                found = self._made[key] = self._compile(cut_stretch(flow, self.mark(position), after))
        return found

    def _compile(self, stretch: StreamPart) -> Leg:
        if not stretch.program.outputs:
            return Leg(stretch, None)
        run = Executable.of(stretch.program, self.target, self.options, self.at, shared=self._shared, pool=self._pool)
        return Leg(stretch, run)

    def _program(self, count: int) -> Program:
        program, truths = self._lower(self.part_shape(count))
        self.truths = truths
        return program

    def _find_flow(self, output: str | None) -> tuple[Flow, int]:
        """The flow, in a program that is long enough, and a position in its middle."""
        for length in LENGTHS:
            program = self._program(length)
            tensor = find_output(program, output, self.at)
            if len(program.inputs) != 1:
                problem = f"inputs {list(program.inputs)}"
                raise ShapeError(problem, need="one input", fix="constants={name: array} in compile", at=self.at)
            try:
                flow = Flow.of(program, tensor, program.inputs[0], self.axis)
                middle = length // 2 // flow.hop * flow.hop
                self.most = length // 4 // flow.hop
                if self.most >= 2 and flow.is_clear(middle, middle + self.most * flow.hop):
                    return flow, middle
            except TooShortError:
                continue
        raise UnsupportedError(
            f"results read or wait for more than about {LENGTHS[-1] // 4} positions", need=NEED, at=self.at
        )

    def _check_alike(self) -> bytes:
        """A hash of the steady stretch, which is the same wherever it stands and however long the input is."""
        flow, at = self.flow, self.middle
        other = flow.along(self._program(2 * flow.size(flow.source)))
        found = set()
        for each, position in ((flow, at), (flow, at + flow.hop), (other, 2 * at)):
            marks = [keep(each, each.ready(n), self._margins) for n in (position, position + each.hop)]
            found.add(describe_program(_rounded(cut_stretch(each, *marks).program)))
        if len(found) != 1:
            problem = "the network computes otherwise at other positions, or for another number of them"
            raise UnsupportedError(problem, need=NEED, at=self.at)
        return found.pop()

    def _find_margins(self) -> dict[str, int]:
        """Positions that the end reads, and no stretch before it would; and where values end."""
        margins: dict[str, int] = {}
        ended = self.flow.along(self._program(self.middle))
        self.flow.ends = self.middle, {link.step.y: ended.size(link.step.y) for link in ended.links}
        mark = keep(self.flow, self.flow.ready(self.middle), {})
        for count in {0, self.hop - 1}:
            try:
                flow = self.flow.along(self._program(self.middle + count))
            except ShapeError:
                continue  # the network has no result for such numbers
            for link in flow.links:
                start, stop = mark.kept[link.step.y][1], flow.size(link.step.y)
                if start >= stop or link.carry is not None:
                    continue
                cut = flow.cut(link, (start, stop))
                for number, name, axis in link.moving:
                    first = mark.kept[name][0] - cut.reads[number][axis][0]
                    margins[name] = max(margins.get(name, 0), first)
        return margins

    def _find_steady(self) -> int:
        """The first hop from which on the steady stretch is right."""
        for position in range(0, self.middle + 1, self.hop):
            self._fills = self._find_fills(position)
            if self._fills is not None:
                return position
        raise UnsupportedError("the beginning is not like the middle", need=NEED, at=self.at)

    def _find_start(self) -> int:
        """The first hop at which there is a result, or that is steady: what comes before it waits.

        So the beginning takes few programs, in whatever parts it comes.
        """
        for position in range(self.hop, self.steady, self.hop):
            if self.flow.ready(position)[self.tensor]:
                return position
        return max(self.hop, self.steady)

    def _find_fills(self, position: int) -> dict[str, float] | None:
        """For each value what stands before its first position; ``None`` where the stretch is not yet steady."""
        flow, back = self.flow, self.middle - position
        ready = flow.ready(position)
        fills: dict[str, float] = {}
        for name, (_, steady) in self._at_middle.kept.items():
            if ready[name] != steady - flow.rates[name] * back:
                return None
        for link in flow.links:
            if link.carry is not None:
                continue
            spans = flow.reads(link, self._at_middle.kept[link.step.y][1])[1]
            for (number, name, _), span in zip(link.moving, spans, strict=True):
                if span[0] < flow.rates[name] * back:
                    fill = link.step.border if number == 0 else None
                    if fill is None or fills.setdefault(name, fill) != fill:
                        return None
        return fills

    def _first_states(self) -> dict[str, Array]:
        """What steps that go on begin with."""
        found = {}
        for link in self.flow.links:
            if link.carry is not None:
                for number, (name, shape) in enumerate(zip(link.carry.first, link.carry.states, strict=True)):
                    value = np.zeros(shape, self.dtype) if name is None else self._compute(name)
                    found[state_name(link.step.y, number)] = value
        return found

    def _compute(self, name: str) -> Array:
        """A value that depends on no input."""
        program = self.flow.program
        part = cut_program(program, {name: whole(program.shapes[name])}).program
        return Executable.of(part, self.target, self.options, self.at).run({})[part.outputs[0]]


def find_output(program: Program, output: str | None, at: str) -> str:
    """The output that is asked for, where there are several.

    Raises:
        ShapeError: none is named, or none of that name.
    """
    names = tuple(dict.fromkeys(program.outputs))
    if output is None and len(names) == 1:
        return names[0]
    if output not in names:
        given = "no output is named" if output is None else f"output={output!r}"
        raise ShapeError(f"{given} of {list(names)}", need="one of them", fix=f"output={names[0]!r}", at=at)
    return output


def _rounded(program: Program) -> Program:
    """The program with the weights of its resizes rounded."""
    steps: list[Any] = [
        replace(step, weight=tuple(np.round(np.asarray(w, np.float64) * TABLE_STEPS) for w in step.weight))
        if isinstance(step, ResizeStep)
        else step
        for step in program.steps
    ]
    return replace(program, steps=steps)
