"""Layers that stay in float32 so that a network keeps a signal-to-noise ratio in bfloat16."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import ShapeError, SpecError
from omniconv.quantization import find_sensitive_layers, quantize


def cancelling(*sizes: int | str) -> onnx.ModelProto:
    """Three layers, of which the second takes the difference of two equal channels: 2**-9 of one is left, which is
    nothing once its weights are rounded.
    """
    g = Graph()
    rng = np.random.default_rng(0)
    same = np.repeat(rng.standard_normal((1, 3, 3, 3)), 2, 0)
    x = g.node("Conv", g.input("x", 1, 3, *sizes), g.const(same))
    x = g.node("Conv", x, g.const(np.reshape([1, -(1 + 2**-9)], (1, 2, 1, 1))))
    g.node("Conv", x, g.const(rng.standard_normal((4, 1, 3, 3))), name="y")
    return g.model("y")


def snr(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def test_the_layer_that_loses_all_stays_in_float32(tmp_path) -> None:
    model, x = cancelling(9, 11), np.random.default_rng(1).standard_normal((2, 3, 9, 11)).astype(np.float32)
    kept = find_sensitive_layers(model, x, min_snr=30, threads=1)
    assert len(kept) == 1
    wanted = oc.compile(model, threads=1)(x[:1])
    net = oc.compile(model, precision="bfloat16", float32_layers=kept, threads=1)
    assert f"{kept[0]}: float32, because that was asked for" in net.explain()
    assert snr(wanted, net(x[:1])) > 30 > snr(wanted, oc.compile(model, precision="bfloat16", threads=1)(x[:1]))
    net.save(tmp_path / "net.oconv")
    loaded = oc.load(tmp_path / "net.oconv")
    np.testing.assert_array_equal(loaded(x[:1]), net(x[:1]))
    assert "that was asked for" in loaded.explain()
    assert find_sensitive_layers(model, x, min_snr=-1, threads=1) == ()
    assert len(find_sensitive_layers(model, x, min_snr=200, threads=1)) == 3


def test_the_worst_sample_counts() -> None:
    model = cancelling(9, 11)
    x = (
        np.random.default_rng(1).standard_normal((3, 3, 9, 11)).astype(np.float32)
        * np.float32([1, 1e-3, 1e3])[:, None, None, None]
    )
    net = oc.compile(
        model, precision="bfloat16", float32_layers=find_sensitive_layers(model, x, min_snr=45, threads=1), threads=1
    )
    exact = oc.compile(model, threads=1)
    assert min(snr(exact(each[None]), net(each[None])) for each in x) >= 45


def test_what_does_not_fit_is_refused() -> None:
    model = cancelling("h", "w")
    with pytest.raises(
        ShapeError, match=r"sizes of input 'x' are not known: h, w; need a shape .* shapes=\{'x': \(1, "
    ):
        find_sensitive_layers(model, np.zeros((1, 3, 8, 8), np.float32))
    for refuse in (find_sensitive_layers, quantize):
        with pytest.raises(ShapeError, match=r"the network takes \(1, 3, 0, 8\), which has an empty axis; need sizes"):
            refuse(model, np.zeros((1, 3, 8, 8), np.float32), shapes={"x": (1, 3, 0, 8)})
    with pytest.raises(SpecError, match=r"float32_layers has 'nothing'; need one of "):
        oc.compile(cancelling(8, 8), precision="bfloat16", float32_layers=["nothing"])
    with pytest.raises(SpecError, match=r"float32_layers without another precision; need precision='bfloat16'"):
        oc.compile(model, float32_layers=["nothing"])
    with pytest.raises(SpecError, match=r"float32_layers is str; need a sequence of names of layers"):
        oc.compile(model, precision="bfloat16", float32_layers="all")
    with pytest.raises(SpecError, match="min_snr"):
        find_sensitive_layers(model, np.zeros((1, 3, 8, 8), np.float32), min_snr=float("nan"))
