"""How long loops may go on: a model can ask for 2^63 steps in a few bytes.

Steps of all loops of one call are counted together, those of loops inside one another too; so are the pieces that run
in them, stretches and operators of the host, of which a step may have many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from omniconv.errors import LimitError

MOST_STEPS: Final = 2**15
"""Steps of all loops that run on the host, in one call."""
MOST_PIECES: Final = 2**16
"""Pieces of all those steps."""
NEW_SHAPES: Final = 2**4
"""As many steps is one in shapes that have not been seen, for which the body is planned anew."""

_left: ContextVar[list[int] | None] = ContextVar("_left", default=None)


@contextmanager
def counted() -> Iterator[None]:
    """A loop: what it counts belongs to the outermost one around it."""
    if _left.get() is not None:
        yield
        return
    token = _left.set([MOST_STEPS, MOST_PIECES])
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
            need="fewer steps",
            fix="calls of a model of one step",
        )


def count_piece() -> None:
    """Count a piece that is about to run, where that is in a loop.

    Raises:
        LimitError: there are too many.
    """
    left = _left.get()
    if left is None:
        return
    left[1] -= 1
    if left[1] < 0:
        raise LimitError(
            f"the loops of one call take more than {MOST_PIECES} stretches and operators of the host",
            need="fewer steps, or fewer of those in each",
            fix="calls of a model of one step",
        )
