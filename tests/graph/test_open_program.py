"""Programs with open sizes: for every shape what lowering for that shape alone makes, weights and all."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.graph.onnx_cases import node_cases
from tests.graph.small_models import MODELS, Graph, input_shapes

from omniconv.errors import OmniconvError, ShapeError
from omniconv.graph import open_program, prepare
from omniconv.graph.open_program import MOST_VARIANTS, OpenPrograms
from omniconv.graph.operator import OPERATORS
from omniconv.graph.program import lower_graph
from omniconv.graph.registry import has_operator, supported_operators
from omniconv.program.element import FLOAT32
from omniconv.program.program import Program


def assert_same(found: Any, want: Any, at: str = "program") -> None:
    """Two programs, or parts of them, are the same to the bit."""
    assert type(found) is type(want), at
    if isinstance(want, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (want.dtype, want.shape, want.tobytes()), at
    elif isinstance(want, tuple | list):
        assert len(found) == len(want), at
        for index, pair in enumerate(zip(found, want, strict=True)):
            assert_same(*pair, f"{at}[{index}]")
    elif isinstance(want, dict):
        assert list(found) == list(want), at
        for name, value in want.items():
            assert_same(found[name], value, f"{at}[{name}]")
    elif dataclasses.is_dataclass(want):
        for each in dataclasses.fields(want):
            if each.compare:
                assert_same(getattr(found, each.name), getattr(want, each.name), f"{at}.{each.name}")
    else:
        assert found == want, at


def outcome(make: Any) -> Program | str:
    """The program, or what is said where there is none."""
    try:
        return make().program
    except OmniconvError as error:
        return f"{type(error).__name__}: {error}"


def open_all(graph: Any) -> Any:
    """A graph whose inputs have sizes that are all open."""
    inputs = tuple(replace(info, dims=(None,) * len(info.dims)) for info in graph.inputs)
    return replace(graph, inputs=inputs, outputs=tuple(replace(info, dims=None) for info in graph.outputs))


def vary(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape, and others of its rank."""
    others = [(axis, size) for axis, old in enumerate(shape) for size in (old + 1, old + 2, 2 * old, 1)]
    return [shape, *((*shape[:axis], size, *shape[axis + 1 :]) for axis, size in others)]


OPENS = {name for name in supported_operators() if OPERATORS["", name].open_sizes}
CASES = [
    case
    for case in node_cases()
    if len(case.inputs) == 1
    and all(array.dtype == np.float32 and array.ndim and array.size for array in case.inputs.values())
    and all(array.dtype.isbuiltin == 1 for array in case.constants.values())
    and all(node.op_type in OPENS for node in case.model.graph.node)
]


def test_operators_for_open_sizes() -> None:
    assert {"Conv", "ConvTranspose", "MaxPool", "Resize", "Concat", "Reshape", "Softmax", "Add"} <= OPENS
    assert not OPENS & {"Shape", "Slice", "Loop", "TopK"}
    assert len(CASES) > 150


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
def test_every_operator(part: int) -> None:
    """The cases of ONNX, with every size open, for other sizes: the same program, or the same words of refusal."""
    compared = again = 0
    for case in CASES[part::2]:
        graph = open_all(prepare(case.model, constants=case.constants))
        ((name, array),) = case.inputs.items()
        programs = OpenPrograms(graph, None, FLOAT32)
        shapes = vary(array.shape)
        for shape in shapes:
            want = outcome(lambda: lower_graph(graph, {name: shape}, None, FLOAT32))  # noqa: B023
            found = outcome(lambda: programs.find({name: shape}))  # noqa: B023
            assert_same(found, want, f"{case.name} {shape}")
            compared += isinstance(want, Program)
        again += len(shapes) - len(programs._variants)
    assert compared > 500
    assert again > compared // 2, "programs of one shape serve others"


def test_transposes_that_cancel_over_open_sizes() -> None:
    """Layers of every pixel, channels last: what moves no channel may have any number of rows."""
    g = Graph()
    x = g.input("x", "n", 4, "h", "w")
    for _ in range(2):
        x = g.node("MatMul", g.node("Transpose", x, perm=[0, 2, 3, 1]), g.random(4, 4))
        x = g.node("Transpose", x, perm=[0, 3, 1, 2])
    graph = prepare(g.model(g.node("Relu", x, name="y")))
    programs = OpenPrograms(graph, None, FLOAT32)
    for shape in ((1, 4, 6, 6), (1, 4, 6, 7), (2, 4, 5, 7)):
        want = lower_graph(graph, {"x": shape}, None, FLOAT32).program
        assert_same(programs.find({"x": shape}).program, want)


