"""Operators of computed floats, a node each: lowered against ONNX's evaluator, compiled against the float64 oracle."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, strictly

import omniconv as oc
from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph import to_program
from omniconv.graph.ops.functions import TABLE
from omniconv.program.element import ELEMENTS

Nodes = list[onnx.NodeProto]
DTYPES = ("float32", "float64")
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 0.5, 1.5, 2.5, -3.0]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def build(nodes: Nodes, inputs: Mapping[str, np.ndarray], opset: int = 23) -> onnx.ModelProto:
    """A model whose inputs are all computed; ``y`` is its output."""
    kind = helper.np_dtype_to_tensor_dtype(next(iter(inputs.values())).dtype)
    given = [helper.make_tensor_value_info(name, kind, x.shape) for name, x in inputs.items()]
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", kind, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def judge(
    nodes: Nodes,
    inputs: Mapping[str, np.ndarray],
    *,
    roundings: float = 0,
    wide: Any = None,
    opset: int = 23,
    target: str = "native",
    reference: bool = True,
) -> np.ndarray:
    """Run the model; results are within ``roundings`` units of roundoff of ``wide``, the result unless it is given."""
    model = build(nodes, inputs, opset)
    element = ELEMENTS[next(iter(inputs.values())).dtype.name]
    program = to_program(model, element=element)
    want = run_program(program, inputs)["y"]
    if reference:
        with np.errstate(all="ignore"):
            (theirs,) = ReferenceEvaluator(model).run(None, dict(inputs))
        np.testing.assert_allclose(want, theirs, rtol=1e-5, atol=1e-6)
    got = strictly(oc.compile(model, dtype=element.name, target=target), inputs)["y"]
    assert got.shape == want.shape
    assert got.dtype == element.dtype
    with np.errstate(all="ignore"):
        nearest = want.astype(element.dtype)
        room = roundings * element.roundoff * np.abs(want if wide is None else wide) + element.smallest
        close = (got == nearest) | (np.isnan(got) & np.isnan(nearest)) | (np.abs(got - want) <= room)
    assert close.all(), (got[~close][:5], want[~close][:5])
    return got


def node(op: str, *names: str, y: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(names), [y], **attributes)


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, scale: float = 2.0) -> np.ndarray:
    return np.asarray(rng.normal(scale=scale, size=shape)).astype(dtype)


def special(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return rng.choice(SPECIAL, shape).astype(dtype)


SHAPES = [(), (5,), (3, 7), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4), (1, 2, 3, 1, 2, 3), (2, 1, 2, 3, 1, 2, 2),
          (2, 1, 2, 1, 2, 1, 2, 17)]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", TABLE)
def test_functions(op: str, dtype: str, rng: np.random.Generator) -> None:
    x = draw(rng, (2, 17, 3, 5), dtype)
    if op in ("Asin", "Acos", "Atanh"):
        x = np.tanh(x)
    if op in ("Log", "Acosh"):
        x = np.abs(x) + (op == "Acosh")
    judge([node(op, "x")], {"x": x.astype(dtype)}, roundings=8, opset=22)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_rank(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = draw(rng, shape, "float32")
    judge([node("Sin", "x")], {"x": x}, roundings=4)
    condition = [node("Less", "x", "a", y="t"), node("Where", "t", "x", "b")]
    rows = draw(rng, shape[-1:], "float32")
    judge(condition, {"x": x, "a": rows, "b": draw(rng, shape, "float32")})
    judge([node("ReduceL2", "x", keepdims=0)], {"x": x}, roundings=4 * x.size + 8)


def test_large_angles_are_reduced_exactly() -> None:
    x = np.array([1e9, 2.0**60 + 2.0**40, 1e22, 3.4028235e38, -1e15, 6381956970095103 * 2.0**70, 0.5, -0.0], np.float32)
    for op in ("Sin", "Cos", "Tan"):
        judge([node(op, "x")], {"x": x}, roundings=6)


PAIRS = [
    ((2, 3, 5), (2, 3, 5)),
    ((2, 3, 5), (3, 1)),
    ((5,), (2, 3, 5)),
    ((3, 1, 4), (2, 1)),
    ((), (4, 17)),
    ((4, 1), ()),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
def test_power_and_remainder(shapes: Any, dtype: str, rng: np.random.Generator) -> None:
    a, b = (draw(rng, shape, dtype) for shape in shapes)
    judge([node("Pow", "a", "b")], {"a": np.abs(a), "b": b}, roundings=4)
    judge([node("Mod", "a", "b", fmod=1)], {"a": a * 100, "b": b})
    a, b = (special(rng, shape, dtype) for shape in shapes)
    judge([node("Mod", "a", "b", fmod=1)], {"a": a, "b": b})


@pytest.mark.parametrize("exponent", [-2.0, -0.5, 0.0, 0.3, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 2.5])
def test_constant_powers(exponent: float, rng: np.random.Generator) -> None:
    x = np.abs(draw(rng, (2, 3, 5), "float32"))
    constant = helper.make_node("Constant", [], ["c"], value_float=exponent)
    judge([constant, node("Pow", "x", "c")], {"x": x}, roundings=8)
    judge([constant, node("Pow", "c", "x")], {"x": x}, roundings=8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("op", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"])
def test_comparisons(op: str, shapes: Any, dtype: str, rng: np.random.Generator) -> None:
    a, b = (special(rng, shape, dtype) for shape in shapes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    got = judge([node(op, "a", "b", y="t"), node("Cast", "t", to=kind)], {"a": a, "b": b})
    assert set(np.unique(got)) <= {0.0, 1.0}


@pytest.mark.parametrize("target", TARGETS)
def test_where_keeps_every_bit(target: str, rng: np.random.Generator) -> None:
    for c, x, y in [
        ((2, 3, 5),) * 3,
        ((3, 1), (2, 3, 5), (5,)),
        ((2, 1, 1), (), (3, 5)),
        ((), (4,), (4,)),
        ((5,), (), ()),
    ]:
        arrays = {"c": draw(rng, c, "float32"), "x": special(rng, x, "float32"), "y_": special(rng, y, "float32")}
        zero = helper.make_node("Constant", [], ["zero"], value_float=0.0)
        got = judge([zero, node("Less", "c", "zero", y="t"), node("Where", "t", "x", "y_")], arrays, target=target)
        want = np.where(arrays["c"] < 0, arrays["x"], arrays["y_"])
        assert np.array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])


def test_where_of_constants(rng: np.random.Generator) -> None:
    x = draw(rng, (2, 1, 4, 4), "float32")
    mask = helper.make_tensor("mask", TensorProto.BOOL, (4, 4), np.tril(np.ones((4, 4), bool)).reshape(-1).tolist())
    masked = helper.make_node("Constant", [], ["m"], value=mask)
    low = helper.make_node("Constant", [], ["low"], value_float=float("-inf"))
    judge([masked, low, node("Where", "m", "x", "low")], {"x": x})
    zero = helper.make_node("Constant", [], ["zero"], value_float=0.0)
    judge([zero, low, node("Greater", "x", "zero", y="t"), node("Where", "t", "zero", "low")], {"x": x})


def test_truths_are_moved_joined_and_cast(rng: np.random.Generator) -> None:
    a, b = special(rng, (3, 4), "float32"), special(rng, (3, 4), "float32")
    for op in ("And", "Or", "Xor", "Equal"):
        truths = [node("Less", "a", "b", y="s"), node("IsNaN", "a", y="n"), node("Not", "n", y="t")]
        moved = [node("Transpose", "s", y="s2"), node("Transpose", "s2", y="s3"), node(op, "s3", "t", y="u")]
        joined = [node("Concat", "u", "n", y="v", axis=1), node("Cast", "v", to=1)]
        judge([*truths, *moved, *joined], {"a": a, "b": b})
    back = [node("Cast", "a", y="t", to=TensorProto.BOOL), node("Not", "t", y="f"), node("Where", "f", "b", "a")]
    judge(back, {"a": a, "b": b})
    flat = [node("IsNaN", "a", y="t"), node("Cast", "t", y="f", to=1), node("Transpose", "f", y="g"), node("Exp", "g")]
    judge(flat, {"a": a}, roundings=4)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_casts_to_the_type_of_another_value(kind: str, rng: np.random.Generator) -> None:
    a, b = special(rng, (3, 4), kind), special(rng, (3, 4), kind)
    judge([node("CastLike", "a", "b", y="s"), node("Mul", "s", "b")], {"a": a, "b": b})
    truth = [node("IsNaN", "b", y="t"), node("CastLike", "a", "t", y="s"), node("Where", "s", "b", "a")]
    judge(truth, {"a": a, "b": b})
    number = [node("IsNaN", "b", y="t"), node("CastLike", "t", "a", y="s"), node("Sub", "a", "s")]
    judge(number, {"a": a, "b": b})
    whole = node("Constant", y="w", value=numpy_helper.from_array(np.arange(4), "w"))
    judge([whole, node("CastLike", "w", "a", y="s"), node("Add", "a", "s")], {"a": a})


@pytest.mark.parametrize("signs", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_infinities_are_found(signs: tuple[int, int], rng: np.random.Generator) -> None:
    found = node("IsInf", "x", y="t", detect_positive=signs[0], detect_negative=signs[1])
    judge([found, node("Cast", "t", to=1)], {"x": special(rng, (3, 5), "float32")})


@pytest.mark.parametrize("shape", [(3,), ()])
def test_boolean_results_leave_as_bools(shape: tuple[int, ...]) -> None:
    nodes = [node("IsNaN", "x"), node("Neg", "x", y="z")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.BOOL, shape)]
    more = helper.make_tensor_value_info("z", TensorProto.FLOAT, shape)
    x = np.full(shape, np.nan, np.float32)
    for infos in (outputs, [*outputs, more]):
        graph = helper.make_graph(nodes[: len(infos)], "g", [helper.make_tensor_value_info("x", 1, shape)], infos)
        net = oc.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), strict=True)
        found = net.run({"x": x})
        assert found["y"].dtype == net.output_dtypes["y"] == np.bool_
        np.testing.assert_array_equal(found["y"], np.ones(shape, bool))
        if len(infos) == 1:
            assert net(x).dtype == np.bool_
        else:
            assert found["z"].dtype == net.output_dtypes["z"] == np.float32


def test_truths_are_no_numbers() -> None:
    x = {"x": np.ones(3, np.float32)}
    for nodes in ([node("IsNaN", "x", y="t"), node("Add", "t", "t")], [node("And", "x", "x", y="t"), node("Not", "t")]):
        with pytest.raises(ModelError, match=r"is bool|is float32"):
            to_program(build(nodes, x))


def test_thresholds(rng: np.random.Generator) -> None:
    x = special(rng, (3, 41), "float32")
    judge([node("ThresholdedRelu", "x", alpha=0.5)], {"x": x[:, 1:]}, reference=False)
    for limit, bias in ((0.5, 0.0), (1.5, 1.0), (-1.0, 0.25)):
        judge([node("Shrink", "x", lambd=limit, bias=bias)], {"x": x})
    bounds = {"lo": np.array(-1.0, np.float32), "hi": np.array(1.25, np.float32)}
    judge([node("Clip", "x", "lo", "hi")], {"x": x, **bounds})
    judge([node("Clip", "x", "", "hi")], {"x": x, "hi": bounds["hi"]})


REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
              "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.wide)])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_over_any_axes(op: str, dtype: str, rng: np.random.Generator) -> None:
    shape = (2, 3, 4, 5)
    x = rng.integers(1, 4, shape).astype(dtype)
    exactly = op not in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd")
    for count in range(5):
        for axes in combinations(range(-4, 0), count):
            chosen = helper.make_node("Constant", [], ["axes"], value_ints=list(axes) or [0])
            names = ("x", "axes") if axes else ("x",)
            for attributes in ({"keepdims": count % 2}, *([{"noop_with_empty_axes": 1}] if not axes else [])):
                nodes = [chosen, node(op, *names, **attributes)] if axes else [node(op, "x", **attributes)]
                # The evaluator leaves composites as they are where nothing is reduced, against the format's text.
                theirs = not attributes.get("noop_with_empty_axes")
                judge(nodes, {"x": x}, roundings=0 if exactly else 16, reference=theirs)


def test_nothing_is_reduced_but_the_rest_is_done(rng: np.random.Generator) -> None:
    x = draw(rng, (3, 4), "float32")
    for op, want in (("ReduceSum", x), ("ReduceL1", np.abs(x)), ("ReduceSumSquare", x * x), ("ReduceLogSumExp", x)):
        got = judge([node(op, "x", noop_with_empty_axes=1)], {"x": x}, reference=False, roundings=2)
        assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_exponentials_do_not_overflow(dtype: str) -> None:
    largest = ELEMENTS[dtype].largest
    rows = [
        [1000.0, 1001.0],
        [-1e4, -1e4],
        [largest, 0.0],
        [-np.inf, -np.inf],
        [np.inf, 3.0],
        [np.nan, 0.0],
        [-np.inf, 2.0],
    ]
    x = np.array(rows, dtype)
    got = judge(
        [helper.make_node("Constant", [], ["axes"], value_ints=[1]), node("ReduceLogSumExp", "x", "axes")],
        {"x": x},
        reference=False,
        roundings=8,
    )
    with np.errstate(all="ignore"):
        want = np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_beside_others_along_an_axis(axis: int, dtype: str, rng: np.random.Generator) -> None:
    x = draw(rng, (3, 4, 5), dtype)
    x[0, :, 0] = 0
    judge([node("LogSoftmax", "x", axis=axis)], {"x": x}, roundings=64, wide=np.abs(x).max() * 4)
    for p in (1, 2):
        judge([node("LpNormalization", "x", axis=axis, p=p)], {"x": x}, roundings=32, reference=p == 2)
    ties = rng.integers(0, 3, (3, 4, 5)).astype(dtype)
    judge([node("Hardmax", "x", axis=axis)], {"x": ties})
    judge([node("Hardmax", "x", axis=axis)], {"x": ties}, opset=11, reference=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalisations_with_computed_scales(dtype: str, rng: np.random.Generator) -> None:
    x, channel = draw(rng, (2, 4, 3, 5), dtype), {"s": draw(rng, (4,), dtype), "b": draw(rng, (4,), dtype)}
    room: dict[str, Any] = {"roundings": 256, "wide": 64.0}
    judge([node("InstanceNormalization", "x", "s", "b")], {"x": x, **channel}, **room)
    judge([node("GroupNormalization", "x", "s", "b", num_groups=2)], {"x": x, **channel}, **room)
    last = {"s": draw(rng, (3, 5), dtype), "b": draw(rng, (3, 5), dtype)}
    judge([node("LayerNormalization", "x", "s", "b", axis=2)], {"x": x, **last}, **room)
    judge([node("RMSNormalization", "x", "s", axis=-2)], {"x": x, "s": last["s"]}, **room)
    for axes in ([0, 2, 3], [-1]):  # the evaluator knows float32 only
        normal = node("MeanVarianceNormalization", "x", axes=axes)
        judge([normal], {"x": x}, reference=dtype == "float32", **room)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pools_of_powers(p: int, rng: np.random.Generator) -> None:
    x = draw(rng, (2, 3, 7, 6), "float32")
    judge([node("GlobalLpPool", "x", p=p)], {"x": x}, roundings=64, reference=False)
    pool = node("LpPool", "x", p=p, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 0, 0])
    got = judge([pool], {"x": x}, roundings=64, reference=False)
    wide = np.pad(np.abs(x.astype(np.float64)) ** p, [(0, 0), (0, 0), (1, 0), (1, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 2), axis=(2, 3))[:, :, ::2]
    np.testing.assert_allclose(got, windows.sum((-1, -2)) ** (1 / p), rtol=1e-5)
    with pytest.raises(UnsupportedError, match="ceil_mode"):
        to_program(build([node("LpPool", "x", p=p, kernel_shape=[3, 2], ceil_mode=1)], {"x": x}))
