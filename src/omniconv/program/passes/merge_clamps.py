"""Pass: within the operations of one step, join clamps that follow each other into one.

A clamp is ``min(max(v, lo), hi)``: ReLU, ReLU6, Clip, and Max or Min with one number. Two in a row are one, with the
bounds of the first clamped by the second. That holds for every v, whatever the order of the bounds, and NaN stays NaN:
nothing changes but, perhaps, the sign of a zero.

It must not fire on: single clamps; bounds that are NaN or differ between channels; clamps with anything between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.program.closed_form import join_clamps
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import Posted, PostOp
from omniconv.spec import Activation


def _bounds(op: PostOp) -> tuple[float, float] | None:
    """``(lo, hi)`` of a clamp."""
    if op.activation is not None:
        match op.activation.name:
            case "relu":
                return 0.0, math.inf
            case "relu6":
                return 0.0, 6.0
            case "clip":
                return op.activation["lo"], op.activation["hi"]
    elif op.op in ("max", "min") and isinstance(op.operand, np.ndarray) and op.operand.size == 1:
        bound = float(op.operand.reshape(-1)[0])
        if not math.isnan(bound):
            return (bound, math.inf) if op.op == "max" else (-math.inf, bound)
    return None


def merge_clamps_of(post: Sequence[PostOp]) -> tuple[PostOp, ...]:
    """The operations with every run of clamps joined."""
    done: list[PostOp] = []
    last: tuple[float, float] | None = None
    for op in post:
        bounds = _bounds(op)
        if bounds is not None and last is not None:
            low, high = join_clamps(last, bounds)
            bounds = float(low), float(high)
            done[-1] = PostOp("act", activation=Activation.clamp(*bounds))
        else:
            done.append(op)
        last = bounds
    return tuple(done)


def merge_clamps(program: Program) -> Program:
    """Join the clamps of every step."""
    items: list[Item] = []
    for step, label in with_labels(program):
        if isinstance(step, Posted):
            step = replace(step, post=merge_clamps_of(step.post))
        items.append((step, label))
    return rebuild(program, items)
