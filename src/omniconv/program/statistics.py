"""`split_program`: a program whose reductions over all positions are inputs, and what they are reductions of.

A mean over all positions, a squeeze, a normalisation by the mean and the variance of an image: each is a small value
that has to be known before anything that follows can be computed for one position. With them as inputs a program can
be cut; they are found one after the other, by *sweeps* over the image: each adds up one value, position by position.
A reduction of what an earlier one goes into needs a sweep after it. n squeezes one after the other are n sweeps, and
the result comes with one more pass.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import field
from typing import Any, Final

from omniconv.program.keep_axes import ReduceAxesStep
from omniconv.program.program import Program
from omniconv.program.rewrite import with_labels
from omniconv.program.steps import MapStep, PostOp, ProgramStep, RearrangeStep, ReduceStep, StandardiseStep
from omniconv.records import dataclass
from omniconv.spec import Shape

REDUCTIONS: Final = ("mean", "sum", "max", "min")
"""What can be put together from parts, in any order, with the same result."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One reduction over all positions.

    Attributes:
        y, shape: the input that it is, and its shape.
        op: one of :data:`REDUCTIONS`; ``variance``, the mean of squared differences from the mean; ``deviation``, the
            root of that and ``epsilon``.
        lead: batch and channels of the value that is swept, seen in this shape;
        axes: of which these are reduced as well.
        epsilon: see ``op``.
    """

    y: str
    shape: Shape
    op: str
    lead: Shape
    axes: tuple[int, ...]
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """Statistics of one value.

    Attributes:
        tensor: the value, ``(1, C, *spatial)``.
        level: how many sweeps come before it, one after the other.
        statistics: of it.
        label: of the step that wants the first.
    """

    tensor: str
    level: int
    statistics: list[Statistic]
    label: str


@dataclass(slots=True)
class SweptProgram:
    """A program and the sweeps before it.

    Attributes:
        program: its last inputs are statistics.
        sweeps: in the order in which they can be made.
    """

    program: Program
    sweeps: list[Sweep] = field(default_factory=list)


def split_program(program: Program, images: Sequence[str] | None = None) -> SweptProgram:
    """Make the reductions over all positions inputs, in a program whose axes are kept apart.

    Only those that can be put together from parts: a product over all positions stays, as all else does that reads
    everything (:func:`omniconv.analysis.tiling.tiling` says whether something does).

    Args:
        program: to split.
        images: the inputs that have positions, the first of which says on how many axes; default all.
    """
    return _Splitter(program, tuple(program.inputs if images is None else images)).split()


class _Splitter:
    def __init__(self, program: Program, images: tuple[str, ...]) -> None:
        self.old = program
        first = {name: program.shapes[name] for name in program.inputs}
        self.new = Program(program.inputs, program.outputs, first, element=program.element)
        self.dims = len(first[images[0]]) - 2
        self.local, self.level = set(images), dict.fromkeys(program.inputs, 0)
        self.made: dict[str, ProgramStep] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.means: dict[str, tuple[str, Statistic]] = {}  # statistics by name, with the values that they are of

    def split(self) -> SweptProgram:
        for step, label in with_labels(self.old):
            self._take(step, label)
        return SweptProgram(self.new, self._needed())

    def _take(self, step: ProgramStep, label: str) -> None:
        found = self._find(step) if any(name in self.local for name in step.reads) else None
        tensor = None if found is None else self._as_image(step.x, label)
        if found is None or tensor is None:
            self._add(step, label)
            return
        for statistic in found:
            squared = self._squared(step.x, statistic)
            if squared is None:
                self._sweep(statistic, tensor, step.x, label)
            else:
                source, variance = squared
                self._sweep(variance, self._as_image(source, label) or tensor, source, label)
        if isinstance(step, StandardiseStep):
            mean, deviation = (statistic.y for statistic in found)
            post = (PostOp("sub", mean), PostOp("div", deviation), *step.post)
            self._add(MapStep(step.x, step.y, post), label)

    def _add(self, step: ProgramStep, label: str) -> None:
        self.new.add(step, self.old.shapes[step.y], label)
        self._note(step)

    def _note(self, step: ProgramStep) -> None:
        self.made[step.y] = step
        self.level[step.y] = max((self.level[name] for name in step.reads), default=0)
        if any(name in self.local for name in step.reads):
            self.local.add(step.y)

    def _sweep(self, statistic: Statistic, tensor: str, source: str, label: str) -> None:
        """Have a statistic made, and known by its name."""
        sweep = self.sweeps.setdefault(tensor, Sweep(tensor, self.level[tensor], [], label))
        sweep.statistics.append(statistic)
        self.new.inputs += (statistic.y,)
        self.new.shapes[statistic.y] = statistic.shape
        self.level[statistic.y] = sweep.level + 1
        self.means[statistic.y] = source, statistic

    def _find(self, step: Any) -> list[Statistic] | None:
        """The statistics that a step takes of all positions; ``None`` where it takes none, or not of all."""
        if not isinstance(step, ReduceStep | ReduceAxesStep | StandardiseStep):
            return None
        shape = self.old.shapes[step.x]
        rank, result = len(shape), self.old.shapes[step.y]
        lead = tuple(shape[: rank - self.dims])
        if len(lead) < 2:
            return None
        if isinstance(step, StandardiseStep):
            if step.axes < self.dims:
                return None
            first = rank - step.axes
            small, axes = (*shape[:first], *(1,) * step.axes), tuple(range(first, len(lead)))
            return [
                Statistic(f"{step.y} mean", small, "mean", lead, axes),
                Statistic(f"{step.y} deviation", small, "deviation", lead, axes, step.epsilon),
            ]
        reduced = tuple(range(2, rank)) if isinstance(step, ReduceStep) else step.axes
        if step.op not in REDUCTIONS or any(n not in reduced and shape[n] > 1 for n in range(len(lead), rank)):
            return None
        return [Statistic(step.y, result, step.op, lead, tuple(n for n in reduced if n < len(lead)))]

    def _squared(self, source: str, statistic: Statistic) -> tuple[str, Statistic] | None:
        """What the mean of ``(x - mean of x)^2`` is the variance of, and that."""
        squares = self.made.get(source)
        if statistic.op != "mean" or not isinstance(squares, MapStep) or not _is(squares, "mul", squares.x):
            return None
        centred = self.made.get(squares.x)
        if not isinstance(centred, MapStep) or len(centred.post) != 1 or centred.post[0].op != "sub":
            return None
        of, mean = self.means.get(str(centred.post[0].operand), ("", None))
        if mean is None or of != centred.x or (mean.op, mean.lead, mean.axes) != ("mean", *_form(statistic)):
            return None
        return of, Statistic(statistic.y, statistic.shape, "variance", *_form(statistic))

    def _as_image(self, name: str, label: str) -> str | None:
        """A value of as many axes as the image has, with the same positions."""
        shape = self.new.shapes[name]
        more = len(shape) - self.dims - 2
        if more <= 0:
            return name if not more else None
        found = f"{name} as an image"
        if found not in self.new.shapes:
            form = (shape[0], math.prod(shape[1 : 2 + more]), *shape[2 + more :])
            step = RearrangeStep(name, found, tuple(shape), tuple(range(len(shape))))
            self.new.add(step, form, label)
            self._note(step)
        return found

    def _needed(self) -> list[Sweep]:
        """The sweeps that the outputs depend on, in order."""
        wanted = set(self.new.outputs)
        kept = []
        for sweep in sorted(self.sweeps.values(), key=lambda sweep: -sweep.level):
            wanted |= find_sources(self.new, wanted)
            needed = [statistic for statistic in sweep.statistics if statistic.y in wanted]
            if needed:
                kept.append(Sweep(sweep.tensor, sweep.level, needed, sweep.label))
                wanted.add(sweep.tensor)
        return kept[::-1]


def _form(statistic: Statistic) -> tuple[Shape, tuple[int, ...]]:
    return statistic.lead, statistic.axes


def _is(step: MapStep, op: str, operand: str) -> bool:
    """Whether a step is one operation with a value."""
    return len(step.post) == 1 and (step.post[0].op, step.post[0].operand) == (op, operand)


def find_sources(program: Program, wanted: Collection[str]) -> set[str]:
    """All values that some are computed from, with themselves."""
    found = set(wanted)
    for step in reversed(program.steps):
        if step.y in found:
            found.update(step.reads)
    return found
