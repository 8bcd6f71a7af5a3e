"""If, Loop, Scan and functions: put in place where they are known, run with compiled bodies where they are not."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import LimitError, ModelError, ShapeError, UnsupportedError
from omniconv.graph import load
from omniconv.graph.load import MOST_NESTED
from omniconv.runtime import patience
from omniconv.runtime.executable import Executable
from omniconv.runtime.mixed import MixedExecutable

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning")


def inner(nodes: list[Any], outputs: list[str], inputs: dict[str, int] | None = None, constants: Any = ()) -> Any:
    """A graph for an attribute; its values are declared without shapes."""
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in (inputs or {}).items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    for info in made:
        info.ClearField("type")
    return helper.make_graph(nodes, "inner", infos, made, list(constants))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def expect(model: onnx.ModelProto, **inputs: Any) -> Any:
    """The outputs by ONNX's own evaluator, which joins what a Loop scans without the new axis."""
    names = [info.name for info in model.graph.output]
    found = dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))
    if "all" in found:
        found["all"] = found["all"].reshape(-1, *inputs["x"].shape)
    return found


def x_of(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def branches(condition: str, *, then_channels: int = 4) -> onnx.ModelProto:
    """Both branches have a convolution of a value outside; one has an If of its own, which reads two scopes out."""
    g = Graph()
    x = g.input("x", 1, 4, 5, 5)
    if condition == "input":
        known = g.input("c", dtype=TensorProto.BOOL)
    else:
        known = g.const(condition == "true", bool)
    w = g.const(g.rng.integers(-2, 3, (then_channels, 4, 3, 3)))
    other = g.const(g.rng.integers(-2, 3, (4, 4, 1, 1)))
    y = g.node("Relu", x)
    deep = inner([node("Add", f"t {x}", "d1")], ["d1"])
    flat = inner([node("Neg", "t", "d2")], ["d2"])
    nodes = [node("Conv", f"{y} {w}", "t", pads=[1, 1, 1, 1])]
    nodes += [node("If", known, "u", then_branch=deep, else_branch=flat)] if then_channels == 4 else []
    then = inner(nodes, ["u" if then_channels == 4 else "t"])
    otherwise = inner([node("Conv", f"{y} {other}", "t")], ["t"])
    z = g.node("If", known, then_branch=then, else_branch=otherwise)
    g.node("GlobalAveragePool", g.node("Add", z, z), name="y")
    return g.model("y")


@pytest.mark.parametrize("condition", ["true", "false"])
def test_a_known_branch_is_put_in_its_place(condition: str) -> None:
    model = branches(condition)
    net = oc.compile(model, strict=True)
    assert isinstance(net, Executable)
    x = x_of(1, 4, 5, 5)
    np.testing.assert_allclose(net(x), expect(model, x=x)["y"], rtol=1e-6)
    assert sum(layer.kind == "convolution" or layer.kind == "pointwise" for layer in net.layers) == 1


@pytest.mark.parametrize("channels", [4, 3])
def test_only_the_branch_taken_runs(channels: int) -> None:
    """With 3 channels the branches have different shapes: what follows is compiled when one has run."""
    model = branches("input", then_channels=channels)
    with pytest.raises(UnsupportedError):
        oc.compile(model, strict=True)
    net = oc.compile(model)
    assert isinstance(net, MixedExecutable)
    x = x_of(1, 4, 5, 5)
    for taken in (True, False, True):
        given = {"x": x, "c": np.array(taken)}
        np.testing.assert_allclose(net.run(given)["y"], expect(model, **given)["y"], rtol=1e-6)
        kinds = [step.kind for step in net.profile(given, repeat=1)]
        assert kinds.count("convolution") == taken
        assert kinds.count("pointwise") == (not taken)
    assert "then:" in net.explain()
    assert "its condition is computed" in net.explain()


def misfit(*, both: bool = False) -> onnx.ModelProto:
    """A branch for five numbers and one for four, as of a network that takes sound at two rates."""
    g = Graph()
    x, c = g.input("x", 1, "n"), g.input("c", dtype=TensorProto.BOOL)
    five = inner([node("Add", f"{x} {g.const(range(5))}", "a")], ["a"])
    rows = g.ints(2, 3) if both else g.ints(2, 2)
    four = inner([node("Reshape", f"{x} {rows}", "r"), node("Reshape", f"r {g.ints(1, -1)}", "b")], ["b"])
    g.node("Relu", g.node("If", c, then_branch=five, else_branch=four), name="y")
    return g.model("y")


def test_a_branch_that_cannot_run_leaves_the_other_one_alone() -> None:
    """It is told at once, and refused when it is taken; a condition that is known is all that a branch asks for."""
    with pytest.warns(oc.HostWarning, match=r"a branch is refused when it is taken: .* the else_branch of If node 'n"):
        net = oc.compile(misfit(), shapes={"x": (1, 5)})
    x = x_of(1, 5)
    want = np.maximum(x + np.arange(5, dtype=np.float32), 0)
    np.testing.assert_array_equal(net.run({"x": x, "c": np.array(True)})["y"], want)
    assert [step.kind for step in net.profile({"x": x, "c": np.array(True)}, repeat=1)]
    for run in (net.run, lambda inputs: net.profile(inputs, repeat=1)):
        with pytest.raises(
            ShapeError, match=r"inputs for which the then_branch is taken \| Reshape node 'r', in the else_branch of If"
        ):
            run({"x": x, "c": np.array(False)})
    assert "else: refused when it is taken: " in net.explain()
    found = oc.compile(misfit())
    for size in (5, 4, 5):
        x = x_of(1, size)
        given = {"x": x, "c": np.array(size == 5)}
        np.testing.assert_array_equal(found.run(given)["y"], expect(misfit(), **given)["y"])
    for size in (4, 5):
        bound = oc.compile(misfit(), shapes={"x": (1, size)}, constants={"c": np.array(size == 5)}, strict=True)
        np.testing.assert_array_equal(
            bound(x_of(1, size)), expect(misfit(), x=x_of(1, size), c=np.array(size == 5))["y"]
        )


def test_branches_that_both_cannot_run_are_refused() -> None:
    with pytest.raises(ShapeError, match="in the then_branch of If node"):
        oc.compile(misfit(both=True), shapes={"x": (1, 4)})


def test_a_condition_from_data() -> None:
    g = Graph()
    x = g.input("x", 1, 3, 4, 4)
    y = g.conv(x, 3, 3)
    total = g.node("ReduceSum", y, keepdims=0)
    positive = g.node("Greater", total, g.const(0.0))
    then, other = inner([node("Relu", y, "a")], ["a"]), inner([node("Identity", y, "b")], ["b"])
    g.node("If", positive, name="y", then_branch=then, else_branch=other)
    model = g.model("y")
    net = oc.compile(model)
    for seed in range(4):
        x = x_of(1, 3, 4, 4, seed=seed)
        np.testing.assert_allclose(net(x), expect(model, x=x)["y"], rtol=1e-5, atol=1e-5)


def loop(trips: Any, condition: str = "same", *, scan: bool = True) -> onnx.ModelProto:
    """x becomes relu(w x + step), step by step; every x is kept."""
    g = Graph()
    x = g.input("x", 1, 4, 3, 3)
    w = g.const(g.rng.integers(-1, 2, (4, 4, 1, 1)))
    count = g.input("n", dtype=TensorProto.INT64) if trips is None else g.const(trips, np.int64)
    body = [
        node("Conv", f"s {w}", "p"), node("Cast", "i", "f", to=TensorProto.FLOAT), node("Add", "p f", "q"),
        node("Relu", "q", "r"),
    ]  # fmt: skip
    if condition == "same":
        body.append(node("Identity", "go", "next"))
    else:
        body += [node("ReduceMax", "r", "m", keepdims=0), node("Less", f"m {g.const(200.0)}", "next")]
    graph = inner(
        body,
        ["next", "r", *(["r"] if scan else [])],
        {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT},
    )
    ends = g.node("Loop", count, g.const(True, bool), x, body=graph, count=2 if scan else 1)
    last = ends[0] if scan else ends
    g.node("Add", last, x, name="y")
    if scan:
        g.node("Identity", ends[1], name="all")
    return g.model("y", *(["all"] if scan else []))


def test_a_short_loop_is_unrolled() -> None:
    model = loop(5)
    net = oc.compile(model, strict=True)
    assert isinstance(net, Executable)
    assert sum(layer.kind == "pointwise" for layer in net.layers) == 5
    x = x_of(1, 4, 3, 3)
    want = expect(model, x=x)
    got = net.run({"x": x})
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(("trips", "condition"), [(100, "same"), (None, "same"), (9, "data"), (2**63 - 1, "data")])
def test_loops_on_the_host(trips: Any, condition: str, scan: bool) -> None:
    model = loop(trips, condition, scan=scan)
    net = oc.compile(model)
    assert isinstance(net, MixedExecutable)
    for count in (3, 1, 7) if trips is None else (0,):
        given = {"x": 0.25 * x_of(1, 4, 3, 3, seed=count)} | ({"n": np.array(count)} if trips is None else {})
        want = expect(model, **given)
        got = net.run(given)
        assert list(got) == list(want)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4)
    assert any(step.kind == "host Loop" for step in net.profile(given, repeat=1))


