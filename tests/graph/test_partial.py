"""Models with nodes that are not supported: what is known, what is not, and that nothing else is put up with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from omniconv.analysis import cost, receptive_field
from omniconv.errors import LimitError, ModelError, ShapeError, UnsupportedError
from omniconv.graph import to_partial_program, to_program
from omniconv.program.steps import ConvStep

RNG = np.random.default_rng(5)


def conv(name, x, y, out, into, kernel=3, pads=1):
    w = numpy_helper.from_array(RNG.standard_normal((out, into, kernel, kernel), np.float32), f"{name}.w")
    node = helper.make_node("Conv", [x, w.name], [y], name=name, kernel_shape=[kernel] * 2, pads=[pads] * 4)
    return node, w


def model(nodes, weights, *, inputs=(("x", TensorProto.FLOAT, [1, 3, 16, 16]),), outputs=("y",), domains=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        weights,
    )
    for info in graph.output:
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets)


def layers(program):
    pairs = zip(program.labels, program.steps, strict=True)
    return [label for label, step in pairs if isinstance(step, ConvStep)]


def test_a_node_that_is_known_to_onnx_is_bridged():
    a, wa = conv("a", "x", "h", 8, 3)
    b, wb = conv("b", "k", "y", 4, 8)
    odd = helper.make_node("Bernoulli", ["h"], ["k"], name="odd")
    given = model([a, odd, b], [wa, wb])
    with pytest.raises(UnsupportedError, match="Bernoulli"):
        to_program(given)
    program, [problem] = to_partial_program(given)
    assert (problem.where, problem.operator, problem.known, problem.cause) == ("odd", "Bernoulli", ("k",), "")
    assert "not supported" in problem.text
    assert layers(program) == ["a", "b"]
    assert program.inputs == ("x", "k")
    assert program.outputs == ("y", "h")
    assert program.shapes["k"] == (1, 8, 16, 16)
    assert cost(program).macs == 256 * 9 * (8 * 3 + 4 * 8)
    assert receptive_field(program, "a").size == (3, 3)


def test_a_node_of_another_domain_cuts_what_reads_it():
    a, wa = conv("a", "x", "h", 8, 3)
    b, wb = conv("b", "k", "m", 4, 8)
    c, wc = conv("c", "h", "n", 4, 8)
    odd = helper.make_node("Gadget", ["h"], ["k"], name="odd", domain="some.where")
    add = helper.make_node("Add", ["m", "n"], ["y"], name="sum")
    program, problems = to_partial_program(model([a, odd, b, c, add], [wa, wb, wc], domains=["some.where"]))
    assert layers(program) == ["a", "c"]
    assert [(item.where, item.operator, item.cause) for item in problems] == [
        ("odd", "some.where.Gadget", ""),
        ("b", "Conv", "odd"),
        ("sum", "Add", "odd"),
    ]
    assert problems[1].unknown == ("m",)
    assert set(program.outputs) == {"h", "n"}


def test_inputs_of_other_types_are_bridged_by_a_cast():
    cast = helper.make_node("Cast", ["x"], ["f"], name="cast", to=TensorProto.FLOAT)
    a, wa = conv("a", "f", "y", 8, 3)
    given = model([cast, a], [wa], inputs=[("x", TensorProto.UINT8, ["n", 3, 16, 16])])
    with pytest.raises(UnsupportedError, match="UINT8"):
        to_program(given, shapes={"x": (1, 3, 16, 16)})
    program, problems = to_partial_program(given, shapes={"x": (1, 3, 16, 16)})
    assert [item.operator for item in problems] == ["input", "Cast"]
    assert program.inputs == ("f",)
    assert layers(program) == ["a"]
    with pytest.raises(UnsupportedError, match="nothing of the model"):
        to_partial_program(given)


def test_steps_of_an_operator_that_gives_up_are_taken_back(monkeypatch):
    from omniconv.graph import lower
    from omniconv.graph.operator import Operator
    from omniconv.graph.registry import find_operator

    def give_up(node, inputs, build):
        build.activate(inputs[0], "relu")
        raise UnsupportedError("half of it")

    a, wa = conv("a", "x", "h", 8, 3)
    odd = helper.make_node("Sigmoid", ["h"], ["k"], name="odd")
    b, wb = conv("b", "k", "y", 4, 8)
    half = Operator("Sigmoid", lower=give_up)
    monkeypatch.setattr(lower, "find_operator", lambda node: half if node.op == "Sigmoid" else find_operator(node))
    program, [problem] = to_partial_program(model([a, odd, b], [wa, wb]))
    assert (problem.text, problem.known) == ("half of it", ("k",))
    assert program.labels == ["a", "b"]
    assert set(program.shapes) == {"x", "h", "k", "y"}


def test_without_problems_it_is_the_same_program():
    a, wa = conv("a", "x", "y", 8, 3)
    given = model([a], [wa])
    whole, (part, problems) = to_program(given), to_partial_program(given)
    assert problems == ()
    assert (whole.inputs, whole.outputs, whole.labels, whole.shapes) == (
        part.inputs,
        part.outputs,
        part.labels,
        part.shapes,
    )


def test_damage_is_not_put_up_with():
    a, wa = conv("a", "x", "h", 8, 5)
    odd = helper.make_node("Bernoulli", ["h"], ["y"], name="odd")
    with pytest.raises((ShapeError, ModelError)):
        to_partial_program(model([a, odd], [wa]))
    b, wb = conv("b", "x", "h", 8, 3)
    broken = model([b, odd], [wb])
    broken.graph.node[0].attribute[0].ints[:] = [3, 0]
    with pytest.raises((ShapeError, ModelError)):
        to_partial_program(broken)


def test_inferred_shapes_are_compared_with_the_memory_limit():
    zeros = helper.make_node("RandomNormal", [], ["k"], name="odd", shape=[1, 3, 2**20, 2**20])
    add = helper.make_node("Add", ["x", "k"], ["y"], name="sum")
    with pytest.raises(LimitError):
        to_partial_program(model([zeros, add], []), memory_limit=2**28)


@pytest.mark.parametrize("operator", ["NonZero", "ArgMax", "Det", "Unique", "If", "TopK"])
def test_any_operator_may_stand_in_the_way(operator):
    a, wa = conv("a", "x", "h", 8, 3)
    k = numpy_helper.from_array(np.int64([1]), "k")
    reads = {"TopK": ["h", "k"]}.get(operator, ["h"])
    odd = helper.make_node(operator, reads, ["y"], name="odd")
    if operator == "If":
        then = helper.make_graph([], "t", [], [helper.make_empty_tensor_value_info("h")])
        odd.attribute.append(onnx.helper.make_attribute("then_branch", then))
        odd.attribute.append(onnx.helper.make_attribute("else_branch", then))
    try:
        program, problems = to_partial_program(model([a, odd], [wa, k]))
    except ModelError:
        return  # not valid by its schema
    assert layers(program) == ["a"]
    assert problems[0].operator == operator


@pytest.mark.parametrize("reader", ["an output", "a node that is left out"])
def test_booleans_are_analysed_like_any_value(reader):
    a, wa = conv("a", "x", "h", 8, 3)
    nodes = [a, helper.make_node("Greater", ["h", "h"], ["b"], name="compare")]
    if reader == "an output":
        given = model(nodes, [wa], outputs=("b",))
        given.graph.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    else:
        given = model([*nodes, helper.make_node("Odd", ["b"], ["y"], name="odd", domain="d")], [wa], domains=("d",))
    if reader == "an output":
        truths: set[str] = set()
        assert to_program(given, truths=truths).outputs == ("b",)
        assert truths == {"b"}
    else:
        with pytest.raises(UnsupportedError):
            to_program(given)
    program, problems = to_partial_program(given)
    assert [problem.where for problem in problems] == ([] if reader == "an output" else ["odd"])
    assert program.outputs == ("b",)
    assert layers(program) == ["a"]


def test_booleans_that_are_declared_as_floats_are_damage():
    a, wa = conv("a", "x", "h", 8, 3)
    given = model([a, helper.make_node("Greater", ["h", "h"], ["y"])], [wa])
    with pytest.raises(ShapeError, match="the output is declared FLOAT, the nodes produce BOOL"):
        to_partial_program(given)
