"""The whole public interface with arguments of wrong types and values: whatever comes, it is an error of Omniconv."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv import analysis, onnx_backend, ort
from omniconv.errors import DataError, ModelError, OmniconvError, ShapeError, SpecError, UnsupportedError
from omniconv.study import StudySettings

try:
    import torch
    from torch import nn

    import omniconv.torch as of_torch
except ImportError:
    torch = None

Door = Callable[[Any], object]

SPEC = oc.Conv.of(4, 6, 3, padding=1)
CHAIN = oc.Chain((SPEC, oc.Activation("relu")))
SHAPE = (1, 4, 8, 8)
WEIGHTS = oc.random_weights(SPEC, 0)
X = np.zeros(SHAPE, np.float32)
KERNELS = np.ones((4, 4, 3, 3))


def network() -> bytes:
    g = Graph()
    x = g.input("x", "n", 3, "h", "w")
    return g.model(g.node("Relu", g.conv(x, 5, 3), name="y")).SerializeToString()


NETWORK = network()
LAYER = oc.compile(SPEC, SHAPE, WEIGHTS)
OPEN = oc.compile(NETWORK)


class Odd:
    """An object that is nothing of what is asked for."""


VALUES: dict[str, Any] = {
    "None": None,
    "3": 3,
    "-1": -1,
    "0": 0,
    "2.5": 2.5,
    "nan": float("nan"),
    "10**30": 10**30,
    "True": True,
    "text": "nonsense",
    "no text": "",
    "NUL": "a\0b",
    "half a character": "\ud800",
    "bytes": b"zz",
    "list": [1, 2],
    "texts": ["a"],
    "nested": [[1], [2]],
    "()": (),
    "dict": {"a": 1},
    "set": {1},
    "array": X,
    "scalar array": np.array(3.0),
    "objects": np.array([None, "a"], object),
    "object": Odd(),
    "class": Odd,
    "function": len,
    "Conv": SPEC,
    "Chain": CHAIN,
    "Executable": LAYER,
}
if torch is not None:
    VALUES |= {"Parameter": nn.Parameter(torch.ones(2, 3)), "Module": nn.Conv2d(4, 4, 3)}


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments, without those that stand for others."""
    found = inspect.signature(function).parameters.values()
    return [item.name for item in found if item.kind is not inspect.Parameter.VAR_KEYWORD]


