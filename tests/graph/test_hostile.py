"""Damaged and malicious files: each ends in a typed error, and nothing is allocated, opened or run before."""

from __future__ import annotations

import os
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.graph.mutations import mutate_bytes, mutate_fields, mutate_values
from tests.graph.small_models import MODELS, Graph, input_shapes, residual
from tests.hostile.seeds import branch, calls, several

import omniconv as oc
from omniconv.errors import LimitError, ModelError, ModelWarning, OmniconvError, ShapeError, UnsupportedError
from omniconv.graph import load, to_program
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.ModelWarning", "ignore::omniconv.HostWarning")

COUNT = int(os.environ.get("OMNICONV_FUZZ", "200"))
MUTATIONS = {"bytes": mutate_bytes, "fields": mutate_fields, "values": mutate_values}


@pytest.mark.parametrize("kind", MUTATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_damaged_models_end_in_typed_errors(name: str, kind: str) -> None:
    model = MODELS[name]()
    shapes = input_shapes(model)
    outcomes = {"program": 0, "error": 0}
    for seed in range(max(COUNT // len(MUTATIONS), 1)):
        damaged = MUTATIONS[kind](model.SerializeToString() if kind == "bytes" else model, seed)  # type: ignore[operator]
        start = time.perf_counter()
        try:
            program = to_program(damaged, shapes=shapes, memory_limit=1 << 26)
        except OmniconvError:
            outcomes["error"] += 1
        else:
            assert isinstance(program, Program)
            outcomes["program"] += 1
        assert time.perf_counter() - start < 20, f"{name} {kind} seed {seed} took too long"
    assert outcomes["error"]


def simple(**changes: object) -> onnx.ModelProto:
    """A model of one convolution, with some parts replaced."""
    g = Graph()
    x = g.input("x", 1, 3, 8, 8)
    model = g.model(g.node("Conv", x, g.random(4, 3, 3, 3), name="y"), shapes=[[1, 4, 6, 6]])
    for key, value in changes.items():
        del getattr(model.graph, key)[:]
        getattr(model.graph, key).extend(value)
    return model


def one(
    op: str, *constants: object, x: tuple[int | str, ...] = (1, 4, 8, 8), opset: int = 17, **attributes: object
) -> onnx.ModelProto:
    """A model of one node over ``x`` and constant inputs."""
    g = Graph(opset)
    names = [
        g.const(value, np.asarray(value).dtype if np.asarray(value).dtype != float else np.float32)
        for value in constants
    ]
    return g.model(g.node(op, g.input("x", *x), *names, name="y", **attributes))


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"garbage", b"\x08\x08" * 100, os.urandom(4096), b"PK\x03\x04" + b"\0" * 64]
)
def test_garbage(data: bytes) -> None:
    with pytest.raises(ModelError):
        load(data)


@pytest.mark.parametrize("size", [0, 1, 10, 100, 500, 1000, -1])
def test_truncated(size: int, tmp_path: Path) -> None:
    data = residual().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[:size])
    with pytest.raises(OmniconvError):
        to_program(path)


def test_nested_too_deeply() -> None:
    data = b""
    for _ in range(3000):  # a graph inside an attribute of a node of a graph, and so on
        for field in (0x32, 0x2A, 0x0A):
            data = bytes([field]) + _varint(len(data)) + data
    with pytest.raises(ModelError, match="nested too deeply"):
        load(b"\x3a" + _varint(len(data)) + data)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.onnx", "\0", "a" * 5000):
        with pytest.raises(ModelError):
            load(path)
    with pytest.raises(ModelError, match="need a spec, a path, bytes"):
        load(3)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="regular file"):
        load(tmp_path / "pipe.onnx")


def test_file_above_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(LimitError, match="at most 1"):
        load(path, memory_limit=1 << 20)
    with pytest.raises(LimitError):
        load(bytes(2000), memory_limit=1000)


def test_memory_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "100")
    with pytest.raises(LimitError):
        to_program(simple())
    to_program(simple(), memory_limit=1 << 20)