def test_a_loop_of_no_steps() -> None:
    net = oc.compile(loop(None))
    x = x_of(1, 4, 3, 3)
    found = net.run({"x": x, "n": np.array(0)})
    np.testing.assert_array_equal(found["y"], 2 * x)
    assert found["all"].shape == (0, 1, 4, 3, 3)


def test_what_a_loop_carries_may_grow() -> None:
    g = Graph()
    x, n = g.input("x", 2, 2), g.input("n", dtype=TensorProto.INT64)
    body = [node("Concat", "s s", "r", axis=0), node("Identity", "go", "next")]
    graph = inner(body, ["next", "r"], {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT})
    g.node("Relu", g.node("Loop", n, "", x, body=graph), name="y")
    net = oc.compile(g.model("y"))
    x = x_of(2, 2)
    for count in (2, 0, 3):
        got = net.run({"x": x, "n": np.array(count)})["y"]
        np.testing.assert_array_equal(got, np.maximum(np.concatenate([x] * 2**count), 0))


def test_a_loop_of_no_steps_gives_a_copy_of_a_constant() -> None:
    """A result that is a constant of the model belongs to the caller all the same."""
    g = Graph()
    n = g.input("n", dtype=TensorProto.INT64)
    types = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT}
    graph = inner([node("Neg", "s", "r"), node("Identity", "go", "next")], ["next", "r"], types)
    g.node("Loop", n, "", g.const([1.0, 2.0]), name="y", body=graph)
    net = oc.compile(g.model("y"))
    for _ in range(2):
        found = net.run({"n": np.array(0)})["y"]
        np.testing.assert_array_equal(found, [1, 2])
        found[...] = 9


