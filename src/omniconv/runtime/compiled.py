"""`Compiled`: what everything that holds machine code has in common when it is copied or pickled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np

from omniconv.compiler.planning.options import channels_to_last, is_channels_last
from omniconv.integers import say_count
from omniconv.spec import Shape
from omniconv.target.model import Target

MOST_SHOWN: Final = 8
"""Inputs, and outputs, that a line names."""


class Compiled:
    """Machine code belongs to the process that made it. A copy, also a deep one, is therefore the thing itself: it does
    not change, and several callers may use it at once. What is pickled is what :meth:`save` writes.
    """

    layout: str
    row_major: frozenset[str]
    threads: int
    threads_why: str
    target: Target
    _at: str

    @property
    def at(self) -> str:
        """Where it came from, for messages."""
        return self._at

    def is_channels_last(self, name: str, axes: int) -> bool:
        """Whether the caller's array of so many axes for an input or output has its channels last."""
        return is_channels_last(self.layout, self.row_major, name, axes)

    def describe_threads(self) -> str:
        """How many threads share a call and, where nobody said it, why: ``2 threads (2 cores that this process may run
        on)``.
        """
        many = say_count(self.threads, "thread")
        return f"{many} ({self.threads_why})" if self.threads_why else many

    def _outside(self, name: str, shape: Shape) -> Shape:
        """The shape of the caller's array for an input or output of this shape."""
        return channels_to_last(shape) if self.is_channels_last(name, len(shape)) else shape

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, in place of one that may be there; `omniconv.load` gives it back.

        The file holds what is computed, the plan, packed weights and machine code, and nothing that runs by being
        opened. A file that cannot be written whole leaves the one before it as it was. See `omniconv.load`.

        Args:
            path: of the file; by custom it ends in ``.oconv``.

        Raises:
            StorageError: it cannot be written.
        """
        from omniconv.runtime.saved import save

        save(self, path)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        """What :meth:`save` writes, so that another process of this user need not compile."""
        from omniconv.runtime.saved import from_bytes, to_bytes

        return from_bytes, (to_bytes(self),)


Boundary: TypeAlias = Mapping[str, tuple[np.dtype[Any] | None, Sequence[int | str | None] | None]]
"""Name -> type and sizes, as far as they are known."""


def show_boundary(found: Compiled, inputs: Boundary, outputs: Boundary) -> str:
    """What enters and leaves, in one line."""
    kind, many = type(found).__name__, say_count(found.threads, "thread")
    return f"<{kind} {_show(inputs)} -> {_show(outputs)}; {found.layout}, {many}, {found.target.name}>"


def _show(values: Boundary) -> str:
    parts = []
    for name, (dtype, sizes) in list(values.items())[:MOST_SHOWN]:
        known = "" if sizes is None else " (" + ", ".join("?" if size is None else str(size) for size in sizes) + ")"
        parts.append(f"{name[:40]} {'?' if dtype is None else dtype}{known}")
    more = len(values) - MOST_SHOWN
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
