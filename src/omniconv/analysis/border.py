"""Padding reach: which entries of a value depend on a position outside the input of some layer.

A tap that lands in the padding, a window that hangs over the edge, a tap of a transposed convolution that has no
input under it: each makes an output see the border, and whatever is computed from such an output sees it too. The
clamped edge of a resize does not count: it repeats a value of the input and adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from omniconv.analysis.subject import needed_steps
from omniconv.analysis.taps import outside, pad_index, pool_phases, push, take, unpadded
from omniconv.analysis.trace import is_gate
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
    ProductStep,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    weight_values,
)
from omniconv.spec import Phase, Shape

Mask = npt.NDArray[np.bool_]


def find_border(program: Program, tensor: str, *, gates: bool = True) -> Mask:
    """The entries of ``tensor`` that see the border, as a boolean array of its shape."""
    masks: dict[str, Mask] = {name: np.zeros(program.shapes[name], bool) for name in program.inputs}
    for index in needed_steps(program, tensor):
        step = program.steps[index]
        shape = program.shapes[step.y]
        if isinstance(step, ConcatStep):
            masks[step.y] = np.concatenate([masks[name] for name in step.xs], step.axis)
            continue
        if isinstance(step, ConstantStep):
            masks[step.y] = np.zeros(shape, bool)
            continue
        mask = masks[step.x]
        if not gates and isinstance(step, MapStep) and is_gate(mask.shape, shape):
            mask = np.zeros(mask.shape, bool)
        mask = _forward(step, mask, shape)
        for name in weight_values(step):
            other = masks[name].any(axis=-2, keepdims=True) if isinstance(step, ProductStep) else masks[name].any()
            mask = mask | other
        for post in step.post if isinstance(step, WITH_POSTS) else ():
            if isinstance(post.operand, str) and (gates or not is_gate(program.shapes[post.operand], shape)):
                mask = mask | masks[post.operand]
        masks[step.y] = mask
    return masks[tensor]


def _spread(mask: Mask, axes: Sequence[Sequence[Phase]]) -> Mask:
    """Along each spatial axis: a tap reads a marked position, or lands outside. Outputs without any tap see nothing."""
    met: Mask = np.ones((), bool)
    for axis, phases in enumerate(axes, 2):
        form = [1] * mask.ndim
        form[axis] = -1
        mask = push(mask, axis, phases) | outside(phases, mask.shape[axis]).reshape(form)
        some = np.zeros(mask.shape[axis], bool)
        for phase in phases:
            some[phase.start :: phase.step] = bool(phase.taps)
        met = met & some.reshape(form)
    return mask & met


def _forward(step: ProgramStep, x: Mask, shape: Shape) -> Mask:
    match step:
        case ConvStep():
            spec = step.spec
            batch, groups = x.shape[0], spec.groups
            mask = np.asarray(x.reshape(batch, groups, -1, *x.shape[2:]).any(axis=2), bool)
            inner, sizes = spec, x.shape[2:]
            if spec.padding_mode != "zeros":
                for axis, item in enumerate(spec.axes(), 2):
                    index = pad_index(mask.shape[axis], item.padding, spec.padding_mode)
                    mask = take(mask, axis, index)
                    marked = np.ones(index.size, bool)
                    marked[item.padding[0] : index.size - item.padding[1]] = False
                    mask = mask | marked.reshape(-1, *(1,) * (mask.ndim - 1 - axis))
                inner, sizes = unpadded(spec), mask.shape[2:]
            mask = _spread(mask, inner.phases((batch, spec.in_channels, *sizes)))
            return np.repeat(mask, spec.out_channels // groups, axis=1)
        case PoolStep():
            return _spread(x, pool_phases(step, x.shape[2:], shape[2:]))
        case DenseStep() | ProductStep():
            return np.broadcast_to(x.any(axis=-1, keepdims=True), shape)
        case MapStep():
            return np.broadcast_to(x, shape)
        case ReduceStep():
            return np.asarray(x.any(axis=tuple(range(2, x.ndim)))).reshape(shape)
        case SoftmaxStep():
            return np.broadcast_to(x.any(axis=step.axis, keepdims=True), shape)
        case LrnStep():
            mask = x.copy()
            for shift in range(-((step.size - 1) // 2), step.size // 2 + 1):
                low, high = max(0, -shift), min(x.shape[1], x.shape[1] - shift)
                if low < high:
                    mask[:, low:high] |= x[:, low + shift : high + shift]
            return mask
        case ChannelStep():
            return x[:, list(step.source)]
        case RearrangeStep():
            return x.reshape(step.split).transpose(step.perm).reshape(shape)
        case SliceStep():
            for axis, (start, stride) in enumerate(zip(step.starts, step.steps, strict=True)):
                x = np.take(x, start + stride * np.arange(shape[axis]), axis)
            return x
        case PadStep():
            for axis, (before, after) in enumerate(step.pads):
                if before or after:
                    index = pad_index(x.shape[axis], (before, after), step.mode)
                    x = take(x, axis, index)
                    marked = np.ones(index.size, bool)
                    marked[before : index.size - after] = False
                    x = x | marked.reshape(-1, *(1,) * (x.ndim - 1 - axis))
            return x
        case ResizeStep():
            for axis, (rows, weights) in enumerate(zip(step.index, step.weight, strict=True), 2):
                parts = [
                    take(x, axis, np.where(weight != 0, row, -1)) for row, weight in zip(rows, weights, strict=True)
                ]
                x = np.logical_or.reduce(parts)
            return x
        case ConcatStep():
            raise AssertionError("has several inputs")
    raise AssertionError(step)