def test_a_body_whose_shapes_change_runs_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code would be made for a single step; a state that settles after the first step is compiled."""
    types = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT}
    body = [node("Concat", "s t", "r", axis=0), node("Neg", "t", "u"), node("Identity", "go", "next")]
    g = Graph()
    x, n = g.input("x", 1, 2), g.input("n", dtype=TensorProto.INT64)
    graph = inner(body, ["next", "r", "u"], {**types, "t": TensorProto.FLOAT})
    g.node("Relu", g.node("Loop", n, "", x, x, body=graph, count=2)[0], name="y")
    net = oc.compile(g.model("y"))
    assert "its shapes change from step to step" in net.explain()
    x = np.float32([[1, -2]])
    want = np.concatenate([x] + [(-1) ** index * x for index in range(100)])
    np.testing.assert_array_equal(net.run({"x": x, "n": np.array(100)})["y"], np.maximum(want, 0))
    assert len(list(net.executables)) == 1, "the Relu behind the loop"

    g = Graph()
    wide, n = g.const(np.ones((2, 3))), g.input("n", dtype=TensorProto.INT64)
    graph = inner([node("Add", f"s {wide}", "r"), node("Identity", "go", "next")], ["next", "r"], types)
    g.node("Relu", g.node("Loop", n, "", g.input("x", 1, 1), body=graph), name="y")
    net = oc.compile(g.model("y"))
    assert "change from step" not in net.explain()
    for count in (0, 1, 5):
        got = net.run({"x": np.zeros((1, 1), np.float32), "n": np.array(count)})["y"]
        np.testing.assert_array_equal(got, np.full((2, 3) if count else (1, 1), count))

    monkeypatch.setattr(patience, "MOST_STEPS", 100)
    with pytest.raises(LimitError, match=r"more than 100 steps.*Loop node 'n0'"):
        net.run({"x": np.zeros((1, 1), np.float32), "n": np.array(101)})
    net.run({"x": np.zeros((1, 1), np.float32), "n": np.array(100)})


def test_steps_of_loops_inside_one_another_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    types = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT}
    graph = inner([node("Neg", "s", "r"), node("Identity", "go", "next")], ["next", "r"], types)
    g = Graph()
    x, n = g.input("x", 2), g.input("n", dtype=TensorProto.INT64)
    outer = inner([node("Loop", f"{n} go s", "r", body=graph), node("Identity", "go", "next")], ["next", "r"], types)
    g.node("Loop", n, "", x, name="y", body=outer)
    net = oc.compile(g.model("y"))
    given = {"x": np.ones(2, np.float32), "n": np.array(9)}
    monkeypatch.setattr(patience, "MOST_STEPS", 90)
    np.testing.assert_array_equal(net.run(given)["y"], [-1, -1])
    monkeypatch.setattr(patience, "MOST_STEPS", 89)
    with pytest.raises(LimitError, match="more than 89 steps"):
        net.run(given)


def test_pieces_of_all_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of many stretches and operators of the host is more work than one of a few."""
    types = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "s": TensorProto.FLOAT}
    g = Graph()
    x, n = g.input("x", 2, 2), g.input("n", dtype=TensorProto.INT64)
    body = [node("Neg", "s", "a"), node("Det", "a", "d"), node("Add", "a d", "r"), node("Identity", "go", "next")]
    g.node("Loop", n, "", x, name="y", body=inner(body, ["next", "r"], types))
    net = oc.compile(g.model("y"))
    given = {"x": np.ones((2, 2), np.float32), "n": np.array(20)}
    monkeypatch.setattr(patience, "MOST_PIECES", 60)
    net.run(given)
    monkeypatch.setattr(patience, "MOST_PIECES", 59)
    with pytest.raises(LimitError, match=r"more than 59 stretches and operators of the host.*Loop node 'n0'"):
        net.run(given)


