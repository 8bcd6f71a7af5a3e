"""Pass: within the operations of one step, join runs of multiplications and additions with constants into one of each.

What is kept: the run is ``s x + t``, s and t are gathered in float64 and rounded once. With u = 2^-24 and S the run
with the absolute values of x and of all constants, added throughout, the exact results differ by at most
``u S + 2^-149``. Infinities and NaN stay what they are.

It must not fire on: runs interrupted by an activation or another value; constants whose joint broadcast would be larger
than each of them; a joint factor outside float32's normal numbers, 0 among them; an offset above 2^100, beside which
the product could overflow where the run does not. A multiplication by 1 and an addition of 0 are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.compiler.program import ConvStep, DenseStep, MapStep, PostOp, Program
from omniconv.graph.passes.fold_affine import Float64, as_affine
from omniconv.graph.rewrite import Item, rebuild, with_labels

_SMALLEST: Final = 2.0**-126
_LARGEST: Final = 2.0**127
_LARGEST_OFFSET: Final = 2.0**100


def _keeps(scale: Float64, shift: Float64) -> bool:
    """Whether float32 holds the factors with all their digits, and offsets beside which nothing overflows."""
    size = np.abs(scale)
    return bool(((size >= _SMALLEST) & (size <= _LARGEST)).all() and (np.abs(shift) <= _LARGEST_OFFSET).all())


def _join(run: Sequence[PostOp], affine: Sequence[tuple[Float64, Float64]]) -> tuple[PostOp, ...]:
    """One run as at most one multiplication and one addition; the run itself where that is not shorter."""
    scale, shift = affine[0]
    largest = scale.size
    with np.errstate(all="ignore"):
        for more, offset in affine[1:]:
            scale, shift = scale * more, shift * more + offset
            largest = max(largest, more.size)
    if shift.size > largest or scale.size > largest or not _keeps(scale, shift):
        return tuple(run)
    joined = []
    if np.any(scale != 1.0):
        joined.append(PostOp("mul", scale.astype(np.float32)))
    if np.any(shift != 0.0):
        joined.append(PostOp("add", shift.astype(np.float32)))
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
        if isinstance(step, ConvStep | DenseStep | MapStep):
            step = replace(step, post=merge_post(step.post))
        items.append((step, label))
    return rebuild(program, items)
