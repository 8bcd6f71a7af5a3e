"""TF-Slim networks whose receptive fields and costs are published, as programs; "SAME" padding as in TensorFlow."""

from __future__ import annotations

import math

import numpy as np

from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, MapStep, PoolStep, PostOp, ReduceStep
from omniconv.spec import Activation, Axis, Conv
from omniconv.spec.geometry import plan_same_padding

RELU = (PostOp("act", activation=Activation.of("relu")),)


class Slim:
    """A network that grows layer by layer; every layer is named, weights have no memory behind them."""

    def __init__(self, size, channels=3):
        self.program = Program(("x",), shapes={"x": (1, channels, size, size)})
        self.last = "x"

    def pads(self, x, kernel, stride, padding):
        if padding == "SAME":
            axis = Axis(kernel, stride)
            return tuple(plan_same_padding(axis, size, lower=False) for size in self.program.shapes[x][2:])
        if padding == "FIXED":  # resnet_utils.conv2d_same: padded by hand as at stride 1, then VALID
            return (((kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2),) * 2
        return ((0, 0), (0, 0))

    def conv(self, name, out, kernel, stride=1, padding="SAME", *, x=None, groups=1, bias=True, relu=True):
        x = x or self.last
        shape = self.program.shapes[x]
        spec = Conv.of(
            shape[1], out, kernel, stride=stride, padding=self.pads(x, kernel, stride, padding), groups=groups
        )
        w = np.broadcast_to(np.ones((), np.float32), spec.weight_shape)
        b = np.zeros(out, np.float32) if bias else None
        self.last = self.program.add(
            ConvStep(x, name, spec, w, b, RELU if relu else ()), spec.output_shape(shape), name
        )
        return self

    def depthwise(self, name, stride=1):
        return self.conv(name, self.program.shapes[self.last][1], 3, stride, groups=self.program.shapes[self.last][1])

    def pool(self, name, kernel, stride, padding="VALID", op="max"):
        shape = self.program.shapes[self.last]
        pads = self.pads(self.last, kernel, stride, padding)
        counts = [(size + sum(pair) - kernel) // stride + 1 for size, pair in zip(shape[2:], pads, strict=True)]
        step = PoolStep(self.last, name, op, (kernel,) * 2, (stride,) * 2, (1, 1), pads)
        self.last = self.program.add(step, (*shape[:2], *counts), name)
        return self

    def done(self):
        self.program.outputs = (self.last,)
        return self.program


def alexnet_v2(size=224):
    net = Slim(size).conv("conv1", 64, 11, 4, "VALID").pool("pool1", 3, 2).conv("conv2", 192, 5).pool("pool2", 3, 2)
    return net.conv("conv3", 384, 3).conv("conv4", 384, 3).conv("conv5", 256, 3).pool("pool5", 3, 2).done()


def vgg_16(size=224):
    net = Slim(size)
    for block, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for layer in range(1, count + 1):
            net.conv(f"conv{block}_{layer}", channels, 3)
        net.pool(f"pool{block}", 2, 2)
    return net.done()


def mobilenet_v1(size=224, *, classifier=False):
    net = Slim(size).conv("Conv2d_0", 32, 3, 2)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for number, (stride, width) in enumerate(zip(strides, widths, strict=True), 1):
        net.depthwise(f"Conv2d_{number}_depthwise", stride).conv(f"Conv2d_{number}_pointwise", width, 1)
    if classifier:
        net.last = net.program.add(ReduceStep(net.last, "pool", "mean"), (1, 1024, 1, 1), "pool")
        net.conv("logits", 1001, 1, relu=False)
    return net.done()


def resnet_v1_50(size=224):
    net = Slim(size).conv("conv1", 64, 7, 2, "FIXED").pool("pool1", 3, 2, "SAME")
    for block, (depth, units, stride) in enumerate(((256, 3, 2), (512, 4, 2), (1024, 6, 2), (2048, 3, 1)), 1):
        for unit in range(1, units + 1):
            step = stride if unit == units else 1  # TF-Slim strides in the last unit of a block
            x, base = net.last, f"block{block}_unit{unit}"
            if net.program.shapes[x][1] == depth:
                if step > 1:
                    net.pool(f"{base}_shortcut", 1, step)
                shortcut = net.last
                net.last = x
            else:
                shortcut = net.conv(f"{base}_shortcut", depth, 1, step, relu=False).last
                net.last = x
            net.conv(f"{base}_conv1", depth // 4, 1)
            net.conv(f"{base}_conv2", depth // 4, 3, step, "FIXED" if step > 1 else "SAME")
            net.conv(f"{base}_conv3", depth, 1, relu=False)
            name = f"block{block}" if unit == units else base
            step_ = MapStep(net.last, name, (PostOp("add", shortcut), *RELU))
            net.last = net.program.add(step_, net.program.shapes[net.last], name)
    return net.done()


def shufflenet_v2(size=224, widths=(24, 116, 232, 464, 1024), repeats=(4, 8, 4), classes=1000):
    """ShuffleNet v2 x1.0 as in its paper: split, branch, concatenate, shuffle."""
    from omniconv.program.steps import ChannelStep, ConcatStep
    from omniconv.spec import Shuffle

    net = Slim(size).conv("conv1", widths[0], 3, 2, "FIXED").pool("pool", 3, 2, "SAME")
    add = net.program.add

    def branch(name, x, width, stride):
        net.last = x
        net.conv(f"{name}_1", width, 1)
        net.conv(f"{name}_dw", width, 3, stride, "FIXED", groups=width, relu=False)
        return net.conv(f"{name}_2", width, 1).last

    for stage, (width, count) in enumerate(zip(widths[1:4], repeats, strict=True), 2):
        half = width // 2
        for unit in range(count):
            x, name = net.last, f"stage{stage}_{unit}"
            n, c, h, w = net.program.shapes[x]
            if unit == 0:
                net.last = x
                net.conv(f"{name}_left_dw", c, 3, 2, "FIXED", groups=c, relu=False)
                left = net.conv(f"{name}_left", half, 1).last
                right = branch(f"{name}_right", x, half, 2)
            else:
                left = add(ChannelStep(x, f"{name}_a", tuple(range(half))), (n, half, h, w))
                other = add(ChannelStep(x, f"{name}_b", tuple(range(half, width))), (n, half, h, w))
                right = branch(f"{name}_right", other, half, 1)
            shape = (n, width, *net.program.shapes[right][2:])
            joined = add(ConcatStep((left, right), f"{name}_cat"), shape)
            net.last = add(ChannelStep(joined, f"{name}_shuffled", Shuffle(2).source(width)), shape)
    net.conv("conv5", widths[4], 1)
    net.last = add(ReduceStep(net.last, "mean", "mean"), (1, widths[4], 1, 1))
    net.conv("fc", classes, 1, relu=False)
    assert math.prod(net.program.shapes[net.last]) == classes
    return net.done()
