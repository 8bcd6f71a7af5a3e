"""Whole PyTorch models through the exporter."""

from __future__ import annotations

import pytest

from omniconv.errors import DataError, ShapeError, UnsupportedError

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


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.wide), 2])
def test_a_model_agrees_with_torch(threads: int) -> None:
    torch.manual_seed(0)
    model = Residual()
    x = torch.randn(2, 3, 20, 24)
    f = compile_module(model, x, threads=threads)
    assert isinstance(f, nn.Module)
    assert not list(f.parameters())
    assert model.training, "the mode of the model is left alone"
    model.eval()
    with torch.no_grad():
        for batch in (2, 1, 5):
            x = torch.randn(batch, 3, 20, 24)
            torch.testing.assert_close(f(x), model(x), rtol=0, atol=2e-6)
    assert "conv" in f.explain()


def test_channels_last_tensors() -> None:
    model = Residual().stem
    x = torch.randn(1, 3, 9, 8).to(memory_format=torch.channels_last)
    f = compile_module(model, x, layout="NHWC")
    with torch.no_grad():
        y = f(x)
        torch.testing.assert_close(y, model.eval()(x), rtol=0, atol=2e-6)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_model_of_one_batch_size() -> None:
    class Fixed(nn.Module):
        def forward(self, x):
            return torch.relu(x) + torch.ones(2, 3, 4)

    f = compile_module(Fixed(), torch.ones(2, 3, 4))
    x = torch.randn(2, 3, 4)
    assert torch.equal(f(x), torch.relu(x) + 1)
    with pytest.raises(ShapeError):
        f(torch.ones(3, 3, 4))


def test_layers_of_every_kind_can_be_frozen() -> None:
    import omniconv.torch.nn as onn

    model = nn.Sequential(
        onn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
        onn.DepthwiseSeparable2d(8, 6, 3, stride=2, padding="same", activation="relu"),
        onn.Transposed2d(6, 4, 3, padding=((1, 0), (0, 1)), output_padding=1),
        onn.Convolution2d(4, 3, 3),
    )
    f = compile_module(model, torch.ones(1, 3, 9, 8))
    x = torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(f(x), model(x), rtol=1e-5, atol=1e-5)


def test_calls_that_are_refused() -> None:
    f = compile_module(nn.Conv1d(2, 3, 1), torch.ones(1, 2, 4))
    with pytest.raises(ShapeError, match="2 inputs; need 1"):
        f(torch.ones(1, 2, 4), torch.ones(1))
    with pytest.raises(DataError, match=r"gradient is wanted.*omniconv\.torch\.convert"):
        f(torch.ones(1, 2, 4, requires_grad=True))
    with pytest.raises(DataError, match="float64"):
        f(torch.ones(1, 2, 4, dtype=torch.float64))
    with pytest.raises(DataError):
        f(torch.ones(1, 2, 4, device="meta"))


def test_two_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 6, 3)

        def forward(self, a, b):
            return self.conv(a) + b

    model, a, b = Sum(), torch.randn(1, 4, 9), torch.randn(1, 6, 7)
    f = compile_module(model, (a, b))
    with torch.no_grad():
        torch.testing.assert_close(f(a, b), model(a, b), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("divisor", [pytest.param(None, marks=pytest.mark.wide), 4])
def test_a_divisor_that_the_export_leaves_out_is_refused(divisor: int | None) -> None:
    class Pool(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(x, 3, 2, divisor_override=divisor)

    x = torch.randn(2, 4, 9, 9)
    if divisor is None:
        assert torch.allclose(compile_module(Pool(), x)(x), Pool()(x), atol=1e-6)
        return
    with pytest.raises(UnsupportedError, match="divisor_override=4"):
        compile_module(Pool(), x)


@pytest.mark.parametrize("layout", ["NCHW", pytest.param("NHWC", marks=pytest.mark.wide)])
def test_negatives_that_are_not_in_memory(layout) -> None:
    """The imaginary part of a conjugate is a view with a flag."""
    x = torch.randn(2, 3, 4, 1, dtype=torch.complex64).conj().imag
    one = x[:1, :1, :1]
    assert one.is_neg()
    f = compile_module(nn.ReLU(), torch.ones(2, 1, 1, 1), layout=layout)
    for given in (one, -one, x[:, :1, :1]):
        assert torch.equal(f(given), torch.relu(given))


def test_tensors_that_are_not_strided() -> None:
    f = compile_module(nn.ReLU(), torch.ones(1, 2, 4))
    for x in (torch.ones(1, 2, 4).to_sparse(), torch.ones(1, 2, 4).to_mkldnn()):
        with pytest.raises(DataError, match=r"need torch\.strided"):
            f(x)