def test_cycle() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Relu", ["b"], ["y"], "third"),
    ]
    with pytest.raises(ModelError, match=r"wait for each other.*no cycles.*first"):
        load(simple(node=nodes))


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Conv", ["x", "c0"], ["a"])]
    assert len(to_program(simple(node=nodes)).steps) == 1


def test_long_chains_need_no_recursion() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["v0"])]
    nodes += [helper.make_node("Mul", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(1500)]
    model = simple(node=[*nodes, helper.make_node("Conv", ["v1500", "c0"], ["y"])])
    assert to_program(model).outputs == ("y",)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([helper.make_node("Relu", ["nothing"], ["y"], "r")], r"'nothing' is not defined.*Relu node 'r'"),
        ([helper.make_node("Relu", ["x"], ["z"])], r"output 'y' is not produced"),
        ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])], "produced twice"),
        ([helper.make_node("Relu", ["x"], ["x"])], "produced twice"),
        ([helper.make_node("Relu", ["x"], ["c0"])], "produced twice"),
        ([helper.make_node("Relu", ["x"], [])], "no outputs"),
        ([helper.make_node("Relu", ["x"], [""])], "no outputs"),
        ([helper.make_node("Relu", [""], ["y"])], "left out"),
        ([helper.make_node("Relu", ["x", "x"], ["y"])], "has 2 inputs; need 1"),
        ([helper.make_node("Relu", [], ["y"])], "has 0 inputs; need 1"),
        ([helper.make_node("Relu", ["x"], ["y", "z"])], "has 2 outputs; need 1"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], strides=1.5)], "attribute strides is FLOAT; need INTS"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], strides="2")], "attribute strides is STRING; need INTS"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], colour=1)], "'colour' does not exist on Conv"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], strides=[1])], "need 2 integers"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], strides=[0, 1])], "need 2 integers from 1"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], dilations=[2**40, 1])], "need 2 integers from 1"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], pads=[-1, 0, 0, 0])], "need 4 integers from 0"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], kernel_shape=[5, 5])], "the weights have"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], auto_pad="SOMEHOW")], "need one of NOTSET"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], group=0)], "group=0"),
        ([helper.make_node("Conv", ["x", "c0"], ["y"], group=2)], "group=2"),
        ([helper.make_node("Concat", ["x", "x"], ["y"])], "axis of Concat is missing"),
        ([helper.make_node("Relu", ["x"], ["y"], domain="com.example")], "'com.example' is not imported"),
    ],
)
def test_broken_nodes(nodes: list[onnx.NodeProto], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        to_program(simple(node=nodes))


def test_attribute_given_twice_and_without_type() -> None:
    model = simple()
    model.graph.node[0].attribute.extend([helper.make_attribute("group", 1)] * 2)
    with pytest.raises(ModelError, match="given twice"):
        load(model)
    model.graph.node[0].ClearField("attribute")
    model.graph.node[0].attribute.append(onnx.AttributeProto(name="group", i=1))
    with pytest.raises(ModelError, match="no type"):
        load(model)


def test_duplicate_and_missing_declarations() -> None:
    base = simple()
    with pytest.raises(ModelError, match="input 'x' appears twice"):
        load(simple(input=[base.graph.input[0]] * 2))
    with pytest.raises(ModelError, match="initialiser 'c0' appears twice"):
        load(simple(initializer=[base.graph.initializer[0]] * 2))
    with pytest.raises(ModelError, match="no outputs"):
        load(simple(output=[]))
    with pytest.raises(ModelError, match="no graph"):
        load(onnx.ModelProto(ir_version=8))


@pytest.mark.parametrize(
    ("opsets", "error"),
    [
        ([], ModelError),
        ([("", 5)], UnsupportedError),
        ([("", 999)], UnsupportedError),
        ([("", -1)], UnsupportedError),
        ([("", 17), ("ai.onnx", 17)], ModelError),
        ([("ai.onnx.ml", 3)], ModelError),
    ],
)
def test_opsets(opsets: list[tuple[str, int]], error: type[OmniconvError]) -> None:
    model = simple()
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
    with pytest.raises(error):
        load(model)


def test_operators_of_other_domains() -> None:
    model = simple(node=[helper.make_node("FusedGemm", ["x", "c0"], ["y"], domain="com.microsoft")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"com\.microsoft\.FusedGemm"):
        to_program(model)
    model = simple()
    model.functions.append(helper.make_function("", "Conv", ["x", "w"], ["y"], [], []))
    with pytest.raises(UnsupportedError, match="replace ONNX's own"):
        to_program(model)


# Tensors


def tensor(**fields: object) -> onnx.TensorProto:
    """The weight of `simple`, with some fields replaced."""
    proto = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "c0")
    for key, value in fields.items():
        proto.ClearField(key)
        if isinstance(value, list | tuple):
            getattr(proto, key).extend(value)
        elif value is not None:
            setattr(proto, key, value)
    return proto


@pytest.mark.parametrize(
    ("proto", "error", "match"),
    [
        (tensor(dims=[4, 3, 3, 4]), ModelError, "raw_data holds 432 bytes.*promise 576"),
        (tensor(dims=[4, 3, 3, 2]), ModelError, "raw_data holds 432 bytes"),
        (tensor(dims=[]), ModelError, "raw_data holds 432 bytes"),
        (tensor(dims=[-4, -3, 3, 3]), ModelError, "negative size"),
        (tensor(dims=[2**62, 2**62, 4]), LimitError, "at most"),
        (tensor(dims=[1] * 1000), LimitError, "axes"),
        (tensor(raw_data=None), ModelError, "promise 108 values and there are none"),
        (tensor(float_data=[0.0] * 108), ModelError, "more than once"),
        (tensor(raw_data=None, float_data=[0.0] * 107), ModelError, "holds 107 values"),
        (tensor(raw_data=None, int32_data=[0] * 108), ModelError, "values in int32_data"),
        (tensor(data_type=99), UnsupportedError, "element type"),
        (tensor(data_type=0), UnsupportedError, "UNDEFINED"),
        (tensor(data_type=TensorProto.STRING), UnsupportedError, "STRING"),
        (tensor(data_type=TensorProto.FLOAT8E5M2), UnsupportedError, "FLOAT8E5M2"),
        (tensor(data_type=TensorProto.BFLOAT16), UnsupportedError, "Conv of a constant of bfloat16; .*tensor 'c0'"),
        (tensor(data_type=TensorProto.DOUBLE, dims=[2, 3, 3, 3]), ModelError, "is float64|another input"),
        (tensor(data_type=TensorProto.INT32), ModelError, "is int32"),
        (tensor(name=""), ModelError, "no name"),
    ],
)
def test_lying_tensors(proto: onnx.TensorProto, error: type[OmniconvError], match: str) -> None:
    with pytest.raises(error, match=match):
        to_program(simple(initializer=[proto]))


def external(tmp_path: Path, location: str, **more: object) -> Path:
    """A model whose weights lie in ``location``."""
    proto = tensor(raw_data=None)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        proto.external_data.add(key=key, value=str(value))
    (tmp_path / "model").mkdir(exist_ok=True)
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(simple(initializer=[proto]).SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin", offset=3, length=432)
    weights = np.arange(108, dtype=np.float32)
    (path.parent / "w.bin").write_bytes(b"abc" + weights.tobytes())
    array = load(path).constants["c0"]
    np.testing.assert_array_equal(array.ravel(), weights)
    [step] = to_program(path).steps
    assert isinstance(step, ConvStep)
    assert step.w.flags.aligned
    assert step.w.flags.c_contiguous
    with pytest.raises(ModelError, match="not a file"):
        load(path.read_bytes())


@pytest.mark.parametrize(
    ("location", "more", "match"),
    [
        ("missing.bin", {}, "cannot be opened"),
        ("", {}, "relative"),
        ("../secret.bin", {}, "outside the model's directory"),
        ("sub/../../secret.bin", {}, "cannot be opened|outside"),
        ("link.bin", {}, "outside the model's directory"),
        ("linkdir/secret.bin", {}, "outside the model's directory"),
        ("/etc/hostname", {}, "outside the model's directory|cannot be opened"),
        ("w.bin\0", {}, "relative"),
        (".", {}, "not a regular file"),
        ("a" * 5000, {}, "relative"),
        ("loop.bin", {}, "cannot be opened"),
        ("w.bin", {"offset": 4}, "needs bytes 4 to 436 of a file of 432"),
        ("w.bin", {"offset": 10**17}, "needs bytes"),
        ("w.bin", {"offset": -4}, "offset='-4'"),
        ("w.bin", {"offset": "x"}, "offset='x'"),
        ("w.bin", {"length": 431}, "length=431"),
        ("w.bin", {"length": 10**30}, "length="),
    ],
)
def test_unsafe_external_data(tmp_path: Path, location: str, more: dict[str, object], match: str) -> None:
    path = external(tmp_path, location, **more)
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (path.parent / "w.bin").write_bytes(bytes(432))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    (path.parent / "linkdir").symlink_to(tmp_path)
    (path.parent / "loop.bin").symlink_to(path.parent / "loop.bin")
    with pytest.raises(ModelError, match=match):
        load(path)


def test_links_inside_the_directory_are_fine(tmp_path: Path) -> None:
    path = external(tmp_path, "link.bin")
    (path.parent / "w.bin").write_bytes(bytes(432))
    (path.parent / "link.bin").symlink_to("w.bin")
    assert load(path).constants["c0"].shape == (4, 3, 3, 3)


# Shapes and sizes


@pytest.mark.parametrize(
    ("dims", "error", "match"),
    [
        ((1, -3, 8, 8), ModelError, "negative size -3"),
        ((1, -(2**40), 8, 8), ModelError, "negative size"),
        ((1, 2**40, 8, 8), ShapeError, "absurd"),
        ((1, 3, 2**30, 2**30), LimitError, "at most"),
        ((1,) * 100, LimitError, "axes"),
        ((1, 4, 8, 8), ModelError, "the weight W"),
    ],
)
def test_absurd_inputs(dims: tuple[int, ...], error: type[OmniconvError], match: str) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    with pytest.raises(error, match=match):
        to_program(simple(input=[info]))


def test_outputs_that_lie() -> None:
    """A wrong size hurts nobody: what the nodes produce counts. A wrong type is another model."""
    for dims in ((1, 4, 6, 7), (1, 4, 6), (4,), ()):
        with pytest.warns(ModelWarning, match=r"'y' is declared .*, the nodes produce \(1, 4, 6, 6\)"):
            program = to_program(simple(output=[helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)]))
        assert program.shapes["y"] == (1, 4, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dims in ((1, 4, 0, -1), ("n", None, 6, 6), None):
            to_program(simple(output=[helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)]))
    with pytest.raises(ShapeError, match="declared INT64"):
        to_program(simple(output=[helper.make_tensor_value_info("y", TensorProto.INT64, (1, 4, 6, 6))]))


def test_declared_inner_shapes_are_never_believed() -> None:
    info = helper.make_tensor_value_info("a", TensorProto.FLOAT, (2**40, 7))
    nodes = [
        helper.make_node("Conv", ["x", "c0"], ["a"]),
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Reshape", ["a", "s"], ["y"]),
    ]
    program = to_program(simple(node=nodes, value_info=[info]))
    assert program.shapes["y"] == (1, 4, 6, 6)


def test_initialiser_declared_with_another_shape() -> None:
    base = simple()
    info = helper.make_tensor_value_info("c0", TensorProto.FLOAT, (4, 3, 3, 5))
    with pytest.raises(ModelError, match="declared as"):
        load(simple(input=[base.graph.input[0], info]))


def fill(g: Graph, *shape: int, dtype: type = np.float32) -> str:
    """A constant that is one number in the file and large when it is written out."""
    value = numpy_helper.from_array(np.zeros(1, dtype))
    return g.node("ConstantOfShape", g.ints(*shape), value=value)


@pytest.mark.parametrize(
    "build",
    [
        lambda g: g.node("ConstantOfShape", g.ints(1 << 20, 1 << 20)),
        lambda g: g.node("Expand", g.const([1.0]), g.ints(1 << 40)),
        lambda g: g.node("Tile", g.const([1.0, 2.0]), g.ints(1 << 40)),
        lambda g: g.node("Cast", g.node("Range", *(g.const(v, np.int64) for v in (0, 1 << 50, 1))), to=1),
        lambda g: g.node("Gather", g.const([1.0]), g.node("ConstantOfShape", g.ints(1 << 34))),
        lambda g: g.node("Concat", *[fill(g, 1 << 25)] * 1000, axis=0),
        lambda g: g.node("Add", fill(g, 1 << 18, 1), fill(g, 1 << 18)),
        lambda g: g.node("MatMul", fill(g, 1 << 18, 1), fill(g, 1, 1 << 18)),
        lambda g: g.node("Where", g.node("Not", fill(g, 1 << 18, 1, dtype=bool)), fill(g, 1 << 18), g.const(1.0)),
    ],
)
def test_folding_refuses_before_it_allocates(build: object) -> None:
    g = Graph()
    x = g.input("x", 1, 1)
    model = g.model(g.node("Mul", x, build(g), name="y"))  # type: ignore[operator]
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match="at most"):
            to_program(model, memory_limit=1 << 28)
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("model", "error"),
    [
        (one("Upsample", [1.0, 1.0, 1e6, 1e6], opset=9), LimitError),
        (one("Upsample", [1.0, 1.0, 1e30, 1e30], opset=9), ModelError),
        (one("Upsample", [1.0, 1.0, float("nan"), 1.0], opset=9), ModelError),
        (one("Pad", [0, 0, 2**31, 2**31, 0, 0, 0, 0]), (LimitError, ModelError)),
        (one("Pad", [0, 0, -9, 0, 0, 0, 0, 0]), ShapeError),
        (one("Pad", [0, 0, 8, 8, 0, 0, 8, 8], mode="reflect"), ShapeError),
        (one("Expand", [2**20, 4, 8, 8], x=(1, 4, 8, 8)), None),
        (one("Expand", [2**40, 4, 8, 8], x=(1, 4, 8, 8)), LimitError),
        (one("Expand", [0, 2**62, 4, 1, 1], x=(1, 1, 1)), LimitError),
        (one("Tile", [0, 1, 2**61, 1]), LimitError),
        (one("ConvTranspose", np.zeros((4, 4, 1, 1), np.float32), strides=[2**30, 2**30]), ShapeError),
        (one("ConvTranspose", np.zeros((4, 4, 1, 1), np.float32), strides=[2**20, 2**20]), LimitError),
        (one("MaxPool", kernel_shape=[2**31 - 1, 1], pads=[2**31 - 2, 0, 2**31 - 2, 0]), LimitError),
        (one("MaxPool", kernel_shape=[9, 9]), ShapeError),
        (one("MaxPool", kernel_shape=[2, 2], pads=[2, 2, 2, 2]), ShapeError),
        (one("LRN", size=2**40), ModelError),
        (one("DepthToSpace", blocksize=2**40), ModelError),
        (one("DepthToSpace", blocksize=0), ModelError),
        (one("Reshape", [1] * 40), ModelError),
        (one("Reshape", [-1, -1]), ModelError),
        (one("Reshape", [0, -1, 0, 0, 0]), ShapeError),
        (one("Reshape", [7, -1]), ShapeError),
        (one("Unsqueeze", list(range(30))), ModelError),
        (one("Squeeze", [1]), ShapeError),
        (one("Transpose", perm=[0, 1, 1, 2]), ModelError),
        (one("Slice", [0], [4], [9]), ShapeError),
        (one("Slice", [0, 0], [4, 4], [1, -3]), ShapeError),
        (one("Slice", [0], [4], [1], [0]), ModelError),
        (one("Gather", 9, axis=1), ModelError),
        (one("Clip", float("nan"), 1.0), UnsupportedError),
        (one("Softmax", axis=7), ShapeError),
        (one("CumSum", np.array(4)), ShapeError),
        (one("CumSum", [0, 1]), ModelError),
        (one("CumSum", np.array(1), exclusive=2), ModelError),
        (one("CumSum", np.array(1), reverse=-1), ModelError),
        (one("ReduceMean", axes=[1], keepdims=2), ModelError),
        (one("AveragePool", kernel_shape=[2, 2], ceil_mode=-1), ModelError),
        (one("Concat", np.zeros((1, 4, 8, 9), np.float32), axis=1), ShapeError),
        (one("Div", np.zeros((5, 5), np.float32)), ShapeError),
        (one("Conv", np.zeros((4, 4, 1, 1, 1, 1), np.float32), x=(1, 4, 8, 8, 8, 8)), UnsupportedError),
        (one("Conv", np.zeros((0, 4, 1, 1), np.float32)), ModelError),
        (one("Gemm", np.zeros((3, 0), np.float32), x=(2, 3)), ShapeError),
    ],
)
def test_absurd_arguments(model: onnx.ModelProto, error: type[OmniconvError] | None) -> None:
    if error is None:
        to_program(model, memory_limit=1 << 31)
        return
    with pytest.raises(error) as caught:
        to_program(model, memory_limit=1 << 31)
    assert f"{model.graph.node[0].op_type} node 'n0'" in str(caught.value), caught.value