@pytest.mark.parametrize("steps", [6, 90])
@pytest.mark.parametrize(("axis", "backwards"), [(0, 0), (1, 1)])
def test_scans(steps: int, axis: int, backwards: int) -> None:
    """A running sum, unrolled where it is short."""
    g = Graph()
    shape = (steps, 3) if axis == 0 else (3, steps)
    x, first = g.input("x", *shape), g.const([1.0, 2.0, 3.0])
    graph = inner(
        [node("Add", "s e", "t"), node("Neg", "t", "o")], ["t", "o"], {"s": TensorProto.FLOAT, "e": TensorProto.FLOAT}
    )
    last, rows = g.node(
        "Scan",
        first,
        x,
        body=graph,
        num_scan_inputs=1,
        count=2,
        scan_input_axes=[axis],
        scan_input_directions=[backwards],
        scan_output_axes=[axis],
        scan_output_directions=[backwards],
    )
    g.node("Relu", last, name="y")
    g.node("Identity", rows, name="z")
    net = oc.compile(g.model("y", "z"))
    assert isinstance(net, Executable if steps == 6 else MixedExecutable)
    x = x_of(*shape)
    order = np.flip(x, axis) if backwards else x
    sums = np.expand_dims([1, 2, 3], axis) + np.cumsum(order, axis)
    got = net.run({"x": x})
    np.testing.assert_array_equal(got["y"], np.maximum(np.take(sums, -1, axis), 0))
    np.testing.assert_array_equal(got["z"], -(np.flip(sums, axis) if backwards else sums))


def with_functions(functions: list[Any], nodes: list[Any]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


def function(name: str, nodes: list[Any], attributes: tuple[str, ...] = ()) -> Any:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets, list(attributes))


def test_functions_of_a_model_are_inlined() -> None:
    leaky = node("LeakyRelu", "a", "t")
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    outer = function("Outer", [node("Inner", "a", "t", domain="own", slope=0.5), node("Neg", "t", "b")])
    model = with_functions(
        [function("Inner", [leaky, node("Identity", "t", "b")], ("slope",)), outer],
        [node("Outer", "x", "m", domain="own"), node("Outer", "m", "y", domain="own")],
    )
    x = x_of(1, 2, 3, 3)
    once = -np.where(x < 0, 0.5 * x, x)
    np.testing.assert_array_equal(oc.compile(model, strict=True)(x), -np.where(once < 0, 0.5 * once, once))


def test_functions_that_do_not_end_or_grow_without_bound_are_refused() -> None:
    around = function("F", [node("F", "a", "b", domain="own")])
    with pytest.raises(ModelError, match="calls itself"):
        load(with_functions([around], [node("F", "x", "y", domain="own")]))
    many = [function("F0", [node("Relu", "a", "b")])]
    for level in range(1, 40):
        inside = f"F{level - 1}"
        many.append(function(f"F{level}", [node(inside, "a", "t", domain="own"), node(inside, "t", "b", domain="own")]))
    started = time.perf_counter()
    with pytest.raises(LimitError, match="stand for"):
        load(with_functions(many, [node("F39", "x", "y", domain="own")]))
    deep = [function("F0", [node("Relu", "a", "b")])]
    deep += [function(f"F{level}", [node(f"F{level - 1}", "a", "b", domain="own")]) for level in range(1, 100)]
    with pytest.raises(LimitError, match="deep"):
        load(with_functions(deep, [node("F99", "x", "y", domain="own")]))
    assert time.perf_counter() - started < 5


