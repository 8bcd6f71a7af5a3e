"""Pass: within the operations of one step, join runs of multiplications and additions with constants into one of each.

It must not fire on: runs interrupted by an activation or another value; constants whose joint broadcast would be larger
than each of them; infinite or NaN results. A multiplication by 1 and an addition of 0 are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.program.passes.fold_affine import Float64, as_affine
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import WITH_POSTS, PostOp


def _join(run: Sequence[PostOp], affine: Sequence[tuple[Float64, Float64]]) -> tuple[PostOp, ...]:
    """One run as at most one multiplication and one addition; the run itself where that is not shorter."""
    scale, shift = affine[0]
    largest = scale.size
    with np.errstate(all="ignore"):
        for more, offset in affine[1:]:
            scale, shift = scale * more, shift * more + offset
            largest = max(largest, more.size)
    if shift.size > largest or scale.size > largest or not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return tuple(run)
    joined = []
    if np.any(scale != 1.0):
        joined.append(PostOp("mul", scale))
    if np.any(shift != 0.0):
        joined.append(PostOp("add", shift))
    return tuple(joined) if len(joined) < len(run) else tuple(run)


def merge_post(post: Sequence[PostOp]) -> tuple[PostOp, ...]:
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
            done.extend(_join(run, affine))
            run, affine = [], []
        if op is not None:
            done.append(op)
    return tuple(done)


def merge_affine(program: Program) -> Program:
    """Join the affine runs of every step."""
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, WITH_POSTS):
            step = replace(step, post=merge_post(step.post))
        items.append((step, label))
    return rebuild(program, items)
