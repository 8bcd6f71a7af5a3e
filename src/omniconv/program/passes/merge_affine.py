"""Pass: within the operations of one step, join runs of multiplications and additions with constants into one of each.

What is kept: the run is ``s x + t``, s and t are gathered in float64 and rounded once. With S the run with the
absolute values of x and of all constants, added throughout, u the unit roundoff of the program's element and e its
smallest number, the exact results differ by at most ``u S + e``: 2^-24 and 2^-149 in float32. In float64 (2^-53 and
2^-1074) gathering rounds, too: for k operations it is ``3 k u S + k e``. Infinities and NaN stay what they are.

It must not fire on: runs interrupted by an activation or another value; constants whose joint broadcast would be larger
than each of them; a joint factor outside the element's normal numbers, 0 among them, or one that gathering in float64
takes out of float64's; an offset above 2^100 (2^967 in float64), beside which the product could overflow where the run
does not. A multiplication by 1 and an addition of 0 are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.program.element import FLOAT32, Element
from omniconv.program.passes.fold_affine import Float64, as_affine, is_exact_or_normal
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import Posted, PostOp


def keeps(scale: Float64, shift: Float64, element: Element) -> bool:
    """Whether the element holds the factors with all their digits, and offsets beside which nothing overflows."""
    size = np.abs(scale)
    normal = (size >= element.smallest_normal) & (size <= element.largest_power)
    return bool(normal.all() and (np.abs(shift) <= element.largest_offset).all())


def _join(run: Sequence[PostOp], affine: Sequence[tuple[Float64, Float64]], element: Element) -> tuple[PostOp, ...]:
    """One run as at most one multiplication and one addition; the run itself where that is not shorter."""
    scale, shift = affine[0]
    largest, gathered = scale.size, True
    with np.errstate(all="ignore"):
        for more, offset in affine[1:]:
            product = scale * more
            gathered = gathered and bool(is_exact_or_normal(product, scale, more).all())
            scale, shift = product, shift * more + offset
            largest = max(largest, more.size)
    if shift.size > largest or scale.size > largest or not (gathered and keeps(scale, shift, element)):
        return tuple(run)
    joined = []
    if np.any(scale != 1.0):
        joined.append(PostOp("mul", scale))
    if np.any(shift != 0.0):
        joined.append(PostOp("add", shift))
    return tuple(joined) if len(joined) < len(run) else tuple(run)


def merge_post(post: Sequence[PostOp], element: Element = FLOAT32) -> tuple[PostOp, ...]:
    """The operations with every run of affine ones joined."""
    done: list[PostOp] = []
    run: list[PostOp] = []
    affine: list[tuple[Float64, Float64]] = []
    for op in (*post, None):
        parts = None if op is None else as_affine(op)
        if op is not None and parts is not None:
            run.append(op)
            affine.append(parts)
            continue
        if run:
            done.extend(_join(run, affine, element))
            run, affine = [], []
        if op is not None:
            done.append(op)
    return tuple(done)


def merge_affine(program: Program) -> Program:
    """Join the affine runs of every step."""
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, Posted):
            step = replace(step, post=merge_post(step.post, program.element))
        items.append((step, label))
    return rebuild(program, items)
