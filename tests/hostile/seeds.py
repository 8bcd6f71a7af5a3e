"""Small valid models of every group of operators, to be damaged: compiled, folded and on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.graph.small_models import MODELS, Graph
from tests.hostile.graphs import BOOL, INT32, INT64, UINT8, graph, node
from tests.hostile.seeds_placed import PLACED


def functions() -> onnx.ModelProto:
    """Elementwise functions of one and two values."""
    g = Graph(18)
    x, y = g.input("x", 2, 3, 4), g.input("y", 3, 1)
    a = g.node("Log", g.node("Add", g.node("Abs", x), g.const(0.5)))
    b = g.node("Sin", g.node("Softplus", g.node("Cos", y)))
    c = g.node("Atan", g.node("Mul", a, b))
    d = g.node("Pow", g.node("Abs", c), g.const(1.5))
    e = g.node("Mish", g.node("Erf", g.node("Mod", d, g.const(0.75), fmod=1)))
    f = g.node("ThresholdedRelu", g.node("Shrink", e, lambd=0.1, bias=0.05), alpha=0.2)
    return g.model(g.node("Round", g.node("Mul", f, g.const(8.0)), name="r"), g.node("Softsign", e, name="s"))


def truths() -> onnx.ModelProto:
    """Comparisons, choices, truths that enter and leave."""
    g = Graph(16)
    x, mask = g.input("x", 2, 4, 3), g.input("mask", 4, 1, dtype=BOOL)
    both = g.node("And", g.node("Greater", x, g.const(0.0)), mask, name="both")
    some = g.node("Or", both, g.node("Not", g.node("LessOrEqual", x, g.const([1.0, 0.0, -1.0]))))
    kept = g.node("Where", some, x, g.node("Neg", x))
    strange = g.node("Xor", g.node("IsNaN", kept), g.node("IsInf", kept, detect_negative=0))
    g.node("Clip", g.node("Where", strange, g.const(7.0), kept), g.const(-1.0), g.const(2.0), name="y")
    return g.model("both", "y", both=BOOL)


def reductions() -> onnx.ModelProto:
    """Reductions of every kind, by attribute and by input."""
    g = Graph(18)
    x = g.input("x", 2, 3, 4, 3)
    a = g.node("ReduceL2", x, g.ints(1), keepdims=1)
    b = g.node("ReduceLogSumExp", x, g.ints(-1, 0), keepdims=0)
    c = g.node("ReduceProd", g.node("ReduceMax", x, g.ints(2)), g.ints(3), keepdims=0)
    d = g.node("CumSum", x, g.const(2, np.int64), exclusive=1)
    e = g.node("MeanVarianceNormalization", d, axes=[0, 2])
    f = g.node("LpNormalization", g.node("Hardmax", e, axis=1), p=2, axis=-1)
    g.node("Add", g.node("Mul", a, f), g.node("ReduceSum", c), name="y")
    g.node("Identity", b, name="z")
    return g.model("y", "z")


def positions() -> onnx.ModelProto:
    """Where the largest are, the best k, and what is not zero."""
    g = Graph(18)
    x = g.input("x", 2, 5, 3)
    g.node("ArgMax", x, name="a", axis=1, keepdims=0)
    g.node("ArgMin", x, name="b", axis=-1, select_last_index=1)
    values, _ = g.node("TopK", x, g.input("k", 1, dtype=INT64), name="top", count=2, axis=1, largest=0)
    g.node("NonZero", g.node("Relu", values), name="c")
    g.node("Compress", x, g.const([True, False, True], bool), name="d", axis=2)
    return g.model("a", "b", "top_0", "top_1", "c", "d", a=INT64, b=INT64, top_1=INT64, c=INT64)


def contraction() -> onnx.ModelProto:
    """Einsum of two and three values, and products."""
    g = Graph(17)
    x, y = g.input("x", 2, 3, 4), g.input("y", 2, 4, 5)
    a = g.node("Einsum", x, y, equation="bij,bjk->bik")
    b = g.node("Einsum", a, g.random(5, 2), equation="...k,kl->l...")
    c = g.node("MatMul", x, y)
    g.node("Gemm", g.node("Reshape", c, g.ints(6, 5)), g.random(5, 3), g.random(3), name="z", beta=0.5)
    g.node("Trilu", b, g.const(0, np.int64), name="y2", upper=0)
    return g.model("y2", "z")


def attention() -> onnx.ModelProto:
    """Attention and rotary embedding."""
    g = Graph(23)
    q, k, v = (g.input(name, 1, 2, 3, 4) for name in "qkv")
    cosines, sines = g.random(3, 2), g.random(3, 2)
    at = g.const([[0, 1, 2]], np.int64)
    turned = g.node("RotaryEmbedding", q, cosines, sines, at)
    a = g.node("Attention", turned, k, v, g.random(3, 3), scale=0.4)
    g.node("Attention", a, k, v, name="y", is_causal=1, softcap=2.0)
    return g.model("y")


def gathers() -> onnx.ModelProto:
    """Rows of a table, elements and slices, by constant and by computed indices."""
    g = Graph(17)
    ids, x = g.input("ids", 2, 3, dtype=INT64), g.input("x", 2, 3, 4)
    rows = g.node("Gather", g.random(7, 4), ids)
    a = g.node("GatherElements", rows, g.const(g.rng.integers(-3, 3, (2, 3, 4)), np.int64), axis=1)
    b = g.node("GatherND", x, g.const([[0, 1], [1, -1]], np.int64))
    c = g.node("Gather", x, g.const([[1, 0], [-1, 2]], np.int64), axis=1)
    d = g.node("GatherElements", x, g.node("Expand", g.node("Unsqueeze", ids, g.ints(2)), g.ints(2, 3, 4)), axis=2)
    g.node("Add", g.node("Add", a, d), x, name="y")
    g.node("Concat", g.node("Reshape", b, g.ints(-1)), g.node("Reshape", c, g.ints(-1)), name="z", axis=0)
    return g.model("y", "z")


def scatters() -> onnx.ModelProto:
    """Elements and slices written, replaced and added."""
    g = Graph(18)
    x, at = g.input("x", 4, 3), g.input("at", 2, 3, dtype=INT64)
    updates = g.input("u", 2, 3)
    a = g.node("ScatterElements", x, at, updates, axis=0)
    b = g.node("ScatterElements", a, at, updates, axis=0, reduction="add")
    c = g.node("ScatterND", b, g.const([[0], [-1]], np.int64), updates, reduction="max")
    g.node("Relu", g.node("ScatterND", c, g.const([[1, 2], [3, 0]], np.int64), g.random(2)), name="y")
    return g.model("y")


def recurrent() -> onnx.ModelProto:
    """An LSTM in both directions, a GRU backwards, an RNN."""
    g = Graph(14)
    x = g.input("x", 4, 2, 3)
    y, _, _ = g.node(
        "LSTM",
        x,
        g.random(2, 20, 3, scale=0.4),
        g.random(2, 20, 5, scale=0.4),
        g.random(2, 40, scale=0.4),
        count=3,
        hidden_size=5,
        direction="bidirectional",
    )
    flat = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.ints(4, 2, 10))
    y = g.node(
        "GRU",
        flat,
        g.random(1, 12, 10, scale=0.3),
        g.random(1, 12, 4, scale=0.3),
        "",
        g.const([4, 2], np.int32),
        hidden_size=4,
        direction="reverse",
        linear_before_reset=1,
    )
    flat = g.node("Squeeze", y, g.ints(1))
    g.node("RNN", flat, g.random(1, 3, 4), g.random(1, 3, 3), name="y", hidden_size=3, activations=["Tanh"])
    return g.model("y")


def branch() -> onnx.ModelProto:
    """An If on data with an If inside, both branches compiled."""
    g = Graph(16)
    x, c = g.input("x", 1, 2, 3, 3), g.input("c", dtype=BOOL)
    w = g.random(2, 2, 1, 1)
    positive = g.node("Greater", g.node("ReduceSum", x, keepdims=0), g.const(0.0))
    inner = [
        node("If", positive, "d", then_branch=graph([node("Neg", x, "n")], ["n"]), else_branch=graph([], [x])),
        node("Conv", f"d {w}", "t"),
    ]
    sides = {"then_branch": graph(inner, ["t"]), "else_branch": graph([node("Exp", x, "e")], ["e"])}
    g.node("Relu", g.node("If", c, **sides), name="y")
    return g.model("y")


def loop() -> onnx.ModelProto:
    """A Loop whose number of steps is given, which stops by itself, and keeps what it made."""
    g = Graph(16)
    x, n = g.input("x", 2, 3), g.input("n", dtype=INT64)
    body = [
        node("Cast", "i", "f", to=TensorProto.FLOAT), node("Add", "s f", "r"), node("ReduceMax", "r", "m", keepdims=0),
        node("Less", f"m {g.const(40.0)}", "next"),
    ]  # fmt: skip
    inputs = {"i": INT64, "go": BOOL, "s": TensorProto.FLOAT}
    last, rows = g.node("Loop", n, g.const(True, bool), x, body=graph(body, ["next", "r", "r"], inputs), count=2)
    g.node("Tanh", last, name="y")
    g.node("ReduceMean", rows, name="z", axes=[0], keepdims=0)
    return g.model("y", "z")


def grown() -> onnx.ModelProto:
    """A Loop whose state grows; a Loop that is unrolled."""
    g = Graph(16)
    x, n = g.input("x", 1, 2), g.input("n", dtype=INT64)
    body = [node("Concat", "s t", "r", axis=0), node("Neg", "t", "u"), node("Identity", "go", "next")]
    inputs = {"i": INT64, "go": BOOL, "s": TensorProto.FLOAT, "t": TensorProto.FLOAT}
    last, _ = g.node("Loop", n, g.const(True, bool), x, x, body=graph(body, ["next", "r", "u"], inputs), count=2)
    again = [node("Mul", f"a {x}", "b"), node("Identity", "go2", "next2")]
    inputs = {"i2": INT64, "go2": BOOL, "a": TensorProto.FLOAT}
    g.node("Loop", g.const(3, np.int64), g.const(True, bool), x, name="z", body=graph(again, ["next2", "b"], inputs))
    g.node("Relu", last, name="y")
    return g.model("y", "z")


def scan() -> onnx.ModelProto:
    """A Scan too long to be unrolled, one that is short and goes backwards."""
    g = Graph(16)
    x = g.input("x", 70, 3)
    body = [node("Add", "s e", "t"), node("Mul", "t e", "o")]
    inputs = {"s": TensorProto.FLOAT, "e": TensorProto.FLOAT}
    attributes: dict[str, Any] = {"num_scan_inputs": 1, "count": 2}
    last, rows = g.node("Scan", g.const([0.0, 1.0, 2.0]), x, body=graph(body, ["t", "o"], inputs), **attributes)
    short = g.node("Slice", rows, g.ints(0), g.ints(4), g.ints(0))
    again, rows = g.node(
        "Scan",
        last,
        short,
        body=graph(body, ["t", "o"], inputs),
        scan_input_directions=[1],
        scan_output_axes=[1],
        **attributes,
    )
    g.node("Identity", again, name="y")
    g.node("Identity", rows, name="z")
    return g.model("y", "z")


def sampling() -> onnx.ModelProto:
    """Resize of every mode, sampling along a grid, blocks."""
    g = Graph(20)
    x = g.input("x", 1, 4, 5, 6)
    a = g.node("Resize", x, "", g.const([1.0, 1.0, 1.6, 0.7]), mode="linear", antialias=1)
    b = g.node("Resize", x, "", "", g.ints(1, 4, 8, 4), mode="cubic", coordinate_transformation_mode="asymmetric")
    c = g.node("Resize", x, "", "", g.ints(8, 4), axes=[2, 3], mode="nearest", nearest_mode="ceil")
    grid = g.node("AffineGrid", g.const([[[1.0, 0.1, 0.0], [0.0, 0.9, 0.1]]]), g.ints(1, 4, 3, 4), align_corners=1)
    g.node("GridSample", x, grid, name="d", mode="linear", padding_mode="border")
    deep = g.node("DepthToSpace", g.node("Sum", a, b, c), blocksize=2)
    g.node("CenterCropPad", deep, g.ints(9, 10), name="y", axes=[2, 3])
    return g.model("y", "d")


def shapes() -> onnx.ModelProto:
    """Shapes that are computed: Expand, Tile, Range, OneHot, ConstantOfShape, Pad, Reshape."""
    g = Graph(18)
    x, shape = g.input("x", 2, 3), g.input("shape", 2, dtype=INT64)
    size = g.node("ReduceProd", shape, keepdims=0)
    grown = g.node("Expand", x, g.node("Concat", shape, g.ints(2, 3), axis=0))
    steps = g.node("Cast", g.node("Range", g.const(0, np.int64), size, g.const(1, np.int64)), to=TensorProto.FLOAT)
    tiled = g.node("Tile", g.node("Reshape", steps, shape), g.ints(2, 1))
    zeros = g.node("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5]))
    hot = g.node("OneHot", shape, g.const(5, np.int64), g.const([-1.0, 2.0]))
    g.node(
        "Pad",
        g.node("Sum", zeros, g.node("Slice", tiled, g.ints(0), g.ints(1), g.ints(0))),
        g.node("Concat", shape, g.ints(1, 0), axis=0),
        g.const(0.25),
        name="a",
    )
    g.node("ReduceSum", grown, name="b")
    g.node("EyeLike", hot, name="c", k=1)
    return g.model("a", "b", "c")


def boxes() -> onnx.ModelProto:
    """Boxes of a convolution, the best of them, and a layer on those; regions of a picture."""
    g = Graph(16)
    x = g.input("x", 1, 3, 4, 5)
    corners = g.node("Transpose", g.node("Reshape", g.conv(x, 4, 3, 1), g.ints(1, 4, 20)), perm=[0, 2, 1])
    scores = g.node("Transpose", g.node("Slice", corners, g.ints(0), g.ints(2), g.ints(2)), perm=[0, 2, 1])
    most, overlap = g.input("most", 1, dtype=INT64), g.input("overlap", 1)
    best = g.node("NonMaxSuppression", corners, scores, most, g.node("Sigmoid", overlap), g.const([-0.5]), name="best")
    kept = g.node("Gather", g.node("Squeeze", corners, g.ints(0)), g.node("Gather", best, g.const(2, np.int64), axis=1))
    g.node("Gemm", kept, g.random(4, 3), g.random(3), name="y")
    g.node(
        "RoiAlign",
        x,
        g.const([[0, 0, 3, 3], [1, 1, 4, 2]]),
        g.ints(0, 0),
        name="z",
        output_height=2,
        output_width=2,
        sampling_ratio=2,
    )
    return g.model("best", "y", "z", best=INT64)


def int8() -> onnx.ModelProto:
    """What quantised networks are written with."""
    g = Graph(13)
    x, image = g.input("x", 2, 4), g.input("image", 1, 2, 4, 4, dtype=UINT8)
    scale, zero = g.const(0.05), g.const(3, np.uint8)
    q = g.node("QuantizeLinear", x, scale, zero)
    a = g.node("DequantizeLinear", q, scale, zero)
    w, ws, wz = g.const(g.rng.integers(-20, 20, (4, 3)), np.int8), g.const(0.1), g.const(0, np.int8)
    b = g.node("QLinearMatMul", q, scale, zero, w, ws, wz, g.const(0.2), zero, name="b")
    d, ds, dz = g.node("DynamicQuantizeLinear", a, count=3)
    c = g.node("Cast", g.node("MatMulInteger", d, w, dz, wz), to=TensorProto.FLOAT)
    k = g.const(g.rng.integers(-9, 9, (3, 2, 3, 3)), np.int8)
    g.node("QLinearConv", image, scale, zero, k, ws, wz, g.const(1.5), zero, name="e", pads=[1, 1, 1, 1])
    g.node("ConvInteger", image, k, zero, name="f", strides=[2, 2])
    g.node("Mul", c, ds, name="y")
    assert b == "b"
    return g.model("b", "e", "f", "y", b=UINT8, e=UINT8, f=INT32)


def integers() -> onnx.ModelProto:
    """Arithmetic of integers, bits among them."""
    g = Graph(18)
    a, b = g.input("a", 2, 3, dtype=INT64), g.input("b", 3, dtype=INT64)
    c = g.node("Mod", g.node("Add", g.node("Mul", a, b), g.const(7, np.int64)), g.const(5, np.int64))
    d = g.node("Div", g.node("Sub", c, b), g.const([2, -3, 4], np.int64))
    e = g.node("Max", g.node("Neg", d), g.node("Abs", a))
    bits = g.node("BitwiseXor", g.node("Cast", e, to=UINT8), g.const(85, np.uint8))
    g.node("BitShift", bits, g.const(2, np.uint8), name="y", direction="LEFT")
    g.node("Where", g.node("Equal", a, b), g.node("Sign", d), g.node("Pow", b, g.const(2, np.int64)), name="z")
    g.node("ReduceSum", e, name="s")
    return g.model("y", "z", "s", y=UINT8, z=INT64, s=INT64)


def norms() -> onnx.ModelProto:
    """Normalisations and pools of every kind."""
    g = Graph(21)
    x = g.input("x", 2, 4, 6, 6)
    a = g.node("GroupNormalization", x, g.random(4), g.random(4), num_groups=2)
    b = g.node("LayerNormalization", a, g.random(6, 6), g.random(6, 6), axis=2)
    c = g.node("InstanceNormalization", b, g.random(4), g.random(4))
    values, at = g.node("MaxPool", c, count=2, kernel_shape=[2, 2], strides=[2, 2])
    back = g.node("MaxUnpool", values, at, kernel_shape=[2, 2], strides=[2, 2])
    d = g.node("LpPool", g.node("ReverseSequence", back, g.ints(3, 4), batch_axis=0, time_axis=1), kernel_shape=[2, 2])
    g.node("LRN", g.node("Celu", d), name="y", size=3)
    g.node("GlobalMaxPool", b, name="z")
    return g.model("y", "z")


def signals() -> onnx.ModelProto:
    """A window and a transform of signals."""
    g = Graph(17)
    x = g.input("x", 1, 16, 1)
    window = g.node("HannWindow", g.const(8, np.int64))
    g.node("Mul", x, g.node("Reshape", g.node("Concat", window, window, axis=0), g.ints(1, 16, 1)), name="a")
    g.node("DFT", "a", name="b", axis=1, onesided=1)
    mel = g.node("MelWeightMatrix", *(g.const(v, np.int64) for v in (4, 8, 16)), g.const(1.0), g.const(7.0))
    g.node("Add", mel, g.const(1.0), name="c")
    return g.model("a", "b", "c")


def sequences() -> onnx.ModelProto:
    """A sequence, which is written out."""
    g = Graph(17)
    parts = g.node("SplitToSequence", g.input("x", 4, 3), g.ints(1, 3), axis=0)
    first = g.node("SequenceAt", parts, g.const(0, np.int64))
    g.node("Add", first, g.node("ConcatFromSequence", parts, axis=0), name="y")
    return g.model("y")


def calls() -> onnx.ModelProto:
    """Functions of the model's own, one in another, with attributes."""
    g = Graph(17)
    leaky = node("LeakyRelu", "a", "t")
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    x = g.input("x", 1, 2, 3, 3)
    g.node("Outer", x, name="y", domain="own")
    made = g.model("y")
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [leaky, node("Neg", "t", "b")], opsets, ["slope"])
    nodes = [node("Inner", "a", "t", domain="own", slope=0.5), node("Add", "a t", "b")]
    made.functions.extend([inner, helper.make_function("own", "Outer", ["a"], ["b"], nodes, opsets)])
    return made


