"""Pass: elementwise operations, means and moves between quantised values read and write the integers themselves.

What stands before a step that quantises, and is read by nothing else, becomes part of it: elementwise operations,
steps that only make numbers of integers, and means over all positions. A move before it is done to the integers
instead. What reads numbers made of integers then reads these. The arithmetic is the same, number for number; but the
sum of a mean has no error any more, so that a result may differ by one step.

It must not fire on: numbers that something else reads as well; outputs of the program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, rebuild
from omniconv.program.steps import MapStep, ProgramStep, QuantisedMapStep, QuantisedMeanStep, ReduceStep
from omniconv.program.steps.step import Move
from omniconv.spec import Shape


def join_quantised(program: Program) -> Program:
    """Join until nothing is left to join; the program itself where there was nothing."""
    if not any(isinstance(step, QuantisedMapStep) for step in program.steps):
        return program
    return _Joining(program).run()


class _Joining:
    """The steps, changed from the last to the first: what a step takes in comes before it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.readers = count_readers(program)
        self.labels = {step.y: label for step, label in zip(program.steps, program.labels, strict=True)}
        self.steps: dict[str, ProgramStep] = {step.y: step for step in program.steps}
        self.shapes: dict[str, Shape] = dict(program.shapes)
        self.count = 0

    def run(self) -> Program:
        """The program with everything joined."""
        waiting = [
            step.y for step in self.program.steps if isinstance(step, QuantisedMapStep) and step.levels is not None
        ]
        while waiting:
            step = self.steps[waiting.pop()]
            assert isinstance(step, QuantisedMapStep)
            before = self._before(step.x)
            if before is None:
                self.steps[step.y] = self._read_integers(step)
            elif isinstance(before, QuantisedMapStep | MapStep):
                waiting.append(self._take_in(step, before))
            elif isinstance(before, Move):
                waiting += self._move_behind(step, before)
            elif isinstance(before, ReduceStep):
                self._take_mean(step, before)
        return self._finish()

    def _before(self, name: str) -> Any:
        """The step that makes a float value which nothing else reads; only of kinds that can be joined."""
        step = self.steps.get(name)
        if step is None or self.readers[name] != 1:
            return None
        if isinstance(step, QuantisedMapStep):
            return step if step.levels is None else None
        return step if isinstance(step, MapStep | Move | ReduceStep) else None

    def _take_in(self, step: QuantisedMapStep, before: QuantisedMapStep | MapStep) -> str:
        """The operations of a step and of the one before it as one."""
        if step.x_scale is not None:
            raise AssertionError("a float value has no scale")
        if isinstance(before, MapStep):
            scales: tuple[float | None, ...] = (None,) * sum(isinstance(op.operand, str) for op in before.post)
            x_scale = None
        else:
            scales, x_scale = before.scales, before.x_scale
        del self.steps[before.y]
        self.steps[step.y] = replace(
            step, x=before.x, x_scale=x_scale, post=(*before.post, *step.post), scales=(*scales, *step.scales)
        )
        return step.y

    def _move_behind(self, step: QuantisedMapStep, move: Any) -> list[str]:
        """The step before a move instead of behind it, for each value that is moved."""
        if step.post or step.x_scale is not None:
            self.steps[step.y] = self._read_integers(step)
            return []
        del self.steps[move.y]
        names: dict[str, str] = {}
        for name in dict.fromkeys(move.reads):
            self.count += 1
            names[name] = f"{step.y} quantised.{self.count}"
            while names[name] in self.shapes:
                names[name] += "'"
            self.steps[names[name]] = replace(step, x=name, y=names[name])
            self.shapes[names[name]] = self.shapes[name]
            self.labels[names[name]] = self.labels[step.y]
            self.readers[names[name]] = 1
            self.readers[name] -= move.reads.count(name) - 1
        self.steps[step.y] = move.renamed({**names, move.y: step.y})
        return list(names.values())

    def _take_mean(self, step: QuantisedMapStep, mean: ReduceStep) -> None:
        """A mean of numbers that are made of integers."""
        source = self.steps.get(mean.x)
        if (
            step.post
            or mean.op != "mean"
            or step.levels is None
            or not isinstance(source, QuantisedMapStep)
            or source.levels is not None
            or source.post
            or source.x_scale is None
            or len(self.shapes[mean.x]) > 5
        ):
            self.steps[step.y] = self._read_integers(step)
            return
        del self.steps[mean.y]
        self.readers[mean.x] -= 1
        self.readers[source.x] += 1
        self.steps[step.y] = QuantisedMeanStep(source.x, step.y, source.x_scale / step.levels.scale, step.levels)

    def _read_integers(self, step: QuantisedMapStep) -> QuantisedMapStep:
        """The step reading integers in place of the numbers that are made of them."""

        def find(name: str, scale: float | None) -> tuple[str, float | None]:
            source = self.steps.get(name)
            if scale is None and isinstance(source, QuantisedMapStep) and source.levels is None and not source.post:
                return source.x, source.x_scale
            return name, scale

        x, x_scale = find(step.x, step.x_scale)
        scales, post, known = [], [], iter(step.scales)
        for op in step.post:
            if isinstance(op.operand, str):
                operand, scale = find(op.operand, next(known))
                scales.append(scale)
                op = replace(op, operand=operand)
            post.append(op)
        return replace(step, x=x, x_scale=x_scale, post=tuple(post), scales=tuple(scales))

    def _limits(self, name: str) -> tuple[int, int] | None:
        """The least and the largest integer of a quantised value; ``None`` where that is not known."""
        step = self.steps.get(name)
        if isinstance(step, Move):
            found = [self._limits(read) for read in step.reads]
            known = [each for each in found if each is not None]
            return (min(a for a, _ in known), max(b for _, b in known)) if len(known) == len(found) else None
        levels = getattr(step, "levels", None)
        return None if levels is None else (levels.low, levels.high)

    def _drop_same(self) -> None:
        """Leave out steps that change nothing: a scale through itself is one, and times it the integer that it was,
        because the two roundings together are less than half of one; and no limit is met.
        """
        same: dict[str, str] = {}
        for step in list(self.steps.values()):
            if not isinstance(step, QuantisedMapStep) or step.levels is None or step.post:
                continue
            limits = self._limits(step.x) if step.x_scale == step.levels.scale else None
            if limits is not None and step.levels.low <= limits[0] and limits[1] <= step.levels.high:
                same[step.y] = step.x
        for name, source in tuple(same.items()):
            while source in same:
                source = same[source]
            same[name] = source
        self.steps = {name: self._rename(step, same) for name, step in self.steps.items() if name not in same}

    def _rename(self, step: ProgramStep, names: dict[str, str]) -> ProgramStep:
        """A step that reads other values; itself where it reads none of them."""
        return step.renamed(names) if any(name in names for name in step.reads) else step

    def _finish(self) -> Program:
        """The steps that are left and read, each behind what it reads."""
        self._drop_same()
        order: list[Item] = []
        done = set(self.program.inputs)
        stack = list(reversed(self.program.outputs))
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            step = self.steps[name]
            missing = [read for read in step.reads if read not in done]
            if missing:
                stack += reversed(missing)
                continue
            done.add(name)
            order.append((step, self.labels[name]))
            stack.pop()
        program = Program(self.program.inputs, self.program.outputs, self.shapes, element=self.program.element)
        return rebuild(program, order)
