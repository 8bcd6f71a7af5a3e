"""Random networks as `Program`s, what they compute changed in ways that brute force needs, and brute force itself.

Weights are positive, and so are inputs: every operation that is drawn then grows with its input, and nothing cancels.
``OMNICONV_EXAMPLES`` sets how many random cases each property sees (default 50).
"""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tests.program_oracle import run_program

from omniconv.program.element import FLOAT64
from omniconv.program.from_spec import plan_resize
from omniconv.program.program import Program
from omniconv.program.steps import (
    ChannelStep,
    ConcatStep,
    ConvStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
)
from omniconv.spec import Activation, Conv, Resize

EXAMPLES = int(os.environ.get("OMNICONV_EXAMPLES", "50"))
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=max(EXAMPLES // 3, 10), deadline=None, suppress_health_check=list(HealthCheck))

ALL = (
    "conv", "conv", "conv", "transposed", "pool", "pool", "resize", "slice", "pad", "concat", "concat",
    "spatial_concat", "add", "add", "post", "shuffle", "rearrange", "act", "gate",
)  # fmt: skip
LOCAL = tuple(name for name in ALL if name != "gate")
LINEAR = tuple(name for name in LOCAL if name != "act")
REGULAR = ("conv", "conv", "pool", "resize", "concat", "add", "act")
LARGEST = 900


class Builder:
    """A program that grows."""

    def __init__(self, draw, shape, seed, *, linear, widest):
        self.draw, self.linear, self.widest = draw, linear, widest
        self.rng = np.random.default_rng(seed)
        self.program = Program(("x",), shapes={"x": tuple(shape)})
        self.values = ["x"]

    def shape(self, name):
        return self.program.shapes[name]

    def name(self):
        return f"v{len(self.program.steps)}"

    def add(self, step, shape):
        self.values.append(self.program.add(step, shape))
        return step.y

    def weights(self, spec):
        return self.rng.uniform(0.5, 1.5, spec.weight_shape).astype(np.float32)

    def bias(self, spec):
        """Positive, so that no value is exactly zero where a gate multiplies it; none in linear networks."""
        return None if self.linear else self.rng.uniform(0.5, 1.5, spec.out_channels).astype(np.float32)

    def grow(self, op):
        x = self.draw(st.sampled_from(self.values[-3:]))
        getattr(self, op)(x)

    def conv(self, x, *, transposed=False, post=False):
        _, c, *sizes = self.shape(x)
        kernel, stride, dilation, pairs = [], [], [], []
        for size in sizes:
            k, d = self.draw(st.integers(1, 4)), self.draw(st.sampled_from((1, 1, 2, 3)))
            s = self.draw(st.sampled_from((1, 1, 2, 3)))
            extent = d * (k - 1) + 1
            before, after = self.draw(st.integers(0, extent // 2 + 1)), self.draw(st.integers(0, extent // 2 + 1))
            if transposed:
                while (size - 1) * s + extent - before - after < 1:
                    before, after = before // 2, after // 2
                if (size - 1) * s + extent - before - after > self.widest:
                    s = 1
                    before = after = 0
            elif extent > size + before + after:
                k = d = 1
            kernel.append(k)
            stride.append(s)
            dilation.append(d)
            pairs.append((before, after))
        groups = self.draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
        out = groups * self.draw(st.integers(1, max(1, 4 // groups)))
        mode = "zeros"
        if not transposed:
            mode = self.draw(st.sampled_from(("zeros", "zeros", "zeros", "reflect", "replicate", "circular")))
            if any(max(pair) > size - 1 for pair, size in zip(pairs, sizes, strict=True)):
                mode = "zeros"
        spec = Conv.of(
            c,
            out,
            kernel,
            dims=len(sizes),
            stride=stride,
            dilation=dilation,
            padding=pairs,
            groups=groups,
            transposed=transposed,
            padding_mode=mode,
            flip=self.draw(st.booleans()),
        )
        shape = spec.output_shape(self.shape(x))
        if math.prod(shape[2:]) > LARGEST:
            return
        posts = ()
        if post:
            same = [v for v in self.values if self.shape(v)[2:] == shape[2:] and self.shape(v)[1] in (1, shape[1])]
            if same:
                posts = (PostOp("add", self.draw(st.sampled_from(same))),)
        self.add(ConvStep(x, self.name(), spec, self.weights(spec), self.bias(spec), posts), shape)

    def post(self, x):
        self.conv(x, post=True)

    def transposed(self, x):
        self.conv(x, transposed=True)

    def pool(self, x):
        n, c, *sizes = self.shape(x)
        kernel, stride, dilation, pairs, counts = [], [], [], [], []
        for size in sizes:
            k, s, d = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 3)), self.draw(st.sampled_from((1, 1, 2)))
            if d * (k - 1) + 1 > size:
                k = d = 1
            extent = d * (k - 1) + 1
            before, after = self.draw(st.integers(0, k // 2)), self.draw(st.integers(0, k // 2))
            if d > 1:
                before = after = 0
            room = size + before + after - extent
            count = room // s + 1
            if self.draw(st.booleans()):  # ceil mode, the last window begins inside
                count = -(-room // s) + 1
                if (count - 1) * s >= size + before:
                    count -= 1
            kernel.append(k)
            stride.append(s)
            dilation.append(d)
            pairs.append((before, after))
            counts.append(count)
        op = "mean" if self.linear else self.draw(st.sampled_from(("max", "mean")))
        step = PoolStep(x, self.name(), op, tuple(kernel), tuple(stride), tuple(dilation), tuple(pairs))
        self.add(step, (n, c, *counts))

    def resize(self, x):
        shape = self.shape(x)
        factor, mode = self.draw(st.sampled_from((2, 3))), self.draw(st.sampled_from(("nearest", "linear")))
        if math.prod(shape[2:]) * factor ** len(shape[2:]) <= LARGEST:
            step = Resize(factor, mode)
            self.add(plan_resize(step, x, self.name(), shape), step.output_shape(shape))

    def slice(self, x):
        shape = self.shape(x)
        starts, steps, counts = [0], [1], [shape[0]]
        for size in shape[1:]:
            stride = self.draw(st.sampled_from((1, 1, 1, 2, -1)))
            first = self.draw(st.integers(0, size - 1))
            if stride < 0:
                first = size - 1 - first // 2
            room = (size - 1 - first) // stride + 1 if stride > 0 else first + 1
            starts.append(first)
            steps.append(stride)
            counts.append(self.draw(st.integers(max(1, room // 2), room)))
        self.add(SliceStep(x, self.name(), tuple(starts), tuple(steps)), tuple(counts))

    def pad(self, x):
        shape = self.shape(x)
        mode = self.draw(st.sampled_from(("constant", "constant", "reflect", "edge", "wrap")))
        pads = [(0, 0), (0, 0)]
        for size in shape[2:]:
            most = {"reflect": size - 1, "wrap": size}.get(mode, 3)
            pads.append((self.draw(st.integers(0, min(3, most))), self.draw(st.integers(0, min(3, most)))))
        result = tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True))
        if math.prod(result[2:]) <= LARGEST:
            self.add(PadStep(x, self.name(), tuple(pads), mode, 0.0 if self.linear else 1.0), result)

    def concat(self, x):
        shape = self.shape(x)
        same = [v for v in self.values if self.shape(v)[2:] == shape[2:] and self.shape(v)[1] + shape[1] <= 8]
        if same:
            other = self.draw(st.sampled_from(same))
            self.add(ConcatStep((x, other), self.name()), (shape[0], shape[1] + self.shape(other)[1], *shape[2:]))

    def spatial_concat(self, x):
        shape = self.shape(x)
        axis = self.draw(st.integers(2, len(shape) - 1))
        rest = lambda s: (*s[:axis], *s[axis + 1 :])
        same = [v for v in self.values if rest(self.shape(v)) == rest(shape)]
        other = self.draw(st.sampled_from(same))
        size = shape[axis] + self.shape(other)[axis]
        result = (*shape[:axis], size, *shape[axis + 1 :])
        if math.prod(result[2:]) <= LARGEST:
            self.add(ConcatStep((x, other), self.name(), axis), result)

    def add_values(self, x):
        shape = self.shape(x)
        same = [v for v in self.values if self.shape(v)[2:] == shape[2:] and self.shape(v)[1] in (1, shape[1])]
        other = self.draw(st.sampled_from(same))
        self.add(MapStep(x, self.name(), (PostOp("add", other),)), shape)

    def shuffle(self, x):
        shape = self.shape(x)
        source = tuple(self.draw(st.lists(st.integers(0, shape[1] - 1), min_size=1, max_size=4)))
        self.add(ChannelStep(x, self.name(), source), (shape[0], len(source), *shape[2:]))

    def rearrange(self, x):
        n, c, *sizes = self.shape(x)
        dims = len(sizes)
        sort = self.draw(st.sampled_from(("up", "down", "swap")))
        if sort == "swap" and dims > 1:
            perm = (0, 1, *self.draw(st.permutations(range(2, 2 + dims))))
            shape = tuple(self.shape(x)[axis] for axis in perm)
            self.add(RearrangeStep(x, self.name(), self.shape(x), perm), shape)
        elif sort == "up" and c % 2**dims == 0 and math.prod(sizes) * 2**dims <= LARGEST:
            split = (n, c // 2**dims, *(2,) * dims, *sizes)
            perm = (0, 1, *itertools.chain(*((2 + dims + a, 2 + a) for a in range(dims))))
            self.add(RearrangeStep(x, self.name(), split, perm), (n, c // 2**dims, *(2 * size for size in sizes)))
        elif all(size % 2 == 0 for size in sizes) and c * 2**dims <= 8:
            split = (n, c, *itertools.chain(*((size // 2, 2) for size in sizes)))
            perm = (0, 1, *(3 + 2 * a for a in range(dims)), *(2 + 2 * a for a in range(dims)))
            self.add(RearrangeStep(x, self.name(), split, perm), (n, c * 2**dims, *(size // 2 for size in sizes)))

    def act(self, x):
        self.add(MapStep(x, self.name(), (PostOp("act", activation=Activation.of("relu")),)), self.shape(x))

    def gate(self, x):
        shape = self.shape(x)
        pooled = self.add(ReduceStep(x, self.name(), "mean"), (*shape[:2], *(1,) * (len(shape) - 2)))
        self.values.pop()
        spec = Conv.of(shape[1], shape[1], 1, dims=len(shape) - 2)
        squeezed = self.add(
            ConvStep(pooled, self.name(), spec, self.weights(spec) / shape[1], None), self.shape(pooled)
        )
        self.values.pop()
        self.add(MapStep(x, self.name(), (PostOp("mul", squeezed),)), shape)


@st.composite
def programs(draw, *, ops=LOCAL, dims=None, longest=7, sizes=None, linear=False, widest=40):
    """A random network; its output is the last value. Transposed layers enlarge up to ``widest`` positions."""
    dims = draw(st.sampled_from((1, 1, 2, 2, 3))) if dims is None else dims
    low, high = sizes or {1: (1, 30), 2: (1, 12), 3: (1, 5)}[dims]
    shape = (1, draw(st.integers(1, 4)), *(draw(st.integers(low, high)) for _ in range(dims)))
    builder = Builder(draw, shape, draw(st.integers(0, 2**20)), linear=linear, widest=widest)
    for _ in range(draw(st.integers(1, longest))):
        op = draw(st.sampled_from(ops))
        builder.grow("add_values" if op == "add" else op)
    program = builder.program
    program.outputs = (builder.values[-1],)
    return program


def rebatch(program, batch):
    """The same network for a batch of inputs."""
    new = Program(
        program.inputs,
        program.outputs,
        {name: (batch, *program.shapes[name][1:]) for name in program.inputs},
        element=program.element,
    )
    for step in program.steps:
        if isinstance(step, RearrangeStep):
            step = replace(step, split=(batch, *step.split[1:]))
        new.add(step, (batch, *program.shapes[step.y][1:]))
    return new


def responses(program, base, height):
    """The outputs for ``base``, and for ``base`` with ``height`` added on all channels of one position after another.

    Returns:
        base output ``(1, ...)`` and changed outputs ``(positions, ...)``.
    """
    shape = program.shapes["x"]
    count = math.prod(shape[2:])
    x = np.broadcast_to(base, (count + 1, *shape[1:])).copy()
    flat = x.reshape(count + 1, shape[1], count)
    for i in range(count):
        flat[i, :, i] += height
    y = run_program(rebatch(program, count + 1), {"x": x})[program.outputs[0]]
    return y[count:], y[:count]


def dependence(program):
    """Boolean (input positions..., output positions...): whether the output changes with the input, by trying."""
    shape = program.shapes["x"]
    base = np.random.default_rng(0).uniform(0.5, 1.0, (1, *shape[1:]))
    still, moved = responses(program, base, 1000.0)
    changed = np.abs(moved - still) > 1e-11 * np.abs(still)
    return changed.any(axis=1).reshape(*shape[2:], *moved.shape[2:])


def with_nan_borders(program):
    """The network with NaN wherever a layer reads outside its input."""
    shapes = {name: program.shapes[name] for name in program.inputs}
    new = Program(program.inputs, program.outputs, shapes, element=program.element)
    for step in program.steps:
        shape = program.shapes[step.y]
        if isinstance(step, ConvStep | PoolStep):
            step = _nan_window(new, step, program.shapes[step.x], shape)
        elif isinstance(step, PadStep):
            step = replace(step, mode="constant", value=float("nan"))
        elif isinstance(step, ResizeStep):
            tables = [_tidy(index, weight) for index, weight in zip(step.index, step.weight, strict=True)]
            step = replace(step, index=tuple(tables))
        new.add(step, shape)
    return new


def _tidy(index, weight):
    """Entries of weight zero point where the heaviest of their output points: NaN times zero is NaN."""
    best = np.take_along_axis(index, weight.argmax(axis=0)[None], 0)
    return np.where(weight == 0, best, index)


def _nan_window(new, step, sizes, shape):
    padded = f"{step.y}_padded"
    pads = [(0, 0), (0, 0)]
    if isinstance(step, PoolStep):
        for k, s, d, (before, _), size, count in zip(
            step.kernel, step.stride, step.dilation, step.padding, sizes[2:], shape[2:], strict=True
        ):
            pads.append((before, max((count - 1) * s + d * (k - 1) + 1 - size - before, 0)))
        changed = replace(step, x=padded, padding=((0, 0),) * len(step.kernel))
    elif step.spec.transposed:
        cropped = []
        for axis in step.spec.axes():
            extra = axis.extent // axis.stride + 2
            pads.append((extra, extra))
            cropped.append(tuple(p + extra * axis.stride for p in axis.padding))
        changed = replace(step, x=padded, spec=replace(step.spec, padding=tuple(cropped)))
    else:
        pads += [axis.padding for axis in step.spec.axes()]
        free = replace(step.spec, padding=((0, 0),) * step.spec.dims, padding_mode="zeros")
        changed = replace(step, x=padded, spec=free)
    new.add(
        PadStep(step.x, padded, tuple(pads), "constant", float("nan")),
        tuple(size + sum(pair) for size, pair in zip(sizes, pads, strict=True)),
    )
    return changed


def with_mean_weights(program):
    """The network with every weight 1 / (input channels of the group), in float64: a third is not one in float32."""
    shapes = {name: program.shapes[name] for name in program.inputs}
    new = Program(program.inputs, program.outputs, shapes, element=FLOAT64)
    for step in program.steps:
        if isinstance(step, ConvStep):
            wide = step.spec.in_channels // step.spec.groups
            step = replace(step, w=np.full(step.w.shape, 1.0 / wide))
        new.add(step, program.shapes[step.y])
    return new
