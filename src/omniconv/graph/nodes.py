"""A checked, immutable picture of an ONNX graph: what :mod:`omniconv.graph.load` produces and operators read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError
from omniconv.records import dataclass

AnyArray: TypeAlias = npt.NDArray[Any]
Dim: TypeAlias = int | str | None
"""A size, the name of a symbolic size, or nothing known."""
Dims: TypeAlias = tuple[Dim, ...]
Attribute: TypeAlias = (
    "int | float | bytes | AnyArray | tuple[int, ...] | tuple[float, ...] | tuple[bytes, ...] | Subgraph | None"
)
"""Value of an attribute; ``None`` stands for a kind (sparse tensor, type, several graphs) that nothing here reads."""

LABEL_LENGTH: Final = 120


def shorten(text: str, length: int = LABEL_LENGTH) -> str:
    """``text``, or its beginning and end where it is very long; for messages about hostile files."""
    return text if len(text) <= length else f"{text[: length - 24]}...{text[-20:]}"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. ``version`` is the opset version of its domain; an unused output has the name ``""``."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    version: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all values that it reads: its inputs, then what the graphs in its attributes take from outside."""
        captured = [name for item in self.attributes.values() if isinstance(item, Subgraph) for name in item.captured]
        return tuple(dict.fromkeys([*filter(None, self.inputs), *captured]))

    @property
    def size(self) -> int:
        """The nodes that it stands for: itself, and those of the graphs in its attributes."""
        return 1 + sum(item.size for item in self.attributes.values() if isinstance(item, Subgraph))

    @property
    def label(self) -> str:
        """The node's name, or that of its first output."""
        return shorten(self.name or next((name for name in self.outputs if name), "") or self.op)

    @property
    def place(self) -> str:
        """Operator and label, for error messages."""
        domain = f"{self.domain}." if self.domain else ""
        return shorten(f"{domain}{self.op} node {self.label!r}", 240)

    def _wrong(self, key: str, want: str) -> ModelError:
        value = self.attributes.get(key)
        return ModelError(
            f"attribute {key} is {'missing' if value is None else shorten(repr(value))}", need=want, at=self.place
        )

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer attribute; required where there is no default."""
        value = self.attributes.get(key, default)
        if not isinstance(value, int):
            raise self._wrong(key, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A float attribute; required where there is no default."""
        value = self.attributes.get(key, default)
        if not isinstance(value, float):
            raise self._wrong(key, "a float")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string attribute; required where there is no default."""
        value = self.attributes.get(key)
        if value is None and default is not None and key not in self.attributes:
            return default
        if not isinstance(value, bytes):
            raise self._wrong(key, "a string")
        return value.decode("utf-8", "replace")

    def integers(self, key: str) -> tuple[int, ...] | None:
        """A list of integers, or ``None`` where the attribute is not given."""
        value = self.attributes.get(key)
        if value is None and key not in self.attributes:
            return None
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise self._wrong(key, "integers")
        return tuple(item for item in value if isinstance(item, int))

    def graph(self, key: str) -> Subgraph:
        """A graph attribute."""
        value = self.attributes.get(key)
        if not isinstance(value, Subgraph):
            raise self._wrong(key, "a graph")
        return value

    def tensor(self, key: str) -> AnyArray | None:
        """A tensor attribute, or ``None`` where it is not given."""
        value = self.attributes.get(key)
        if value is None and key not in self.attributes:
            return None
        if not isinstance(value, np.ndarray):
            raise self._wrong(key, "a tensor")
        return value


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A declared input or output. ``dims`` is ``None`` where no rank is declared; ``dtype`` is ONNX's number."""

    name: str
    dims: Dims | None
    dtype: int


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A graph whose names are unique and defined, with its nodes in execution order and without dead nodes."""

    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    constants: Mapping[str, AnyArray]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """The graph in an attribute: a branch, or the body of a loop. Its nodes are in execution order, without dead ones.

    Attributes:
        inputs, outputs, constants, nodes: as of a `Graph`; an output may be any value that is known inside.
        captured: names of the values that it, or a graph inside it, takes from outside.
        size: the number of its nodes, those of graphs inside included.
    """

    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    constants: Mapping[str, AnyArray]
    nodes: tuple[Node, ...]
    captured: tuple[str, ...]
    size: int
