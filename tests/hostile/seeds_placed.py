"""Small valid models in which values decide places, sizes and steps: indices, regions, counts, open sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.graph.small_models import Graph
from tests.hostile.graphs import BOOL, INT64, UINT8, graph, node


def regions() -> onnx.ModelProto:
    """Regions that are computed: their means and their largest, in maps of four images."""
    g = Graph(16)
    x, rois = g.input("x", 4, 3, 6, 5), g.input("rois", 3, 4)
    at = g.input("at", 3, dtype=INT64)
    mean = g.node("RoiAlign", g.conv(x, 3, 3), rois, at, output_height=2, output_width=3, spatial_scale=0.5)
    top = g.node(
        "RoiAlign",
        x,
        rois,
        at,
        mode="max",
        output_height=2,
        output_width=3,
        sampling_ratio=2,
        coordinate_transformation_mode="output_half_pixel",
    )
    g.node("Add", mean, top, name="y")
    return g.model("y")


def survivors() -> onnx.ModelProto:
    """Boxes by centre and size that survive one another; those that score best, by a computed number."""
    g = Graph(18)
    boxes, scores = g.input("boxes", 2, 6, 4), g.input("scores", 2, 3, 6)
    limit, k = g.input("limit"), g.input("k", 1, dtype=INT64)
    best = g.node(
        "NonMaxSuppression", boxes, scores, g.const(3, np.int64), g.const(0.4), limit, name="best", center_point_box=1
    )
    kept = g.node("GatherND", scores, best)
    top, at = g.node("TopK", g.node("Reshape", scores, g.ints(2, 18)), k, count=2, axis=1)
    g.node("Sigmoid", kept, name="y")
    g.node("Relu", top, name="z")
    g.node("Identity", at, name="at")
    return g.model("best", "y", "z", "at", best=INT64, at=INT64)


def order() -> onnx.ModelProto:
    """The best k of compiled values, and what lies at their places."""
    g = Graph(18)
    x = g.input("x", 2, 3, 9)
    a, at = g.node("TopK", g.node("Tanh", x), g.ints(4), count=2, axis=-1)
    b, _ = g.node("TopK", a, g.ints(2), count=2, axis=1, largest=0, sorted=0)
    g.node("GatherElements", x, at, name="y", axis=2)
    g.node("ReduceSum", b, g.ints(1), name="z")  # their order is nobody's
    return g.model("y", "z")


def written() -> onnx.ModelProto:
    """Elements and slices written at computed places, with every reduction."""
    g = Graph(18)
    x, at, rows = g.input("x", 4, 4), g.input("at", 2, 3, dtype=INT64), g.input("rows", 2, 1, dtype=INT64)
    u = g.node("Exp", g.input("u", 2, 3))
    a = g.node("ScatterElements", x, at, u, axis=0, reduction="mul")
    b = g.node("ScatterElements", a, at, u, axis=-1, reduction="min")
    u = g.node("Pad", u, g.ints(0, 0, 0, 1))
    c = g.node("ScatterND", b, rows, u, reduction="add")
    d = g.node("ScatterND", c, rows, u)
    g.node("Relu", g.node("ScatterND", d, rows, u, reduction="min"), name="y")
    g.node("ScatterElements", at, g.const([[0, 1, 0]], np.int64), g.const([[5, 6, 7]], np.int64), name="z")
    return g.model("y", "z", z=INT64)


def columns() -> onnx.ModelProto:
    """Windows put back into an image, classes as ones, running sums."""
    g = Graph(18)
    x, ids = g.input("x", 1, 12, 9), g.input("ids", 2, 3, dtype=INT64)
    image = g.node("Col2Im", x, g.ints(4, 5), g.ints(2, 2), strides=[1, 2], pads=[0, 0, 0, 1], dilations=[1, 1])
    low = g.node("Col2Im", g.node("Exp", x), g.ints(7, 7), g.ints(2, 3), strides=[3, 2], pads=[1, 0, 0, 0])
    hot = g.node("OneHot", ids, g.const(4, np.int64), g.const([0.5, -2.0]), axis=1)
    sums = g.node("CumSum", image, g.const(-1, np.int64), reverse=1)
    g.node(
        "CumSum", g.node("CumSum", hot, g.const(1, np.int32)), g.const(0, np.int64), name="z", exclusive=1, reverse=1
    )
    g.node("Relu", sums, name="y")
    g.node("ReduceSum", low, name="s")
    return g.model("y", "z", "s")


def spread() -> onnx.ModelProto:
    """Data that is spread and repeated, by constants and by values; ranges of integers and of floats."""
    g = Graph(18)
    x, n, times = g.input("x", 1, 3), g.input("n", dtype=INT64), g.input("times", 2, dtype=INT64)
    step = g.input("step")
    wide = g.node("Expand", x, g.ints(4, 1, 3))
    a = g.node("Tile", g.node("Neg", wide), g.ints(1, 2, 2))
    b = g.node("Tile", x, times)
    c = g.node("Expand", g.node("Reshape", step, g.ints(1, 1)), g.node("Mul", times, g.ints(1, 3)))
    floats = g.node("Range", g.const(0.5), g.const(3.0), g.node("Add", g.node("Abs", step), g.const(0.25)))
    counts = g.node("Range", n, g.const(12, np.int64), g.const(2, np.int64), name="counts")
    g.node("ReduceMax", a, name="y")
    g.node("Concat", g.node("Reshape", b, g.ints(-1)), g.node("ReduceSum", c, g.ints(0), keepdims=0), name="z", axis=0)
    g.node("Cos", floats, name="w")
    assert counts == "counts"
    return g.model("y", "z", "w", "counts", counts=INT64)


def grids() -> onnx.ModelProto:
    """Sampling along a computed grid, in each way."""
    g = Graph(20)
    x, grid = g.input("x", 1, 2, 5, 4), g.input("grid", 1, 3, 3, 2)
    parts = [
        g.node("GridSample", g.conv(x, 2, 2), grid, mode=mode, padding_mode=pad, align_corners=corner)
        for mode, pad, corner in (("linear", "zeros", 0), ("nearest", "border", 1), ("cubic", "reflection", 0))
    ]
    g.node("Sum", *parts, name="y")
    return g.model("y")


def dynamic() -> onnx.ModelProto:
    """Layers that are quantised while they run, along one axis and all."""
    g = Graph(21)
    x = g.input("x", 1, 3, 5, 5)
    q, scale, zero = g.node("DynamicQuantizeLinear", g.node("Relu", x), count=3)
    k = g.const(g.rng.integers(-9, 9, (4, 3, 3, 3)), np.int8)
    whole = g.node("Cast", g.node("ConvInteger", q, k, zero, pads=[1, 1, 1, 1]), to=TensorProto.FLOAT)
    y = g.node("Mul", whole, g.node("Mul", scale, g.const(0.02)))
    scales, zeros = g.const([0.1, 0.2, 0.3, 0.05]), g.const([3, 4, 5, 6], np.uint8)
    z = g.node("QuantizeLinear", y, scales, zeros, name="z", axis=1)
    g.node("DequantizeLinear", z, scales, zeros, name="y", axis=1)
    return g.model("y", "z", z=UINT8)


def remembered() -> onnx.ModelProto:
    """Recurrent layers with states that enter, lengths that enter, peepholes and clips."""
    g = Graph(22)
    x, lengths = g.input("x", 4, 2, 3), g.input("lengths", 2, dtype=TensorProto.INT32)
    h, c = g.input("h", 1, 2, 4), g.input("c", 1, 2, 4)
    y, hidden, cell = g.node(
        "LSTM",
        x,
        g.random(1, 16, 3, scale=0.4),
        g.random(1, 16, 4, scale=0.4),
        g.random(1, 32, scale=0.4),
        lengths,
        h,
        c,
        g.random(1, 12, scale=0.4),
        count=3,
        hidden_size=4,
        clip=2.0,
        input_forget=1,
    )
    flat = g.node("Squeeze", y, g.ints(1))
    _, last = g.node("GRU", flat, g.random(1, 12, 4), g.random(1, 12, 4), "", "", h, count=2, hidden_size=4)
    other = g.node(
        "RNN",
        flat,
        g.random(2, 4, 4),
        g.random(2, 4, 4),
        hidden_size=4,
        direction="bidirectional",
        activations=["Relu", "Sigmoid"],
    )
    g.node("Sum", hidden, cell, last, name="y")
    g.node("ReduceMean", other, name="z")
    return g.model("y", "z")


def cached_attention() -> onnx.ModelProto:
    """Attention of packed heads, with what is remembered and a mask that enter, heads that share keys."""
    g = Graph(23)
    q, k, v = g.input("q", 1, 2, 16), g.input("k", 1, 2, 8), g.input("v", 1, 2, 6)
    mask = g.input("mask", 2, 5, dtype=BOOL)
    past_k, past_v = g.input("pk", 1, 2, 3, 4), g.input("pv", 1, 2, 3, 3)
    y, pk, pv = g.node(
        "Attention", q, k, v, mask, past_k, past_v, count=3, q_num_heads=4, kv_num_heads=2, is_causal=1, scale=0.3
    )
    g.node("Relu", y, name="y")
    g.node("Identity", pk, name="z")
    g.node("Identity", pv, name="w")
    return g.model("y", "z", "w")


def nested() -> onnx.ModelProto:
    """A Loop in a Loop with numbers that enter, an If in both."""
    g = Graph(16)
    x, n, m = g.input("x", 2, 3), g.input("n", dtype=INT64), g.input("m", dtype=INT64)
    one, limit = g.const(1.0), g.const(50.0)
    deeper = [node("Add", f"t {one}", "u"), node("Identity", "more", "on")]
    turned, same = graph([node("Neg", "r", "n0")], ["n0"]), graph([node("Identity", "r", "n1")], ["n1"])
    sides = {"then_branch": turned, "else_branch": same}
    inner = {"j": INT64, "more": BOOL, "t": TensorProto.FLOAT}
    body = [
        node("Loop", f"{m} go s", "r", body=graph(deeper, ["on", "u"], inner)),
        node("ReduceMax", "r", "top", keepdims=0),
        node("Less", f"top {limit}", "next"),
        node("If", "next", "e", **sides),
    ]  # fmt: skip
    inputs = {"i": INT64, "go": BOOL, "s": TensorProto.FLOAT}
    last, rows = g.node("Loop", n, g.const(True, bool), x, body=graph(body, ["next", "e", "top"], inputs), count=2)
    g.node("Tanh", last, name="y")
    g.node("Identity", rows, name="z")
    return g.model("y", "z")


def chosen() -> onnx.ModelProto:
    """An If whose condition follows from shapes and one on a number that enters, their results of other shapes."""
    g = Graph(16)
    x, rate = g.input("x", "n", 4), g.input("rate", dtype=INT64)
    few = g.node("Less", g.node("Gather", g.node("Shape", x), g.const(0, np.int64)), g.const(3, np.int64))
    a = g.node(
        "If", few, then_branch=graph([node("Exp", x, "p")], ["p"]), else_branch=graph([node("Neg", x, "q")], ["q"])
    )
    slow = g.node("Equal", rate, g.const(2, np.int64))
    halves = [node("Reshape", f"{a} {g.ints(-1, 2)}", "r")]
    b = g.node("If", slow, then_branch=graph(halves, ["r"]), else_branch=graph([node("Tanh", a, "t")], ["t"]))
    g.node("ReduceSum", b, name="y", keepdims=0)
    g.node("Relu", b, name="z")
    return g.model("y", "z")


def picture() -> onnx.ModelProto:
    """A picture of open sizes: convolutions, pools, shapes that follow, a classifier."""
    g = Graph(18)
    x = g.input("x", "n", 3, "h", "w")
    a = g.node("Relu", g.conv(x, 4, 3, strides=[2, 2]))
    up = g.node(
        "Resize", a, "", "", g.node("Slice", g.node("Shape", x), g.ints(2), g.ints(4)), axes=[2, 3], mode="linear"
    )
    b = g.node("Concat", g.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), up, axis=1)
    flat = g.node("Flatten", g.node("GlobalAveragePool", b))
    g.node("Gemm", flat, g.random(7, 5), g.random(5), name="z")
    deep = g.node("ConvTranspose", a, g.random(4, 2, 2, 2), strides=[2, 2])
    g.node("AveragePool", deep, name="y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    return g.model("y", "z")


def recursive() -> onnx.ModelProto:
    """Functions that call each other."""
    g = Graph(17)
    g.node("One", g.input("x", 2, 3), name="y", domain="own")
    made = g.model("y")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    calls: dict[str, Any] = {"One": "Two", "Two": "One"}
    for name, other in calls.items():
        nodes = [node("Neg", "a", "t"), node(other, "t", "b", domain="own")]
        made.functions.append(helper.make_function("own", name, ["a"], ["b"], nodes, opsets))
    return made


PLACED: dict[str, Callable[[], onnx.ModelProto]] = {
    make.__name__: make
    for make in (
        regions,
        survivors,
        order,
        written,
        columns,
        spread,
        grids,
        dynamic,
        remembered,
        cached_attention,
        nested,
        chosen,
        picture,
        recursive,
    )
}
