"""What :mod:`soak` compiles: layers, chains and models, some of open size, some with steps on the host; an oracle.

Inputs and weights are small whole numbers. So the direct sums of networks that are compiled with ``exact=True`` have no
error, and their answers must be those of the oracle bit by bit; the others may filter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

import omniconv as oc
from omniconv.graph.export import export
from omniconv.spec import Activation, Chain, Conv, Spec

Array = np.ndarray[Any, np.dtype[Any]]

FILTERED: Final = 1e-4
"""Largest error of a network that may filter, relative to its largest value."""


@dataclass(frozen=True)
class Subject:
    """Something that is compiled.

    Attributes:
        name: of it.
        spec, weights: what it computes, for the oracle.
        open: whether it is a model that takes any size.
        marks: whether it tells where its values are positive, which runs on the host.
        exact: whether its sums are direct.
    """

    name: str
    spec: Spec
    weights: Any
    open: bool = False
    marks: bool = False
    exact: bool = True

    def shape(self, size: int) -> tuple[int, ...]:
        """Of an input."""
        first = self.spec if isinstance(self.spec, Conv) else self.spec.convs[0]
        return (1, first.in_channels, *[size] * first.dims)

    def compile(self, size: int, threads: int | None, limit: int | None = None) -> Any:
        """The compiled network, for one size unless it is open."""
        options: dict[str, Any] = {"threads": threads, "exact": self.exact, "memory_limit": limit}
        if not self.open and not self.marks:
            return oc.compile(self.spec, self.shape(size), self.weights, **options)
        model = export(self.spec, self.shape(size), self.weights)
        if self.marks:
            last = model.graph.output.pop()
            model.graph.node.append(helper.make_node("Relu", [last.name], ["positive"]))
            model.graph.node.append(helper.make_node("NonZero", ["positive"], ["where"]))
            model.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, ["axes", "found"]))
        if self.open:
            for value in (*model.graph.input, *model.graph.output):
                for axis, dim in enumerate(value.type.tensor_type.shape.dim[2:]):
                    dim.Clear()
                    dim.dim_param = f"{value.name}{axis}"
        return oc.compile(model, **options)

    def is_right(self, x: Array, y: Array) -> bool:
        """Whether the oracle agrees."""
        want = oc.reference(self.spec, x, self.weights)
        if self.marks:
            want = np.array(np.nonzero(np.maximum(want, 0)))
        if self.exact:
            return y.shape == want.shape and np.array_equal(y, want)
        return y.shape == want.shape and bool(np.abs(y - want).max() <= FILTERED * max(1.0, np.abs(want).max()))


def make_subjects() -> list[Subject]:
    """Everything that is compiled, apart from the size."""
    found: list[tuple[str, Spec, dict[str, Any]]] = [
        ("dense", Conv.of(8, 12, 3, padding=1), {}),
        ("filtered", Conv.of(16, 16, 3, padding=1), {"exact": False}),
        ("depthwise", Conv.of(12, 12, 3, stride=2, padding=1, groups=12), {}),
        ("transposed", oc.transposed(in_channels=6, out_channels=5, kernel_size=3, stride=2, padding=1), {}),
        ("chain", Chain((Conv.of(5, 16, 1), Activation("relu"), Conv.of(16, 16, 3, padding=1, groups=16))), {}),
        ("open", Chain((Conv.of(4, 8, 3, padding=1), Activation("relu"), Conv.of(8, 6, 1))), {"open": True}),
        ("marks", Conv.of(4, 4, 3), {"marks": True}),
        ("open marks", Conv.of(4, 4, 1), {"marks": True, "open": True}),
    ]
    return [Subject(name, spec, oc.random_weights(spec, 0, integer=True), **more) for name, spec, more in found]


def draw_input(shape: Sequence[int], seed: int) -> Array:
    """Small whole numbers."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def digest(y: Array) -> bytes:
    """Of type, shape and bits."""
    head = f"{y.dtype.str} {y.shape} ".encode()
    return hashlib.blake2b(head + y.tobytes(), digest_size=16).digest()