def test_what_takes_only_integers_is_lowered_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = OpenPrograms(prepare(image_network()), None, FLOAT32)

    def lower(graph: Any, shapes: Any, *rest: Any) -> Any:
        math.prod(range(shapes["x"][2] / 1))
        return lower_graph(graph, shapes, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(open_program, "lower_graph", lower)
        with pytest.raises(TypeError):
            programs.find({"x": (1, 3, 32, 32)})
    assert not programs._variants
    assert programs.find({"x": (1, 3, 32, 32)}).program.steps


def image_network() -> Any:
    """Layers, pools, resized sums, gates, a classifier: all that does not look at shapes."""
    g = Graph()
    x = g.input("x", "n", 3, "h", "w")
    stem = g.node("HardSwish", g.norm(g.conv(x, 8, 3, strides=[2, 2]), 8))
    low = g.node("MaxPool", stem, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    low = g.node("AveragePool", g.conv(low, 8, 8, group=8), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    gate = g.node("Sigmoid", g.conv(g.node("GlobalAveragePool", low), 8, 8, 1))
    up = g.node("Resize", g.node("Mul", low, gate), "", g.const([1.0, 1.0, 4.0, 4.0]), mode="linear")
    y = g.node("Add", stem, g.node("Relu", g.norm(g.conv(up, 8, 8), 8)))
    g.node("Clip", g.node("ConvTranspose", y, g.random(8, 2, 2, 2), strides=[2, 2]), g.const(0.0), name="y")
    flat = g.node("Flatten", g.node("GlobalAveragePool", y))
    g.node("Softmax", g.node("Gemm", flat, g.random(10, 8), g.random(10), transB=1), name="z")
    return g.model("y", "z")


def count_lowerings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is lowered from now on."""
    seen: list[Any] = []

    def counted(graph: Any, shapes: Any, *rest: Any) -> Any:
        seen.append(shapes)
        return lower_graph(graph, shapes, *rest)

    monkeypatch.setattr(open_program, "lower_graph", counted)
    return seen


SIZES = [(1, 3, 64, 64), (1, 3, 32, 96), (1, 3, 128, 48), (1, 3, 96, 80)]


def test_a_network_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prepare(image_network())
    programs = OpenPrograms(graph, None, FLOAT32)
    wanted = [lower_graph(graph, {"x": shape}, None, FLOAT32) for shape in SIZES]
    lowered = count_lowerings(monkeypatch)
    found = [programs.find({"x": shape}) for shape in SIZES]
    assert len(lowered) == 1
    for one, want in zip(found, wanted, strict=True):
        assert_same(one, want)
    weights = [[id(step.w) for step in each.program.steps if hasattr(step, "w")] for each in found]
    assert weights[0] == weights[1] == weights[2], "weights are folded once"
    assert programs.find({"x": (2, 3, 64, 64)}).program.shapes["z"] == (2, 10)
    assert len(lowered) == 2, "a batch is another program, for batches of all sizes"
    programs.find({"x": (5, 3, 96, 32)})
    assert len(lowered) == 2


def test_refusals_name_sizes() -> None:
    programs = OpenPrograms(prepare(image_network()), None, FLOAT32)
    programs.find({"x": SIZES[0]})
    with pytest.raises(ShapeError, match=r"shapes \(1, 8, 36, 32\) and \(1, 8, 33, 32\)"):
        programs.find({"x": (1, 3, 66, 64)})


@pytest.mark.parametrize("name", sorted(MODELS))
def test_small_models(name: str) -> None:
    model = MODELS[name]()
    graph, shapes = prepare(model), input_shapes(model, {"n": 2, "h": 8, "w": 12})
    opened = open_all(graph)
    programs = OpenPrograms(opened, None, FLOAT32)
    for more in (0, 4, 8):
        grown = {key: (*dims[:2], *(size + more for size in dims[2:])) for key, dims in shapes.items()}
        want = outcome(lambda: lower_graph(opened, grown, None, FLOAT32))  # noqa: B023
        assert_same(outcome(lambda: programs.find(grown)), want, f"{name} {grown}")  # noqa: B023


def test_shapes_that_are_looked_at_are_lowered_each(monkeypatch: pytest.MonkeyPatch) -> None:
    g = Graph()
    x = g.input("x", 1, 4, "h", "w")
    g.node("Reshape", g.node("Relu", x), g.node("Shape", g.node("Transpose", x, perm=[0, 1, 3, 2])), name="y")
    programs = OpenPrograms(prepare(g.model("y")), None, FLOAT32)
    lowered = count_lowerings(monkeypatch)
    for height in (3, 4, 5):
        assert programs.find({"x": (1, 4, height, 7)}).program.shapes["y"] == (1, 4, 7, height)
    assert len(lowered) == 3


def test_a_size_that_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sizes in a set are one, which no guard would say: such a graph is lowered for each shape."""
    relu = OPERATORS["", "Relu"]
    assert relu.lower is not None
    seen = []

    def lower(node: Any, inputs: Any, build: Any) -> Any:
        seen.append(len(set(inputs[0].shape)))
        assert relu.lower is not None
        return relu.lower(node, inputs, build)

    monkeypatch.setitem(OPERATORS, ("", "Relu"), replace(relu, lower=lower))
    g = Graph()
    g.node("Relu", g.input("x", 1, 2, "h", "w"), name="y")
    programs = OpenPrograms(prepare(g.model("y")), None, FLOAT32)
    for shape in ((1, 2, 5, 5), (1, 2, 5, 6)):
        assert programs.find({"x": shape}).program.shapes["y"] == shape
    assert seen == [3, 4]


def test_sizes_that_are_pinned_end_in_lowering_each(monkeypatch: pytest.MonkeyPatch) -> None:
    relu = OPERATORS["", "Relu"]
    assert relu.lower is not None
    pinned = lambda node, inputs, build: (range(inputs[0].shape[3]), relu.lower(node, inputs, build))[1]
    monkeypatch.setitem(OPERATORS, ("", "Relu"), replace(relu, lower=pinned))
    g = Graph()
    g.node("Relu", g.input("x", 1, 2, "h", "w"), name="y")
    programs = OpenPrograms(prepare(g.model("y")), None, FLOAT32)
    for width in range(2, MOST_VARIANTS + 6):
        assert programs.find({"x": (1, 2, 9, width)}).program.shapes["y"] == (1, 2, 9, width)
    assert len(programs._variants) == MOST_VARIANTS


def test_has_operator_knows_every_flag() -> None:
    graph = prepare(image_network())
    assert all(found.open_sizes for node in graph.nodes if (found := has_operator(node)) and node.op != "Constant")
