"""The entry points: signatures, shapes, constants, outputs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph, draw_inputs, input_shapes, residual, shuffle
from tests.program_oracle import run_program

from omniconv.errors import DataError, ModelError, ShapeError, UnsupportedError
from omniconv.graph import input_signature, load, to_program


def two_inputs(*dims: tuple[int | str | None, ...]) -> onnx.ModelProto:
    g = Graph()
    g.node("Add", g.input("a", *dims[0]), g.input("b", *dims[1]), name="y")
    return g.model("y", shapes=[[None] * len(dims[0])])


def test_every_way_to_give_a_model(tmp_path: Path) -> None:
    model = residual()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    lengths = {len(to_program(given).steps) for given in (model, path, str(path), buffer.getvalue(), load(model))}
    assert lengths == {len(to_program(model).steps)}


def test_signature() -> None:
    assert input_signature(shuffle()) == {"x": ("batch", 8, 6, 6)}
    g = Graph()
    g.node("Relu", g.input("x", None, 3, "n"), name="y")
    assert input_signature(g.model("y", shapes=[[None] * 3])) == {"x": (None, 3, "n")}
    model = residual()
    model.graph.input.append(onnx.helper.make_tensor_value_info("c0", 1, [8, 3, 3, 3]))
    assert list(input_signature(model)) == ["x"]


def test_symbolic_sizes() -> None:
    with pytest.raises(ShapeError, match=r"sizes of input 'x' are not known: batch.*shapes=\{'x': \(1, 8, 6, 6\)\}"):
        to_program(shuffle())
    assert to_program(shuffle(), shapes={"x": (3, 8, 6, 6)}).shapes["y"] == (3, 3, 6, 6)
    with pytest.raises(ShapeError, match="3 axes; need 4 axes"):
        to_program(shuffle(), shapes={"x": (3, 8, 6)})
    with pytest.raises(ShapeError, match="changes a fixed size; need 8 instead of 9"):
        to_program(shuffle(), shapes={"x": (3, 9, 6, 6)})
    with pytest.raises(ShapeError, match="'w', which are no inputs"):
        to_program(shuffle(), shapes={"w": (3, 9, 6, 6)})
    with pytest.raises(ShapeError, match="not a sequence of integers"):
        to_program(shuffle(), shapes={"x": (3.0, 8, 6, 6)})  # type: ignore[arg-type]
    for size, words in ((0, "an empty axis"), (-1, "a negative or absurd"), (2**40, "a negative or absurd")):
        with pytest.raises(ShapeError, match=words):
            to_program(shuffle(), shapes={"x": (size, 8, 6, 6)})


def test_symbols_are_shared_between_inputs() -> None:
    model = two_inputs(("n", 3), ("n", 3))
    assert to_program(model, shapes={"b": (5, 3)}).shapes["a"] == (5, 3)
    with pytest.raises(ShapeError, match="size 'n' is 4 here and 5 before"):
        to_program(model, shapes={"a": (5, 3), "b": (4, 3)})


def test_inputs_of_unknown_rank() -> None:
    g = Graph()
    g.node("Relu", g.input("x"), name="y")
    g.inputs[0].type.tensor_type.ClearField("shape")
    model = g.model("y", shapes=[[None, None]])
    assert input_signature(model) == {"x": ()}
    with pytest.raises(ShapeError, match="unknown rank"):
        to_program(model)
    assert to_program(model, shapes={"x": (2, 3)}).shapes["y"] == (2, 3)


def test_constants_bind_inputs() -> None:
    model = two_inputs((2, 3), (2, 3))
    b = np.ones((2, 3), np.float32)
    program = to_program(model, constants={"b": b})
    assert program.inputs == ("a",)
    np.testing.assert_array_equal(run_program(program, {"a": b})["y"], 2 * b)
    with pytest.raises(DataError, match="float64; need FLOAT"):
        to_program(model, constants={"b": b.astype(np.float64)})
    with pytest.raises(ShapeError, match=r"has shape \(2,\)"):
        to_program(model, constants={"b": b[:, 0]})
    with pytest.raises(ShapeError, match="'c', which is no input"):
        to_program(model, constants={"c": b})


def test_inputs_that_are_not_float32_are_refused() -> None:
    g = Graph()
    g.node("Reshape", g.input("x", 2, 3), g.input("s", 1, dtype=onnx.TensorProto.INT64), name="y")
    model = g.model("y", shapes=[[6]])
    with pytest.raises(UnsupportedError, match=r"input 's' is INT64; need float32 inputs, e.g. constants="):
        to_program(model)
    assert to_program(model, constants={"s": np.array([-1])}).shapes["y"] == (6,)


def test_constant_outputs_are_refused() -> None:
    g = Graph()
    g.input("x", 2, 3)
    g.node("Identity", g.const([1.0]), name="y")
    with pytest.raises(UnsupportedError, match="output 'y' is a constant"):
        to_program(g.model("y", shapes=[[1]]))


def test_outputs_may_be_inputs_and_repeat() -> None:
    g = Graph()
    x = g.input("x", 2, 3)
    g.node("Dropout", x, name="d")
    g.node("Identity", "d", name="y")
    model = g.model("y", "x", "d", "y", shapes=[[2, 3]] * 4)
    program = to_program(model)
    assert program.outputs == ("y", "x", "d", "y")
    value = draw_inputs(model)["x"]
    for array in run_program(program, {"x": value}).values():
        np.testing.assert_array_equal(array, value)


def test_labels_are_node_names() -> None:
    program = to_program(residual())
    assert len(program.labels) == len(program.steps)
    assert program.labels[0] == "n0"


def test_errors_come_before_work() -> None:
    model = residual()
    model.graph.node[-1].op_type = "Nonsense"
    with pytest.raises(UnsupportedError, match="Nonsense node 'n"):
        to_program(model, shapes=input_shapes(model))
    with pytest.raises(ModelError):
        to_program(model.SerializeToString()[:-3])
