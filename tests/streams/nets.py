"""Random networks of whole numbers along one axis of any length, whose sums float32 holds exactly."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from omniconv.errors import OmniconvError
from omniconv.program.from_spec import plan_resize
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConcatStep,
    ConvStep,
    CumSumStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    RearrangeStep,
    ReduceStep,
    SliceStep,
)
from omniconv.spec import Activation, Conv, Resize

LENGTHS = (97, 120, 144, 251)
"""Values have the same shape if they have it for all of these."""
RELU = PostOp("act", activation=Activation.of("relu"))
OTHER = 5
"""Positions of the axis that does not stream, where there is one."""


class Net:
    """A network that grows at random, as a list of layers which build its program for any length."""

    def __init__(self, seed: int):
        r = self.r = Random(seed)
        self.dims = r.choice((1, 1, 1, 2))
        self.axis = r.randint(2, 1 + self.dims)
        self.channels = r.choice((1, 2, 3))
        self.layers = []
        self.values = ["x"]
        self.programs = [self.begin(length) for length in LENGTHS]

    def shape_of(self, length):
        sizes = [OTHER] * self.dims
        sizes[self.axis - 2] = length
        return (1, self.channels, *sizes)

    def begin(self, length):
        return Program(("x",), shapes={"x": self.shape_of(length)})

    def lower(self, shape):
        """The program for an input of some shape; the last value is the output."""
        program = Program(("x",), shapes={"x": tuple(shape)})
        for layer in self.layers:
            layer(program)
        program.outputs = (self.values[-1],)
        return program, frozenset()

    def program(self, length):
        return self.lower(self.shape_of(length))[0]

    def signature(self, name):
        return tuple(program.shapes[name] for program in self.programs)

    def twins(self, name):
        """Values of the same shape, whatever the length."""
        return [other for other in self.values if self.signature(other) == self.signature(name)]

    def add(self, layer, y):
        """Add a layer, unless some length is too short for it or it grows too large."""
        grown = [Program(p.inputs, (), dict(p.shapes), list(p.steps), list(p.labels)) for p in self.programs]
        try:
            for program in grown:
                layer(program)
        except OmniconvError:
            return
        if any(p.shapes[y][self.axis] < 4 for p in grown):
            return
        if grown[0].shapes[y][self.axis] <= 4 * LENGTHS[0] and math.prod(grown[-1].shapes[y]) < 2e4:
            self.programs, self.values = grown, [*self.values, y]
            self.layers.append(layer)

    def along(self, value, other):
        """One number for each spatial axis."""
        found = [other] * self.dims
        found[self.axis - 2] = value
        return found

    def conv(self, x, y):
        r, channels = self.r, self.programs[0].shapes[x][1]
        k, d, s = r.randint(1, 4), r.choice((1, 1, 2, 3)), r.choice((1, 1, 1, 2, 3))
        extent = d * (k - 1) + 1
        same = r.random() < 0.6
        before = r.randint(0, extent - 1)
        pair = (before, extent - 1 - before) if same else (before, r.randint(0, extent - 1))
        groups = r.choice([g for g in (1, 1, 2, 3) if channels % g == 0])
        spec = Conv.of(
            channels,
            channels if same and groups == 1 and r.random() < 0.5 else groups * r.randint(1, 3),
            self.along(k, 1),
            dims=self.dims,
            stride=self.along(s, 1),
            dilation=self.along(d, 1),
            padding=self.along(pair, (0, 0)),
            groups=groups,
            padding_mode=r.choice(("zeros", "zeros", "zeros", "zeros", "reflect", "replicate")),
        )
        result = [spec.output_shape(p.shapes[x]) for p in self.programs]
        same = [v for v in self.values if self.signature(v) == tuple(result)]
        post = (PostOp("add", r.choice(same)),) if same and r.random() < 0.6 else ()
        post = (*post, RELU) if r.random() < 0.4 else post
        w = self.weights(spec)
        self.add(lambda p: p.add(ConvStep(x, y, spec, w, None, post), spec.output_shape(p.shapes[x])), y)

    def transposed(self, x, y):
        r, channels = self.r, self.programs[0].shapes[x][1]
        k, s = r.randint(1, 5), r.randint(1, 3)
        spec = Conv.of(
            channels,
            r.randint(1, 3),
            self.along(k, 1),
            dims=self.dims,
            stride=self.along(s, 1),
            padding=self.along((r.randint(0, (k - 1) // 2), r.randint(0, k // 2)), (0, 0)),
            transposed=True,
            output_padding=self.along(r.randrange(s), 0),
        )
        w = self.weights(spec)
        self.add(lambda p: p.add(ConvStep(x, y, spec, w), spec.output_shape(p.shapes[x])), y)

    def weights(self, spec):
        values = [self.r.randint(-1, 1) for _ in range(math.prod(spec.weight_shape))]
        return np.array(values, np.float32).reshape(spec.weight_shape)

    def pool(self, x, y):
        r = self.r
        k, s = r.choice((2, 2, 4)), r.choice((1, 2, 3))
        pad, ceil, op, count = (
            r.randint(0, k // 2),
            r.random() < 0.5,
            r.choice(("max", "max", "mean")),
            r.random() < 0.5,
        )

        def layer(p):
            shape = p.shapes[x]
            room = shape[self.axis] + 2 * pad - k
            many = (-(-room // s) if ceil else room // s) + 1
            many -= (many - 1) * s >= shape[self.axis] + pad
            result = (*shape[: self.axis], many, *shape[self.axis + 1 :])
            kernel, stride, padding = (self.along(*pair) for pair in ((k, 1), (s, 1), ((pad, pad), (0, 0))))
            ones = (1,) * self.dims
            step = PoolStep(x, y, op, tuple(kernel), tuple(stride), ones, tuple(padding), count)
            p.add(step, result)

        self.add(layer, y)

    def resize(self, x, y):
        how = self.r.choice((Resize(2), Resize(3), Resize(4), Resize(2, "linear")))
        self.add(lambda p: p.add(plan_resize(how, x, y, p.shapes[x]), how.output_shape(p.shapes[x])), y)

    def shuffle(self, x, y):
        """Depth to space along the axis, and the other way round."""
        channels, r = self.programs[0].shapes[x][1], self.r
        if channels % 2 == 0 and r.random() < 0.7:

            def layer(p):
                n, c, *sizes = p.shapes[x]
                at = self.axis
                split = (n, 2, c // 2, *sizes)
                order = [0, *range(2, len(split))]
                order.insert(at + 1, 1)
                sizes[at - 2] *= 2
                p.add(RearrangeStep(x, y, split, tuple(order)), (n, c // 2, *sizes))
        else:

            def layer(p):
                n, c, *sizes = p.shapes[x]
                at = self.axis
                if sizes[at - 2] % 2:
                    raise OmniconvError("odd")
                split = [n, c, *sizes]
                split[at : at + 1] = [sizes[at - 2] // 2, 2]
                order = [0, at + 1, *(axis for axis in range(1, len(split)) if axis != at + 1)]
                sizes[at - 2] //= 2
                p.add(RearrangeStep(x, y, tuple(split), tuple(order)), (n, 2 * c, *sizes))

        self.add(layer, y)

    def crop(self, x, y):
        start, end, step = self.r.randint(0, 3), self.r.randint(0, 3), self.r.choice((1, 1, 2))

        def layer(p):
            shape = p.shapes[x]
            count = (shape[self.axis] - 1 - start - end) // step + 1
            starts, steps = [0] * len(shape), [1] * len(shape)
            starts[self.axis], steps[self.axis] = start, step
            result = (*shape[: self.axis], count, *shape[self.axis + 1 :])
            p.add(SliceStep(x, y, tuple(starts), tuple(steps)), result)

        self.add(layer, y)

    def pad(self, x, y):
        mode, pair = self.r.choice(("constant", "reflect", "edge")), (self.r.randint(0, 3), self.r.randint(0, 3))

        def layer(p):
            shape = p.shapes[x]
            pads = [(0, 0)] * len(shape)
            pads[self.axis] = pair
            result = tuple(size + sum(each) for size, each in zip(shape, pads, strict=True))
            p.add(PadStep(x, y, tuple(pads), mode, 2.0), result)

        self.add(layer, y)

    def add_both(self, x, y):
        other = self.r.choice(self.twins(x))
        self.add(lambda p: p.add(MapStep(x, y, (PostOp("add", other),)), p.shapes[x]), y)

    def concat(self, x, y):
        sizes = [shape[2:] for shape in self.signature(x)]
        others = [v for v in self.values if [shape[2:] for shape in self.signature(v)] == sizes]
        other = self.r.choice(others)

        def layer(p):
            a, b = p.shapes[x], p.shapes[other]
            p.add(ConcatStep((x, other), y), (1, a[1] + b[1], *a[2:]))

        if self.programs[0].shapes[x][1] + self.programs[0].shapes[other][1] < 7:
            self.add(layer, y)

    def running(self, x, y):
        exclusive = self.r.random() < 0.5
        self.add(lambda p: p.add(CumSumStep(x, y, self.axis, exclusive), p.shapes[x]), y)

    def gate(self, x, y):
        """Squeeze and excitation: every output depends on all positions."""

        def layer(p):
            shape = p.shapes[x]
            pooled = p.add(ReduceStep(x, f"{y} mean", "mean"), (*shape[:2], *(1,) * self.dims), "squeeze")
            p.add(MapStep(x, y, (PostOp("mul", pooled),)), shape)

        self.add(layer, y)


OPS = ("conv", "conv", "conv", "transposed", "pool", "resize", "concat", "shuffle", "crop", "pad", "add_both")


def draw_net(seed: int) -> Net:
    """A network of some layers."""
    net = Net(seed)
    r = net.r
    for n in range(r.randint(2, 8)):
        x = r.choice(net.values[-3:]) if n and r.random() < 0.4 else net.values[-1]
        getattr(net, r.choice(OPS))(x, f"v{n}")
    if r.random() < 0.1:
        net.running(net.values[-1], "sums")
    if len(net.values) == 1:
        net.pad("x", "padded")
    return net


def draw_input(net: Net, length: int, seed: int) -> np.ndarray:
    """Whole numbers."""
    return np.random.default_rng(seed).integers(-3, 4, net.shape_of(length)).astype(np.float32)
