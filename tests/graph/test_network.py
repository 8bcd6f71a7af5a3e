"""Open networks: sizes that are given in part, a compilation for each set of shapes, and nothing kept of a failure."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from typing import Any

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.errors import DataError, ShapeError, SpecError, UnsupportedError
from omniconv.graph import to_program
from omniconv.runtime import kept as module
from omniconv.runtime.executable import Executable
from omniconv.runtime.network import Network


def pooled(*dims: Any) -> onnx.ModelProto:
    """Convolution, ReLU and a mean over all positions."""
    g = Graph()
    w = g.const(np.random.default_rng(3).integers(-3, 4, (4, 3, 3, 3)))
    y = g.node("Conv", g.input("x", *dims), w, pads=[1, 1, 1, 1])
    g.node("GlobalAveragePool", g.node("Relu", y), name="y")
    return g.model("y", shapes=[[None] * 4])


def added(a: tuple[Any, ...] = ("n", 4, "h"), b: tuple[Any, ...] = ("n", 4, 1)) -> onnx.ModelProto:
    g = Graph()
    g.node("Add", g.input("a", *a), g.input("b", *b), name="y")
    return g.model("y", shapes=[[None] * len(a)])


OPEN = (None, 3, "h", "w")


def draw(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(np.float32)


def expect(model: onnx.ModelProto, **inputs: Any) -> Any:
    program = to_program(model, shapes={name: x.shape for name, x in inputs.items()})
    return run_program(program, inputs)["y"]


def count_builds(net: Network, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The shapes of every compilation from now on."""
    built: list[dict[str, Any]] = []
    build = net._build

    def counted(shapes: Any) -> Executable:
        built.append(dict(shapes))
        return build(shapes)

    monkeypatch.setattr(net, "_build", counted)
    return built


def test_every_shape_is_compiled_once_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pooled(*OPEN)
    net = oc.compile(model)
    assert isinstance(net, Network)
    built = count_builds(net, monkeypatch)
    sizes = [(1, 3, 5, 7), (2, 3, 5, 7), (1, 3, 16, 16), (1, 3, 5, 7)]
    for shape in sizes * 2:
        x = draw(*shape)
        np.testing.assert_allclose(net(x), expect(model, x=x), rtol=1e-6)
        np.testing.assert_allclose(net.run({"x": x})["y"], expect(model, x=x), rtol=1e-6)
        assert net.inputs == {"x": shape}
        assert "conv" in net.explain()
    assert built == [{"x": shape} for shape in sizes[:3]]
    assert net.profile(draw(1, 3, 16, 16), repeat=1)
    assert len(built) == 3


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layouts(layout: str) -> None:
    model = pooled(*OPEN)
    net = oc.compile(model, layout=layout, shapes={"x": (None, 3, 6, None)})
    x = draw(2, 3, 6, 5)
    want = expect(model, x=x)
    if layout == "NHWC":
        x, want = np.ascontiguousarray(x.transpose(0, 2, 3, 1)), want.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(net(x), want, rtol=1e-6)
    assert net.fix({"x": (2, 3, 6, 5)}) is net.executable


def test_a_failed_call_leaves_nothing_behind() -> None:
    model = pooled(*OPEN)
    net = oc.compile(model)
    x = draw(1, 3, 6, 6)
    for wrong, error, words in (
        (x.astype(np.float64), DataError, "float64; need float32"),
        (x[0], ShapeError, "has 3 axes; need 4 axes"),
        (draw(1, 4, 6, 6), ShapeError, "changes a fixed size; need 3 instead of 4"),
        ([[1.0]], DataError, "input 'x' is a list"),
        (None, DataError, "input 'x' is a NoneType"),
    ):
        with pytest.raises(error, match=words):
            net(wrong)
        with pytest.raises(error, match=words):
            net.run({"x": wrong})
        with pytest.raises(ShapeError, match="nothing has been compiled yet"):
            net.explain()
    for names in ({}, {"z": x}, {"x": x, "z": x}):
        with pytest.raises(ShapeError, match=r"need exactly \['x'\]"):
            net.run(names)
    with pytest.raises(DataError, match="inputs is a ndarray; need arrays by name"):
        net.run(x)
    np.testing.assert_allclose(net(draw(2, 3, 4, 5)), expect(model, x=draw(2, 3, 4, 5)), rtol=1e-6)


