"""Quantised models as files hold them: wholly compiled, one step at most from ONNX's own arithmetic in floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.program import to_program
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, DenseStep, MapStep, QuantisedConvStep, QuantisedDenseStep, QuantisedMapStep

STEP = 0.0625


class Quantised(Graph):
    """Writes models in QDQ form."""

    def __init__(self, dtype: str = "uint8", seed: int = 0) -> None:
        super().__init__(21, seed)
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def ends(self, scale: float, dtype: str | None = None, zero: int | None = None) -> tuple[str, str]:
        """Scale and zero point, which is that of about half of the range where nothing else is said."""
        dtype = dtype or self.dtype
        zero = (121 if dtype == "uint8" else -7) if zero is None else zero
        return self.const(np.float32(scale)), self.const(np.array(zero, dtype), dtype)

    def stored(self, x: str, scale: float = STEP, **how: Any) -> str:
        """A value quantised and back."""
        ends = self.ends(scale, **how)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *ends), *ends)

    def weights(self, *shape: int, dtype: str = "int8", axis: int | None = 0) -> str:
        """Constant weights of 8 bits as numbers; one scale for each entry of the axis, or for all."""
        limits = np.iinfo(dtype)
        q = self.rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
        form = () if axis is None else (shape[axis],)
        scale = self.const(self.rng.uniform(0.002, 0.006, form).astype(np.float32))
        zero = self.rng.integers(-9, 10, form) if dtype == "int8" else self.rng.integers(110, 140, form)
        how = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", self.const(q, dtype), scale, self.const(zero, dtype), **how)


def check(g: Graph, *shape: int, steps: int = 1, ties: float = 0.02) -> Program:
    """Wholly compiled, equal to the oracle, and nearly everywhere equal to ONNX's reference; else one step from it."""
    model = g.model("y")
    program = to_program(model)
    x = np.random.default_rng(3).normal(0, 3, shape).astype(np.float32)
    got = oc.compile(model, strict=True)(x)
    np.testing.assert_array_equal(got, run_program(program, {"x": x})["y"].astype(np.float32))
    want = ReferenceEvaluator(model).run(None, {"x": x})[0]
    apart = np.abs(got - want) / STEP
    assert apart.max() <= steps + 1e-3
    assert np.mean(apart > 1e-3) <= ties
    assert len(np.unique(want)) > 3
    return program


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize(("weights", "axis"), [("int8", 0), ("int8", None), ("uint8", 0)])
def test_layers_between_quantised_values_are_of_integers(activations: str, weights: str, axis: int | None) -> None:
    g = Quantised(activations)
    x = g.stored(g.input("x", 2, 5, 6, 7))
    bias = g.node("DequantizeLinear", g.const(g.rng.integers(-400, 400, 9), "int32"), g.const(np.float32(STEP * 0.004)))
    v = g.stored(g.node("Relu", g.node("Conv", x, g.weights(9, 5, 3, 3, dtype=weights, axis=axis), bias, pads=[1] * 4)))
    v = g.node("Conv", v, g.weights(9, 1, 3, 3, dtype=weights, axis=axis), group=9, strides=[2, 2])
    v = g.stored(g.node("Clip", v, g.const(np.float32(-1.7)), g.const(np.float32(3.3))))
    v = g.stored(g.node("Flatten", v))
    w = g.weights(4, 54, dtype=weights, axis=axis)
    g.node("Identity", g.stored(g.node("Gemm", v, w, transB=1)), name="y")
    program = check(g, 2, 5, 6, 7)
    kinds = [type(step) for step in program.steps]
    assert not {ConvStep, DenseStep, MapStep}.intersection(kinds)
    assert [kinds.count(kind) for kind in (QuantisedConvStep, QuantisedDenseStep, QuantisedMapStep)] == [2, 1, 2]


@pytest.mark.parametrize(("size", "unit"), [(9, 1.0), (0, 1.0), (9, 3.0), (1, 1.0)])
def test_a_last_layer_of_integers_gives_floats(size: int, unit: float) -> None:
    """Where each output has a bias in units of its sum, or none has; else the layer stays of floats."""
    g = Quantised()
    x = g.stored(g.input("x", 3, 20))
    scale, zero = np.float32(0.004), g.const(np.array(3, "int8"), "int8")
    w = g.node("DequantizeLinear", g.const(g.rng.integers(-128, 128, (20, 9)), "int8"), g.const(scale), zero)
    bias = g.const(g.rng.integers(-4000, 4000, size), "int32")
    more = [g.node("DequantizeLinear", bias, g.const(np.float32(STEP) * scale * np.float32(unit)))] if size else []
    g.node("Gemm", x, w, *more, name="y")
    if (size, unit) in ((9, 1.0), (0, 1.0)):
        check(g, 3, 20, steps=0, ties=0.0)
    kinds = [type(step) for step in to_program(g.model("y")).steps]
    assert (QuantisedDenseStep in kinds) == (size != 1 and unit == 1.0)
    assert (DenseStep in kinds) == (size == 1 or unit != 1.0)


