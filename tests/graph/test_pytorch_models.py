"""Modules exported by PyTorch itself: its ways to write layers must lower, and lower to few steps."""

from __future__ import annotations

import logging
import warnings
from collections import Counter

import numpy as np
import pytest
from tests.program_oracle import run_program

from omniconv.graph import to_program

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

nn, F = torch.nn, torch.nn.functional


class ConvNext(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.gate = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = F.hardswish(self.norm(self.conv(x)))
        return y * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))


class ShuffleUnit(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return F.channel_shuffle(torch.cat([a, F.silu(self.conv(b))], 1), 2)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.shuffle = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2), nn.PixelShuffle(2)
        self.linear, self.nearest = nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(scale_factor=2)

    def forward(self, x):
        y = self.nearest(self.linear(self.shuffle(F.leaky_relu(self.up(x), 0.1))))
        return F.gelu(y, approximate="tanh")


class Paddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.reflect = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.dilated = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.circular = nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular")
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)

    def forward(self, x):
        y = self.circular(F.elu(self.dilated(F.relu6(self.reflect(x)))))
        return torch.tanh(self.instance(self.group(y)))


class Pools(nn.Module):
    def forward(self, x):
        y = F.avg_pool2d(F.max_pool2d(x, 3, 2, 1, ceil_mode=True), 2, count_include_pad=False)
        return F.adaptive_avg_pool2d(y, (2, 2)).log_softmax(1)


STEPS = {
    ConvNext: {"ConvStep": 1, "DenseStep": 2},
    SqueezeExcite: {"ConvStep": 2, "ReduceStep": 1, "MapStep": 1},
    ShuffleUnit: {"ChannelStep": 3, "ConvStep": 1, "ConcatStep": 1},
    Decoder: {"ConvStep": 1, "RearrangeStep": 1, "ResizeStep": 2, "MapStep": 1},
    Paddings: {"ConvStep": 3},
    Pools: {"PoolStep": 3, "SoftmaxStep": 1},
}
"""The fewest steps of some kinds that each module must lower to."""


QUICK = (ConvNext, Decoder, Paddings)


@pytest.mark.parametrize(
    "module",
    [module if module in QUICK else pytest.param(module, marks=pytest.mark.wide) for module in STEPS],
    ids=lambda module: module.__name__,
)
def test_exported_modules(module) -> None:
    torch.manual_seed(0)
    layer, x = module().eval(), torch.randn(2, 8, 16, 16)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = torch.onnx.export(layer, (x,), dynamo=True, verbose=False).model_proto
    finally:
        logging.disable(logging.NOTSET)
    program = to_program(model)
    [got] = run_program(program, {program.inputs[0]: x.numpy()}).values()
    np.testing.assert_allclose(got, layer(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    counts = Counter(type(step).__name__ for step in program.steps)
    for kind, count in STEPS[module].items():
        assert counts[kind] == count, counts