@pytest.mark.parametrize("softcap", [float("nan"), float("inf"), float("-inf"), -2.0])
def test_a_softcap_that_caps_nothing_is_refused(softcap: float) -> None:
    g = Graph(23)
    g.node("Attention", *(g.input(name, 1, 2, 3, 4) for name in "qkv"), name="y", softcap=softcap)
    with pytest.raises(ModelError, match=r"softcap=.*a finite number from 0.*Attention node"):
        to_program(g.model("y"))


def test_very_long_names_are_shortened_in_messages() -> None:
    node = helper.make_node("Nonsense" * 1000, ["x"], ["y"], "n" * 100000)
    with pytest.raises(UnsupportedError) as caught:
        to_program(simple(node=[node]))
    assert len(str(caught.value)) < 2000


def test_names_that_are_not_utf8() -> None:
    data = simple().SerializeToString().replace(b"Conv", b"C\xff\xfev")
    with pytest.raises(ModelError, match="not UTF-8"):
        to_program(data)


def test_an_empty_axis_hides_no_size() -> None:
    """What reduces it would make an array of all others: they are counted before it is made."""
    g = Graph(18)
    wide = g.node("Expand", g.const([[1.0]]), g.ints(0, 2**31 - 1))
    g.node("Add", g.node("ReduceSum", wide, g.ints(0), keepdims=0), g.input("x", 1), name="y")
    with pytest.raises(LimitError, match="takes 8"):
        oc.compile(g.model("y"), memory_limit=1 << 26)


