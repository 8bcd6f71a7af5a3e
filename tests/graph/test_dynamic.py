"""Dynamic quantisation in floats gives what integers give, and takes only what it may."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph

import omniconv
from omniconv.errors import HostWarning, ModelError
from omniconv.graph import load
from omniconv.graph.dynamic import find_dynamic_layers

RNG = np.random.default_rng(3)
INTEGERS = {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}


def quantised(*dims):
    """A convolution with a bias and a matrix, as the tools of ONNX Runtime write them."""
    g = Graph()
    q, s, z = g.node("DynamicQuantizeLinear", g.input("x", *dims), count=3)
    w, w_zero, w_scale = g.const(RNG.integers(0, 256, (8, 4, 3, 3)), np.uint8), g.const(117, np.uint8), g.const(0.01)
    whole = g.node("Floor", g.node("Div", g.random(8), g.node("Mul", s, w_scale)))
    bias = g.node("Reshape", g.node("Cast", whole, to=TensorProto.INT32), g.ints(1, 8, 1, 1))
    total = g.node("Add", g.node("ConvInteger", q, w, z, w_zero, pads=[1, 1, 1, 1], strides=[1, 2]), bias)
    y = g.node("Mul", g.node("Cast", total, to=TensorProto.FLOAT), g.node("Mul", s, w_scale))
    q, s, z = g.node("DynamicQuantizeLinear", g.node("Transpose", g.node("Relu", y), perm=[0, 2, 3, 1]), count=3)
    m, m_zero = g.const(RNG.integers(-128, 128, (8, 5)), np.int8), g.const(RNG.integers(-9, 9, 5), np.int8)
    number = g.node("Cast", g.node("MatMulInteger", q, m, z, m_zero), to=TensorProto.FLOAT)
    return g.model(g.node("Mul", number, s, name="y"))


def test_a_product_of_levels():
    x = RNG.standard_normal((3, 6)).astype(np.float32)
    w, points = RNG.integers(-128, 128, (6, 4)).astype(np.int8), RNG.integers(-9, 9, 4).astype(np.int8)
    g = Graph()
    q, s, z = g.node("DynamicQuantizeLinear", g.input("x", 3, 6), count=3)
    total = g.node("MatMulInteger", q, g.const(w, np.int8), z, g.const(points, np.int8))
    model = g.model(g.node("Mul", g.node("Cast", total, to=TensorProto.FLOAT), s, name="y"))
    scale = (max(x.max(), 0) - min(x.min(), 0)) / np.float32(255)
    zero = np.rint(-min(x.min(), 0) / scale)
    levels = np.clip(np.rint(x / scale), -zero, 255 - zero).astype(np.int64)
    sums = levels @ (w.astype(np.int64) - points)
    np.testing.assert_array_equal(omniconv.compile(model, strict=True)(x), sums.astype(np.float32) * scale)


@pytest.mark.wide
def test_sums_are_those_of_integers():
    model = quantised("n", 4, "h", "w")
    net, reference = omniconv.compile(model, strict=True), ReferenceEvaluator(model)
    images = [RNG.standard_normal((2, 4, 6, 9)), np.full((1, 4, 5, 5), 0.3), np.zeros((1, 4, 5, 5))]
    for image in (*images, -np.abs(images[0])):
        x = image.astype(np.float32)
        if not x.any():  # ONNX's formula divides by a range of nothing
            assert np.isfinite(net(x)).all()
            continue
        np.testing.assert_array_equal(net(x), reference.run(None, {"x": x})[0])


def test_levels_end_where_both_ends_are_rounded_up():
    """127.5 levels on either side of 0: 256 and not 257 of them, and halves go to the even one."""
    x = np.float32([[-127.5, -0.5, 0.5, 1.5, 127.5]])
    g = Graph()
    q, s, z = g.node("DynamicQuantizeLinear", g.input("x", 1, 5), count=3)
    model = g.model(g.node("DequantizeLinear", q, s, z, name="y"))
    np.testing.assert_array_equal(omniconv.compile(model, strict=True)(x), [[-128, 0, 0, 2, 127]])


def left(g, *outputs, **types):
    """The operators of integers that stay."""
    graph = find_dynamic_layers(load(g.model(*outputs, **types)))
    return INTEGERS & {node.op for node in graph.nodes}


def rounded(g):
    return g.node("DynamicQuantizeLinear", g.input("x", 2, 4), count=3)


def test_what_else_reads_integers_keeps_them():
    weights = RNG.integers(0, 9, (4, 4))
    g = Graph()
    q, _, z = rounded(g)
    total = g.node("MatMulInteger", q, g.const(weights, np.uint8), z)
    y = g.node("Cast", total, to=TensorProto.FLOAT)
    assert left(g, y) == set()
    assert left(g, y, q, **{q: TensorProto.UINT8}) == {"DynamicQuantizeLinear", "MatMulInteger"}, "an output"
    assert left(g, y, total, **{total: TensorProto.INT32}) == {"DynamicQuantizeLinear", "MatMulInteger"}
    other = g.node("Cast", total, to=TensorProto.INT64)
    assert "MatMulInteger" in left(g, y, other, **{other: TensorProto.INT64}), "read by what is not known"
    g = Graph()
    q, _, _ = rounded(g)
    total = g.node("MatMulInteger", q, g.const(weights, np.uint8), g.const(3, np.uint8))
    assert left(g, g.node("Cast", total, to=TensorProto.FLOAT)) == {"DynamicQuantizeLinear", "MatMulInteger"}
    g = Graph()
    q, _, z = rounded(g)
    total = g.node("MatMulInteger", q, g.input("w", 4, 4, dtype=TensorProto.UINT8), z)
    assert "MatMulInteger" in left(g, g.node("Cast", total, to=TensorProto.FLOAT)), "weights that are computed"


@pytest.mark.parametrize(
    "read",
    [
        lambda g, q, z: q,
        lambda g, q, z: g.node("Reshape", q, g.ints(4, 2)),
        lambda g, q, z: g.node("Add", q, q),  # modulo 256
        lambda g, q, z: z,
    ],
    ids=["levels", "moved", "summed", "zero point"],
)
def test_levels_read_without_their_zero_point_keep_it(read):
    g = Graph()
    q, s, z = rounded(g)
    y = g.node("DequantizeLinear", q, s, z)
    assert left(g, y) == set()
    assert left(g, y, g.node("Cast", read(g, q, z), to=TensorProto.FLOAT)) == {"DynamicQuantizeLinear"}


def test_integers_that_are_a_shape_keep_it():
    g = Graph()
    q, s, z = rounded(g)
    y = g.node("DequantizeLinear", q, s, z)
    whole = g.node("Cast", g.node("Floor", g.input("n", 2)), to=TensorProto.INT64)
    moved = g.node("Cast", g.node("Reshape", whole, whole), to=TensorProto.FLOAT)
    graph = find_dynamic_layers(load(g.model(y, moved)))
    assert {TensorProto.INT64, TensorProto.FLOAT} == {n.attributes["to"] for n in graph.nodes if n.op == "Cast"}


@pytest.mark.parametrize(
    ("w", "points"),
    [
        (np.ones((4, 3), np.uint8), np.ones(4, np.uint8)),
        (np.ones((4, 1), np.uint8), np.ones(10**6, np.uint8)),  # would be a matrix of so many columns
        (np.ones((4, 3), np.uint8), np.ones((2, 1, 3), np.uint8)),
        (np.ones((4, 3), np.float32), np.ones((), np.uint8)),
    ],
)
def test_weights_that_their_zero_points_do_not_fit(w, points):
    g = Graph()
    q, _, z = rounded(g)
    total = g.node("MatMulInteger", q, g.const(w, w.dtype), z, g.const(points, points.dtype))
    assert "MatMulInteger" in left(g, g.node("Cast", total, to=TensorProto.FLOAT))


@pytest.mark.parametrize(("inputs", "outputs"), [((), 3), (("x",), 1), (("x", "x"), 3)])
def test_damaged_nodes_are_left_to_their_check(inputs, outputs):
    g = Graph()
    g.input("x", 2, 4)
    made = g.node("DynamicQuantizeLinear", *inputs, count=outputs)
    y = g.node("Cast", made if outputs == 1 else made[0], to=TensorProto.FLOAT)
    with pytest.raises(ModelError, match="DynamicQuantizeLinear has"):
        omniconv.compile(g.model(y))


def test_rows_of_zero_points_of_a_vector():
    g = Graph()
    q, _, z = g.node("DynamicQuantizeLinear", g.input("x", 2, 4), count=3)
    total = g.node("MatMulInteger", g.const([5, 7], np.uint8), q, g.const([1], np.uint8), z)
    model = g.model(g.node("Cast", total, name="y", to=TensorProto.FLOAT))
    x = np.float32([[0, 1, 2, 255], [3, 4, 5, 6]])
    np.testing.assert_array_equal(omniconv.compile(model, strict=True)(x), np.float32([4, 6]) @ x)


def test_levels_that_are_no_factors_are_levels():
    """What a product reads are distances from the zero point; what a Cast reads, or a move in front of it, is not."""
    g = Graph()
    q, s, z = rounded(g)
    level, zero, moved = (g.node("Cast", each, to=TensorProto.FLOAT) for each in (q, z, g.node("Flatten", q)))
    for y in (level, moved, g.node("Mul", g.node("Sub", level, zero), s)):
        assert left(g, y) == {"DynamicQuantizeLinear"}


@pytest.mark.wide
def test_what_stays_runs_on_the_host():
    g = Graph()
    q, _, z = rounded(g)
    g.node("Cast", g.node("MatMulInteger", q, g.const(np.eye(4), np.uint8), z), name="y", to=TensorProto.FLOAT)
    model = g.model("y", q, **{q: TensorProto.UINT8})
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    with pytest.warns(HostWarning, match="MatMulInteger"):
        found = omniconv.compile(model).run({"x": x})
    np.testing.assert_array_equal(next(iter(found.values())), ReferenceEvaluator(model).run(None, {"x": x})[0])
