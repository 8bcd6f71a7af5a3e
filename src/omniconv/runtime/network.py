"""`Network`: a model with open dimensions, compiled for each set of shapes that its inputs come in."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakSet

from omniconv.errors import ShapeError
from omniconv.graph.fix_shapes import check_types, find_given, fix_shapes, narrow_inputs
from omniconv.graph.nodes import shorten
from omniconv.graph.registry import find_operator
from omniconv.limits import memory_limit as find_memory_limit
from omniconv.program.element import FLOAT32, Element
from omniconv.runtime.compiled import Compiled
from omniconv.runtime.executable import Executable
from omniconv.runtime.inputs import read_array, read_named

if TYPE_CHECKING:
    from omniconv.graph.nodes import Dims, Graph
    from omniconv.runtime.inputs import Array
    from omniconv.runtime.report import StepProfile
    from omniconv.spec import Shape

    Shapes: TypeAlias = tuple[Shape, ...]

MOST_KEPT: Final = 8
"""Executables that a network keeps, as far as the memory limit allows; at least the last one."""


class Network(Compiled):
    """A model with open dimensions: a call whose inputs have shapes that are not known yet compiles it for them.

    The executables used last are kept: at most :data:`MOST_KEPT`, whose weights and working memory together stay below
    the memory limit. Thread-safe: callers with other shapes do not wait while one compiles.

    What an `Executable` has besides (``inputs``, ``layers``, ``explain()`` ...) is that of :attr:`executable`.

    Attributes:
        signature: for each input the sizes that are known: an int, a name, or nothing; ``None`` for an unknown rank.
        layout: of the caller's arrays.
        dtype: of the arrays of each call.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, Shape]], Executable],
        graph: Graph,
        layout: str,
        limit: int | None = None,
        element: Element = FLOAT32,
    ) -> None:
        self._given = find_given(graph, element)
        check_types(graph, self._given)
        for node in graph.nodes:
            find_operator(node)
        self._build, self._graph, self.layout, self._limit = build, graph, layout, limit
        self.dtype = element.dtype
        self.signature: dict[str, Dims | None] = {info.name: info.dims for info in graph.inputs}
        self._at = shorten(f"model with inputs {', '.join(self.signature)}")
        self._kept: OrderedDict[Shapes, Executable] = OrderedDict()
        self.forget_locks()
        _NETWORKS.add(self)

    @property
    def executable(self) -> Executable:
        """The executable that was used last.

        Raises:
            ShapeError: there is none, so that no shapes are known.
        """
        with self._lock:
            if self._kept:
                return next(reversed(self._kept.values()))
        raise ShapeError(
            f"inputs {self.signature} have open dimensions and nothing has been compiled yet",
            need="shapes, or one call",
            fix="compile(model, shapes={name: shape}), or net.fix({name: shape})",
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (hasattr(Executable, name) or name in Executable.__annotations__):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.executable, name)

    def __call__(self, x: Any) -> Array:
        """Run on one input and return the one output; see `Executable`."""
        if len(self.signature) != 1:
            raise ShapeError(f"inputs {list(self.signature)}", need="one input", fix="net.run({name: array})")
        array = read_array(next(iter(self.signature)), x, self.dtype, self._at)
        return self._find((self._logical(array.shape),))(array)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run on named inputs and return all outputs by name; see `Executable`."""
        arrays = read_named(inputs, tuple(self.signature), self.dtype, self._at)
        return self._find(tuple(self._logical(array.shape) for array in arrays.values())).run(arrays)

    def profile(self, inputs: Any, repeat: int = 10) -> list[StepProfile]:
        """Median time of each step; see `Executable`."""
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.signature)): inputs}
        arrays = read_named(named, tuple(self.signature), self.dtype, self._at)
        return self._find(tuple(self._logical(array.shape) for array in arrays.values())).profile(arrays, repeat)

    def fix(self, shapes: Mapping[str, Sequence[int]]) -> Executable:
        """The executable for inputs of these shapes; compiled now where none is kept.

        Args:
            shapes: by name, channels first whatever the layout; inputs whose sizes follow need none.

        Raises:
            ShapeError: sizes that are missing or do not fit.
        """
        return self._find(tuple(fix_shapes(narrow_inputs(self._graph, shapes), self._given).values()))

    def _find(self, shapes: Shapes) -> Executable:
        """The executable for inputs of these shapes. Nothing is kept of an attempt that fails."""
        with self._lock:
            found = self._kept.get(shapes)
            if found is not None:
                self._kept.move_to_end(shapes)
                return found
            turn = self._turns.setdefault(shapes, threading.Lock())
        with turn:
            try:
                with self._lock:
                    found = self._kept.get(shapes)
                return self._compile(shapes) if found is None else found
            finally:
                with self._lock:
                    self._turns.pop(shapes, None)

    def _compile(self, shapes: Shapes) -> Executable:
        found = self._build(dict(zip(self.signature, shapes, strict=True)))
        limit = find_memory_limit(self._limit)
        with self._lock:
            self._kept[shapes] = found
            while len(self._kept) > 1 and (
                len(self._kept) > MOST_KEPT
                or sum(item.arena_bytes + item.constant_bytes for item in self._kept.values()) > limit
            ):
                self._kept.popitem(last=False)
        return found

    def _logical(self, shape: Shape) -> Shape:
        """The shape of the caller's array with the channels first."""
        if self.layout == "NHWC" and 3 <= len(shape) <= 5:
            return (shape[0], shape[-1], *shape[1:-1])
        return shape

    def forget_locks(self) -> None:
        """Begin with locks that nobody holds: at first, and in the child of a fork."""
        self._lock = threading.Lock()
        self._turns: dict[Shapes, threading.Lock] = {}


_NETWORKS: Final[WeakSet[Network]] = WeakSet()


def _forget_after_fork() -> None:
    """In the child of a fork the threads that held locks are gone."""
    for network in _NETWORKS:
        network.forget_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
