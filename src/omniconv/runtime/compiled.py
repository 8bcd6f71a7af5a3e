"""`Compiled`: what everything that holds machine code has in common when it is copied or pickled."""

from __future__ import annotations

from typing import Any, NoReturn, Self, SupportsIndex

from omniconv.errors import UnsupportedError


class Compiled:
    """Machine code belongs to the process that made it. A copy, also a deep one, is therefore the thing itself: it does
    not change, and several callers may use it at once. It cannot be pickled.
    """

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{type(self).__name__} cannot be pickled: its machine code belongs to this process",
            need="to compile again where it is used; kernels come from the cache on disk then",
            fix="pickling the model or (spec, shape, weights), and omniconv.compile in the other process",
        )
