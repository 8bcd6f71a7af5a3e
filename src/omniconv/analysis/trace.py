"""Backwards through a `Program`: from what is demanded of one value to what that demands of every value before it.

A demand is an array of the value's full shape. As booleans it is the exact set of entries that something depends on;
as numbers it is the weight with which paths from each entry reach it. One rule for each step serves both, because
adding booleans is *or* (see :mod:`omniconv.analysis.taps`). Every weight of a layer is taken to differ from zero: what
is found is the structure, which weights that happen to vanish can only make smaller.

As numbers a path carries the product of what its steps give it, by :data:`MODES`:

- ``"count"``: 1 everywhere, the number of paths through taps and channels;
- ``"mean"``: 1 for each tap, and the mean over the input channels of a group: the number of paths through taps;
- ``"weights"``: ``|w|`` of each weight, a mean's divisor, equal shares through a maximum, a softmax or weights that are
  computed; activations and
  products of two activations carry 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from omniconv.analysis.subject import needed_steps
from omniconv.analysis.taps import AnyArray, count_inside, give, pad_index, pool_phases, pull, unpadded
from omniconv.program.program import Program
from omniconv.program.steps import (
    WITH_POSTS,
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    DenseStep,
    LrnStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    ProductStep,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    weight_arrays,
    weight_values,
)
from omniconv.spec import Conv, Shape

MODES: Final = ("count", "mean", "weights")


def trace(
    program: Program, tensor: str, demand: AnyArray, *, mode: str = "count", gates: bool = True
) -> dict[str, AnyArray]:
    """What ``demand`` of ``tensor`` demands of every value it is computed from, inputs included.

    Args:
        program: the steps.
        tensor: name of a value.
        demand: array of that value's shape; bool or float64.
        mode: what paths carry, see :data:`MODES`; booleans take ``"count"``.
        gates: follow operands that are spread over whole spatial axes (squeeze-and-excitation gates).
    """
    demands: dict[str, AnyArray] = {tensor: demand}
    for index in reversed(needed_steps(program, tensor)):
        step = program.steps[index]
        held = demands.get(step.y)
        if held is None:
            continue
        if step.y not in (*program.outputs, tensor):
            del demands[step.y]
        for name, part in _back(program, step, held, mode=mode, gates=gates):
            demands[name] = demands[name] + part if name in demands else part
    return demands


def is_gate(shape: Shape, result: Shape) -> bool:
    """Whether an operand of ``shape`` is spread over some spatial axis of ``result``."""
    wide = (1,) * (len(result) - len(shape)) + tuple(shape)
    return any(a == 1 < b for a, b in zip(wide[2:], result[2:], strict=True))


def _back(
    program: Program, step: ProgramStep, y: AnyArray, *, mode: str, gates: bool
) -> Iterator[tuple[str, AnyArray]]:
    if isinstance(step, ConstantStep):
        return
    if isinstance(step, WITH_POSTS):
        y, parts = _posts(program, step.post, y, mode)
        for name, part in parts:
            if gates or not is_gate(program.shapes[name], program.shapes[step.y]):
                yield name, part
    if isinstance(step, ConcatStep):
        first = 0
        for name in step.xs:
            size = program.shapes[name][step.axis]
            yield name, y[(slice(None),) * step.axis + (slice(first, first + size),)]
            first += size
        return
    if isinstance(step, MapStep) and not gates and is_gate(program.shapes[step.x], y.shape):
        return
    yield step.x, _back_one(step, y, program.shapes[step.x], mode)
    for name in weight_values(step):
        yield name, _back_weights(step, y, program.shapes[name], mode)


def _back_weights(step: ProgramStep, y: AnyArray, shape: Shape, mode: str) -> AnyArray:
    """The demand on weights that are computed: on each of a column of a product, on each of all of a convolution."""
    if not isinstance(step, ProductStep):
        return np.full(shape, np.add.reduce(y, axis=None, dtype=y.dtype))
    total = np.add.reduce(y, axis=-2, dtype=y.dtype, keepdims=True)
    total = shrink(total / shape[-2] if mode != "count" else total, (*shape[:-2], 1, shape[-1]))
    return np.broadcast_to(total, shape)


def _posts(
    program: Program, posts: tuple[PostOp, ...], y: AnyArray, mode: str
) -> tuple[AnyArray, list[tuple[str, AnyArray]]]:
    parts: list[tuple[str, AnyArray]] = []
    for post in reversed(posts):
        if isinstance(post.operand, str):
            parts.append((post.operand, shrink(y, program.shapes[post.operand])))
        elif post.operand is not None and mode == "weights" and post.op in ("mul", "div"):
            factor = np.abs(post.operand.astype(np.float64))
            y = y * (factor if post.op == "mul" else 1.0 / np.where(factor == 0, np.inf, factor))
    return y, parts


def shrink(y: AnyArray, shape: Shape) -> AnyArray:
    """Collect a demand over the axes along which a value of ``shape`` was broadcast."""
    extra = y.ndim - len(shape)
    if extra:
        y = np.add.reduce(y, axis=tuple(range(extra)), dtype=y.dtype)
    axes = tuple(axis for axis, (a, b) in enumerate(zip(shape, y.shape, strict=True)) if a == 1 < b)
    return np.asarray(np.add.reduce(y, axis=axes, dtype=y.dtype, keepdims=True)) if axes else y


def _back_one(step: ProgramStep, y: AnyArray, shape: Shape, mode: str) -> AnyArray:
    match step:
        case ConvStep():
            return _back_conv(step, y, shape, mode)
        case DenseStep():
            if mode == "weights":
                return np.asarray(y @ np.abs(step.w.astype(np.float64)))
            total = np.add.reduce(y, axis=-1, dtype=y.dtype, keepdims=True)
            return np.broadcast_to(total / shape[-1] if mode == "mean" else total, shape)
        case ProductStep():
            total = np.add.reduce(y, axis=-1, dtype=y.dtype, keepdims=True)
            total = shrink(total / shape[-1] if mode != "count" else total, (*shape[:-1], 1))
            return np.broadcast_to(total, shape)
        case MapStep():
            return shrink(y, shape)
        case PoolStep():
            return _back_pool(step, y, shape, mode)
        case ReduceStep():
            y = y.reshape(*shape[:2], *(1,) * (len(shape) - 2))
            if mode != "count" and step.op != "sum":
                y = y / math.prod(shape[2:])
            return np.broadcast_to(y, shape)
        case SoftmaxStep():
            total = np.add.reduce(y, axis=step.axis, dtype=y.dtype, keepdims=True)
            if mode != "count":
                total = total / shape[step.axis]
            return np.broadcast_to(total, shape)
        case LrnStep():
            return _back_lrn(step, y, mode)
        case ChannelStep():
            return give(y, 1, np.asarray(step.source), shape[1])
        case RearrangeStep():
            wide = [step.split[axis] for axis in step.perm]
            order = np.argsort(step.perm)
            return y.reshape(wide).transpose(order).reshape(shape)
        case SliceStep():
            for axis, (start, stride) in enumerate(zip(step.starts, step.steps, strict=True)):
                y = give(y, axis, start + stride * np.arange(y.shape[axis]), shape[axis])
            return y
        case PadStep():
            for axis, (size, pair) in enumerate(zip(shape, step.pads, strict=True)):
                if any(pair):
                    y = give(y, axis, pad_index(size, pair, step.mode), size)
            return y
        case ResizeStep():
            return _back_resize(step, y, shape, mode)
    raise AssertionError(step)


def _back_conv(step: ConvStep, y: AnyArray, shape: Shape, mode: str) -> AnyArray:
    spec, groups = step.spec, step.spec.groups
    sizes = list(shape[2:])
    inner = spec
    if spec.padding_mode != "zeros":
        inner = unpadded(spec)
        sizes = [size + sum(axis.padding) for size, axis in zip(sizes, spec.axes(), strict=True)]
    phases = inner.phases((*shape[:2], *sizes))
    batch, wide, narrow = shape[0], spec.in_channels // groups, spec.out_channels // groups
    x: AnyArray
    known, _ = weight_arrays(step)
    if mode == "weights" and known is None:
        mode = "mean"
    if mode == "weights" and known is not None:
        x = _back_weighted(known, inner, y, sizes)
    else:
        x = np.add.reduce(y.reshape(batch, groups, narrow, *y.shape[2:]), axis=2, dtype=y.dtype)
        for axis, (each, size) in enumerate(zip(phases, sizes, strict=True), 2):
            x = pull(x, axis, each, size)
    if spec.padding_mode != "zeros":
        for axis, (size, item) in enumerate(zip(shape[2:], spec.axes(), strict=True), 2):
            x = give(x, axis, pad_index(size, item.padding, spec.padding_mode), size)
    if mode == "weights":
        return x
    if mode == "mean":
        x = x / wide
    return np.broadcast_to(x[:, :, None], (batch, groups, wide, *shape[2:])).reshape(shape)


def _back_weighted(weights: AnyArray, inner: Conv, y: AnyArray, sizes: list[int]) -> AnyArray:
    groups, batch = inner.groups, y.shape[0]
    wide, narrow = inner.in_channels // groups, inner.out_channels // groups
    w = np.abs(weights.astype(np.float64))
    if inner.transposed:
        w = w.reshape(groups, wide, narrow, *inner.kernel_size)
    else:
        w = w.reshape(groups, narrow, wide, *inner.kernel_size).swapaxes(1, 2)
    w = np.ascontiguousarray(np.moveaxis(w, (0, 1, 2), (-3, -2, -1)))
    x = np.zeros((batch, groups * wide, *sizes))
    for phases in itertools.product(*inner.phases((batch, inner.in_channels, *sizes))):
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
            counts = part.shape[2:]
            moved = w[tuple(index for index, _ in taps)] @ part.reshape(batch, groups, narrow, -1)
            x[tuple(reads)] += moved.reshape(batch, groups * wide, *counts)
    return x


def _back_pool(step: PoolStep, y: AnyArray, shape: Shape, mode: str) -> AnyArray:
    phases = pool_phases(step, shape[2:], y.shape[2:])
    if mode == "weights":
        for axis, (each, size) in enumerate(zip(phases, shape[2:], strict=True), 2):
            divisor = np.maximum(count_inside(each, size), 1).astype(np.float64)
            y = y / divisor.reshape(-1, *(1,) * (y.ndim - 1 - axis))
    for axis, (each, size) in enumerate(zip(phases, shape[2:], strict=True), 2):
        y = pull(y, axis, each, size)
    return y


def _back_lrn(step: LrnStep, y: AnyArray, mode: str) -> AnyArray:
    x = np.zeros_like(y)
    channels = y.shape[1]
    share = y if mode == "count" else y / step.size
    for shift in range(-((step.size - 1) // 2), step.size // 2 + 1):
        low, high = max(0, -shift), min(channels, channels - shift)
        if low < high:
            x[:, low + shift : high + shift] += share[:, low:high]
    return x


def _back_resize(step: ResizeStep, y: AnyArray, shape: Shape, mode: str) -> AnyArray:
    for axis, (index, weight) in enumerate(zip(step.index, step.weight, strict=True), 2):
        x = np.zeros((*y.shape[:axis], shape[axis], *y.shape[axis + 1 :]), y.dtype)
        for row, factor in zip(index, weight, strict=True):
            part = y
            if mode != "count":
                part = y * np.abs(factor.astype(np.float64)).reshape(-1, *(1,) * (y.ndim - 1 - axis))
            x = x + give(part, axis, np.where(factor != 0, row, -1).astype(np.int64), shape[axis])
        y = x
    return y
