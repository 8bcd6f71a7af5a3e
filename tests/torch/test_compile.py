"""Whole PyTorch models through the exporter."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.errors import DataError, UnsupportedError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn

from omniconv.torch import compile as compile_module  # noqa: E402


class Residual(nn.Module):
    """What `from_torch` cannot say: a residual, batch norm, a gate, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(x)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.head(nn.functional.gelu(x + y).mean((2, 3))).softmax(-1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_agrees_with_torch(threads: int) -> None:
    torch.manual_seed(0)
    model = Residual()
    x = torch.randn(2, 3, 20, 24)
    f = compile_module(model, x, threads=threads)
    assert model.training, "the mode of the model is left alone"
    with torch.no_grad():
        want = model.eval()(x).numpy()
    np.testing.assert_allclose(f(x), want, rtol=0, atol=2e-6)


def test_two_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 6, 3)

        def forward(self, a, b):
            return self.conv(a) + b

    model, a, b = Sum(), torch.randn(1, 4, 9), torch.randn(1, 6, 7)
    f = compile_module(model, (a, b))
    [y] = f.run(dict(zip(f.inputs, (a, b), strict=True))).values()
    np.testing.assert_allclose(y, model(a, b).detach().numpy(), rtol=0, atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(DataError, match="tensor"):
        compile_module(nn.Conv1d(1, 1, 1), ([1.0],))

    class Loop(nn.Module):
        def forward(self, x):
            while x.sum() > 1:
                x = x / 2
            return x

    with pytest.raises(UnsupportedError, match="cannot export"):
        compile_module(Loop(), torch.ones(3))
