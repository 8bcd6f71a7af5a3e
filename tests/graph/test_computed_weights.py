"""Convolutions and products whose weights are inputs: ONNX's cases, and every kind as with constant weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.graph.onnx_cases import Arrays, OnnxCase, conv_cases, node_cases
from tests.program_oracle import run_program
from tests.registry.compiled import channels_to, strictly

import omniconv as oc
from omniconv.errors import ModelError, ShapeError
from omniconv.graph import to_program
from omniconv.graph.export import export
from omniconv.kinds import kinds
from omniconv.reference import random_weights

PRODUCTS = ("MatMul", "Gemm")
LAYERS = ("Conv", "ConvTranspose", *PRODUCTS)
FAMILIES = ("lane", "panel", "series", "winograd")


def product_cases() -> tuple[OnnxCase, ...]:
    """Every float case of one product."""
    cases = [case for case in node_cases() if {node.op_type for node in case.model.graph.node} <= set(PRODUCTS)]
    return tuple(case for case in cases if all(x.dtype == np.float32 for x in case.outputs.values()))


def as_inputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Arrays]:
    """The model with the weights of its layers, all initialisers but scalars, as inputs; and their values."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    found: Arrays = {}
    declared = {info.name for info in new.graph.input}
    read = {name for node in new.graph.node if node.op_type in LAYERS for name in node.input}
    for tensor in list(new.graph.initializer):
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims and tensor.name in read:
            found[tensor.name] = onnx.numpy_helper.to_array(tensor)
            new.graph.initializer.remove(tensor)
            if tensor.name not in declared:
                new.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return new, found


@pytest.mark.parametrize("case", [*conv_cases(), *product_cases()], ids=lambda case: case.name)
def test_cases_with_every_weight_an_input(case: OnnxCase) -> None:
    model, more = as_inputs(case.model)
    fed = {name: array for name, array in {**case.inputs, **case.constants, **more}.items() if array.ndim}
    bound = {name: array for name, array in case.constants.items() if not array.ndim}
    net = oc.compile(model, shapes={name: array.shape for name, array in fed.items()}, constants=bound)
    case.check(lambda *_: strictly(net, fed))


def test_there_are_products_of_every_sort() -> None:
    names = " ".join(case.name for case in product_cases())
    for part in ("matmul_2d", "matmul_4d", "matmul_bcast", "gemm_all_attributes", "gemm_transposeA", "scalar_bias"):
        assert part in names, part


SAMPLES = [(kind, index) for kind in kinds().values() for index in range(len(kind.samples))]


@pytest.mark.sampled
@pytest.mark.parametrize(("kind", "index"), SAMPLES, ids=[f"{kind.name}-{index}" for kind, index in SAMPLES])
def test_computed_weights_give_the_bits_of_constant_ones(kind: Any, index: int) -> None:
    sample = kind.samples[index]
    spec, shape = kind.build(sample), sample.shape
    rng = np.random.default_rng(index)
    weights = random_weights(spec, rng, integer=False, bias=True)
    x = rng.standard_normal(shape).astype(np.float32)
    model = export(spec, shape, weights)
    computed, more = as_inputs(model)
    assert more
    for layout in ("NCHW", "NHWC"):
        nets = [oc.compile(each, exact=True, layout=layout) for each in (model, computed)]
        families = [[call.what for call in net.plan.calls if call.what in FAMILIES] for net in nets]
        assert families[0] == families[1]
        (name,) = nets[0].inputs
        given = {name: x, **more}
        wide = {key: channels_to(layout, a) if nets[1].is_channels_last(key, a.ndim) else a for key, a in given.items()}
        assert not any(nets[1].is_channels_last(key, a.ndim) for key, a in more.items())
        results = [strictly(net, {key: wide[key] for key in net.inputs}) for net in nets]
        np.testing.assert_array_equal(*(next(iter(result.values())) for result in results))


def test_explain_says_why_families_do_not_take_computed_weights() -> None:
    computed, _ = as_inputs(export(oc.Conv.of(64, 64, 3, padding="same"), (1, 64, 3, 3), _drawn(64, 64, 3)))
    text = oc.compile(computed).explain()
    assert "winograd: the weights are computed" in text


def _drawn(outputs: int, inputs: int, kernel: int) -> Any:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32), None)]


def test_computed_weights_of_unknown_or_wrong_shape_are_refused() -> None:
    def model(*dims: Any) -> onnx.ModelProto:
        sides = [helper.make_tensor_value_info(n, 1, d) for n, d in (("x", (1, 4, 9, 9)), ("w", dims))]
        result = helper.make_tensor_value_info("y", 1, None)
        graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", sides, [result])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    with pytest.raises(ShapeError, match="sizes of input 'w' are not known: channels"):
        to_program(model("channels", 4, 3, 3))
    with pytest.raises(ModelError, match=r"the weight W has shape \(8, 5, 3, 3\)"):
        oc.compile(model(8, 5, 3, 3))
    net = oc.compile(model("channels", 4, 3, 3), shapes={"w": (8, 4, 3, 3)})
    x, w = np.ones((1, 4, 9, 9), np.float32), np.ones((8, 4, 3, 3), np.float32)
    expected = run_program(to_program(model(8, 4, 3, 3)), {"x": x, "w": w})["y"]
    np.testing.assert_array_equal(net.run({"x": x, "w": w})["y"], expected)
    with pytest.raises(ShapeError):
        net.run({"x": x, "w": w[:4]})
