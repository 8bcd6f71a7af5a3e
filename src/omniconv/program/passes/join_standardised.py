"""Pass: standardise a value as it is, where it is reshaped for that and back.

``reshape(standardise(reshape(x)))`` is ``standardise(x)`` over the last axes of x that have as many elements as those
over which the reshaped value is standardised. So exporters write a normalisation of whole images, or of groups.

What is kept: every value, within the roundoff of sums that are added in another order.

It must not fire on: a transpose among the reshapes; a result that is read in between, or is an output; a last part that
begins within an axis of x; operations between.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeGuard

from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, rebuild, with_labels
from omniconv.program.steps import RearrangeStep, StandardiseStep
from omniconv.spec import Shape


def _count_axes(shape: Shape, size: int) -> int | None:
    """How many of the last axes have so many elements."""
    return next((n for n in range(1, len(shape) + 1) if math.prod(shape[len(shape) - n :]) == size), None)


def _reshapes(step: object) -> TypeGuard[RearrangeStep]:
    return isinstance(step, RearrangeStep) and tuple(step.perm) == tuple(sorted(step.perm))


def join_standardised(program: Program) -> Program:
    """Take the reshapes away."""
    shapes, readers = program.shapes, count_readers(program)
    before = {step.y: step for step in program.steps if _reshapes(step)}
    middle = {step.y: step for step in program.steps if isinstance(step, StandardiseStep) and not step.post}
    items: list[Item] = []
    for step, label in with_labels(program):
        inner = middle.get(step.x) if _reshapes(step) else None
        outer = before.get(inner.x) if inner is not None else None
        if inner is not None and outer is not None and readers[inner.y] == 1 and shapes[step.y] == shapes[outer.x]:
            source = shapes[inner.x]
            axes = _count_axes(shapes[outer.x], math.prod(source[len(source) - inner.axes :]))
            if axes is not None:
                step = replace(inner, x=outer.x, y=step.y, axes=axes)
        items.append((step, label))
    return drop_dead(rebuild(program, items))
