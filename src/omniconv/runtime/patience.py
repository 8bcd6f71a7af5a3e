"""How long loops may go on: a model can ask for 2^63 steps in a few bytes.

Steps of all loops of one call are counted together, those of loops inside one another too, so that the work of a call
is at most so many times that of what the model spells out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from omniconv.errors import LimitError

MOST_STEPS: Final = 2**15
"""Steps of all loops that run on the host, in one call."""
NEW_SHAPES: Final = 2**4
"""As many steps is one in shapes that have not been seen, for which the body is planned anew."""

_left: ContextVar[list[int] | None] = ContextVar("_left", default=None)


@contextmanager
def counted() -> Iterator[None]:
    """A loop: what it counts belongs to the outermost one around it."""
    if _left.get() is not None:
        yield
        return
    token = _left.set([MOST_STEPS])
    try:
        yield
    finally:
        _left.reset(token)


def count_steps(steps: int) -> None:
    """Count steps, where a loop runs.

    Raises:
        LimitError: there are too many.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= steps
    if left[0] < 0:
        raise LimitError(
            f"the loops of one call take more than {MOST_STEPS} steps, or more than {MOST_STEPS // NEW_SHAPES} in new "
            "shapes",
            need="fewer steps", fix="calls of a model of one step",
        )  # fmt: skip
