"""Networks that run in part on the host: types, shapes that depend on values, the warning, and what is refused."""

from __future__ import annotations

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import DataError, HostWarning, LimitError, ModelError, ShapeError, UnsupportedError
from omniconv.runtime.executable import Executable
from omniconv.runtime.mixed import MixedExecutable
from omniconv.runtime.network import Network
from omniconv.runtime.results import Results

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning")


def typed(model: onnx.ModelProto, **types: int) -> onnx.ModelProto:
    """The model with outputs of other types than float."""
    for info in model.graph.output:
        info.type.tensor_type.elem_type = types.get(info.name, info.type.tensor_type.elem_type)
    return model


def image() -> onnx.ModelProto:
    """A picture of bytes, a convolution, and the class of every position."""
    g = Graph()
    x = g.node("Cast", g.input("x", 1, 3, 8, 9, dtype=TensorProto.UINT8), to=TensorProto.FLOAT)
    w = g.const(g.rng.integers(-3, 4, (4, 3, 3, 3)))
    y = g.node("Relu", g.node("Conv", x, w, pads=[1, 1, 1, 1]))
    g.node("ArgMax", y, name="y", axis=1)
    return typed(g.model("y"), y=TensorProto.INT64)


def tokens() -> onnx.ModelProto:
    """An embedding of token numbers, and a convolution along them."""
    g = Graph()
    ids = g.input("ids", 2, 7, dtype=TensorProto.INT64)
    g.constants.append(onnx.numpy_helper.from_array(g.rng.integers(-4, 5, (11, 6)).astype(np.float32), "table"))
    x = g.node("Transpose", g.node("Gather", "table", ids), perm=[0, 2, 1])
    g.node("Conv", x, g.const(g.rng.integers(-3, 4, (5, 6, 3))), name="y", pads=[1, 1])
    return g.model("y")


def picked() -> onnx.ModelProto:
    """What is positive after a convolution, as a list, and a product with it."""
    g = Graph()
    x = g.input("x", 1, 2, 5, 5)
    y = g.node("Conv", x, g.const(g.rng.integers(-3, 4, (2, 2, 3, 3))))
    at = g.node("Transpose", g.node("NonZero", g.node("Relu", y)), name="at", perm=[1, 0])
    values = g.node("GatherND", y, at)
    g.node("MatMul", g.node("Unsqueeze", values, g.ints(1)), g.const(g.rng.integers(-3, 4, (1, 3))), name="z")
    return typed(g.model("at", "z"), at=TensorProto.INT64)


def boxes(limit: int = 6) -> onnx.ModelProto:
    """Boxes of a convolution, the best of them, and a layer on those."""
    g = Graph()
    raw = g.conv(g.input("x", 1, 3, 4, 5), 4, 3, 1)
    corners = g.node("Transpose", g.node("Reshape", raw, g.ints(1, 4, 20)), perm=[0, 2, 1])
    scores = g.node("Transpose", g.node("Slice", corners, g.ints(0), g.ints(2), g.ints(2)), perm=[0, 2, 1])
    best = g.node("NonMaxSuppression", corners, scores, g.ints(limit), g.const([0.3]), g.const([0.0]))
    which = g.node("Gather", best, g.const(2, np.int64), axis=1)
    kept = g.node("Gather", g.node("Squeeze", corners, g.ints(0)), which)
    g.node("Gemm", kept, g.random(4, 3), g.random(3), name="y")
    return g.model("y")


