"""Pass: attach elementwise operations to the step that produces their operand.

An activation, an operation with a constant, or a residual addition (any binary operation with a value of the same
shape) becomes part of the ``post`` list of the convolution, dense, product or elementwise step before it, and so on for
what follows. Where both sides of an operation could take it, a step that is not elementwise itself is preferred, then
the later one.

It must not fire on: a value that is read twice (also twice by the same step) or is an output; a result that broadcasts
the value; for convolutions, dense steps and standardisations, operands that are neither one value, one a channel, nor
of the result's shape; values, where whole images are standardised; products of more than five axes; functions and
powers behind a layer, which are long code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.program.passes.fold_affine import per_channel
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, rebuild, with_labels
from omniconv.program.steps import (
    BINARY,
    SWAPPED,
    ConvStep,
    MapStep,
    Posted,
    PostOp,
    ProductStep,
    QuantisedMapStep,
    StandardiseStep,
)
from omniconv.spec import Shape

_BOTH_WAYS = frozenset(BINARY) - {"prelu", "threshold"}
MAX_POST = 64
"""Longest list of operations on one step."""
MAX_RANK = 5
"""Most axes of a product with operations on it."""


def _fits(post: Sequence[PostOp], step: Posted, shapes: dict[str, Shape]) -> bool:
    """Whether the step's kernel takes these operations."""
    if len(step.post) + len(post) > MAX_POST:
        return False
    if isinstance(step, MapStep):
        return True
    if not all(op.light for op in post):
        return False
    shape = shapes[step.y]
    if isinstance(step, ProductStep):
        return len(shape) <= MAX_RANK
    whole = isinstance(step, StandardiseStep) and step.axes > 1
    axis = 1 if isinstance(step, ConvStep) or whole else len(shape) - 1
    for op in post:
        if isinstance(op.operand, str) and (shapes[op.operand] != shape or whole):
            return False
        if isinstance(op.operand, np.ndarray) and per_channel(op.operand.astype(np.float64), shape, axis) is None:
            return False
    return True


def _exchange(step: MapStep) -> MapStep | None:
    """The same step starting from the other value of its first operation."""
    first = step.post[0] if step.post else None
    if first is None or first.op not in _BOTH_WAYS or not isinstance(first.operand, str):
        return None
    return MapStep(first.operand, step.y, (PostOp(SWAPPED.get(first.op, first.op), step.x), *step.post[1:]))


def attach_epilogues(program: Program) -> Program:
    """Attach what can be attached; the joined step stands where the elementwise step stood."""
    readers, shapes = count_readers(program), program.shapes
    items: list[Item | None] = []
    made: dict[str, int] = {}
    for step, label in with_labels(program):
        if isinstance(step, MapStep):
            best: tuple[bool, int, MapStep] | None = None
            for form in (step, _exchange(step)):
                if form is None or form.x not in made or readers[form.x] != 1 or shapes[form.x] != shapes[step.y]:
                    continue
                index = made[form.x]
                item = items[index]
                assert item is not None
                source = item[0]
                # Numbers made of integers say the scale of each operand; operations behind them stay steps.
                if not isinstance(source, Posted) or isinstance(source, QuantisedMapStep):
                    continue
                if _fits(form.post, source, shapes):
                    rank = (not isinstance(source, MapStep), index, form)
                    best = rank if best is None or rank[:2] > best[:2] else best
            if best is not None:
                item = items[best[1]]
                assert item is not None
                source, source_label = item
                assert isinstance(source, Posted)
                items[best[1]] = None
                post = (*source.post, *best[2].post)
                step, label = replace(source, y=step.y, post=post), source_label if best[0] else label
        made[step.y] = len(items)
        items.append((step, label))
    return rebuild(program, (item for item in items if item is not None))
