"""How many taps meet in each value of a network: the response to an input of ones when all weights are alike.

Each weight of a convolution is 1 / (input channels of its group), so that channels drop out and taps are counted;
biases and activations are left out, pools are means over the positions inside, a product with another value leaves the
value as it is. An even upsampling gives a constant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from omniconv.analysis.subject import needed_steps
from omniconv.analysis.taps import count_inside, pad_index, pool_phases, push, take, unpadded
from omniconv.program.program import Program
from omniconv.program.steps import (
    WITH_POSTS,
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    DenseStep,
    MapStep,
    PadStep,
    PoolStep,
    ProductStep,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    operands,
)
from omniconv.spec import Shape

Float64 = npt.NDArray[np.float64]
ADDITIVE = ("add", "sub", "rsub")


def count_forward(program: Program, tensor: str) -> Float64:
    """The counts of every entry of ``tensor``, exact below 2^53 where the channels of a value agree."""
    values: dict[str, Float64] = {name: np.ones(program.shapes[name]) for name in program.inputs}
    order = needed_steps(program, tensor)
    last = {name: index for index in order for name in operands(program.steps[index])}
    for index in order:
        step = program.steps[index]
        shape = program.shapes[step.y]
        if isinstance(step, ConcatStep):
            value = np.concatenate([values[name] for name in step.xs], step.axis)
        elif isinstance(step, ConstantStep):
            value = np.zeros(shape)
        else:
            value = _forward(step, values[step.x], shape)
        for post in step.post if isinstance(step, WITH_POSTS) else ():
            if isinstance(post.operand, str) and post.op in ADDITIVE:
                value = value + values[post.operand]
        values[step.y] = value
        for name in set(operands(step)):
            if last[name] == index and name != tensor:
                values.pop(name, None)
    return values[tensor]


def _forward(step: ProgramStep, x: Float64, shape: Shape) -> Float64:
    match step:
        case ConvStep():
            return _conv(step, x)
        case DenseStep() | ProductStep():
            return np.broadcast_to(x.mean(axis=-1, keepdims=True), shape)
        case PoolStep():
            phases = pool_phases(step, x.shape[2:], shape[2:])
            for axis, each in enumerate(phases, 2):
                divisor = np.maximum(count_inside(each, x.shape[axis]), 1)
                x = push(x, axis, each) / divisor.reshape(-1, *(1,) * (x.ndim - 1 - axis))
            return x
        case ReduceStep():
            return np.asarray(x.mean(axis=tuple(range(2, x.ndim)))).reshape(shape)
        case MapStep():
            return np.broadcast_to(x, shape)
        case ChannelStep():
            return x[:, list(step.source)]
        case RearrangeStep():
            return x.reshape(step.split).transpose(step.perm).reshape(shape)
        case SliceStep():
            for axis, (start, stride) in enumerate(zip(step.starts, step.steps, strict=True)):
                x = np.take(x, start + stride * np.arange(shape[axis]), axis)
            return x
        case PadStep():
            for axis, pair in enumerate(step.pads):
                if any(pair):
                    x = take(x, axis, pad_index(x.shape[axis], pair, step.mode))
            return x
        case ResizeStep():
            for axis, (rows, weights) in enumerate(zip(step.index, step.weight, strict=True), 2):
                form = (-1, *(1,) * (x.ndim - 1 - axis))
                parts = [
                    np.take(x, row, axis) * weight.astype(np.float64).reshape(form)
                    for row, weight in zip(rows, weights, strict=True)
                ]
                x = np.asarray(sum(parts), np.float64)
            return x
        case _:
            return x


def _conv(step: ConvStep, x: Float64) -> Float64:
    spec = step.spec
    batch, groups = x.shape[0], spec.groups
    y = np.asarray(x.reshape(batch, groups, -1, *x.shape[2:]).mean(axis=2), np.float64)
    inner = spec
    if spec.padding_mode != "zeros":
        for axis, item in enumerate(spec.axes(), 2):
            y = take(y, axis, pad_index(y.shape[axis], item.padding, spec.padding_mode))
        inner = unpadded(spec)
    for axis, phases in enumerate(inner.phases((batch, spec.in_channels, *y.shape[2:])), 2):
        y = push(y, axis, phases)
    narrow = spec.out_channels // groups
    wide = np.broadcast_to(y[:, :, None], (batch, groups, narrow, *y.shape[2:]))
    return wide.reshape(batch, spec.out_channels, *y.shape[2:])
