"""How much memory a model may ask for, checked with Python integers before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from omniconv.errors import LimitError, ShapeError
from omniconv.integers import ceil_div
from omniconv.limits import VARIABLE, format_size
from omniconv.records import dataclass

MAX_RANK: Final = 16
"""Arrays of more axes than this are refused."""


@dataclass(slots=True)
class Budget:
    """The limit, and what has been promised from it so far [bytes].

    Attributes:
        limit, used: for constants, and for each value.
        in_parts: values are computed in parts, so that none is ever held as a whole and only constants count.
    """

    limit: int
    used: int = 0
    in_parts: bool = False

    def check(self, shape: Sequence[int], itemsize: int, what: str) -> int:
        """Bytes of an array of ``shape``; nothing is promised. An empty axis counts as one of a single element.

        Whatever drops or fills that axis makes an array of the other sizes.

        Raises:
            ShapeError: a negative size.
            LimitError: more bytes than the limit, or more axes than :data:`MAX_RANK`.
        """
        if len(shape) > MAX_RANK:
            raise LimitError(f"{what} has {len(shape)} axes", need=f"at most {MAX_RANK} axes")
        if any(size < 0 for size in shape):
            raise ShapeError(f"{what} has shape {tuple(shape)}", need="sizes of 0 or more")
        size = math.prod(max(size, 1) for size in shape) * itemsize
        if size > self.limit:
            raise self._refuse(what, shape, size, size)
        return size

    def check_value(self, shape: Sequence[int], itemsize: int, what: str) -> None:
        """See :meth:`check`, for a value that is computed.

        Raises:
            ShapeError, LimitError: see :meth:`check`.
        """
        if not self.in_parts:
            self.check(shape, itemsize, what)

    def take(self, shape: Sequence[int], itemsize: int, what: str) -> None:
        """Promise the bytes of an array of ``shape`` to ``what``.

        Raises:
            ShapeError, LimitError: see :meth:`check`; also when all promises together pass the limit.
        """
        size = self.check(shape, itemsize, what)
        if self.used + size > self.limit:
            raise self._refuse(what, shape, size, self.used + size)
        self.used += size

    def _refuse(self, what: str, shape: Sequence[int], size: int, needed: int) -> LimitError:
        after = f" after {format_size(self.used)} of other constants" if needed > size else ""
        return LimitError(
            f"{what} of shape {tuple(shape)} takes {format_size(size)}{after}",
            need=f"at most {format_size(self.limit)} in all",
            fix=f"{VARIABLE}={ceil_div(needed, 2**20)}M" if needed < 2**50 else "smaller sizes",
        )
