"""Stacks of recurrent layers, a recogniser of text lines and a detector with carried states, exported by PyTorch."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import onnx
import pytest
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.graph import to_program

torch = pytest.importorskip("torch")
nn = torch.nn


class Recogniser(nn.Module):
    """Columns of a line of text as times of two layers in both directions."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.lstm = nn.LSTM(64, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(48, 11)

    def forward(self, x):
        y = torch.max_pool2d(torch.relu(self.a(x)), 2)
        y = torch.max_pool2d(torch.relu(self.norm(self.b(y))), 2)
        y = y.flatten(1, 2).transpose(1, 2)
        return self.out(self.lstm(y)[0]).log_softmax(-1)


class Detector(nn.Module):
    """A frame at a time, with states that the caller carries."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm, self.out = nn.Conv1d(4, 16, 3, padding=1), nn.LSTM(16, 20, num_layers=2), nn.Linear(20, 1)

    def forward(self, x, h, c):
        y = torch.relu(self.conv(x)).mean(-1)
        y, (h, c) = self.lstm(y[None], (h, c))
        return torch.sigmoid(self.out(y[0])), h, c


class Stack(nn.Module):
    """Layers of one sort, with all that they give."""

    def __init__(self, kind, **more):
        super().__init__()
        self.layer = kind(6, 9, **more)

    def forward(self, x):
        y, states = self.layer(x)
        return (y, *states) if isinstance(states, tuple) else (y, states)


MODULES = {
    "recogniser": (Recogniser, [(2, 1, 16, 40)]),
    "detector": (Detector, [(1, 4, 12), (2, 1, 20), (2, 1, 20)]),
    "lstm": (lambda: Stack(nn.LSTM, num_layers=3), [(7, 3, 6)]),
    "lstm both ways, batch first": (
        lambda: Stack(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True), [(3, 7, 6)]
    ),
    "gru": (lambda: Stack(nn.GRU, num_layers=2, bidirectional=True), [(5, 2, 6)]),
    "gru, no bias": (lambda: Stack(nn.GRU, bias=False, batch_first=True), [(2, 5, 6)]),
    "rnn": (lambda: Stack(nn.RNN, num_layers=2, batch_first=True), [(2, 5, 6)]),
    "rnn of relu": (lambda: Stack(nn.RNN, nonlinearity="relu", bidirectional=True), [(5, 1, 6)]),
}  # fmt: skip


def export(module, inputs, dynamo):
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if dynamo:
                pytest.importorskip("onnxscript")
                return torch.onnx.export(module, inputs, dynamo=True, verbose=False).model_proto
            room = io.BytesIO()
            torch.onnx.export(module, inputs, room, dynamo=False, opset_version=17)
            return onnx.load_from_string(room.getvalue())
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.wide), False], ids=["dynamo", "traced"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_of_pytorch(name, dynamo):
    torch.manual_seed(0)
    make, shapes = MODULES[name]
    module = make().eval()
    inputs = tuple(torch.randn(shape) for shape in shapes)
    exported = export(module, inputs, dynamo)
    network = oc.compile(exported, shapes=dict(zip(names_of(exported), shapes, strict=True)), threads=2)
    feeds = {name: x.numpy() for name, x in zip(network.inputs, inputs, strict=True)}
    got = list(network.run(feeds).values())
    with torch.no_grad():
        wanted = module.double()(*(x.double() for x in inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    exact = run_program(to_program(exported, shapes={k: x.shape for k, x in feeds.items()}), feeds).values()
    for y, reference, want in zip(got, exact, wanted, strict=True):
        assert y.shape == tuple(want.shape)
        # The program in float64 differs from PyTorch by the rounding of constants that were folded.
        np.testing.assert_allclose(reference, want.numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(y, want.numpy(), rtol=1e-5, atol=1e-5)


def names_of(exported):
    initialised = {item.name for item in exported.graph.initializer}
    return [info.name for info in exported.graph.input if info.name not in initialised]