def several() -> onnx.ModelProto:
    """Sizes that stay open, integers and floats together."""
    g = Graph(17)
    ids, mask = g.input("ids", "n", "t", dtype=INT64), g.input("mask", "n", "t", dtype=INT64)
    rows = g.node("Gather", g.random(9, 6), ids)
    score = g.node("MatMul", rows, g.node("Transpose", rows, perm=[0, 2, 1]))
    away = g.node("Sub", g.const(1.0), g.node("Cast", g.node("Unsqueeze", mask, g.ints(1)), to=TensorProto.FLOAT))
    weight = g.node("Softmax", g.node("Add", score, g.node("Mul", away, g.const(-1000.0))), axis=-1)
    g.node("LayerNormalization", g.node("MatMul", weight, rows), g.random(6), g.random(6), name="y")
    g.node("Reshape", g.node("Shape", "y"), g.ints(3), name="s")
    return g.model("y", "s", s=INT64)


SEEDS: dict[str, Callable[[], onnx.ModelProto]] = (
    {
        make.__name__: make
        for make in (
            functions,
            truths,
            reductions,
            positions,
            contraction,
            attention,
            gathers,
            scatters,
            recurrent,
            branch,
            loop,
            grown,
            scan,
            sampling,
            shapes,
            boxes,
            int8,
            integers,
            norms,
            signals,
            sequences,
            calls,
            several,
        )
    }
    | MODELS
    | PLACED
)
REFUSED = {"sampling", "recursive"}
"""Seeds that have an operator which runs nowhere."""
