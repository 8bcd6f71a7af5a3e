"""Networks that `oc.quantize` wrote, compiled: in integers wherever there are steps of integers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.graph.program import to_program
from omniconv.program.steps import ConvStep, DenseStep, MapStep, QuantisedConvStep, QuantisedDenseStep, ReduceStep

SHAPE = (1, 3, 16, 16)


def network() -> onnx.ModelProto:
    """Dense and depthwise layers, groups, a residual sum, a mean, and two dense layers."""
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", *SHAPE), 16, 3))
    y = g.node("Relu", g.conv(g.node("Clip", g.conv(x, 16, 16, group=16), g.const(0), g.const(6)), 16, 16))
    y = g.conv(y, 16, 16, group=4)
    y = g.node("Flatten", g.node("GlobalAveragePool", g.node("Relu", g.node("Add", x, y))))
    y = g.node("Relu", g.node("Gemm", y, g.random(24, 16), g.random(24), transB=1))
    return g.model(g.node("Gemm", y, g.random(10, 24), g.random(10), transB=1, name="y"))


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantised_networks_are_compiled_in_integers(per_channel: bool) -> None:
    samples = np.random.default_rng(0).standard_normal((7, *SHAPE[1:])).astype(np.float32)
    model = oc.quantize(network(), samples[:6], per_channel=per_channel)
    program, x = to_program(model), samples[6:]
    counts = {
        kind: sum(isinstance(step, kind) for step in program.steps)
        for kind in (QuantisedConvStep, QuantisedDenseStep, ConvStep, DenseStep, MapStep, ReduceStep)
    }
    assert counts == {QuantisedConvStep: 4, QuantisedDenseStep: 2, ConvStep: 0, DenseStep: 0, MapStep: 0, ReduceStep: 0}
    assert [step.y for step in program.steps if isinstance(step, QuantisedDenseStep) and step.levels is None] == ["y"]
    got, want = oc.compile(model, strict=True)(x), run_program(program, {"x": x})["y"]
    np.testing.assert_array_equal(got, want.astype(np.float32))
    assert len(np.unique(want)) == 10
