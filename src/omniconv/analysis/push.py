"""Forwards through a dependence: from what is held at each entry of a value to what reaches each entry of a result.

Every form adds up what its entries hold; booleans are joined by *or* (see :mod:`omniconv.analysis.taps`). What is added
goes by a name:

- ``"count"``: what is held, as often as it is met;
- ``"response"``: means where the form is one, and the weights of a resampling: a layer whose weights are alike;
- ``"border"``: booleans, and a mark wherever a tap or a copy reads beyond the end of an axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from omniconv.analysis.taps import AnyArray, count_inside, outside, push_taps, take
from omniconv.program.dependence import (
    Blocks,
    Broadcast,
    Everything,
    Form,
    Pad,
    Part,
    Place,
    Product,
    Regroup,
    Resample,
    Scale,
    Slice,
    Take,
    Window,
)


def push_parts(parts: Sequence[Part], values: Mapping[str, AnyArray], how: str) -> AnyArray | None:
    """The sum of what reaches a result through some parts of its dependence; ``None`` without any."""
    total: AnyArray | None = None
    for part in parts:
        x = values[part.name]
        for form in part.forms:
            x = push(form, x, how)
        total = x if total is None else total + x
    return total


def push(form: Form, x: AnyArray, how: str) -> AnyArray:
    """What reaches the result through one form."""
    match form:
        case Window():
            return _windows((form,), x, how)
        case Product():
            blocks = form.blocks
            x = _windows(form.windows, _gather(blocks, x, how), how)
            return np.repeat(x, blocks.outputs // blocks.groups, axis=blocks.axis)
        case Blocks():
            return np.repeat(_gather(form, x, how), form.outputs // form.groups, axis=form.axis)
        case Resample():
            return _resample(form, x, how)
        case Take() | Slice():
            return np.take(x, form.index, form.axis)
        case Pad():
            x = take(x, form.axis, form.index)
            if how == "border":
                places = np.arange(form.index.size)
                marked = (places < form.before) | (places >= form.index.size - form.after)
                x = x | along(marked, form.axis, x.ndim)
            return x
        case Place():
            wide = np.zeros((*x.shape[: form.axis], form.total, *x.shape[form.axis + 1 :]), x.dtype)
            wide[(slice(None),) * form.axis + (slice(form.first, form.first + form.size),)] = x
            return wide
        case Regroup():
            return x.reshape(form.split).transpose(form.perm).reshape(form.shape)
        case Broadcast():
            return np.broadcast_to(x, form.shape)
        case Scale():
            return x
        case Everything():
            for part in form.split():
                x = push(part, x, how)
            return x
    assert_never(form)


def along(values: AnyArray, axis: int, rank: int) -> AnyArray:
    """One value for each position of an axis, in a form that broadcasts over the others."""
    form = [1] * rank
    form[axis] = -1
    return values.reshape(form)


def _gather(blocks: Blocks, x: AnyArray, how: str) -> AnyArray:
    """One entry for each group."""
    axis, wide = blocks.axis, blocks.inputs // blocks.groups
    split = x.reshape(*x.shape[:axis], blocks.groups, wide, *x.shape[axis + 1 :])
    total = np.add.reduce(split, axis=axis + 1, dtype=x.dtype)
    return np.asarray(total / wide if how == "response" and blocks.average else total)


def _windows(windows: Sequence[Window], x: AnyArray, how: str) -> AnyArray:
    """Through the taps of several axes. An output that has no tap on one of them sees no border on another."""
    met: AnyArray = np.ones((), bool)
    for window in windows:
        axis, phases = window.axis, window.phases
        x = push_taps(x, axis, phases)
        if how == "response" and window.average:
            x = x / along(np.maximum(count_inside(phases, window.size), 1), axis, x.ndim)
        if how == "border":
            if window.border:
                x = x | along(outside(phases, window.size), axis, x.ndim)
            some = np.zeros(x.shape[axis], bool)
            for phase in phases:
                some[phase.start :: phase.step] = bool(phase.taps)
            met = met & along(some, axis, x.ndim)
    return x & met if how == "border" and windows else x


def _resample(form: Resample, x: AnyArray, how: str) -> AnyArray:
    total: AnyArray | None = None
    for row, weight in zip(form.index, form.weight, strict=True):
        if how == "response":
            part = np.take(x, row, form.axis) * along(weight.astype(np.float64), form.axis, x.ndim)
        else:
            part = take(x, form.axis, np.where(weight != 0, row, -1))
        total = part if total is None else total + part
    assert total is not None
    return total
