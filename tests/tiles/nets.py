"""Random networks of whole numbers, in one to three dimensions, whose sums float32 holds exactly."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from omniconv.program.from_spec import plan_resize
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConcatStep,
    ConvStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    RearrangeStep,
    ReduceStep,
    SliceStep,
    SoftmaxStep,
)
from omniconv.spec import Activation, Conv, Resize

MOST = {1: 400, 2: 700, 3: 900}
"""Positions of a value."""
RELU = PostOp("act", activation=Activation.of("relu"))


class Net:
    """A program that grows at random."""

    def __init__(self, r: Random, dims: int):
        self.r, self.dims, self.values = r, dims, ["x"]
        size = {1: (20, 60), 2: (9, 19), 3: (5, 8)}[dims]
        shape = (1, r.choice((1, 2, 3)), *(r.randint(*size) for _ in range(dims)))
        self.program = Program(("x",), shapes={"x": shape})

    def shape(self, name):
        return self.program.shapes[name]

    def add(self, step, shape):
        if math.prod(shape[2:]) <= MOST[self.dims] and min(shape) >= 1:
            self.values.append(self.program.add(step, shape, f"layer {len(self.values)}"))

    def conv(self, x, y):
        r, shape = self.r, self.shape(x)
        kernel, stride, dilation, padding = [], [], [], []
        for size in shape[2:]:
            k, d, s = r.randint(1, 4), r.choice((1, 1, 2, 3)), r.choice((1, 1, 1, 2, 3))
            extent = d * (k - 1) + 1
            pair = (r.randint(0, extent - 1), r.randint(0, extent - 1))
            if extent > size:
                k, d, pair = 1, 1, (0, 0)
            kernel.append(k), stride.append(s), dilation.append(d), padding.append(pair)
        mode = r.choice(("zeros", "zeros", "zeros", "reflect", "replicate"))
        if any(max(pair) >= size for pair, size in zip(padding, shape[2:], strict=True)):
            mode = "zeros"
        groups = r.choice([g for g in (1, 1, 2, 3) if shape[1] % g == 0])
        spec = Conv.of(
            shape[1],
            groups * r.randint(1, 3),
            kernel,
            dims=self.dims,
            stride=stride,
            dilation=dilation,
            padding=padding,
            groups=groups,
            padding_mode=mode,
        )
        result = spec.output_shape(shape)
        same = [name for name in self.values if self.shape(name) == result]
        post = (PostOp("add", r.choice(same)),) if same and r.random() < 0.6 else ()
        self.add(ConvStep(x, y, spec, self.weights(spec), None, (*post, RELU) if r.random() < 0.5 else post), result)

    def transposed(self, x, y):
        r, shape = self.r, self.shape(x)
        k, s = r.randint(1, 4), r.randint(1, 3)
        crop = r.randint(0, (k - 1) // 2)
        spec = Conv.of(
            shape[1],
            r.randint(1, 3),
            k,
            dims=self.dims,
            stride=s,
            padding=crop,
            transposed=True,
            output_padding=r.randrange(s),
        )
        if all((size - 1) * s + k - 2 * crop >= 1 for size in shape[2:]):
            self.add(ConvStep(x, y, spec, self.weights(spec)), spec.output_shape(shape))

    def weights(self, spec):
        return np.array([self.r.randint(-1, 1) for _ in range(math.prod(spec.weight_shape))], np.float32).reshape(
            spec.weight_shape
        )

    def pool(self, x, y):
        r, shape = self.r, self.shape(x)
        k, s = r.choice((2, 3)), r.choice((1, 2, 3))
        pad = r.randint(0, k // 2)
        if min(shape[2:]) < k:
            return
        ceil = r.random() < 0.5
        counts = []
        for size in shape[2:]:
            room = size + 2 * pad - k
            count = (-(-room // s) if ceil else room // s) + 1
            counts.append(count - 1 if (count - 1) * s >= size + pad else count)
        axes = (1,) * self.dims
        step = PoolStep(
            x,
            y,
            r.choice(("max", "max", "mean")),
            (k,) * self.dims,
            (s,) * self.dims,
            axes,
            ((pad, pad),) * self.dims,
            r.random() < 0.5,
        )
        self.add(step, (*shape[:2], *counts))

    def resize(self, x, y):
        how = Resize(self.r.choice((2, 2, 3)), self.r.choice(("nearest", "linear")))
        self.add(plan_resize(how, x, y, self.shape(x)), how.output_shape(self.shape(x)))

    def concat(self, x, y):
        shape = self.shape(x)
        others = [name for name in self.values if self.shape(name)[2:] == shape[2:] and self.shape(name)[1] < 7]
        if not others:
            return
        other = self.r.choice(others)
        self.add(ConcatStep((x, other), y), (1, shape[1] + self.shape(other)[1], *shape[2:]))

    def shuffle(self, x, y):
        """Depth to space, and the other way round."""
        _, c, *sizes = self.shape(x)
        d = self.dims
        if all(size % 2 == 0 for size in sizes) and c <= 2:
            split = (1, c, *(n for size in sizes for n in (size // 2, 2)))
            perm = (0, 1, *range(3, 2 * d + 2, 2), *range(2, 2 * d + 2, 2))
            self.add(RearrangeStep(x, y, split, perm), (1, c * 2**d, *(size // 2 for size in sizes)))
        elif c % 2**d == 0:
            split = (1, c // 2**d, *(2,) * d, *sizes)
            perm = (0, 1, *(n for axis in range(d) for n in (2 + d + axis, 2 + axis)))
            self.add(RearrangeStep(x, y, split, perm), (1, c // 2**d, *(2 * size for size in sizes)))

    def crop(self, x, y):
        shape = self.shape(x)
        starts = [self.r.randint(0, min(2, size - 1)) for size in shape[2:]]
        step = self.r.choice((1, 1, 2))
        counts = [(size - 1 - start) // step + 1 for size, start in zip(shape[2:], starts, strict=True)]
        self.add(SliceStep(x, y, (0, 0, *starts), (1, 1, *(step,) * self.dims)), (*shape[:2], *counts))

    def pad(self, x, y):
        shape, r = self.shape(x), self.r
        mode = r.choice(("constant", "reflect", "edge"))
        pads = [(r.randint(0, min(3, size - 1)), r.randint(0, min(3, size - 1))) for size in shape[2:]]
        result = (*shape[:2], *(size + sum(pair) for size, pair in zip(shape[2:], pads, strict=True)))
        self.add(PadStep(x, y, ((0, 0), (0, 0), *pads), mode, 2.0), result)

    def add_both(self, x, y):
        same = [name for name in self.values if self.shape(name) == self.shape(x)]
        self.add(MapStep(x, y, (PostOp("add", self.r.choice(same)),)), self.shape(x))

    def gate(self, x, y, op):
        """Squeeze and excitation: every output depends on all positions."""
        shape = self.shape(x)
        pooled = self.program.add(ReduceStep(x, f"{y} {op}", op), (*shape[:2], *(1,) * self.dims), "squeeze")
        self.add(MapStep(x, y, (PostOp("mul", pooled),)), shape)


OPS = ("conv", "conv", "conv", "transposed", "pool", "resize", "concat", "shuffle", "crop", "pad", "add_both")


def draw_net(seed: int, *, gate: str = "") -> Program:
    """A network of some layers; where one is wanted a gate follows the first of them, a convolution of ones."""
    r = Random(seed)
    net = Net(r, r.choice((1, 2, 2, 3)))
    if gate:
        spec = Conv.of(net.shape("x")[1], 2, 3, dims=net.dims, padding=1)
        net.add(ConvStep("x", "first", spec, np.ones(spec.weight_shape, np.float32)), spec.output_shape(net.shape("x")))
        net.gate("first", "gate", gate)
    for n in range(r.randint(2, 7)):
        name = r.choice(net.values[-2:]) if n and not gate and r.random() < 0.3 else net.values[-1]
        getattr(net, r.choice(OPS))(name, f"v{n}")
    if len(net.values) == 1:
        net.pad("x", "padded")
    net.program.outputs = (net.values[-1],)
    return net.program


def draw_image(program: Program, seed: int) -> np.ndarray:
    """Whole numbers."""
    return np.random.default_rng(seed).integers(-3, 4, program.shapes["x"]).astype(np.float32)


def draw_global(seed: int) -> tuple[Program, str, tuple[int, ...]]:
    """A network with a step somewhere that reads all positions, of one axis or of all: its result, and these axes."""
    r = Random(seed)
    net = Net(r, r.choice((1, 2, 2, 3)))

    def grow(count: int) -> None:
        for _ in range(count):
            getattr(net, r.choice(OPS))(net.values[-1], f"v{len(net.program.steps)}")

    grow(r.randint(0, 3))
    x = next(name for name in reversed(net.values) if min(net.shape(name)[2:]) > 1)
    op = r.choice(("mean", "max", "min", "softmax"))
    if op == "softmax":
        axes = (r.randrange(2, 2 + net.dims),)
        net.add(SoftmaxStep(x, "global", axes[0]), net.shape(x))
    else:
        axes = tuple(range(2, 2 + net.dims))
        net.gate(x, "global", op)
    grow(r.randint(0, 3))
    net.program.outputs = (net.values[-1],)
    return net.program, "global", axes
