"""Backwards through a form: from what is demanded of a result to what that demands of the value it is made from.

The adjoint of :mod:`omniconv.analysis.push`. What paths carry is one of :data:`omniconv.analysis.trace.MODES`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from omniconv.analysis.push import along
from omniconv.analysis.taps import AnyArray, count_inside, give, pull_taps
from omniconv.program.dependence import (
    Blocks,
    Broadcast,
    Everything,
    Form,
    Pad,
    Place,
    Product,
    Regroup,
    Resample,
    Scale,
    Slice,
    Take,
    Window,
)
from omniconv.spec import Shape


def pull(form: Form, y: AnyArray, mode: str) -> AnyArray:
    """What ``y`` demands through one form."""
    match form:
        case Window():
            return _window(form, y, mode)
        case Product():
            return _weighted(form, y) if mode == "weights" and form.w is not None else _product(form, y, mode)
        case Blocks():
            return _scatter(form, _gather(form, y), mode)
        case Resample():
            return _resample(form, y, mode)
        case Take() | Pad():
            return give(y, form.axis, form.index, form.size)
        case Slice():
            x = np.zeros((*y.shape[: form.axis], form.size, *y.shape[form.axis + 1 :]), y.dtype)
            x[(slice(None),) * form.axis + (form.index,)] = y
            return x
        case Place():
            return y[(slice(None),) * form.axis + (slice(form.first, form.first + form.size),)]
        case Regroup():
            wide = [form.split[axis] for axis in form.perm]
            return y.reshape(wide).transpose(np.argsort(form.perm)).reshape(form.source)
        case Broadcast():
            return shrink(y, form.source)
        case Scale():
            return y * np.abs(form.factor) if mode == "weights" else y
        case Everything():
            for part in reversed(form.split()):
                y = pull(part, y, mode)
            return y
    assert_never(form)


def shrink(y: AnyArray, shape: Shape) -> AnyArray:
    """Collect a demand over the axes along which a value of ``shape`` was broadcast."""
    extra = y.ndim - len(shape)
    if extra:
        y = np.add.reduce(y, axis=tuple(range(extra)), dtype=y.dtype)
    axes = tuple(axis for axis, (a, b) in enumerate(zip(shape, y.shape, strict=True)) if a == 1 < b)
    return np.asarray(np.add.reduce(y, axis=axes, dtype=y.dtype, keepdims=True)) if axes else y


def _window(form: Window, y: AnyArray, mode: str) -> AnyArray:
    """A mean counts as one where taps do (weights), and along channels, which drop out of a mean of paths."""
    phases = form.phases
    if form.average and (mode == "weights" or (mode == "mean" and form.axis == 1)):
        y = y / along(np.maximum(count_inside(phases, form.size), 1).astype(np.float64), form.axis, y.ndim)
    return pull_taps(y, form.axis, phases, form.size)


def _gather(blocks: Blocks, y: AnyArray) -> AnyArray:
    """One entry for each group."""
    axis = blocks.axis
    split = y.reshape(*y.shape[:axis], blocks.groups, blocks.outputs // blocks.groups, *y.shape[axis + 1 :])
    return np.asarray(np.add.reduce(split, axis=axis + 1, dtype=y.dtype))


def _scatter(blocks: Blocks, y: AnyArray, mode: str) -> AnyArray:
    """From one entry for each group to its inputs."""
    axis, wide = blocks.axis, blocks.inputs // blocks.groups
    if mode != "count" and blocks.average:
        y = y / wide
    shape = (*y.shape[:axis], blocks.inputs, *y.shape[axis + 1 :])
    each = np.expand_dims(y, axis + 1)
    return np.broadcast_to(each, (*y.shape[: axis + 1], wide, *y.shape[axis + 1 :])).reshape(shape)


def _product(form: Product, y: AnyArray, mode: str) -> AnyArray:
    x = _gather(form.blocks, y)
    for window in form.windows:
        x = pull_taps(x, window.axis, window.phases, window.size)
    return _scatter(form.blocks, x, mode)


def _weighted(form: Product, y: AnyArray) -> AnyArray:
    """With the sizes of all weights."""
    weights = form.weights()
    if not form.windows:
        axis = form.blocks.axis
        return np.asarray(np.moveaxis(np.moveaxis(y, axis, -1) @ weights[0].T, -1, axis))
    w = np.ascontiguousarray(np.moveaxis(weights, (0, 1, 2), (-3, -2, -1)))
    groups, wide, narrow = w.shape[-3:]
    batch, sizes = y.shape[0], [window.size for window in form.windows]
    x = np.zeros((batch, groups * wide, *sizes))
    for phases in itertools.product(*(window.phases for window in form.windows)):
        for taps in itertools.product(*(phase.taps for phase in phases)):
            ranges = [p.inside(offset, size) for p, (_, offset), size in zip(phases, taps, sizes, strict=True)]
            if any(low >= high for low, high in ranges):
                continue
            reads, writes = [slice(None)] * 2, [slice(None)] * 2
            for phase, (_, offset), (low, high) in zip(phases, taps, ranges, strict=True):
                first, last = low * phase.in_step + offset, (high - 1) * phase.in_step + offset
                reads.append(slice(first, last + 1, phase.in_step))
                writes.append(
                    slice(phase.start + low * phase.step, phase.start + (high - 1) * phase.step + 1, phase.step)
                )
            part = y[tuple(writes)]
            counts: Sequence[int] = part.shape[2:]
            moved = w[tuple(index for index, _ in taps)] @ part.reshape(batch, groups, narrow, -1)
            x[tuple(reads)] += moved.reshape(batch, groups * wide, *counts)
    return x


def _resample(form: Resample, y: AnyArray, mode: str) -> AnyArray:
    axis = form.axis
    x = np.zeros((*y.shape[:axis], form.size, *y.shape[axis + 1 :]), y.dtype)
    for row, factor in zip(form.index, form.weight, strict=True):
        part = y if mode == "count" else y * along(np.abs(factor.astype(np.float64)), axis, y.ndim)
        x = x + give(part, axis, np.where(factor != 0, row, -1).astype(np.int64), form.size)
    return x