def each_argument(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Iterator[tuple[str, Door]]:
    """A door for every argument of a function, the others being right."""
    for key in parameters(function):
        yield f"{name}({key}=)", lambda value, key=key: function(**{**arguments, key: value})


def doors() -> Iterator[tuple[str, Door]]:
    """Every argument of the public interface."""
    for name, kind in oc.kinds().items():
        yield from each_argument(name, kind.constructor, dict(kind.samples[0].arguments))
    yield from each_argument("Conv.of", oc.Conv.of, {"in_channels": 4, "out_channels": 6, "kernel_size": 3})
    raw = {name: getattr(SPEC, name) for name in parameters(oc.Conv)}
    yield from each_argument("Conv", oc.Conv, raw)
    for method in ("output_shape", "check_input", "resolve", "phases", "count_macs", "adjoint", "text"):
        yield f"Conv.{method}", getattr(SPEC, method)
    for method in ("output_shape", "shapes", "text"):
        yield f"Chain.{method}", getattr(CHAIN, method)
    yield "Chain.layers", lambda v: list(CHAIN.layers(v))
    yield "Chain(steps=)", oc.Chain
    yield "Chain(step)", lambda v: oc.Chain((SPEC, v))
    yield "Split(branches=)", oc.Split
    yield "Split(branch)", lambda v: oc.Split((SPEC, v))
    yield "Shuffle(groups=)", oc.Shuffle
    yield "PixelShuffle(factor=)", oc.PixelShuffle
    yield "Resize(factor=)", oc.Resize
    yield "Resize(mode=)", lambda v: oc.Resize(2, v)
    for step in (oc.Split((SPEC,)), oc.Shuffle(2), oc.PixelShuffle(2), oc.Resize(2)):
        yield f"{type(step).__name__}.output_shape", step.output_shape
    yield "Shuffle.source", oc.Shuffle(2).source
    yield "Activation(name=)", oc.Activation
    yield "Activation(parameters=)", lambda v: oc.Activation("leaky_relu", v)
    yield "Activation(parameter)", lambda v: oc.Activation("leaky_relu", (("alpha", v),))
    yield "Activation.of(name)", oc.Activation.of
    yield "Activation.of(alpha=)", lambda v: oc.Activation.of("leaky_relu", alpha=v)
    yield "parse", oc.parse
    yield "compile(model)", oc.compile
    yield "compile(model, shape, weights)", lambda v: oc.compile(v, SHAPE, WEIGHTS)
    yield "compile(w)", lambda v: oc.compile(SPEC, SHAPE, (v, None))
    yield "compile(b)", lambda v: oc.compile(SPEC, SHAPE, (WEIGHTS[0][0], v))
    yield from each_argument("compile", oc.compile, {"model": SPEC, "shape": SHAPE, "weights": WEIGHTS})
    yield from each_argument("compile network", oc.compile, {"model": NETWORK})
    yield "compile(shapes=x)", lambda v: oc.compile(NETWORK, shapes={"x": v})
    yield "compile(constants=x)", lambda v: oc.compile(NETWORK, constants={"x": v})
    for name, compiled in (("layer", LAYER), ("network", OPEN)):
        yield f"{name}(x)", compiled
        yield f"{name}.run", compiled.run
        yield f"{name}.run(x)", lambda v, compiled=compiled: compiled.run({"x": v})
        yield f"{name}.profile", lambda v, compiled=compiled: compiled.profile(v, 1)
    yield "layer.profile(repeat=)", lambda v: v is VALUES["10**30"] or LAYER.profile(X, v)
    yield "network.fix", OPEN.fix
    yield "network.fix(x)", lambda v: OPEN.fix({"x": v})
    yield from each_argument("reference", oc.reference, {"spec": SPEC, "x": X, "weights": WEIGHTS})
    yield from each_argument("random_weights", oc.random_weights, {"spec": SPEC, "rng": 0})
    yield from each_argument("separability", oc.separability, {"w": KERNELS})
    yield from each_argument("plan_tiles", oc.plan_tiles, {"net": SPEC, "shape": SHAPE})
    yield from each_argument("tiled", oc.tiled, {"net": SPEC, "x": X, "weights": WEIGHTS, "progress": False})
    for_map = {"net": SPEC, "source": [X], "weights": WEIGHTS, "progress": False}
    for_quantize = {"model": NETWORK, "calibration": X[:, :3], "test": X[:, :3]}
    yield from each_argument("quantize", oc.quantize, for_quantize)
    # A text for out= makes a folder of that name; tests/mapping has it.
    yield from ((name, door) for name, door in each_argument("map", oc.map, for_map) if "(out=)" not in name)
    yield from each_argument("load", oc.load, {"path": "no such file.oconv"})
    # A text makes a file of that name; tests/saved has it.
    yield "save(path)", lambda v: isinstance(v, str) or LAYER.save(v)
    yield from each_argument("StudySettings", StudySettings, {})
    yield from each_argument("explore", oc.explore, {"spec": SPEC, "shape": SHAPE})
    yield from each_argument("required_input", oc.required_input, {"x": SPEC, "box": ((0, 1),) * 2, "shape": SHAPE})
    for name in ("cost", "receptive_field", "overlap", "coverage", "connectivity"):
        function = getattr(oc, name)
        yield f"{name}(x)", function
        yield f"{name}(x, shape)", lambda v, function=function: function(v, shape=SHAPE)
        yield from each_argument(name, function, {"x": SPEC, "shape": SHAPE})
        yield from each_argument(f"{name} network", function, {"x": NETWORK, "shapes": {"x": (1, 3, 8, 8)}})
        # What analysis calls element is dtype here, and comes above; what is filtered comes from what is compiled.
        for key in sorted(set(parameters(getattr(analysis, name))) - {"x", "tensor", "shape", "element", "filtered"}):
            yield f"{name}({key}=)", lambda v, function=function, key=key: function(SPEC, shape=SHAPE, **{key: v})
    stream = LAYER.stream(2, 4)
    yield from each_argument("Stream of a layer", LAYER.stream, {"axis": 2, "chunk": 4})
    yield "Stream.push", stream.push
    yield "Stream.restore", stream.restore
    session = ort.InferenceSession(NETWORK)
    for_session = {"path_or_bytes": NETWORK}
    yield from each_argument("InferenceSession", ort.InferenceSession, for_session)
    for_run = {"output_names": None, "input_feed": {"x": np.zeros((1, 3, 5, 5), np.float32)}}
    yield from each_argument("InferenceSession.run", session.run, for_run)
    yield "InferenceSession.run(x)", lambda v: session.run(None, {"x": v})
    yield "IOBinding.bind_cpu_input", lambda v: session.io_binding().bind_cpu_input("x", v)
    yield "IOBinding.bind_ortvalue_output", lambda v: session.io_binding().bind_ortvalue_output("y", v)
    yield "IOBinding.bind_output(shape)", lambda v: session.io_binding().bind_output("y", "cpu", 0, np.float32, v, 8)
    yield "OrtValue.ortvalue_from_numpy", ort.OrtValue.ortvalue_from_numpy
    make = ort.OrtValue.ortvalue_from_shape_and_type
    yield "OrtValue(shape=)", lambda v: make(v, np.float32)
    yield "OrtValue(element_type=)", lambda v: make((2,), v)
    yield "OrtValue(device_type=)", lambda v: make((2,), np.float32, v)
    yield "SessionOptions(threads)", lambda v: setattr(ort.SessionOptions(), "intra_op_num_threads", v)
    yield "onnx_backend.prepare", onnx_backend.prepare
    yield "onnx_backend.run_node", lambda v: onnx_backend.run_node(v, [X])
    yield "onnx_backend.run_model", lambda v: onnx_backend.run_model(NETWORK, v)
    if torch is not None:
        yield "to_torch(spec)", of_torch.to_torch
        yield "to_torch(weights)", lambda v: of_torch.to_torch(SPEC, v)
        yield "from_torch", of_torch.from_torch
        yield "torch.compile(module)", lambda v: isinstance(v, nn.Module) or of_torch.compile(v, torch.ones(SHAPE))
        yield "torch.compile(inputs)", lambda v: _is_input(v) or of_torch.compile(nn.Conv2d(4, 4, 3), v)
        yield "convert", lambda v: isinstance(v, nn.Module) or of_torch.convert(v)
        yield "ConvNd(spec)", of_torch.nn.ConvNd
        yield "ChainNd(spec)", of_torch.nn.ChainNd
        yield "ConvNd(bias)", lambda v: of_torch.nn.ConvNd(SPEC, bias=v)
        yield "Depthwise2d(stride)", lambda v: of_torch.nn.Depthwise2d(4, 3, v)
        yield "Branches(branches)", lambda v: of_torch.Branches(v, [1])
        yield "Branches(channels)", lambda v: of_torch.Branches([nn.Conv2d(1, 1, 1)], v)


def _is_input(value: Any) -> bool:
    """Whether PyTorch would be asked to export for it, which takes seconds."""
    return isinstance(value, torch.Tensor) or (isinstance(value, tuple | dict) and not value)


DOORS = dict(doors())


TAKE_ANYTHING = {"Conv.resolve", "coverage(tensor=)"}
"""Arguments that a single layer with explicit padding has no use for."""


@pytest.mark.parametrize("name", DOORS)
def test_only_errors_of_our_own_come(name: str) -> None:
    problems = []
    for value in VALUES.values():
        try:
            DOORS[name](value)
        except OmniconvError as error:
            problems.append(error.problem)
    assert problems or name in TAKE_ANYTHING
    assert all(problems)


def test_no_public_name_is_forgotten() -> None:
    behind = {name.partition("(")[0].partition(".")[0].partition(" ")[0] for name in DOORS}
    public = {name for name in oc.__all__ if not name.endswith(("Error", "Warning"))} | set(
        getattr(of_torch, "__all__", ())
    )
    assert public - behind - {"kinds", "nn", "reports"} == set(), "functions that take nothing, and a module"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: oc.Conv(4, 4, 3, 1, 1, 0), SpecError, "kernel_size=3 is not a sequence of integers; need .*Conv.of"),
        (lambda: oc.Conv.of((3,), 4, 3), SpecError, r"in_channels=\(3,\) is not an integer"),
        (
            lambda: oc.Conv.of(4, 4, 3, padding_mode="zero"),
            SpecError,
            "padding_mode='zero' is unknown; need one of zeros",
        ),
        (lambda: oc.Chain(SPEC), SpecError, "steps is Conv; need a sequence of a Conv"),
        (lambda: oc.Chain((SPEC, "relu")), SpecError, r"steps\[1\] is str; need a Conv, Split"),
        (lambda: oc.Split((SPEC, CHAIN)), SpecError, r"branches\[1\] is Chain; need a Conv"),
        (lambda: oc.Activation(["relu"]), SpecError, r"activation=\['relu'\] is unknown; need one of relu"),
        (lambda: oc.Activation("clip", 6), SpecError, "activation clip got parameters=6.*need pairs of exactly"),
        (lambda: oc.Activation.of("clip", lo="0"), SpecError, "activation clip got lo='0' is no number; need a number"),
        (lambda: oc.parse(None), DataError, 'line is NoneType; need a problem line, e.g. "pointwise'),
        (lambda: oc.compile(SPEC, X, WEIGHTS), ShapeError, r"shape is ndarray of shape \(1, 4, 8, 8\); need \(N, C,"),
        (lambda: oc.compile(SPEC, SHAPE, WEIGHTS, exact=1), SpecError, "exact=1 is not a truth value"),
        (lambda: oc.compile(SPEC, SHAPE, WEIGHTS, layout=[1]), SpecError, r"layout=\[1\] is unknown; need one of NCHW"),
        (lambda: oc.compile(SPEC, SHAPE, WEIGHTS, target=3), UnsupportedError, "target=3 is not a name"),
        (
            lambda: oc.compile(SPEC, SHAPE, WEIGHTS, dtype="int8"),
            SpecError,
            "dtype='int8' is not supported; need one",
        ),
        (lambda: oc.compile(SPEC, SHAPE, WEIGHTS, dtype=None), SpecError, "dtype=None is not supported; need one of"),
        (
            lambda: oc.cost(SPEC, SHAPE, dtype=[8]),
            SpecError,
            r"dtype=\[8\] is not supported; need one of float32",
        ),
        (
            lambda: oc.cost(LAYER, dtype="float64"),
            SpecError,
            "dtype=float64 for a program that is computed with float32; need no dtype, or its own",
        ),
        (
            lambda: oc.coverage([1, 2], shapes={"x": (1, 1, 8)}),
            SpecError,
            "shapes= with a Chain; need shapes= for models",
        ),
        (lambda: oc.coverage([1, 2], shape=(1, 2, 8)), ShapeError, r"input of shape \(1, 2, 8\) has 2 channels"),
        (lambda: oc.coverage(SPEC, "nowhere", SHAPE), SpecError, "tensor='nowhere' is not in the program"),
        (lambda: oc.kinds()["nowhere"], SpecError, "kind='nowhere' is unknown; need one of asymmetric, blueprint"),
        (
            lambda: oc.Activation.of("clip")["low"],
            SpecError,
            r"activation clip: parameter='low' is unknown; need one of \('lo', 'hi'\)",
        ),
        (
            lambda: analysis.cost(SPEC, SHAPE, "float64"),
            DataError,
            "element is str; need an Element, e.g. find_element",
        ),
        (lambda: oc.random_weights(SPEC, 0, dtype="int8"), SpecError, "dtype='int8' is no type of floats"),
        (lambda: oc.random_weights(SPEC, 0, dtype=None), SpecError, "dtype=None is no type of floats"),
        (
            lambda: oc.compile(SPEC, SHAPE, WEIGHTS, dtype="float64")(X),
            DataError,
            r"input 'x' has dtype float32; need float64, e.g. x.astype\(numpy.float64\)",
        ),
        (lambda: oc.compile(SPEC, SHAPE, WEIGHTS, shapes={}), SpecError, "shapes= and constants= belong to models"),
        (lambda: oc.compile([SPEC]), ModelError, "model is a list; need a spec, a path, bytes or onnx.ModelProto"),
        (lambda: oc.reference("x", X, WEIGHTS), DataError, "spec is str; need a Conv or a Chain, e.g. Conv.of"),
        (lambda: oc.random_weights(SPEC, None), DataError, "rng is NoneType; need a numpy.random.Generator, or a seed"),
        (lambda: oc.random_weights(SPEC, -1), SpecError, "rng=-1 is out of range"),
        (lambda: oc.separability([[1, 2], [3]]), DataError, "w cannot be read as an array"),
        (lambda: oc.cost(SPEC, SHAPE, shapes={"x": SHAPE}), SpecError, "shapes= with a Conv; need shapes= for models"),
        (lambda: oc.cost(LAYER, shapes={"x": SHAPE}), SpecError, "shapes= with a Executable; need shapes= for models"),
        (lambda: oc.receptive_field(SPEC, 3, SHAPE), DataError, "tensor is int; need the name of a value"),
        (lambda: oc.load(3), ModelError, 'path is int; need a path, e.g. "network.oconv"'),
        (lambda: LAYER.save(3), ModelError, 'path is int; need a path, e.g. "network.oconv"'),
        (lambda: oc.load("no such file.oconv"), ModelError, "cannot be read: .*; need a whole file"),
    ],
)
def test_messages_say_what_is_wrong_and_what_would_be_right(call: Any, error: type[OmniconvError], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_what_has_a_clear_meaning_works() -> None:
    for (w, b), (v, c) in zip(
        oc.random_weights(SPEC, 7), oc.random_weights(SPEC, np.random.default_rng(7)), strict=True
    ):
        np.testing.assert_array_equal(w, v)
        np.testing.assert_array_equal(b, c)
    for dtype in ("float64", np.float64, np.dtype(np.float64)):
        [(w, _)] = oc.random_weights(SPEC, 7, dtype=dtype)
        assert w.dtype == oc.compile(SPEC, SHAPE, WEIGHTS, dtype=dtype).dtype == np.float64
    assert oc.Chain([SPEC, oc.Activation("relu")]) == CHAIN
    assert hash(oc.Chain([SPEC, oc.Activation("relu")])) == hash(CHAIN)
    assert oc.Activation("leaky_relu", [["alpha", 1]]) == oc.Activation.of("leaky_relu", alpha=1.0)
    assert oc.cost(LAYER, dtype="float32") == oc.cost(LAYER)
    assert oc.coverage([1, 2, 5], "v1").size == oc.coverage([1, 2]).size
    assert oc.kinds().get("nowhere") is None
    assert "nowhere" not in oc.kinds()
    assert not hasattr(oc, "nowhere")
    assert oc.cost(OPEN, shapes={"x": (1, 3, 9, 8)}).macs == oc.cost(NETWORK, shapes={"x": (1, 3, 9, 8)}).macs


@pytest.mark.parametrize("thing", [SPEC, CHAIN, oc.Split((SPEC,)), oc.Activation.of("clip", lo=0.0), oc.Resize(2)])
def test_descriptions_are_copied_and_pickled(thing: Any) -> None:
    for other in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert other == thing
        assert hash(other) == hash(thing)


@pytest.mark.parametrize("error", [getattr(oc, name) for name in oc.__all__ if name.endswith("Error")])
def test_errors_are_copied_and_pickled(error: type[OmniconvError]) -> None:
    """Errors cross the borders of processes, e.g. those of a pool of workers."""
    made = error("problem", need="rule", fix="value", at="line")
    assert type(error.__new__(error)) is error  # as `tblib` makes them, by which Dask brings errors of workers home
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(other) is error
        assert (str(other), other.problem, other.need, other.fix, other.at) == (
            "problem; need rule, e.g. value | line",
            "problem",
            "rule",
            "value",
            "line",
        )


@pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
def test_modules_and_parameters_of_pytorch() -> None:
    layer = nn.Conv2d(4, 6, 3)
    for arguments in ((), (SHAPE, WEIGHTS)):
        with pytest.raises(
            ModelError, match=r"model is a PyTorch module, Conv2d; .* e.g. omniconv.torch.compile\(module"
        ):
            oc.compile(layer, *arguments)
    with pytest.raises(DataError, match=r"spec is Conv2d; need a Conv or a Chain, e.g. .*torch.from_torch\("):
        oc.reference(layer, X, WEIGHTS)
    found = oc.separability(layer.weight)
    assert found.rank == oc.separability(layer.weight.detach().numpy()).rank
    spec = oc.Conv.of(4, 6, 3)
    weights = (layer.weight, layer.bias)
    want = layer(torch.from_numpy(X + 1)).detach().numpy()
    np.testing.assert_allclose(oc.compile(spec, SHAPE, weights)(X + 1), want, atol=1e-5)
    np.testing.assert_allclose(oc.reference(spec, X + 1, weights), want, atol=1e-5)