@pytest.mark.parametrize("unknown", [0, -1, "?"])
def test_sizes_that_exporters_do_not_know_are_open(unknown: int | str) -> None:
    """0, -1 and Paddle's name for whatever it does not know say of a size what an empty dimension says."""
    model = pooled(unknown, 3, unknown, "w")
    net = oc.compile(model)
    assert isinstance(net, Network)
    assert net.signature == {"x": (None, 3, None, "w")}
    x = draw(2, 3, 4, 5)
    np.testing.assert_allclose(net(x), expect(model, x=x), rtol=1e-6)


def test_sizes_that_are_given_are_fixed() -> None:
    net = oc.compile(pooled(*OPEN), shapes={"x": (2, None, 8, None)})
    assert net.signature == {"x": (2, 3, 8, "w")}
    assert net(draw(2, 3, 8, 5)).shape == (2, 4, 1, 1)
    for shape in ((1, 3, 8, 5), (2, 3, 9, 5)):
        with pytest.raises(ShapeError, match=r"changes a fixed size.*input 'x' of shape \(2, 3, 8, w\)"):
            net(draw(*shape))
    with pytest.raises(ShapeError, match="changes a fixed size"):
        net.fix({"x": (2, 3, 9, 5)})
    assert isinstance(oc.compile(pooled(*OPEN), shapes={"x": (2, 3, 8, 5)}), Executable)


def test_a_shape_for_one_of_two_inputs_is_kept() -> None:
    model = added(("n", 4, "h"), ("m", 4, 1))
    net = oc.compile(model, shapes={"a": (2, 4, 5)})
    assert net.signature == {"a": (2, 4, 5), "b": ("m", 4, 1)}
    a, b = draw(2, 4, 5), draw(1, 4, 1)
    np.testing.assert_array_equal(net.run({"a": a, "b": b})["y"], a + b)
    with pytest.raises(ShapeError, match="changes a fixed size; need 5 instead of 6"):
        net.run({"a": draw(2, 4, 6), "b": b})
    with pytest.raises(ShapeError, match="need one input"):
        net(a)


def test_sizes_that_follow_from_others_are_known() -> None:
    model = added(("n", 4, "h"), ("n", 4, "h"))
    assert isinstance(oc.compile(model, shapes={"b": (2, 4, 5)}), Executable)
    bound = oc.compile(model, constants={"b": draw(2, 4, 5)})
    assert bound.inputs == {"a": (2, 4, 5)}
    net = oc.compile(model)
    with pytest.raises(ShapeError, match="size 'h' is 6 here and 5 before"):
        net.run({"a": draw(2, 4, 5), "b": draw(2, 4, 6)})
    assert net.fix({"a": (2, 4, 5)}).inputs == {"a": (2, 4, 5), "b": (2, 4, 5)}


