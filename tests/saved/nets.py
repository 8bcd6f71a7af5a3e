"""Small things that are compiled, an input of each, and what tells them apart."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests.graph.small_models import Graph, residual
from tests.graph.test_quantised import Quantised

import omniconv as oc
from omniconv.compiler.code import build
from omniconv.compiler.code.cache import ObjectCache, open_cache
from omniconv.compiler.code.key import NAME
from omniconv.runtime import executable
from omniconv.runtime.container import read_container, write_container
from omniconv.runtime.json_values import to_json

RNG = np.random.default_rng(5)


def layer(**options: Any) -> Any:
    spec = oc.grouped(in_channels=8, out_channels=12, kernel_size=3, groups=2, padding="same")
    return oc.compile(spec, (1, 8, 9, 7), oc.random_weights(spec, np.random.default_rng(1)), **options)


def chain(**options: Any) -> Any:
    spec = oc.depthwise_separable(in_channels=6, out_channels=10, kernel_size=3, stride=2, padding="same")
    return oc.compile(spec, (2, 6, 11, 8), oc.random_weights(spec, np.random.default_rng(2)), **options)


def pooled() -> onnx.ModelProto:
    """A convolution and a mean over all positions of an image of any size; whether the first is above the second."""
    g = Graph()
    y = g.node("Relu", g.conv(g.input("x", None, 3, "h", "w"), 8, 3))
    mean = g.node("GlobalAveragePool", y, name="y")
    g.node("Greater", mean, g.const([0.5]), name="above")
    model = g.model("y", "above", shapes=[[None] * 4] * 2)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.BOOL
    return model


def listed() -> onnx.ModelProto:
    """Where a convolution is positive: a list, whose length depends on values; and a branch that depends on one."""
    g = Graph()
    y = g.conv(g.input("x", 1, 2, 5, 5), 2, 2)
    g.node("NonZero", g.node("Relu", y), name="at")
    branches = []
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        inner = onnx.helper.make_node(op, [y], [f"{op}_y"])
        info = onnx.helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, [1, 2, 5, 5])
        branches.append((name, onnx.helper.make_graph([inner], name, [], [info])))
    first = g.node("Gather", g.node("Reshape", y, g.const([-1], np.int64)), g.const(0, np.int64))
    g.node("If", g.node("Greater", first, g.const(0.0)), name="z", **dict(branches))
    model = g.model("at", "z", shapes=[[4, None], [1, 2, 5, 5]])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def network(**options: Any) -> Any:
    return oc.compile(residual(), **options)


def open_network(**options: Any) -> Any:
    net = oc.compile(pooled(), **options)
    net.run({"x": np.zeros((1, 3, 8, 8) if net.layout == "NCHW" else (1, 8, 8, 3), net.dtype)})
    return net


def mixed(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        return oc.compile(listed(), **options)


def integers(**options: Any) -> Any:
    """Layers, a concatenation, a mean and a matrix of integers of 8 bits."""
    g = Quantised()
    x = g.stored(g.input("x", 1, 4, 5, 5))
    a = g.stored(g.node("Conv", x, g.weights(6, 4, 3, 3), pads=[1] * 4), 0.05)
    c = g.stored(g.node("Concat", a, g.stored(g.node("Sigmoid", a), 1 / 256, zero=0), axis=1))
    m = g.node("Flatten", g.stored(g.node("GlobalAveragePool", c)))
    g.node("Identity", g.stored(g.node("MatMul", g.stored(m), g.weights(12, 5, axis=1))), name="y")
    return oc.compile(g.model("y"), strict=True, **options)


MAKERS: dict[str, Callable[..., Any]] = {
    "layer": layer,
    "chain": chain,
    "network": network,
    "open network": open_network,
    "mixed": mixed,
    "integers": integers,
}


def feed(net: Any, seed: int = 0) -> dict[str, Any]:
    """Inputs of a network; an open one is given 8 by 8 positions."""
    rng = np.random.default_rng(seed)
    known = getattr(net, "signature", None)
    shapes = net.inputs if known is None else {"x": (1, 3, 8, 8) if net.layout == "NCHW" else (1, 8, 8, 3)}
    return {name: rng.standard_normal(shape).astype(net.dtypes[name]) for name, shape in shapes.items()}


def check_same(got: Any, want: Any, seed: int = 0) -> None:
    """Results of the same bits, and the same words about both."""
    inputs = feed(want, seed)
    expected, found = want.run(inputs), got.run(inputs)
    assert type(got) is type(want)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name].view(np.uint8), array.view(np.uint8))
    assert repr(got) == repr(want)


@contextmanager
def new_process(monkeypatch: pytest.MonkeyPatch, folder: Path, *, key: bool = True) -> Iterator[None]:
    """As in a process that begins, with no code on the disk either: kernels of executables that are there are not
    found. With ``key``, it has this user's key.
    """
    old = open_cache()
    assert old is not None
    (folder / "new").mkdir(exist_ok=True)
    if key:
        shutil.copy2(old.folder / NAME, folder / "new" / NAME)
    with monkeypatch.context() as patch:
        patch.setenv("OMNICONV_CACHE", str(folder / "new"))
        patch.setattr(build, "_LOADED", type(build._LOADED)())
        yield


@contextmanager
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is planned, emitted or given to LLVM, but for loading."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something is compiled")

    with monkeypatch.context() as patch:
        patch.setattr(build, "compile_object", refuse)
        patch.setattr(executable, "make_plan", refuse)
        patch.setattr(executable, "share_code", refuse)
        yield


def rewrite(data: bytes, change: Callable[[list[Any]], None]) -> bytes:
    """A file with other sections, with right digests and the seal that it had."""
    import io

    found = read_container(data, "")
    sections: list[Any] = [bytes(section) for section in found.sections]
    change(sections)
    file = io.BytesIO()
    write_container(sections, lambda _: found.seal, file)
    return file.getvalue()


def edit_json(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """A file with another description, with right digests."""
    import json

    def edit(sections: list[Any]) -> None:
        description = json.loads(sections[0])
        changed = change(description)
        sections[0] = to_json(description if changed is None else changed)

    return rewrite(data, edit)


__all__ = [
    "MAKERS", "ObjectCache", "chain", "check_same", "edit_json", "feed", "layer", "mixed", "network", "new_process",
    "no_compiling", "open_network", "rewrite",
]  # fmt: skip
