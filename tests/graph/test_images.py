"""Images are turned for layout="NHWC"; what has no channels axis keeps the axes that the model declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.graph import load
from omniconv.graph.images import ALONE, IMAGES, SILENT, TOGETHER, find_images

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning")


def vision_transformer() -> onnx.ModelProto:
    """An image becomes tokens; the features of the convolution leave too."""
    g = Graph()
    x, bias = g.input("x", 1, 3, 8, 8), g.input("bias", 1, 16, 6)
    g.node("Conv", x, g.random(6, 3, 2, 2), name="features", strides=[2, 2])
    tokens = g.node("Transpose", g.node("Reshape", "features", g.ints(1, 6, 16)), perm=[0, 2, 1])
    tokens = g.node("Add", tokens, bias)
    g.node("Add", tokens, g.node("MatMul", g.node("Softmax", tokens), g.random(6, 6)), name="tokens")
    return g.model("features", "tokens")


def segmenter() -> onnx.ModelProto:
    """Classes of pixels, with their axis and without; scores on their way through elementwise operators."""
    g = Graph(13)
    x, gain = g.input("x", 1, 3, 6, 6), g.input("gain", 4, 1, 1)
    y = g.node("Mul", g.conv(x, 4, 3), gain)
    g.node("Softmax", g.node("Clip", y, g.const(-3.0), g.const(3.0)), name="scores", axis=1)
    g.node("ArgMax", "scores", name="kept", axis=1)
    g.node("ArgMax", "scores", name="classes", axis=1, keepdims=0)
    g.node("ReduceMean", y, name="mean", axes=[1, 2, 3], keepdims=1)
    return g.model("scores", "kept", "classes", "mean", kept=TensorProto.INT64, classes=TensorProto.INT64)


def detector() -> onnx.ModelProto:
    """A model with the axes of another framework at its boundary, boxes, and weights that enter."""
    g = Graph()
    x, w = g.input("x", 1, 6, 6, 3), g.input("w", 8, 3, 3, 3)
    y = g.node("Conv", g.node("Transpose", x, perm=[0, 3, 1, 2]), w)
    g.node("Reshape", y, g.ints(1, 8, 16), name="boxes")
    g.node("MaxPool", y, name="pooled", kernel_shape=[2, 2])
    return g.model("boxes", "pooled")


def shuffled() -> onnx.ModelProto:
    """Channels that are shuffled last of all."""
    g = Graph()
    y = g.conv(g.input("x", 1, 3, 5, 4), 6, 3)
    swapped = g.node("Transpose", g.node("Reshape", y, g.ints(1, 2, 3, 5, 4)), perm=[0, 2, 1, 3, 4])
    g.node("Reshape", swapped, g.ints(1, 6, 5, 4), name="y")
    g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 3, 1]), g.ints(1, 5, 4, 6), name="z")
    return g.model("y", "z")


def elementwise() -> onnx.ModelProto:
    """Nothing says what the axes are."""
    g = Graph()
    x, y = g.input("x", 1, 3, 4, 5), g.input("y", 1, 3, 4, 5)
    g.node("Shape", x, name="size")
    g.node("Tanh", g.node("Sub", x, y), name="z")
    return g.model("z", "size", size=TensorProto.INT64)


def branched() -> onnx.ModelProto:
    """Images that go through a branch and round a loop."""
    g = Graph(16)
    x, c, n, t = (
        g.input("x", 1, 3, 4, 4),
        g.input("c", dtype=TensorProto.BOOL),
        g.input("n", dtype=TensorProto.INT64),
        (g.input("t", 1, 4, 4)),
    )

    def inner(nodes: list[Any], outputs: list[str], inputs: dict[str, int] | None = None) -> Any:
        infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in (inputs or {}).items()]
        return helper.make_graph(nodes, "inner", infos, [onnx.ValueInfoProto(name=name) for name in outputs])

    w = g.random(3, 3, 1, 1)
    then = inner([helper.make_node("Conv", [x, w], ["p"])], ["p"])
    g.node("If", c, name="picked", then_branch=then, else_branch=inner([helper.make_node("Neg", [x], ["q"])], ["q"]))
    state = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT}
    body = [helper.make_node("MatMul", ["s", "s"], ["r"]), helper.make_node("Identity", ["go"], ["on"])]
    g.node("Loop", n, g.const(True, bool), t, name="tokens", body=inner(body, ["on", "r"], state))
    return g.model("picked", "tokens")


MADE: Any = {
    vision_transformer: {"x", "features"},
    segmenter: {"x", "scores", "kept", "mean"},
    detector: {"pooled"},
    shuffled: {"x", "y"},
    elementwise: {"x", "y", "z"},
    branched: {"x", "picked"},
}


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("size", ["fixed", "open"])
def test_images_are_turned_and_nothing_else(make: Any, size: str) -> None:
    model = make()
    rng = np.random.default_rng(0)
    given = {}
    for info in model.graph.input:
        dims = info.type.tensor_type.shape.dim
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        given[info.name] = np.asarray(rng.integers(1, 3, [dim.dim_value for dim in dims]), dtype)
        if size == "open" and info.name == "x":
            dims[0].dim_param = "batch"
    images = MADE[make]
    want = oc.compile(model).run(given)
    wide = {name for name, x in {**given, **want}.items() if 3 <= x.ndim <= 5}
    assert find_images(load(model)) & wide == images
    net = oc.compile(model, layout="NHWC")
    turned = {name: np.moveaxis(x, 1, -1) if name in images else x for name, x in given.items()}
    got = net.run(turned)
    for name, x in want.items():
        expected = np.moveaxis(x, 1, -1) if name in images else x
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
        assert net.is_channels_last(name, x.ndim) is (name in images)
    if size == "fixed":
        assert {name: tuple(shape) for name, shape in net.inputs.items()} == {n: x.shape for n, x in turned.items()}


def test_tables_name_operators_of_onnx_once() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    named = [*IMAGES, *TOGETHER, *ALONE, *SILENT]
    assert len(named) == len(set(named))
    assert not set(named) - known