def test_a_range_that_ends_far_below_its_start_is_empty() -> None:
    g = Graph()
    steps = g.node("Range", *(g.const(value, np.float64) for value in (1e308, -1e308, 1.0)))
    g.node("Concat", g.node("Cast", steps, to=TensorProto.FLOAT), g.input("x", 2), name="y", axis=0)
    assert oc.compile(g.model("y"))(np.ones(2, np.float32)).shape == (2,)


@pytest.mark.parametrize("given", [(2**53 + 1, 2**53 + 4, 1), (-(2**63), 2**63 - 1, 2**62), (5, -6, -4), (3, 3, 1)])
def test_ranges_of_integers_are_exact(given: tuple[int, int, int]) -> None:
    g = Graph()
    steps = g.node("Range", *(g.const(value, np.int64) for value in given), name="steps")
    g.node("Relu", g.input("x", 2), name="y")
    model = g.model(steps, "y", steps=TensorProto.INT64)
    found = oc.compile(model).run({"x": np.ones(2, np.float32)})["steps"]
    assert found.tolist() == list(range(*given))


@pytest.mark.parametrize("depth", [np.nan, np.inf, 0.5])
def test_a_depth_that_is_none_is_refused(depth: float) -> None:
    g = Graph()
    hot = g.node("OneHot", g.ints(1, 0), g.const(depth), g.const([0.0, 1.0]))
    with pytest.raises(ModelError, match=r"depth .*; need a depth from 1"):
        oc.compile(g.model(g.node("Add", hot, g.input("x", 1), name="y")))


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_that_are_single_are_not_read_as_floats(number: int) -> None:
    g = Graph(18)
    x, limit = g.input("x", 3, dtype=TensorProto.INT64), g.const(number, np.int64)
    g.node("Pad", x, g.ints(1, 0), limit, name="y")
    g.node("Clip", x, "" if number > 0 else limit, limit if number > 0 else "", name="z")
    given = np.array([-(2**63), 5, 2**63 - 1])
    found = oc.compile(g.model("y", "z", y=TensorProto.INT64, z=TensorProto.INT64)).run({"x": given})
    assert found["y"].tolist() == [number, *given.tolist()]
    assert found["z"].tolist() == [min(x, number) if number > 0 else max(x, number) for x in given.tolist()]