def masked() -> onnx.ModelProto:
    """Truths that enter, leave, and cross between compiled stretches and the host."""
    g = Graph()
    mask, x = g.input("mask", 1, 1, 5, 1, dtype=TensorProto.BOOL), g.input("x", 1, 2, 5, 5)
    y = g.node("Conv", x, g.const(g.rng.integers(-3, 4, (2, 2, 3, 3))), pads=[1, 1, 1, 1])
    both = g.node("And", g.node("Greater", y, g.const(0.0)), mask, name="both")
    columns = g.node("Gather", both, g.ints(4, 0, 2), axis=3)  # of a truth: on the host
    g.node("Conv", g.node("Where", both, y, g.const(-1.0)), g.const(g.rng.integers(-3, 4, (3, 2, 1, 1))), name="z")
    some = g.node("Or", columns, g.node("Expand", mask, g.ints(1, 2, 5, 3)))
    g.node("Where", some, g.node("Slice", y, g.ints(0), g.ints(3), g.ints(3)), g.const(9.0), name="w")
    g.node("NonZero", some, name="at")
    return typed(g.model("both", "z", "w", "at"), both=TensorProto.BOOL, at=TensorProto.INT64)


def scalars() -> onnx.ModelProto:
    """Truths and numbers without axes that cross between compiled stretches and the host."""
    g = Graph()
    x, mask = g.input("x", 3), g.input("mask", dtype=TensorProto.BOOL)
    deep = g.node("Not", g.node("Greater", g.node("ReduceSum", x, keepdims=0), g.const(1.0)), name="deep")
    count = g.node("Cast", g.node("Cast", deep, to=TensorProto.INT32), to=TensorProto.FLOAT)  # on the host
    again = g.node("Less", count, g.const(0.5), name="again")
    sides = []
    for name, op in (("then", "Exp"), ("else", "Neg")):
        nodes = [helper.make_node("Mul", ["x", "x"], [f"{name}_0"]), helper.make_node(op, [f"{name}_0"], [f"{name}_1"])]
        outputs = [helper.make_tensor_value_info(f"{name}_1", TensorProto.FLOAT, None)]
        sides.append(helper.make_graph(nodes, name, [], outputs))
    g.node("If", g.node("Xor", again, g.node("And", deep, mask)), name="y", then_branch=sides[0], else_branch=sides[1])
    return typed(g.model("deep", "again", "y"), deep=TensorProto.BOOL, again=TensorProto.BOOL)