def test_an_input_of_unknown_rank_is_open() -> None:
    g = Graph()
    g.node("Relu", g.input("x"), name="y")
    g.inputs[0].type.tensor_type.ClearField("shape")
    net = oc.compile(g.model("y", shapes=[[None, None]]))
    assert net.signature == {"x": None}
    np.testing.assert_array_equal(net(draw(2, 3)), np.maximum(draw(2, 3), 0))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (1, 3, 8, 8)}, "shapes for 'z', which are no inputs; need names among 'x'"),
        ({"x": (1, 3, 8, 8), "z": (1,)}, "shapes for 'z', which are no inputs; need names among 'x'"),
        ({3: (1, 3, 8, 8)}, "shapes for 3, which are no inputs"),
        ({"x": (1, 3, 8)}, "has 3 axes; need 4 axes"),
        ({"x": (1, 4, 8, 8)}, "changes a fixed size; need 3 instead of 4"),
        ({"x": (1, 3, -1, 8)}, "negative or absurd"),
        ({"x": (1, 3, 8.0, 8)}, "one integer an axis"),
        ({"x": "1388"}, "one integer an axis"),
        ({"x": 8}, "one integer an axis"),
        ({"x": None}, "one integer an axis"),
        ({"x": np.zeros((1, 3, 8, 8))}, "one integer an axis"),
        ((1, 3, 8, 8), "shapes is a tuple; need shapes by name; the inputs are 'x'"),
        (np.zeros((1, 3, 8, 8)), "shapes is a ndarray"),
        ("x=1,3,8,8", "shapes is a str"),
        (0, "shapes is a int"),
    ],
)
@pytest.mark.parametrize("dims", [OPEN, (1, 3, 8, 8)], ids=["open", "fixed"])
def test_shapes_that_do_not_fit_are_refused_at_once(dims: tuple[Any, ...], shapes: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        oc.compile(pooled(*dims), shapes=shapes)


def test_what_an_open_network_cannot_become_is_refused_at_once() -> None:
    model = pooled(*OPEN)
    with pytest.raises(ShapeError, match="'z', which is no input"):
        oc.compile(model, constants={"z": draw(1)})
    with pytest.raises(DataError, match="constants is a list"):
        oc.compile(model, constants=[draw(1)])  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="shape and weights belong to specs"):
        oc.compile(model, (1, 3, 8, 8))
    model.graph.node[1].op_type = "Det"
    with pytest.raises(UnsupportedError, match="operator Det is not supported"):
        oc.compile(model, strict=True)
    model.graph.node[1].op_type = "Bernoulli"
    with pytest.raises(UnsupportedError, match="operator Bernoulli is not supported"):
        oc.compile(model)
    g = Graph()
    g.node("Reshape", g.input("x", "n", 3), g.input("s", 1, dtype=onnx.TensorProto.INT64), name="y")
    with pytest.raises(UnsupportedError, match="input 's' is INT64"):
        oc.compile(g.model("y", shapes=[[None]]), strict=True)


def test_what_the_host_would_have_to_do_whatever_the_sizes_is_refused_at_once() -> None:
    def model(through: str, **attributes: Any) -> onnx.ModelProto:
        g = Graph()
        x = g.conv(g.input("x", *OPEN), 4, 3)
        y = g.node(through, x, **attributes) if through else x
        g.node("ArgMax", y, name="y", axis=0, keepdims=0)
        return g.model("y", y=onnx.TensorProto.INT64)

    for through in ("", "Relu", "GlobalAveragePool"):
        with pytest.raises(UnsupportedError, match=r"ArgMax of a value computed.*strict=False.*ArgMax node"):
            oc.compile(model(through), strict=True)
        assert isinstance(oc.compile(model(through)), Network)
    # The shape of an image is known once its sizes are.
    assert oc.compile(model("Shape"), strict=True).signature == {"x": OPEN}


def test_constants_are_copied() -> None:
    b = draw(1, 4, 1)
    net = oc.compile(added(("n", 4, "h"), (1, 4, 1)), constants={"b": b})
    want = draw(2, 4, 3) + b
    b[...] = 99
    np.testing.assert_array_equal(net(draw(2, 4, 3)), want)


def test_the_least_recently_used_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    net = oc.compile(pooled(*OPEN))
    built = count_builds(net, monkeypatch)
    for size in (4, 5, 4, 6, 4, 5):  # 6 replaces 5, which replaces 6
        net(draw(1, 3, size, size))
    assert [shapes["x"][2] for shapes in built] == [4, 5, 6, 5]
    monkeypatch.setattr(module, "find_memory_limit", lambda _: 1)
    net(draw(1, 3, 7, 7))
    assert len(net._kept.all) == 1
    assert net.inputs == {"x": (1, 3, 7, 7)}