@pytest.mark.parametrize("make", [branch, calls, several, residual])
def test_names_that_are_no_text_are_refused_wherever_they_stand(make: Callable[[], onnx.ModelProto]) -> None:
    """One name after the other, of every kind: of values, nodes, operators, attributes, functions and sizes."""
    data = make().SerializeToString()
    refused = 0
    for at in range(len(data) - 2):
        tag, size = data[at], data[at + 1]
        text = data[at + 2 : at + 2 + size]
        if tag & 7 != 2 or not 0 < size < 20 or len(text) < size or not text.replace(b"_", b"").isalnum():
            continue
        damaged = data[: at + 2] + b"\xff" * size + data[at + 2 + size :]
        try:
            oc.compile(damaged)
        except OmniconvError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize(
    ("op", "key", "problem"),
    [
        ("GridSample", "mode", "attribute mode is empty list"),
        ("Compress", "axis", "attribute 'axis' of Compress is an empty list"),
    ],
)
def test_an_empty_list_for_a_single_value_is_refused(op: str, key: str, problem: str) -> None:
    """By operators that are read here, and by those that ONNX's evaluator reads."""
    g = Graph(20)
    second = g.input("grid", 1, 2, 2, 2) if op == "GridSample" else g.input("chosen", 3, dtype=TensorProto.BOOL)
    node = helper.make_node(op, [g.input("x", 1, 1, 3, 3), second], ["y"])
    node.attribute.append(onnx.AttributeProto(name=key, type=onnx.AttributeProto.STRINGS))
    g.nodes.append(node)
    with pytest.raises(ModelError, match=problem):
        oc.compile(g.model("y"))