def nested(depth: int) -> onnx.ModelProto:
    """Ifs inside one another, each with two branches."""
    graph = inner([node("Relu", "x", "r0")], ["r0"])
    for level in range(1, depth + 1):
        graph = inner([node("If", "c", f"r{level}", then_branch=graph, else_branch=graph)], [f"r{level}"])
    g = Graph()
    x, c = g.input("x", 2, 2), g.input("c", dtype=TensorProto.BOOL)
    assert (x, c) == ("x", "c")
    g.node("If", c, name="y", then_branch=graph, else_branch=graph)
    return g.model("y")


def test_depth_is_limited() -> None:
    x = x_of(2, 2)
    net = oc.compile(nested(4))
    np.testing.assert_array_equal(net.run({"x": x, "c": np.array(True)})["y"], np.maximum(x, 0))
    graph = inner([node("Relu", "x", "r")], ["r"])
    for level in range(MOST_NESTED):
        graph = inner([node("If", "c", f"r{level}", then_branch=graph, else_branch=inner([], ["x"]))], [f"r{level}"])
    g = Graph()
    g.input("x", 2, 2), g.input("c", dtype=TensorProto.BOOL)
    g.node("If", "c", name="y", then_branch=graph, else_branch=inner([], ["x"]))
    with pytest.raises(LimitError, match="nested"):
        oc.compile(g.model("y"))


def test_unrolling_has_a_bound() -> None:
    """Loops of 64 steps inside one another stand for 64^4 nodes: those inside stay loops."""
    body, value = [node("Add", "s one", "r")], "s"
    types = {"i": TensorProto.INT64, "go": TensorProto.BOOL, value: TensorProto.FLOAT}
    graph = inner([*body, node("Identity", "go", "next")], ["next", "r"], types)
    for _ in range(3):
        loop_node = node("Loop", "n go s", "r", body=graph)
        graph = inner([loop_node, node("Identity", "go", "next")], ["next", "r"], types)
    g = Graph()
    x = g.input("x", 1)
    for name, value, dtype in (("n", 64, np.int64), ("yes", True, bool), ("one", 1, np.float32)):
        g.constants.append(onnx.numpy_helper.from_array(np.array(value, dtype), name))
    g.node("Loop", "n", "yes", x, name="y", body=graph)
    started = time.perf_counter()
    oc.compile(g.model("y"))
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: made.attribute[0].g.output.pop(), "1 outputs|0 outputs"),
        (lambda made: made.input.pop(), "condition|inputs"),
        (lambda made: made.attribute[0].g.node[0].input.__setitem__(0, "nowhere"), "not defined"),
        (lambda made: made.attribute.pop(), "branch of If is missing"),
    ],
)
def test_damaged_branches_are_refused(change: Any, words: str) -> None:
    model = branches("input")
    change(next(item for item in model.graph.node if item.op_type == "If"))
    with pytest.raises(ModelError, match=words):
        oc.compile(model)


def test_damaged_loops_are_refused() -> None:
    for change in (
        lambda made: made.attribute[0].g.input.pop(),
        lambda made: made.attribute[0].g.output.pop(),
        lambda made: made.input.pop(),
        lambda made: made.attribute[0].g.output.pop(0),
    ):
        for trips in (5, None):
            model = loop(trips)
            change(next(item for item in model.graph.node if item.op_type == "Loop"))
            with pytest.raises(ModelError):
                oc.compile(model).run({"x": x_of(1, 4, 3, 3), "n": np.array(2)})


def test_results_of_many_steps_are_limited() -> None:
    model = loop(None)
    net = oc.compile(model, memory_limit=2**20)
    with pytest.raises(LimitError, match="steps produce together"):
        net.run({"x": x_of(1, 4, 3, 3), "n": np.array(10**9)})


def test_a_scan_whose_state_changes_its_shape_is_refused() -> None:
    g = Graph()
    types = {"s": TensorProto.FLOAT, "e": TensorProto.FLOAT}
    graph = inner([node("Concat", "s e", "t", axis=0)], ["t"], types)
    g.node("Relu", g.node("Scan", g.const([1.0]), g.input("x", 90, 1), body=graph, num_scan_inputs=1), name="y")
    with pytest.raises(ModelError, match="a state of one type and shape"):
        oc.compile(g.model("y"))