def test_callers_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pooled(*OPEN)
    net = oc.compile(model)
    built = count_builds(net, monkeypatch)
    want = {size: expect(model, x=draw(1, 3, size, 6)) for size in range(4, 9)}
    found: list[tuple[int, Any]] = []
    start = threading.Barrier(8)

    def call(first: int) -> None:
        start.wait()
        for step in range(10):
            size = 4 + (first + step) % 5
            found.append((size, net(draw(1, 3, size, 6))))

    threads = [threading.Thread(target=call, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for size, y in found:
        np.testing.assert_allclose(y, want[size], rtol=1e-6)
    assert sorted(shapes["x"][2] for shapes in built) == [4, 5, 6, 7, 8]


def test_other_shapes_do_not_wait_for_one_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    net = oc.compile(pooled(*OPEN))
    net(draw(1, 3, 4, 4))
    build, entered, go_on = net._build, threading.Event(), threading.Event()

    def slow(shapes: Any) -> Executable:
        entered.set()
        assert go_on.wait(30)
        return build(shapes)

    monkeypatch.setattr(net, "_build", slow)
    caller = threading.Thread(target=lambda: net(draw(1, 3, 9, 9)))
    caller.start()
    assert entered.wait(30)
    assert net(draw(1, 3, 4, 4)).shape == (1, 4, 1, 1)
    go_on.set()
    caller.join()
    assert net.inputs == {"x": (1, 3, 9, 9)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_while_one_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child of a fork has not the thread that compiles: it must not wait for it."""
    net = oc.compile(pooled(*OPEN))
    net(draw(1, 3, 4, 4))
    build, entered, go_on = net._build, threading.Event(), threading.Event()

    def slow(shapes: Any) -> Executable:
        entered.set()
        assert go_on.wait(30)
        return build(shapes)

    monkeypatch.setattr(net, "_build", slow)
    caller = threading.Thread(target=lambda: net(draw(1, 3, 9, 9)))
    caller.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(net, "_build", build)
        timer = threading.Timer(20, lambda: os._exit(2))
        timer.daemon = True
        timer.start()
        try:
            os._exit(0 if net(draw(1, 3, 9, 9)).shape == (1, 4, 1, 1) else 1)
        finally:
            os._exit(1)
    go_on.set()
    caller.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_copies_and_pickles() -> None:
    model = pooled(*OPEN)
    net = oc.compile(model)
    layer = oc.compile(model, shapes={"x": (1, 3, 6, 6)})
    for thing in (net, layer):
        for other in (copy.copy(thing), copy.deepcopy(thing), copy.deepcopy({"net": thing})["net"]):
            np.testing.assert_array_equal(other(draw(1, 3, 6, 6)), thing(draw(1, 3, 6, 6)))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            other = pickle.loads(pickle.dumps(thing, protocol))
            np.testing.assert_array_equal(other(draw(1, 3, 6, 6)), thing(draw(1, 3, 6, 6)))


def test_attributes_of_an_open_network() -> None:
    net = oc.compile(pooled(*OPEN))
    for name in ("__array__", "__dlpack__", "shape", "_arena", "nonsense"):
        assert not hasattr(net, name)
    with pytest.raises(ShapeError, match=r"nothing has been compiled yet; need shapes, or one call, e.g. compile\("):
        _ = net.layers
    with pytest.raises(ShapeError, match="have open dimensions"):
        oc.cost(net)
    net(draw(1, 3, 6, 6))
    assert oc.cost(net).macs == 4 * 27 * 36
    assert {step.kind for step in net.layers} == {step.kind for step in net.executable.layers}