@pytest.mark.parametrize(
    ("given", "need"),
    [
        ({"mask": ()}, r"attn_mask of shape \(\) for 3 keys"),
        ({"mask": (2, 4)}, r"attn_mask of shape \(2, 4\) for 3 keys"),
        ({"past_key": (), "past_value": (1, 2, 3, 4)}, r"past_key of shape \(\)"),
        ({"past_key": (1, 2, 3, 4), "past_value": (2, 3)}, r"past_value of shape \(2, 3\)"),
    ],
)
def test_inputs_of_an_attention_that_lack_axes(given: dict[str, tuple[int, ...]], need: str) -> None:
    g = Graph(23)
    names = [g.input(name, 1, 2, 3, 4) for name in "qkv"]
    names += [g.input(name, *given[name]) if name in given else "" for name in ("mask", "past_key", "past_value")]
    with pytest.raises(ShapeError, match=need):
        oc.compile(g.model(g.node("Attention", *names, name="y")))


def test_a_loop_whose_condition_copies_nothing_is_refused() -> None:
    g = Graph(16)
    x, n = g.input("x", 2), g.input("n", dtype=TensorProto.INT64)
    infos = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))
    ]
    infos.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, None))
    body = helper.make_graph(
        [helper.make_node("Identity", [], ["next"]), helper.make_node("Neg", ["s"], ["r"])],
        "inner",
        infos,
        [onnx.ValueInfoProto(name="next"), onnx.ValueInfoProto(name="r")],
    )
    g.node("Loop", n, g.const(True, bool), x, name="y", body=body)
    with pytest.raises(ModelError, match="Identity node 'next'"):
        oc.compile(g.model("y"))
    g = Graph()
    g.nodes += [helper.make_node("Reshape", [], ["r"]), helper.make_node("Transpose", [], ["y"])]
    with pytest.raises(ModelError, match="node 'y'"):
        oc.compile(g.model("y"), layout="NHWC")
