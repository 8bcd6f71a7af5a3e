"""`keep_axes`: a program whose reductions and normalisations keep the axes of images apart, so that it can be cut.

Programs reduce over the last axes of a value. Other reductions are reshapes around that: x is read as (1, kept,
reduced), where positions on several axes have become one axis, of which a tile is no interval. And a value is reshaped
to (N, groups, rest) to be normalised by groups. Here the first becomes one `ReduceAxesStep`, which makes the reshapes
anew for each tile, and the second is computed as (N, groups, channels of a group, ``*spatial``): the same numbers in
the same order, with the axes of the image at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, group_axes
from omniconv.program.dependence import Blocks, Dependence, Form, Part, Regroup
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, with_labels
from omniconv.program.steps import MapStep, PostOp, ProgramStep, RearrangeStep, ReduceStep, StandardiseStep
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Shape

MEANS: Final = ("mean", "max", "min")
"""Reductions that are no larger than what they are of."""


@dataclass(frozen=True, slots=True)
class ReduceAxesStep(Step):
    """A reduction over some axes of x. y has the others, in their order, with sizes of 1 anywhere.

    It stands in programs that are cut, never in one that is compiled: :func:`expand` writes it as steps that are.
    """

    word: ClassVar[str] = "reduction"
    x: str
    y: str
    op: str  # as of a `ReduceStep`
    axes: tuple[int, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """What is said of y, else sizes of 1 for the axes."""
        kept = tuple(1 if axis in self.axes else size for axis, size in enumerate(shapes[self.x]))
        stated = tuple(shapes.get(self.y, kept))
        if [size for size in stated if size > 1] != [size for size in kept if size > 1]:
            raise ShapeError(
                f"{self.op} over axes {self.axes} of {shapes[self.x]} with a result of {stated}", need=f"{kept}"
            )
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """One position on all positions of the axes."""
        shape, average = tuple(shapes[self.x]), self.op in MEANS
        whys = {axis: "" if axis < 2 else f"{self.op} over all positions" for axis in self.axes}
        forms: list[Form] = [Blocks(axis, shape[axis], 1, average=average, why=whys[axis]) for axis in self.axes]
        kept = tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))
        if kept != shapes[self.y]:
            forms.append(Regroup(kept, kept, tuple(range(len(kept))), shapes[self.y]))
        return Dependence((Part(self.x, tuple(forms)),), linear=self.op in ("mean", "sum"))

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """All of the axes, and of each other what is asked for."""
        spans = iter([span for span, size in zip(box, shapes[self.y], strict=True) if size > 1])
        reads = tuple(
            next(spans) if size > 1 and axis not in self.axes else (0, size) for axis, size in enumerate(shapes[self.x])
        )
        return Cut(self, box, (reads,))


def expand(step: Any, shapes: Shapes, shape: Shape) -> list[tuple[ProgramStep, Shape]]:
    """The steps of a compiled program, with the shapes of their results, that compute one of a program that is cut."""
    if not isinstance(step, ReduceAxesStep):
        return [(step, shape)]
    source = shapes[step.x]
    kept = tuple(axis for axis in range(len(source)) if axis not in step.axes)
    flat = (1, math.prod(source[axis] for axis in kept), math.prod(source[axis] for axis in step.axes))
    moved, reduced = f"{step.y} moved", f"{step.y} reduced"
    return [
        (RearrangeStep(step.x, moved, tuple(source), (*kept, *step.axes)), flat),
        (ReduceStep(moved, reduced, step.op), flat[:2]),
        (RearrangeStep(reduced, step.y, flat[:2], (0, 1)), shape),
    ]


def keep_axes(program: Program, outputs: Sequence[str]) -> Program:
    """What some values are computed from, as their program: the same values, axes kept apart where they can be."""
    wanted = Program(program.inputs, tuple(outputs), program.shapes, program.steps, program.labels, program.element)
    return _join_reductions(_unflatten(wanted))


def _copy(program: Program, items: list[Item], shapes: Shapes) -> Program:
    """The needed ones of some steps, with shapes of their own."""
    wanted, kept = set(program.outputs), []
    for step, label in reversed(items):
        if step.y in wanted:
            wanted.update(step.reads)
            kept.append((step, label))
    new = Program(
        program.inputs,
        program.outputs,
        {name: program.shapes[name] for name in program.inputs},
        element=program.element,
    )
    for step, label in reversed(kept):
        new.add(step, shapes[step.y], label)
    return new


def _join_reductions(program: Program) -> Program:
    """Reductions of reshaped values as `ReduceAxesStep` s."""
    shapes = program.shapes
    made: dict[str, ProgramStep] = {step.y: step for step in program.steps}
    items: list[Item] = []
    for step, label in with_labels(program):
        inner = made.get(step.x) if isinstance(step, RearrangeStep) and _is_reshape(step) else None
        moved = made.get(inner.x) if isinstance(inner, ReduceStep) else None
        if isinstance(inner, ReduceStep) and isinstance(moved, RearrangeStep):
            axes = _reduced_axes(moved, shapes)
            if axes is not None:
                joined: Any = ReduceAxesStep(moved.x, step.y, inner.op, axes)
                try:
                    joined.output_shape(shapes)
                except ShapeError:  # axes change places behind the reduction
                    pass
                else:
                    step = joined
        items.append((step, label))
    return _copy(program, items, shapes)


def _is_reshape(step: RearrangeStep) -> bool:
    return tuple(step.perm) == tuple(range(len(step.perm)))


def _reduced_axes(moved: RearrangeStep, shapes: Shapes) -> tuple[int, ...] | None:
    """Which axes a reduction of a reshaped value is over; ``None`` where it is not of whole axes, in their order."""
    source, flat = tuple(shapes[moved.x]), shapes[moved.y]
    if tuple(moved.split) != source:
        return None
    groups = group_axes(flat, [source[axis] for axis in moved.perm])
    if groups is None:
        return None
    kept = [moved.perm[n] for group in groups[:2] for n in group if source[moved.perm[n]] > 1]
    return None if kept != sorted(kept) else tuple(axis for axis in range(len(source)) if axis not in kept)


def _unflatten(program: Program) -> Program:
    """Values (N, groups, rest) of (N, C, *spatial) as (N, groups, C / groups, *spatial), while they are computed with.

    All of what is computed from such a value must be known here, back to values of the old axes; else it stays.
    """
    for step in program.steps:
        if isinstance(step, RearrangeStep) and (found := _regroup_region(program, step)) is not None:
            return _unflatten(found)
    return program


def _regroup_region(program: Program, first: RearrangeStep) -> Program | None:
    """The program with one flattened value, and all that is computed from it, in its own axes."""
    source, flat = tuple(program.shapes[first.x]), tuple(program.shapes[first.y])
    if not _is_reshape(first) or len(source) < 3 or len(flat) != 3 or flat[0] != source[0]:
        return None
    if not flat[1] or source[1] % flat[1] or math.prod(source[1:]) != flat[1] * flat[2]:
        return None
    wide = (*flat[:2], source[1] // flat[1], *source[2:])
    readers, shapes = count_readers(program), dict(program.shapes)
    small = (*flat[:2], *(1,) * (len(wide) - 2))
    region: dict[str, Shape] = {first.y: wide}  # new shapes of flattened values and of their statistics
    inside: set[str] = set()

    def widen(shape: Shape) -> Shape | None:
        """The new shape of a value or constant that stands beside the flattened one."""
        shape = (1,) * (3 - len(shape)) + tuple(shape)
        return wide if shape == flat else (*shape[:2], *small[2:]) if shape[2] == 1 else None

    items: list[Item] = []
    for step, label in with_labels(program):
        reads = [name for name in step.reads if name in region]
        if step.y == first.y:
            items.append((replace(first, split=wide, perm=tuple(range(len(wide)))), label))
            continue
        if not reads:
            items.append((step, label))
            continue
        inside.update(reads)
        new = _in_new_axes(step, region, shapes, flat, wide, widen)
        if new is None:
            return None
        changed, shape = new
        if shape is not None:
            region[step.y] = shape
        items.append((changed, label))
    if region.keys() & set(program.outputs) or any(readers[name] and name not in inside for name in region):
        return None
    shapes.update(region)
    return _copy(program, items, shapes)


def _in_new_axes(
    step: ProgramStep,
    region: dict[str, Shape],
    shapes: Shapes,
    flat: Shape,
    wide: Shape,
    widen: Callable[[Shape], Shape | None],
) -> tuple[ProgramStep, Shape | None] | None:
    """A step that reads values of the region, in the new axes, with the new shape of its result.

    The shape is ``None`` where the result leaves the region; the whole is ``None`` where the step is not known.
    """
    if isinstance(step, RearrangeStep):
        leaves = _is_reshape(step) and step.x in region
        return (replace(step, split=region[step.x], perm=tuple(range(len(region[step.x])))), None) if leaves else None
    result = widen(shapes[step.y])
    if result is None:
        return None
    if isinstance(step, ReduceStep):
        return step, result
    if not isinstance(step, MapStep | StandardiseStep):
        return None
    post: list[PostOp] = []
    for op in step.post:
        if isinstance(op.operand, str):
            if op.operand not in region:
                return None
        elif op.operand is not None:
            shape = widen(op.operand.shape)
            if shape is None:
                return None
            op = replace(op, operand=op.operand.reshape(shape)) if op.operand.size > 1 else op
        post.append(op)
    if isinstance(step, MapStep):
        return (replace(step, post=tuple(post)), result) if step.x in region else None
    known = step.x in region and step.axes == 1 and tuple(shapes[step.x]) == flat
    return (replace(step, post=tuple(post), axes=len(wide) - 2), result) if known else None
