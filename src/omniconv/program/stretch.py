"""`cut_stretch`: the program that takes a stream from one position to another.

Of every value that moves (:mod:`omniconv.program.flow`) some last positions are *kept* where the stream stands, because
steps will read them again. A stretch computes of every value the positions that become ready, from what was kept and
from new positions of the input, and what is to be kept of it afterwards. Nothing is computed twice.

Between stretches quantised values are numbers of the program's element, which hold their integers exactly: inputs and
outputs of a program have one type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from omniconv.program.carry import run_on, tail_of
from omniconv.program.cut import Interval
from omniconv.program.flow import Flow, FlowStep
from omniconv.program.levels import LARGEST, Levels
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.steps import ConcatStep, ProgramStep, QuantisedMapStep, SliceStep
from omniconv.records import dataclass
from omniconv.spec import Shape

INTEGERS: Final = Levels(1.0, -LARGEST, LARGEST)
"""All integers of quantised values."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a stream stands.

    Attributes:
        kept: for each moving value the positions that are kept; the last of them is the last that is ready.
    """

    kept: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, eq=False)
class StreamPart:
    """From one mark to another.

    Attributes:
        program: without steps where nothing becomes ready.
        result: the value that holds new positions of the result; ``None`` where there are none.
        kept: value -> the output that holds what is kept of it afterwards, or ``None`` for the end of what was kept;
            and how many positions.
        states: the outputs that hold the states that steps go on with, by name of the input that they will be.
    """

    program: Program
    result: str | None
    kept: dict[str, tuple[str | None, int]]
    states: dict[str, str]


def before_name(value: str) -> str:
    """The input of a stretch that holds what was kept of a value."""
    return f"before {value}"


def state_name(value: str, number: int) -> str:
    """The input of a stretch that holds a state with which the step of a value goes on."""
    return f"state {number} of {value}"


def keep(flow: Flow, ready: Mapping[str, int], margins: Mapping[str, int]) -> Mark:
    """What is to be kept where so many positions of each value are ready.

    Args:
        flow: of a program for more positions than that.
        ready: see :meth:`Flow.ready`.
        margins: positions more, for what the end will read.
    """
    first = dict(ready)
    for link in flow.links:
        at = ready[link.step.y]
        if link.carry is None and at < flow.size(link.step.y):
            for (_, name, _), span in zip(link.moving, flow.reads(link, at)[1], strict=True):
                first[name] = min(first[name], span[0])
    return Mark({name: (max(first[name] - margins.get(name, 0), 0), at) for name, at in ready.items()})


def cut_stretch(flow: Flow, before: Mark, after: Mark | None) -> StreamPart:
    """The stretch from one mark to another, or to the end.

    Args:
        flow: of a program for more positions than ``after`` is at; without ``after``, for as many as there are.
        before, after: of this flow, or of one that is alike there.

    Raises:
        UnsupportedError: a step that cannot be computed in parts; its label is in ``at``.
    """
    return _PartBuilder(flow, before, after).build()


@dataclass(slots=True, eq=False)
class _PartBuilder:
    flow: Flow
    before: Mark
    after: Mark | None
    items: list[tuple[ProgramStep, Shape, str]] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def build(self) -> StreamPart:
        flow = self.flow
        self._read(flow.source, self._shape(flow.source, self._new(flow.source)))
        produced = {link.step.y for link in flow.links}
        moving = set(flow.axes)
        for step, label in zip(flow.program.steps, flow.program.labels, strict=True):
            if step.y not in produced and moving.isdisjoint(step.reads):
                self._add(step, flow.program.shapes[step.y], label)
                continue
            link = next((link for link in flow.links if link.step is step), None)
            if link is not None:
                self._link(link)
        kept: dict[str, tuple[str | None, int]] = {}
        for name, (first, ready) in ({} if self.after is None else self.after.kept).items():
            old = self.before.kept[name]
            if first < ready:
                found = None if ready == old[1] else self._leave(name, (first, ready))
                kept[name] = found, ready - first
        last = self._new(flow.tensor)
        result = flow.tensor if last[0] < last[1] else None
        outputs = [
            *([] if result is None else [result]),
            *(name for name, _ in kept.values() if name is not None),
            *self.states.values(),
        ]
        return StreamPart(self._finish(outputs), result, kept, self.states)

    def _finish(self, outputs: Sequence[str]) -> Program:
        names = {*outputs, *(name for step, _, _ in self.items for name in step.reads)}
        inputs = tuple(name for name in self.inputs if name in names)
        program = Program(
            inputs,
            tuple(dict.fromkeys(outputs)),
            {name: self.shapes[name] for name in inputs},
            element=self.flow.program.element,
        )
        for step, shape, label in self.items:
            if all(name in program.shapes for name in step.reads):
                program.add(step, shape, label)
        return drop_dead(program)

    def _new(self, name: str) -> Interval:
        """The positions of a value that become ready."""
        start = self.before.kept[name][1]
        end = self.flow.size(name) if self.after is None else self.after.kept[name][1]
        return start, max(start, end)

    def _shape(self, name: str, span: Interval) -> Shape:
        shape, axis = self.flow.program.shapes[name], self.flow.axes[name]
        return (*shape[:axis], span[1] - span[0], *shape[axis + 1 :])

    def _read(self, name: str, shape: Shape) -> None:
        if name not in self.shapes and 0 not in shape:
            self.inputs.append(name)
            self.shapes[name] = shape

    def _add(self, step: ProgramStep, shape: Shape, label: str) -> str:
        self.items.append((step, shape, label))
        self.shapes[step.y] = shape
        return step.y

    def _link(self, link: FlowStep) -> None:
        """The new positions of a step's result."""
        y, flow = link.step.y, self.flow
        if link.carry is not None:
            self._carry(link)
            return
        span = self._new(y)
        if span[0] == span[1]:
            return
        cut = flow.cut(link, span)
        names = list(link.step.reads)
        for number, name, axis in link.moving:
            names[number] = self._take(name, cut.reads[number][axis], link.label)
        step = cut.step.reading(names)
        if cut.box[link.axis] == span:
            self._add(step, self._shape(y, span), link.label)
            return
        wide = f"{y} and more"
        self._add(step.renamed({y: wide}), self._shape(y, cut.box[link.axis]), link.label)
        self._slice(wide, y, span[0] - cut.box[link.axis][0], y, span, link.label)

    def _carry(self, link: FlowStep) -> None:
        """The new positions of the result of a step that goes on, and the states after them."""
        carry, y, last = link.carry, link.step.y, self.after is None
        assert carry is not None
        states = tuple(state_name(y, number) for number in range(len(carry.states)))
        for name, shape in zip(states, carry.states, strict=True):
            self._read(name, shape)
        ((_, source, _),) = link.moving
        start, end = self._new(y)
        stop = end - carry.tail if last else end
        if start < stop:
            x = self._take(source, (start, stop), link.label)
            run = run_on(link.step, x, self._shape(source, (start, stop)), states, link.axis, last=last)
            for step, shape in run.steps:
                self._add(step, shape, link.label)
            self.states = {
                **self.states,
                **(dict(zip(states, run.states, strict=True)) if run.states and not last else {}),
            }
        elif start < end:
            for step, shape in tail_of(link.step, states, carry.states[0]):
                self._add(step, shape, link.label)

    def _take(self, name: str, span: Interval, label: str) -> str:
        """Some positions of a value, out of what was kept of it and what is new."""
        first, middle = self.before.kept[name]
        end = self._new(name)[1]
        assert first <= span[0] < span[1] <= end, (name, span, first, end)
        if span[0] >= middle:
            base, start, stop = name, middle, end
        elif span[1] <= middle:
            base, start, stop = self._find_old(name, label), first, middle
        else:
            base, start, stop = f"{name} joined", first, end
            if base not in self.shapes:
                old = self._find_old(name, label)
                self._add(ConcatStep((old, name), base, self.flow.axes[name]), self._shape(name, (first, end)), label)
        if span == (start, stop):
            return base
        found = f"{base} {span}"
        if found not in self.shapes:
            self._slice(base, found, span[0] - start, name, span, label)
        return found

    def _find_old(self, name: str, label: str) -> str:
        """What was kept of a value, as its steps read it."""
        found, shape = before_name(name), self._shape(name, self.before.kept[name])
        self._read(found, shape)
        if name not in self.flow.program.elements:
            return found
        integers = f"{found} in integers"
        if integers not in self.shapes:
            self._add(QuantisedMapStep(found, integers, None, levels=INTEGERS), shape, label)
        return integers

    def _leave(self, name: str, span: Interval) -> str:
        """Some positions of a value, as they are kept."""
        found = self._take(name, span, "kept")
        if name not in self.flow.program.elements:
            return found
        step = QuantisedMapStep(found, f"{found} in numbers", 1.0)
        return self._add(step, self._shape(name, span), "kept")

    def _slice(self, base: str, found: str, start: int, name: str, span: Interval, label: str) -> None:
        axis, rank = self.flow.axes[name], len(self.shapes[base])
        starts = tuple(start if n == axis else 0 for n in range(rank))
        self._add(SliceStep(base, found, starts, (1,) * rank), self._shape(name, span), label)
