"""Inputs without elements, such as a batch of no images: what is left of a model's results is known by its shape."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import HostWarning, ShapeError, UnsupportedError
from omniconv.graph import to_program


def classifier() -> onnx.ModelProto:
    """Two ways that meet, one of them over a smaller image, and classes; of any number of images of any size."""
    g = Graph()
    x = g.node("Relu", g.norm(g.conv(g.input("x", "n", 3, "h", "w"), 8, 3), 8))
    narrow = g.node("Softmax", g.conv(x, 4, 8, 1), axis=1)
    small = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    wide = g.node("Resize", g.conv(small, 4, 8, 1), "", "", g.node("Shape", narrow))
    joined = g.node("Concat", wide, narrow, axis=1, name="map")
    flat = g.node("Flatten", g.node("GlobalAveragePool", joined))
    g.node("Gemm", flat, g.random(5, 8), g.random(5), transB=1, name="y")
    g.node("ReduceSum", flat, g.ints(0), keepdims=0, name="total")
    return g.model("map", "y", "total", shapes=[[None] * 4, [None] * 2, [None]])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_batch_of_no_images(layout: str, strict: bool) -> None:
    """Results are those of two images, with 0 in the place of 2; a sum over none is 0. Nothing runs on the host."""
    net = oc.compile(classifier(), layout=layout, strict=strict)
    shape = (3, 6, 5) if layout == "NCHW" else (6, 5, 3)
    two, none = (net.run({"x": np.ones((count, *shape), np.float32)}) for count in (2, 0))
    for name in ("map", "y"):
        assert none[name].shape == (0, *two[name].shape[1:])
        assert none[name].dtype == np.float32
    assert two["total"].any()
    assert np.array_equal(none["total"], np.zeros(8, np.float32))
    assert not net.executable.schedule.describe_host()
    again = pickle.loads(pickle.dumps(net)).run({"x": np.ones((0, *shape), np.float32)})
    assert {name: array.shape for name, array in again.items()} == {name: array.shape for name, array in none.items()}


def test_no_images_for_layers_that_stay_in_float32() -> None:
    net = oc.compile(classifier(), precision="bfloat16", float32_layers=["n0"])
    assert net.run({"x": np.ones((2, 3, 6, 5), np.float32)})["y"].shape == (2, 5)
    assert net.run({"x": np.ones((0, 3, 6, 5), np.float32)})["y"].shape == (0, 5)


def test_images_without_rows() -> None:
    """A mean of nothing is no number, as NumPy has it."""
    found = oc.compile(classifier()).run({"x": np.ones((2, 3, 0, 5), np.float32)})
    assert found["map"].shape == (2, 8, 0, 5)
    assert np.isnan(found["y"]).all()


def test_a_part_that_is_not_empty_is_computed() -> None:
    """As of a decoder whose past is empty at first."""
    g = Graph()
    past, new = g.input("past", 1, 2, "t", 4), g.input("new", 1, 2, 3, 4)
    g.node("Concat", past, g.node("Relu", new), axis=2, name="y")
    model = g.model("y", shapes=[[None] * 4])
    net = oc.compile(model)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    with pytest.warns(HostWarning, match="Concat node 'n1'"):
        found = net.run({"past": x[:, :, :0], "new": x})["y"]
    assert np.array_equal(found, np.maximum(x, 0))
    net = oc.compile(model, strict=True)
    assert net.run({"past": x, "new": x})["y"].shape == (1, 2, 6, 4)
    with pytest.raises(UnsupportedError, match=r"on the host.*need inputs of 1 or more on each axis"):
        net.run({"past": x[:, :, :0], "new": x})


def test_what_is_analysed_has_elements() -> None:
    with pytest.raises(ShapeError, match=r"shape \(0, 3, 4, 4\) has an empty axis; need sizes from 1"):
        to_program(classifier(), shapes={"x": (0, 3, 4, 4)})
    with pytest.raises(ShapeError, match=r"shapes\['x'\]=\(-1, 3, 4, 4\) has a negative or absurd axis"):
        to_program(classifier(), shapes={"x": (-1, 3, 4, 4)})


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pads_of_an_empty_axis(mode: str) -> None:
    """Only a constant can stand beside nothing; the other axes are padded."""
    g = Graph()
    g.node("Pad", g.input("x", "n", "c"), g.ints(0, 1, 0, 1), mode=mode, name="y")
    net = oc.compile(g.model("y", shapes=[[None] * 2]))
    assert net.run({"x": np.ones((0, 2), np.float32)})["y"].shape == (0, 4)
    if mode == "constant":
        assert np.array_equal(net.run({"x": np.ones((2, 0), np.float32)})["y"], np.zeros((2, 2), np.float32))
        return
    with pytest.raises(ShapeError, match=rf"{mode} padding \(1, 1\) of an axis of size 0; need at most 0"):
        net.run({"x": np.ones((2, 0), np.float32)})