def rows(steps: int = 70) -> onnx.ModelProto:
    """A scan on the host along the only axis of a vector: a step sees a number without axes."""
    g = Graph()
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s", "e", "t", "r")]
    nodes = [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Max", ["t", "e"], ["r"])]
    body = helper.make_graph(nodes, "body", infos[:2], infos[2:])
    g.node("Scan", g.input("start"), g.input("x", steps), name="y", count=2, num_scan_inputs=1, body=body)
    return g.model("y_0", "y_1")


def draw(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for info in model.graph.input:
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        found[info.name] = rng.integers(-4 if dtype.kind == "f" else 0, 2 if dtype.kind == "b" else 8, shape).astype(
            dtype
        )
    return found


def expect(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [info.name for info in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))


def compare(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("make", [image, tokens, picked, boxes, masked, scalars, rows])
@pytest.mark.parametrize("threads", [1, 2])
def test_models_with_steps_on_the_host_are_right(make: Any, threads: int) -> None:
    model = make()
    net = oc.compile(model, threads=threads)
    assert isinstance(net, MixedExecutable)
    for seed in range(4):
        inputs = draw(model, seed)
        compare(net.run(inputs), expect(model, inputs))


def test_a_single_element_gathered_on_the_host() -> None:
    g = Graph()
    at = g.node("ArgMax", g.input("x", 2, 3, 4), axis=2, keepdims=0)
    one = g.node("GatherND", at, g.ints(1, -1), name="one")
    g.node("Add", g.node("Cast", one, to=TensorProto.FLOAT), "x", name="y")
    model = typed(g.model("one", "y"), one=TensorProto.INT64)
    inputs = draw(model)
    compare(oc.compile(model).run(inputs), expect(model, inputs))


def test_an_operator_that_is_not_in_the_opset_is_refused() -> None:
    g = Graph(opset=13)
    g.node("Trilu", g.input("x", 3, 3), name="y")
    with pytest.raises(
        UnsupportedError, match=r"Trilu of opset 13, and Trilu cannot run .* it is not in opset 13; .*'n0'"
    ):
        oc.compile(g.model("y"))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [8, "h"])
def test_an_input_of_another_size_is_refused_before_it_is_copied(size: Any, layout: str) -> None:
    g = Graph()
    g.node("ArgMax", g.node("Relu", g.input("x", 1, 3, size, 8)), name="y", axis=1)
    net = oc.compile(typed(g.model("y"), y=TensorProto.INT64), layout=layout, memory_limit=2**30)
    huge = (1, 3, 2**31 - 1, 8) if layout == "NCHW" else (1, 2**31 - 1, 8, 3)
    with pytest.raises(ShapeError if size == 8 else LimitError):
        net.run({"x": np.broadcast_to(np.float32(1), huge)})


def test_tiers_are_visible() -> None:
    net = oc.compile(image())
    assert (net.tiers.compiled, net.tiers.host, net.tiers.waiting) == (2, 2, 0)
    text = net.explain()
    assert "2 nodes compiled, 0 folded, 2 on the host" in text
    assert "host: Cast node 'n0' -> float32 (1, 3, 8, 9)\n    Cast of uint8 values" in text
    assert "panel kernel" in text
    steps = net.profile(np.zeros((1, 3, 8, 9), np.uint8), repeat=2)
    assert [step.kind for step in steps if step.kind.startswith("host")] == ["host Cast", "host ArgMax"]
    assert "convolution" in [step.kind for step in steps]
    assert sum(step.share for step in steps) == pytest.approx(1)
    assert all(step.seconds > 0 for step in steps)
    assert net.layers[0].kind == "convolution"
    pure = oc.compile(Graph_of_relu())
    assert pure.tiers.compiled == 1
    assert "1 node compiled, 1 folded, 0 on the host" in pure.explain()


def Graph_of_relu() -> onnx.ModelProto:
    g = Graph()
    scale = g.node("Add", g.const(1.0), g.const(1.0))
    g.node("Mul", g.input("x", 1, 2, 3, 3), scale, name="y")
    return g.model("y")


def test_one_warning_names_what_runs_on_the_host() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = oc.compile(image())
        net(np.zeros((1, 3, 8, 9), np.uint8))
        net(np.zeros((1, 3, 8, 9), np.uint8))
    assert [item.category for item in caught] == [HostWarning]
    assert "2 nodes run on the host, in NumPy: Cast node 'n0', ArgMax node 'n3'; see" in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oc.compile(Graph_of_relu())


def test_a_declared_shape_that_lies_is_told_at_the_line_that_compiles() -> None:
    g = Graph()
    model = g.model(g.node("Relu", g.input("x", 1, 2), name="y"), shapes=[[1, 3]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        oc.compile(model)
        oc.cost(model)
    assert [(item.category, item.filename) for item in caught] == [(oc.ModelWarning, __file__)] * 2


def test_an_open_network_warns_once() -> None:
    g = Graph()
    g.node("ArgMax", g.conv(g.input("x", 1, 3, "h", "w"), 4, 3), name="y", axis=1)
    net = oc.compile(typed(g.model("y"), y=TensorProto.INT64))
    assert isinstance(net, Network)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size in (4, 5, 4):
            assert net(np.ones((1, 3, size, size), np.float32)).shape == (1, 1, size, size)
    assert [(item.category, item.filename) for item in caught] == [(HostWarning, __file__)]


def test_what_is_compiled_says_what_enters_and_leaves() -> None:
    found = repr(oc.compile(picked(), threads=2))
    assert found.startswith("<MixedExecutable x float32 (1, 2, 5, 5) -> at ?, z ?; NCHW, 2 threads, ")
    assert repr(oc.compile(Graph_of_relu(), layout="NHWC")).startswith(
        "<Executable x float32 (1, 3, 3, 2) -> y float32 (1, 3, 3, 2); NHWC, 1 thread, "
    )
    g = Graph()
    g.node("And", g.input("m", "n", None, dtype=TensorProto.BOOL), g.const(True, bool), name="y")
    net = oc.compile(typed(g.model("y"), y=TensorProto.BOOL))
    assert repr(net).startswith("<Network m bool (n, ?) -> y bool; NCHW, 1 thread, ")
    assert (net.threads, net.layout) == (1, "NCHW")
    g = Graph()
    for index in range(12):
        g.node("Neg", g.input(f"x{index}", 1), name=f"y{index}")
    assert " and 4 more -> " in repr(oc.compile(g.model(*(f"y{index}" for index in range(12)))))


def test_large_results_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    g = Graph()
    y = g.node("Neg", g.input("x", 1, 2**19), name="y")
    g.node("NonZero", g.node("Slice", y, g.ints(0), g.ints(4), g.ints(1)), name="at")
    net = oc.compile(typed(g.model("y", "at"), at=TensorProto.INT64))
    made: list[np.ndarray] = []
    take = Results.take
    monkeypatch.setattr(Results, "take", lambda results, index: made.append(take(results, index)) or made[-1])
    x = np.ones((1, 2**19), np.float32)
    found = net.run({"x": x})["y"]
    assert any(item is found for item in made)
    again = net.run({"x": 2 * x})["y"]
    assert (found == -1).all()
    assert (again == -2).all()


@pytest.mark.parametrize("make", [image, tokens, picked])
def test_strict_refuses(make: Any) -> None:
    with pytest.raises(UnsupportedError, match="strict=False, with which it runs on the host"):
        oc.compile(make(), strict=True)
    assert isinstance(oc.compile(Graph_of_relu(), strict=True), Executable)


def test_strict_refuses_before_shapes_are_known() -> None:
    g = Graph()
    g.node("Det", g.input("x", 1, "c", 3, 3), name="y")
    with pytest.raises(UnsupportedError, match=r"Det is not supported.*strict=False, with which it runs on the host"):
        oc.compile(typed(g.model("y"), y=TensorProto.INT64), strict=True)


@pytest.mark.parametrize("dtype", "int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool float16 float64".split())
def test_every_type_enters_and_leaves(dtype: str) -> None:
    g = Graph()
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = g.input("x", 2, 3, dtype=number)
    g.input("f", 2, 3)
    g.node("Add", g.node("Cast", x, to=TensorProto.FLOAT), "f", name="sum")
    g.node("Concat", x, x, name="twice", axis=0)
    model = typed(g.model("sum", "twice", "x"), twice=number, x=number)
    net = oc.compile(model)
    given = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    floats = np.float32([[0.5, 1, 2], [3, 4, 5]])
    found = net.run({"x": given, "f": floats})
    np.testing.assert_array_equal(found["sum"], given.astype(np.float32) + floats)
    np.testing.assert_array_equal(found["twice"], np.concatenate([given, given]))
    assert found["twice"].dtype == found["x"].dtype == given.dtype
    found["x"][...] = 0
    assert given.any()
    with pytest.raises(DataError, match=f"dtype float32; need {dtype}"):
        net.run({"x": floats, "f": floats})


def test_constant_outputs_and_outputs_that_are_inputs() -> None:
    g = Graph()
    x = g.input("x", 2, 2)
    g.node("Shape", x, name="shape")
    g.node("Add", g.const([1.0]), g.const([2.0]), name="three")
    g.node("Identity", x, name="same")
    model = typed(g.model("shape", "three", "same", "x"), shape=TensorProto.INT64)
    net = oc.compile(model)
    x = np.float32([[1, 2], [3, 4]])
    for _ in range(2):
        found = net.run({"x": x})
        np.testing.assert_array_equal(found["shape"], [2, 2])
        np.testing.assert_array_equal(found["three"], [3.0])
        np.testing.assert_array_equal(found["same"], [[1, 2], [3, 4]])
        for array in found.values():
            array[...] = 9


def test_values_that_decide_shapes_are_constants_of_what_follows() -> None:
    g = Graph()
    x, shape = g.input("x", 2, 6, 4), g.input("shape", 3, dtype=TensorProto.INT64)
    y = g.node("Conv", g.node("Reshape", x, g.node("Mul", shape, g.ints(1))), g.const(np.ones((2, 4, 1))))
    g.node("Relu", y, name="y")
    net = oc.compile(g.model("y"))
    x = draw(g.model("y"))["x"]
    for sizes in ((3, 4, 4), (1, 4, 12), (3, 4, 4), (-1, 4, 6)):
        want = np.maximum(x.reshape(sizes).sum(1, keepdims=True).repeat(2, 1), 0)
        np.testing.assert_array_equal(net.run({"x": x, "shape": np.array(sizes)})["y"], want)
    assert len(net.pieces.rest.kept.all) == 3
    with pytest.raises(ShapeError, match="equal numbers of elements"):
        net.run({"x": x, "shape": np.array([5, 4, 4])})
    g = Graph()
    g.node("Expand", g.input("x", 1), g.input("s", 2, dtype=TensorProto.INT64), name="y")
    net = oc.compile(g.model("y"))
    with pytest.raises(LimitError):
        net.run({"x": np.zeros(1, np.float32), "s": np.array([2**31, 2**31])})


def test_stretches_are_few() -> None:
    """Two ways that alternate between tiers are done side by side."""
    g = Graph()
    x = g.input("x", 1, 4, 6, 6)
    ends = []
    for _ in range(3):
        y = g.conv(x, 4, 4)
        for _ in range(2):
            y = g.conv(g.node("ReverseSequence", y, g.ints(3), time_axis=1, batch_axis=0), 4, 4)
        ends.append(y)
    g.node("Sum", *ends, name="y")
    model = g.model("y")
    net = oc.compile(model)
    assert (net.tiers.stretches, net.tiers.host, net.tiers.compiled) == (3, 6, 10)
    inputs = draw(model)
    compare(net.run(inputs), expect(model, inputs))


@pytest.mark.parametrize("make", [image, picked])
def test_channels_last_is_at_the_boundary_only(make: Any) -> None:
    model = make()
    inputs = draw(model)
    want = oc.compile(model).run(inputs)
    net = oc.compile(model, layout="NHWC")
    got = net.run({name: np.moveaxis(x, 1, -1) for name, x in inputs.items()})
    assert net.inputs["x"][-1] == inputs["x"].shape[1]
    for name, array in want.items():
        expected = np.moveaxis(array, 1, -1) if net.is_channels_last(name, array.ndim) else array
        np.testing.assert_array_equal(got[name], expected)
        assert got[name].flags.c_contiguous


def test_wider_floats_are_those_of_stretches() -> None:
    model = picked()
    net = oc.compile(model, dtype="float64")
    inputs = draw(model)
    found = net.run({"x": inputs["x"].astype(np.float64)})
    assert found["z"].dtype == np.float64
    np.testing.assert_array_equal(found["z"], expect(model, inputs)["z"])
    g = Graph()
    g.node("Relu", g.input("x", 2, dtype=TensorProto.DOUBLE), name="y")
    with pytest.raises(UnsupportedError, match="dtype='float64'"):
        oc.compile(typed(g.model("y"), y=TensorProto.DOUBLE))


def test_concurrent_callers() -> None:
    model = picked()
    net = oc.compile(model, threads=2)
    cases = [draw(model, seed) for seed in range(12)]
    wants = [expect(model, case) for case in cases]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for got, want in zip(pool.map(net.run, cases), wants, strict=True):
                compare(got, want)
    assert copy.deepcopy(net) is net
    other = pickle.loads(pickle.dumps(net))
    compare(other.run(cases[0]), wants[0])


@pytest.mark.parametrize(
    ("op", "shapes", "values", "attributes"),
    [
        ("Gather", [(4, 3)], [5], {}),
        ("GatherElements", [(4, 3)], [[4, 0, 0]], {}),
        ("GatherND", [(4, 3)], [[0, 3]], {}),
        ("ScatterElements", [(4, 3), (1, 1)], [[-5]], {}),
        ("ScatterND", [(4, 3), (1, 3)], [[7]], {}),
        ("ReverseSequence", [(4, 3)], [1, 2, 9], {}),
    ],
)
def test_indices_outside_are_refused(op: str, shapes: Any, values: Any, attributes: Any) -> None:
    g = Graph()
    data = [g.input(f"x{index}", *shape) for index, shape in enumerate(shapes)]
    at = g.input("at", *np.shape(values), dtype=TensorProto.INT64)
    g.node(op, data[0], at, *data[1:], name="y", **attributes)
    net = oc.compile(g.model("y"))
    floats = {name: np.zeros(shape, np.float32) for name, shape in zip(data, shapes, strict=True)}
    with pytest.raises(ModelError, match=f"{op} node"):
        net.run({**floats, "at": np.array(values)})
    net.run({**floats, "at": np.zeros_like(values)})


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    g = Graph()
    g.node("NonZero", g.input("x", 1000), name="y")
    model = typed(g.model("y"), y=TensorProto.INT64)
    assert oc.compile(model, memory_limit=2**20).run({"x": np.ones(1000, np.float32)})["y"].shape == (1, 1000)
    net = oc.compile(model, memory_limit=6000)
    with pytest.raises(LimitError, match="NonZero"):
        net.run({"x": np.ones(1000, np.float32)})
    for op, inputs, attributes in (
        ("Range", [0, 2**40, 1], {}),
        ("ConstantOfShape", [[2**20, 2**20]], {}),
        ("Tile", [[1], [2**40]], {}),
        ("OneHot", [[1], 2**40, [0, 1]], {}),
        ("EyeLike", [[[0] * 3000] * 3000], {"dtype": TensorProto.DOUBLE}),
        ("Pad", [[1], [2**40, 0]], {}),
        ("Expand", [[1], [2**40]], {}),
    ):
        g = Graph()
        arrays = {f"i{index}": np.array(value) for index, value in enumerate(inputs)}
        names = [g.input(name, *array.shape, dtype=TensorProto.INT64) for name, array in arrays.items()]
        g.node(op, *names, name="y", **attributes)
        with pytest.raises(LimitError):
            oc.compile(typed(g.model("y"), y=0), memory_limit=2**26).run(arrays)


def test_what_never_runs_on_the_host_is_refused_by_name() -> None:
    g = Graph()
    g.node("Add", g.node("RandomNormalLike", g.input("x", 2, 2)), "x", name="y")
    with pytest.raises(UnsupportedError, match=r"RandomNormalLike.*its results are random"):
        oc.compile(g.model("y"))
    g = Graph(14)
    half = g.node("Cast", g.input("x", 1, 3, 2, 2), to=TensorProto.FLOAT16)
    g.node("LRN", half, name="y", size=3)
    with pytest.raises(UnsupportedError, match="sums the squares of some channels only"):
        oc.compile(typed(g.model("y"), y=TensorProto.FLOAT16))
    g = Graph()
    g.node("Dropout", g.input("x", 2, 2), g.const(0.5), g.const(True, bool), name="y")
    with pytest.raises(UnsupportedError, match="training mode"):
        oc.compile(g.model("y"))


def test_old_operators_are_not_computed_as_new_ones() -> None:
    """Softmax of opset 11 runs over all axes from 1 on; NumPy's implementation is that of opset 13."""
    g = Graph(11)
    g.node("Softmax", g.input("x", 2, 3, 4, dtype=TensorProto.FLOAT16), name="y")
    with pytest.raises(UnsupportedError, match="Softmax of opset 11 differs"):
        oc.compile(typed(g.model("y"), y=TensorProto.FLOAT16))


def test_results_that_nobody_reads_need_no_name() -> None:
    """Exporters leave the values of a TopK out where only their places are read."""
    g = Graph()
    x = g.input("x", 2, 9)
    g.nodes.append(helper.make_node("TopK", [x, g.ints(4)], ["", "y"], "n0"))
    model = typed(g.model("y"), y=TensorProto.INT64)
    values = np.random.default_rng(2).standard_normal((2, 9)).astype(np.float32)
    np.testing.assert_array_equal(oc.compile(model)(values), np.argsort(-values)[:, :4])
