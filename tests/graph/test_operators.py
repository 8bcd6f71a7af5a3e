"""Each operator on small models, against the float64 oracle of ONNX graphs and its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.differential.judge import differs, evaluate_model, say
from tests.graph.onnx_cases import OnnxCase, node_cases
from tests.graph.small_models import MODELS, Graph, draw_inputs, input_shapes
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.errors import OmniconvError, UnsupportedError
from omniconv.graph import supported_operators, to_program

LARGEST = float(np.finfo(np.float32).max)


def check(model: onnx.ModelProto) -> Any:
    """Compare the program of a model with the float64 oracle of ONNX graphs, within its bound; returns the program."""
    inputs = draw_inputs(model)
    program = to_program(model, shapes=input_shapes(model))
    got = run_program(program, inputs)
    told = evaluate_model(model, inputs)
    for name, value in got.items():
        want = told[name]
        assert value.shape == want.value.shape, (name, value.shape, want.value.shape)
        bad = differs(value.astype(np.float32), want)
        assert not bad.any(), say(name, value, want, bad)
    return program


@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str) -> None:
    check(MODELS[name]())


X = (2, 6, 7, 9)


def one(op: str, *constants: Any, x: tuple[int, ...] = X, opset: int = 17, **attributes: Any) -> onnx.ModelProto:
    """A model of one node over a random input and constants (``None`` leaves an input out)."""
    g = Graph(opset)
    g.input("x", *x)
    names = ["" if value is None else g.const(value, np.asarray(value).dtype) for value in constants]
    g.node(op, "x", *names, name="y", **attributes)
    model = g.model("y")
    inferred = onnx.shape_inference.infer_shapes(model)
    # Its sizes are left open: inference of old opsets is wrong about some pools with ceil mode.
    found = inferred.graph.output[0].type.tensor_type
    rank = len(found.shape.dim) if found.HasField("shape") else len(x)
    return g.model("y", shapes=[[None] * rank])


def f32(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CONVS = [
    {"w": (4, 6, 3, 3)},
    {"w": (4, 6, 3, 3), "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]},
    {"w": (6, 1, 3, 5), "group": 6, "pads": [1, 2, 1, 2], "kernel_shape": [3, 5]},
    {"w": (12, 1, 2, 2), "group": 6},
    {"w": (9, 2, 1, 3), "group": 3, "strides": [3, 2]},
    *({"w": (4, 6, k, 3), "auto_pad": pad, "strides": [2, 3], "dilations": [1, 1]}
      for pad in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET") for k in (1, 2, 4)),
    {"w": (4, 6, 2, 3), "auto_pad": "SAME_UPPER", "dilations": [2, 3]},
]  # fmt: skip


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv(case: dict[str, Any]) -> None:
    attributes = {key: value for key, value in case.items() if key != "w"}
    check(one("Conv", f32(*case["w"]), f32(case["w"][0]), **attributes))


DECONVS = [
    {"w": (6, 4, 3, 3)},
    {"w": (6, 4, 4, 4), "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"w": (6, 4, 3, 3), "strides": [2, 3], "output_padding": [1, 2], "dilations": [2, 1]},
    {"w": (6, 1, 3, 3), "group": 6, "strides": [2, 2], "pads": [0, 1, 1, 0]},
    {"w": (6, 2, 3, 2), "group": 3, "strides": [3, 2]},
    {"w": (6, 4, 3, 3), "strides": [2, 2], "output_shape": [14, 18]},
    {"w": (6, 4, 3, 3), "strides": [2, 2], "output_shape": [13, 18], "auto_pad": "SAME_UPPER"},
    *({"w": (6, 4, k, 3), "strides": [2, 2], "auto_pad": pad}
      for k in (2, 3, 4, 5) for pad in ("SAME_UPPER", "SAME_LOWER")),
    {"w": (6, 4, 3, 3), "strides": [2, 2], "auto_pad": "VALID"},
]  # fmt: skip


@pytest.mark.parametrize("case", DECONVS, ids=str)
def test_conv_transpose(case: dict[str, Any]) -> None:
    attributes = {key: value for key, value in case.items() if key != "w"}
    channels = case["w"][1] * attributes.get("group", 1)
    check(one("ConvTranspose", f32(*case["w"]), f32(channels), **attributes))


@pytest.mark.parametrize("dims", [1, 3])
def test_other_numbers_of_axes(dims: int) -> None:
    x = (2, 4, *(9, 8, 5)[:dims])
    kernel = (3, 2, 3)[:dims]
    check(one("Conv", f32(6, 2, *kernel), f32(6), x=x, group=2, strides=[2] * dims, pads=[1] * 2 * dims))
    check(one("ConvTranspose", f32(4, 3, *kernel), f32(6), x=x, group=2, strides=[2] * dims, output_padding=[1] * dims))
    check(one("MaxPool", x=x, kernel_shape=kernel, strides=[2] * dims, ceil_mode=1))
    check(one("AveragePool", x=x, kernel_shape=kernel, pads=[1] * 2 * dims, count_include_pad=1))
    check(one("Resize", None, None, i64(2, 4, *(5, 16, 7)[:dims]), x=x, mode="linear"))
    check(one("GlobalMaxPool", x=x))


def test_conv_transpose_longer_than_its_taps() -> None:
    """Nothing but the bias lies between the taps of a kernel shorter than its stride; "same" adds nothing behind."""
    x, w = f32(2, 6, 7, 9), f32(6, 4, 1, 1, seed=2)
    program = to_program(one("ConvTranspose", w, strides=[3, 3], auto_pad="SAME_UPPER"))
    want = np.zeros((2, 4, 19, 25))
    want[:, :, ::3, ::3] = np.einsum("nihw,io->nohw", x.astype(np.float64), w[:, :, 0, 0])
    np.testing.assert_allclose(run_program(program, {"x": x})["y"], want, rtol=1e-12, atol=1e-12)
    program = to_program(one("ConvTranspose", f32(6, 4, 1, 1), strides=[3, 3], output_shape=[21, 27]))
    assert program.shapes["y"] == (2, 4, 21, 27)
    with pytest.raises(UnsupportedError, match="the taps reach"):
        to_program(one("ConvTranspose", f32(6, 4, 1, 1), strides=[3, 3], output_shape=[40, 40]))


POOLS = [
    {"kernel_shape": [3, 3], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 1, 1, 0], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [3, 2], "dilations": [2, 3]},
    {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [2, 1, 2, 1], "strides": [2, 2], "ceil_mode": 1},
]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pools(case: dict[str, Any]) -> None:
    check(one("MaxPool", opset=22, **case))
    for count in (0, 1):
        check(one("AveragePool", opset=19, count_include_pad=count, **case))


REDUCTIONS = [(None, 1), ([2, 3], 1), ([2, 3], 0), ([-1], 0), ([1], 1), ([0, 2], 0), ([0, 1, 2, 3], 1)]


@pytest.mark.parametrize(("axes", "keepdims"), REDUCTIONS, ids=str)
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"])
def test_reductions(op: str, axes: list[int] | None, keepdims: int) -> None:
    given = {} if axes is None else {"axes": axes}
    check(one(op, opset=12, keepdims=keepdims, **given))
    inputs = [] if axes is None else [i64(*axes)]
    check(one(op, *inputs, opset=18, keepdims=keepdims))
    if axes is None:
        check(one(op, opset=18, noop_with_empty_axes=1))


UNARY = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.3}, "Elu": {"alpha": 0.5}, "Sigmoid": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.1}, "HardSwish": {}, "Tanh": {}, "Exp": {}, "Abs": {}, "Neg": {},
    "Selu": {}, "Celu": {"alpha": 1.5}, "Identity": {},
    "Reciprocal": {}, "Flatten": {"axis": 2}, "LRN": {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, "Dropout": {},
    "GlobalAveragePool": {}, "Softmax": {"axis": 1}, "LogSoftmax": {"axis": -2}, "Transpose": {"perm": [0, 2, 3, 1]},
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    check(one(op, **UNARY[op]))


@pytest.mark.parametrize("alpha", [0.125, 0.6, 1.0, 3.0])
def test_celu_of_every_size(alpha: float) -> None:
    """Large values are themselves; they do not overflow on the way."""
    sizes = np.float32([0, 1e-45, 1e-30, 1e-3, 0.5, 3, 90, 65504, 1e30, 3.4e38, np.inf])
    x = np.concatenate([-sizes, sizes, [np.float32("nan")]]).reshape(1, -1)
    model = one("Celu", x=x.shape, alpha=alpha)
    below = alpha * np.expm1(np.minimum(x.astype(np.float64), 0) / np.float32(alpha))
    want = np.where(x > 0, x, np.where(np.isnan(x), x, below))
    np.testing.assert_allclose(oc.compile(model)(x), want, rtol=1e-6, atol=2.0**-148)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    check(one("Gelu", opset=20, approximate=approximate))


def test_swish() -> None:
    if onnx.defs.onnx_opset_version() < 24:
        pytest.skip("this onnx does not know Swish")
    for alpha in (1.0, 1.702):
        check(one("Swish", opset=24, alpha=alpha))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_old_softmax_flattens(op: str, axis: int) -> None:
    check(one(op, opset=11, axis=axis))
    check(one(op, opset=11, x=(2, 5, 1, 1), axis=1))


@pytest.mark.parametrize("case", [c for c in node_cases() if c.name.startswith("test_cumsum")], ids=lambda c: c.name)
def test_onnx_cases_of_running_sums(case: OnnxCase) -> None:
    """The cases are of float64 or integers that float32 holds as well."""
    (x,), (want,) = case.inputs.values(), case.outputs.values()
    g = Graph(14)
    axis = g.const(next(iter(case.constants.values())), np.int64)
    given = {item.name: item.i for item in case.model.graph.node[0].attribute}
    model = g.model(g.node("CumSum", g.input("x", *x.shape), axis, name="y", **given), shapes=[list(x.shape)])
    np.testing.assert_array_equal(oc.compile(model)(x.astype(np.float32)), want)


def test_there_are_onnx_cases_of_running_sums() -> None:
    assert sum(case.name.startswith("test_cumsum") for case in node_cases()) >= 7


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("flags", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}], ids=str)
def test_running_sums(axis: int, flags: dict[str, int]) -> None:
    for opset in (11, 14):
        check(one("CumSum", np.array(axis), opset=opset, **flags))
    # A list of one axis, as PyTorch exports it, means the axis.
    listed = (
        run_program(to_program(one("CumSum", np.array(a), x=(3, 5, 19), **flags)), {"x": f32(3, 5, 19)})
        for a in ([axis % 3], axis % 3)
    )
    np.testing.assert_array_equal(*(found["y"] for found in listed))
    shape = (2, 19, 5, 33)
    model = one("CumSum", np.array(axis, np.int32), x=shape, **flags)
    x = np.random.default_rng(axis + 4).standard_normal(shape).astype(np.float32)
    exact, sizes = (run_program(to_program(model), {"x": value})["y"] for value in (x, np.abs(x)))
    terms = shape[axis] * 2.0**-24
    results = [oc.compile(model, threads=threads)(x) for threads in (1, 2)]
    np.testing.assert_array_equal(*results)
    assert np.all(np.abs(results[0] - exact) <= terms / (1 - terms) * sizes)


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (0.0, 6.0), (0.0, None), (None, 0.25), (None, None)], ids=str)
def test_clip(bounds: tuple[float | None, float | None]) -> None:
    check(one("Clip", *(None if b is None else np.float32(b) for b in bounds)))
    check(one("Clip", opset=6, **{key: b for key, b in zip(("min", "max"), bounds, strict=True) if b is not None}))


@pytest.mark.parametrize("opset", [6, 17])
@pytest.mark.parametrize("bounds", [(0.0, LARGEST), (-LARGEST, 5.0), (None, 65504.0), (2.0, 1.0)], ids=str)
def test_clip_of_infinities(bounds: tuple[float | None, float | None], opset: int) -> None:
    """The largest number is a bound like any other; with min > max, all is max."""
    x = np.array([[np.inf, -np.inf, np.nan, 3e38, -3e38, 0.0]], np.float32)
    given = {key: b for key, b in zip(("min", "max"), bounds, strict=True) if b is not None}
    constants = [] if opset == 6 else [None if b is None else np.float32(b) for b in bounds]
    model = one("Clip", *constants, x=x.shape, opset=opset, **(given if opset == 6 else {}))
    [got] = run_program(to_program(model), {"x": x}).values()
    np.testing.assert_array_equal(got.astype(np.float32), ReferenceEvaluator(model).run(None, {"x": x})[0])


def test_celu_of_large_numbers() -> None:
    """x / alpha is above float32 where the result is not: the program never computes it above zero."""
    x = np.array([[1e38, np.inf, -np.inf, np.nan, -1.0, 1e-30]], np.float32)
    step = to_program(one("Celu", x=x.shape, alpha=0.1)).steps[-1]
    first = step.post[0]  # type: ignore[union-attr]
    assert (first.op, float(first.operand)) == ("min", 0.0)  # type: ignore[arg-type]
    [got] = run_program(to_program(one("Celu", x=x.shape, alpha=0.1)), {"x": x}).values()
    want = [1e38, np.inf, -0.1, np.nan, 0.1 * np.expm1(-10.0), 1e-30]
    np.testing.assert_allclose(got, [want], rtol=1e-6)


@pytest.mark.parametrize("case", ["shift", "factor", "plain"])
def test_batch_norm_of_extreme_statistics(case: str) -> None:
    """Where s or the shift is no float32 number, the formula is computed as it is written."""
    scale, mean, variance = {"shift": (1e20, 1e25, 1.0), "factor": (1e-30, 0.0, 1e30), "plain": (2.0, 3.0, 4.0)}[case]
    parameters = [np.full(2, value, np.float32) for value in (scale, 0.5, mean, variance)]
    program = to_program(one("BatchNormalization", *parameters, x=(1, 2, 4)))
    ops = [op.op for op in program.steps[-1].post]  # type: ignore[union-attr]
    assert ops == (["mul", "add"] if case == "plain" else ["sub", "mul", "div", "add"])
    x = np.array([[[mean, 0.0, np.inf, 1e38], [np.nan, -np.inf, 1.0, -1e38]]], np.float32)
    [got] = run_program(program, {"x": x}).values()
    s = np.float64(np.float32(scale)) / np.sqrt(np.float64(np.float32(variance)) + 1e-5)
    want = (x.astype(np.float64) - np.float64(np.float32(mean))) * s + 0.5
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


BROADCASTS = [(6, 1, 1), (7, 9), (1,), (), (2, 6, 7, 9), (2, 1, 1, 9), (3, 1, 1, 1, 1)]


@pytest.mark.parametrize("shape", BROADCASTS, ids=str)
def test_binary_with_constants(shape: tuple[int, ...]) -> None:
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"):
        check(one(op, f32(*shape) + 3.0))
        g = Graph()
        c = g.const(f32(*shape))
        g.node(op, c, g.input("x", *X), name="y")
        check(_sized(g, X if len(shape) < 5 else (3, *X)))
    if len(shape) < 5:
        check(one("PRelu", f32(*shape)))


def _sized(g: Graph, shape: tuple[int, ...]) -> onnx.ModelProto:
    return g.model("y", shapes=[list(shape)])


def test_binary_with_values() -> None:
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        for other in ((2, 6, 7, 9), (6, 1, 1), (2, 6, 1, 1), (1, 9), (7, 1)):
            for flip in (False, True):
                g = Graph()
                pair = [g.input("x", *X), g.node("Exp", g.input("z", *other))]
                g.node(op, *(pair[::-1] if flip else pair), name="y")
                check(_sized(g, X))
        g = Graph()
        g.node(op, g.input("x", 5, 1, 3), g.node("Exp", g.input("z", 1, 4, 3)), name="y")
        check(_sized(g, (5, 4, 3)))


def test_sums_of_many() -> None:
    for op in ("Sum", "Mean", "Max", "Min"):
        g = Graph()
        x, z = g.input("x", *X), g.input("z", 6, 1, 1)
        g.node(op, g.const(0.5), x, g.const(f32(9)), z, x, name="y")
        check(_sized(g, X))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_pow(exponent: float) -> None:
    g = Graph()
    g.node("Pow", g.node("Abs", g.input("x", *X)), g.const(exponent), name="y")
    check(_sized(g, X))


def test_gemm() -> None:
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            b = f32(*((4, 5) if trans_b else (5, 4)))
            for c in (f32(4), f32(1, 4), f32(3, 1), f32(3, 4), f32(1), f32(), None):
                x = (5, 3) if trans_a else (3, 5)
                check(
                    one(
                        "Gemm", b, *([] if c is None else [c]), x=x, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0
                    )
                )
    g = Graph()
    g.node("Gemm", g.input("x", 3, 5), g.random(5, 4), g.node("Exp", g.input("c", 1, 4)), name="y", beta=0.5)
    check(_sized(g, (3, 4)))


@pytest.mark.parametrize(
    ("x", "b"), [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((5,), (5, 4)), ((2, 3, 5), (5,)), ((2, 3, 5), (1, 5, 4))]
)
def test_matmul(x: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(one("MatMul", f32(*b), x=x))


def test_slices_and_gathers() -> None:
    check(one("Slice", i64(1, 8, -3), i64(5, -20, 100), i64(1, 3, 2), i64(2, -3, 1)))
    check(one("Slice", i64(0), i64(3), i64(1)))
    check(one("Slice", i64(2, 0), i64(4, 5), opset=10, x=(6, 5)))
    check(one("Slice", opset=9, starts=[1, 2], ends=[5, 1000], axes=[1, 3]))
    check(one("Split", opset=9, axis=3, split=[9], x=X))
    g = Graph(18)
    a, b, c = g.node("Split", g.input("x", *X), count=3, axis=3, num_outputs=3)
    g.node("Concat", c, a, b, name="y", axis=3)
    check(_sized(g, X))
    check(one("Gather", i64(4, 0, 0, -1), axis=1))
    check(one("Gather", i64(1, 3, 5), axis=3))
    check(one("Gather", np.array(-2, np.int64), axis=1))
    check(one("Gather", np.array(3, np.int64), axis=2))


def test_reshapes() -> None:
    check(one("Reshape", i64(0, 3, -1)))
    check(one("Reshape", i64(2, 54, 7)))
    check(one("Flatten", axis=-1))
    check(one("Unsqueeze", i64(0, -1)))
    check(one("Squeeze", i64(1), x=(3, 1, 2)))
    check(one("Squeeze", x=(3, 1, 2, 1)))
    check(one("Squeeze", x=(3, 1, 2, 1), opset=9, axes=[3]))
    check(one("Expand", i64(5, 2, 6, 7, 9)))
    check(one("Tile", i64(1, 4, 1), x=(3, 1, 2)))


PADS = [
    [0, 0, 1, 2, 0, 0, 3, 0],
    [0, 1, 0, 0, 1, 0, 0, 0],
    [0, 0, -1, 0, 0, 0, -2, -3],
    [0, 0, -1, 2, 0, 0, 1, -1],
    [0] * 8,
]


@pytest.mark.parametrize("pads", PADS, ids=str)
def test_pad(pads: list[int]) -> None:
    check(one("Pad", i64(*pads), np.float32(0.5)))
    check(one("Pad", opset=9, pads=pads, value=-1.0))
    if min(pads) >= 0:
        for mode in ("reflect", "edge"):
            check(one("Pad", i64(*pads), mode=mode))
        check(one("Pad", i64(*pads), opset=19, mode="wrap"))


def test_pad_of_some_axes() -> None:
    check(one("Pad", i64(1, 2, 0, 1), None, i64(3, -2), opset=18))


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
)
@pytest.mark.parametrize("sizes", [(14, 18), (4, 6), (2, 12), (7, 9), (21, 4)], ids=str)
def test_resize(sizes: tuple[int, int], coordinates: str) -> None:
    opset = 19
    more = {"coordinate_transformation_mode": coordinates}
    target = i64(2, 6, *sizes)
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        check(one("Resize", None, None, target, opset=opset, mode="nearest", nearest_mode=nearest, **more))
    for mode in ("linear", "cubic"):
        check(one("Resize", None, None, target, opset=opset, mode=mode, **more))
    check(
        one("Resize", None, None, target, opset=opset, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5, **more),
    )


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_resize_to_one_position(coordinates: str) -> None:
    check(one("Resize", None, None, i64(2, 6, 1, 1), mode="linear", coordinate_transformation_mode=coordinates))


def test_resize_by_scales_and_older_forms() -> None:
    for scale in (2.0, 0.5, 1.5, 3.0):
        scales = np.array([1, 1, scale, 2.0], np.float32)
        check(one("Resize", None, scales, opset=13, mode="linear"))
        check(one("Resize", scales, opset=10, mode="nearest"))
        if scale > 1:
            check(one("Upsample", scales, opset=9, mode="linear"))
        check(one("Upsample", opset=7, mode="nearest", scales=[1.0, 1.0, max(scale, 1.0), 2.0]))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_antialias(mode: str) -> None:
    check(one("Resize", None, None, i64(2, 6, 3, 4), opset=18, mode=mode, antialias=1))


def test_space_and_depth() -> None:
    for mode in ("DCR", "CRD"):
        check(one("DepthToSpace", x=(2, 12, 3, 5), blocksize=2, mode=mode))
    check(one("SpaceToDepth", x=(2, 3, 4, 6), blocksize=2))


def test_normalisations_with_statistics_of_the_input() -> None:
    check(one("InstanceNormalization", f32(6), f32(6), epsilon=0.01))
    for axis, shape in ((-1, (9,)), (2, (7, 9)), (1, (6, 7, 9))):
        check(one("LayerNormalization", f32(*shape), f32(*shape), axis=axis, epsilon=0.01))
        check(one("LayerNormalization", f32(*shape), x=(*X[: axis % 4], *shape), axis=axis))
    check(one("LayerNormalization", f32(9), x=(9,)))
    check(one("GroupNormalization", f32(6), f32(6), opset=21, num_groups=3))
    check(one("GroupNormalization", f32(6), f32(6), opset=21, num_groups=2, epsilon=0.01))


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(opset: int) -> None:
    more = {"spatial": 1} if opset == 7 else {}
    check(one("BatchNormalization", f32(6), f32(6), f32(6), np.abs(f32(6)) + 0.5, opset=opset, epsilon=0.01, **more))


def test_batch_normalization_in_training_is_refused() -> None:
    parameters = [f32(6)] * 4
    with pytest.raises(UnsupportedError, match="training mode"):
        to_program(one("BatchNormalization", *parameters, training_mode=1))
    with pytest.raises(UnsupportedError, match="spatial=0"):
        to_program(one("BatchNormalization", *parameters, opset=7, spatial=0))
    with pytest.raises(UnsupportedError, match="whatever spatial says"):
        oc.compile(one("BatchNormalization", *parameters, opset=7, spatial=0))


CUTS = ((4, 3), (-100, 0), (0, 1), (-2, -1))
SEVEN = numpy_helper.from_array(np.array([7], np.int64))


def logic(g: Graph, a: str) -> str:
    """Every comparison and every logical operator."""
    either = g.node("Or", g.node("Greater", a, g.ints(2)), g.node("LessOrEqual", a, g.ints(1)))
    both = g.node("And", g.node("GreaterOrEqual", a, g.ints(0)), either)
    return g.node("Cast", g.node("Xor", g.node("Not", g.node("Equal", a, a)), both), to=1)


FOLDED: dict[str, Any] = {
    "Shape": lambda g, _: g.node("Shape", g.const(f32(3, 4, 5)), start=1),
    "Size": lambda g, _: g.node("Size", g.const(f32(3, 4, 5))),
    "Constant": lambda g, _: g.node("Constant", value_ints=[2, 3]),
    "ConstantOfShape": lambda g, _: g.node("ConstantOfShape", g.ints(2), value=SEVEN),
    "Range": lambda g, a: g.node("Range", *(g.const(v, np.int64) for v in (9, -4, -3))),
    "Floor": lambda g, a: g.node("Floor", g.const([1.5, -1.5])),
    "Ceil": lambda g, a: g.node("Ceil", g.const([1.5, -1.5])),
    "Round": lambda g, a: g.node("Round", g.const([1.5, 2.5, -1.2])),
    "Sign": lambda g, a: g.node("Sign", g.const([1.5, -2.5, 0.0])),
    "Log": lambda g, a: g.node("Log", g.const([1.5, 2.5])),
    "Mod": lambda g, a: g.node("Mod", a, g.ints(3, -3, 5)),
    "Fmod": lambda g, a: g.node("Mod", a, g.ints(3, -3, 5), fmod=1),
    "Div": lambda g, a: g.node("Div", a, g.ints(2, -3, 4)),
    "ReduceProd": lambda g, a: g.node("ReduceProd", a, keepdims=0),
    "Where": lambda g, a: g.node("Where", g.node("Less", a, g.ints(0, 0, 0)), a, g.ints(1, 2, 3)),
    "Logic": logic,
    "Erf": lambda g, a: g.node("Erf", g.const([0.3, -1.0])),
    "rank 0": lambda g, a: g.node("Sqrt", g.node("Mul", g.node("Div", g.const(1.0), g.const(4.0)), g.const(0.3))),
    "rank 0 of integers": lambda g, a: g.node("Neg", g.node("Sub", g.const(3, np.int64), g.const(8, np.int64))),
    "Gather": lambda g, a: g.node("Gather", g.const(f32(3, 4)), g.const([[0, -1]], np.int64), axis=1),
    "Slice": lambda g, a: g.node("Slice", g.const(f32(6, 4)), *map(g.const, CUTS, [np.int64] * 4)),
    "Split": lambda g, a: g.node("Split", g.const(f32(6)), g.ints(2, 4), count=2, axis=0)[1],
    "Transpose": lambda g, a: g.node("Reshape", g.node("Transpose", g.const(f32(2, 3))), g.ints(-1)),
    "Concat": lambda g, a: g.node("Concat", a, a, axis=-1),
    "Cast": lambda g, a: g.node("Cast", g.const([1.7, -1.7]), to=TensorProto.INT32),
    "Pow": lambda g, a: g.node("Pow", g.const([1.7, 2.0]), g.const(2.5)),
    "Clip": lambda g, a: g.node("Clip", a, g.const(-3, np.int64), g.const(4, np.int64)),
    "Neg": lambda g, a: g.node("Neg", a),
    "Sigmoid": lambda g, a: g.node("Sigmoid", g.const([0.5, -3.0])),
    "ReduceMean": lambda g, a: g.node("ReduceMean", g.const(f32(3, 4)), axes=[1]),
    "MatMul": lambda g, a: g.node("MatMul", g.const(f32(2, 3, 4)), g.const(f32(4, 2))),
    "Reciprocal": lambda g, a: g.node("Reciprocal", g.const([0.5, -3.0])),
    "Mean": lambda g, a: g.node("Mean", g.const([0.5, -3.0]), g.const([1.0, 2.0])),
    "Tile": lambda g, a: g.node("Tile", a, g.ints(2)),
    "Pad": lambda g, a: g.node("Pad", a, g.ints(2, -1), g.const(9, np.int64)),
    "Pad reflect": lambda g, a: g.node("Pad", a, g.ints(2, 1), mode="reflect"),
    "CumSum": lambda g, a: g.node("CumSum", a, g.const(0, np.int64)),
    "CumSum back": lambda g, a: g.node("CumSum", g.const([1e8, 1.0]), g.const(-1, np.int64), exclusive=1, reverse=1),
    "Trilu": lambda g, a: g.node("Trilu", g.const(np.eye(3, 4) + 1, np.int64), g.const(-1, np.int64), upper=0),
    "GatherElements": lambda g, a: g.node("GatherElements", a, g.ints(-1, 0, 0, 1)),
    "GatherND": lambda g, a: g.node("GatherND", g.const(f32(3, 4)), g.const([[1, -1], [0, 2]], np.int64)),
    "Einsum": lambda g, a: g.node("Einsum", g.const(f32(3, 4)), g.const(f32(5, 3)), equation="ij,ki->jk"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_folding(name: str) -> None:
    g = Graph()
    x = g.input("x", 1)
    value = FOLDED[name](g, g.ints(7, -8, -1))
    flat = g.node("Reshape", g.node("Cast", value, to=TensorProto.FLOAT), g.ints(-1))
    g.node("Add", x, flat, name="y")
    model = g.model("y", shapes=[["n"]])
    assert len(check(model).steps) == 1


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (one("MaxPool", kernel_shape=[2, 2], auto_pad="VALID"), None),
        (one("Resize", None, None, i64(3, 6, 7, 9)), "equal batch and channels"),
        (one("Cast", to=TensorProto.INT64), "to INT64"),
        (one("Dropout", np.float32(0.5), np.array(True)), "training mode"),
        (one("Clip", np.float32(np.nan)), "numbers"),
        (one("Celu", alpha=-1.0), "alpha > 0"),
    ],
)
def test_refusals_name_the_node_and_a_way_out(model: onnx.ModelProto, match: str | None) -> None:
    if match is None:
        to_program(model)
        return
    with pytest.raises(UnsupportedError, match=match) as caught:
        to_program(model)
    assert "; need " in str(caught.value)
    assert "node 'n0'" in str(caught.value) or "node 'y'" in str(caught.value)


def test_weights_may_be_computed_and_images_constant() -> None:
    g = Graph()
    g.node("Conv", g.input("x", *X), g.node("Exp", g.input("w", 4, 6, 3, 3)), name="y")
    check(_sized(g, (2, 4, 5, 7)))
    g = Graph()
    g.node("Add", g.input("x", 1), g.node("Conv", g.const(f32(1, 1, 3)), g.const(f32(1, 1, 3))), name="y")
    check(_sized(g, (1, 1, 1)))


def test_what_has_to_be_constant_is_refused_where_it_is_computed() -> None:
    g = Graph()
    g.node("Resize", g.input("x", *X), "", g.input("s", 4), name="y")
    with pytest.raises(UnsupportedError, match=r"is computed.*need a constant.*constants=\{name: array\}.*Resize node"):
        to_program(_sized(g, X))


def test_weights_that_are_not_float32_are_refused() -> None:
    g = Graph()
    w = g.const(f32(4, 6, 3, 3), np.float16)
    g.node("Conv", g.input("x", *X), w, name="y")
    with pytest.raises(OmniconvError, match="float16"):
        to_program(_sized(g, (2, 4, 5, 7)))
    g = Graph()
    w = g.node("Cast", g.const(f32(4, 6, 3, 3), np.float16), to=TensorProto.FLOAT)
    g.node("Conv", g.input("x", *X), w, name="y")
    check(_sized(g, (2, 4, 5, 7)))


def test_the_registry_is_found_by_itself() -> None:
    names = supported_operators()
    assert len(names) > 80
    assert {"Conv", "ConvTranspose", "Resize", "Swish"} <= set(names)