def test_additions_concatenations_and_means_are_of_integers() -> None:
    g = Quantised()
    x = g.stored(g.input("x", 1, 6, 5, 5))
    a = g.stored(g.node("Conv", x, g.weights(6, 6, 1, 1)), 0.05)
    b = g.stored(g.node("Add", a, x))
    c = g.stored(g.node("Concat", b, g.stored(g.node("Sigmoid", a), 1 / 256, zero=0), axis=1))
    m = g.stored(g.node("GlobalAveragePool", c))
    g.node("Identity", g.stored(g.node("MatMul", g.stored(g.node("Flatten", m)), g.weights(12, 5, axis=1))), name="y")
    program = check(g, 1, 6, 5, 5, ties=0.1)
    words = ("elementwise", "convolution", "mean", "dense", "table")
    assert {step.word for step in program.steps} == {"rearrange", "concat", *(f"quantised {word}" for word in words)}


def test_layers_that_are_written_in_integers() -> None:
    g = Quantised()
    ends = g.ends(STEP)
    q = g.node("QuantizeLinear", g.input("x", 1, 4, 5, 5), *ends)
    w = g.const(g.rng.integers(-128, 128, (6, 4, 3, 3)), "int8")
    scale, zero = g.const(g.rng.uniform(0.002, 0.006, 6).astype(np.float32)), g.const(np.zeros(6), "int8")
    v = g.node("QLinearConv", q, *ends, w, scale, zero, *ends, g.const(g.rng.integers(-200, 200, 6), "int32"))
    v = g.node("Reshape", v, g.ints(6, 9))
    matrix = g.const(g.rng.integers(0, 256, (9, 5)), "uint8")
    v = g.node("QLinearMatMul", v, *ends, matrix, *g.ends(0.004, "uint8", 127), *ends)
    g.node("DequantizeLinear", v, *ends, name="y")
    check(g, 1, 4, 5, 5)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_read_as_a_float_as_well_stays_one(shared: bool) -> None:
    g = Quantised()
    layer = g.node("Conv", g.stored(g.input("x", 1, 4, 5, 5)), g.weights(4, 4, 3, 3))
    v = g.stored(layer)
    g.node("Add", v, layer if shared else v, name="y")
    assert any(isinstance(step, ConvStep) for step in to_program(g.model("y")).steps) == shared


def test_sums_beyond_32_bits_stay_floats() -> None:
    g = Quantised()
    bias = g.node("DequantizeLinear", g.const([2**31 - 1] * 4, "int32"), g.const(np.float32(STEP * 2.0**-8)))
    scale, zero = g.const(np.float32(2.0**-8)), g.const(np.zeros((), np.int8), "int8")
    w = g.node("DequantizeLinear", g.const(g.rng.integers(-128, 128, (4, 4, 1, 1)), "int8"), scale, zero)
    layer = g.node("Conv", g.stored(g.input("x", 1, 4, 5, 5)), w, bias)
    g.node("Identity", g.stored(layer, 1e4), name="y")
    assert any(isinstance(step, ConvStep) for step in to_program(g.model("y")).steps)


@pytest.mark.parametrize("value", [0.0, -0.5, np.nan, np.inf])
@pytest.mark.parametrize("where", ["activation", "weights", "result"])
def test_scales_that_are_none_are_refused_by_name(value: float, where: str) -> None:
    g = Quantised()
    scales = {name: np.float32(value if name == where else 0.01) for name in ("activation", "weights", "result")}
    made = {name: g.const(scale) for name, scale in scales.items()}
    zero, w = g.const(0, "uint8"), g.const(g.rng.integers(0, 256, (4, 4, 1, 1)), "uint8")
    q = g.node("QuantizeLinear", g.input("x", 1, 4, 5, 5), made["activation"], zero)
    x = g.node("DequantizeLinear", q, made["activation"], zero)
    layer = g.node("Conv", x, g.node("DequantizeLinear", w, made["weights"], zero))
    q = g.node("QuantizeLinear", layer, made["result"], zero)
    g.node("DequantizeLinear", q, made["result"], zero, name="y")
    with pytest.raises(ModelError, match=rf"the scale '{made[where]}' is .*positive, finite scales"):
        oc.compile(g.model("y"))


def test_types_that_do_not_agree_are_refused() -> None:
    g = Quantised()
    scale = g.const(np.float32(0.1))
    q = g.node("QuantizeLinear", g.input("x", 1, 4), scale, g.const(3, "uint8"))
    g.node("DequantizeLinear", q, scale, g.const(3, "int8"), name="y")
    model: onnx.ModelProto = g.model("y")
    with pytest.raises(ModelError, match=r"another input is|equal"):
        oc.compile(model)


@pytest.mark.filterwarnings("ignore::omniconv.HostWarning")
def test_in_float64_nothing_is_computed_in_integers() -> None:
    g = Quantised()
    layer = g.node("Conv", g.stored(g.input("x", 1, 4, 5, 5)), g.weights(4, 4, 3, 3))
    g.node("Identity", g.stored(layer), name="y")
    model = g.model("y")
    with pytest.raises(UnsupportedError, match="Linear in float64; need float32"):
        oc.compile(model, dtype="float64", strict=True)
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 5))
    found = oc.compile(model, dtype="float64")(x)
    near = oc.compile(model)(x.astype(np.float32))
    assert found.dtype == np.float64
    assert np.abs(found - near).max() <= 1.01 * STEP
