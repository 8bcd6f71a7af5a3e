"""Every error Omniconv raises on purpose.

A message always reads *problem; need rule, e.g. fix | problem line*, so that the values, the rule that
they break and a way out stand in one line::

    groups=3 does not divide in_channels=64; need in_channels % groups == 0, e.g. groups=2 or 4 | conv ic64 ...
"""

from __future__ import annotations

import inspect
import warnings
from typing import Final, Self


class OmniconvError(Exception):
    """Base of all errors of this package.

    Args:
        problem: what is wrong, with the values.
        need: the rule that was broken.
        fix: a value or an action that satisfies the rule.
        at: the one-line problem text, or the node or file where it was found.
    """

    def __init__(self, problem: str, *, need: str = "", fix: str = "", at: str = "") -> None:
        self.problem, self.need, self.fix, self.at = problem, need, fix, at
        message = problem
        if need:
            message += f"; need {need}"
        if fix:
            message += f", e.g. {fix}" if need else f"; {fix}"
        if at:
            message += f" | {at}"
        super().__init__(message)

    def but(self, *, fix: str | None = None, at: str | None = None) -> Self:
        """The same error with another way out, or found at another place."""
        fix, at = self.fix if fix is None else fix, self.at if at is None else at
        return type(self)(self.problem, need=self.need, fix=fix, at=at)

    def or_else(self, fix: str) -> Self:
        """The same error with one more way out."""
        return self.but(fix=f"{self.fix}, or {fix}" if self.fix else fix)


class SpecError(OmniconvError, ValueError):
    """A description of a convolution that breaks a rule of its own (channels, groups, sizes, text)."""


class ShapeError(OmniconvError, ValueError):
    """Arrays or shapes that do not fit the description they are used with."""


class DataError(OmniconvError, TypeError):
    """An array of a kind that is not accepted: wrong dtype, not an array, not writable where it must be."""


class LimitError(OmniconvError, MemoryError):
    """A request that would take more memory than allowed. It is refused before anything is allocated."""

    def __new__(cls, *arguments: object, **_: object) -> Self:
        """Make one; that of `MemoryError`, which would be found first, refuses to when it is asked by unpickling."""
        return Exception.__new__(cls, *arguments)


class ModelError(OmniconvError, ValueError):
    """A model file that is damaged, inconsistent or unsafe to open."""


class ModelWarning(UserWarning):
    """A model file that says something untrue which nothing depends on; the message says what counts instead."""


class UnsupportedError(OmniconvError, NotImplementedError):
    """A valid request that this version cannot carry out; the message says what would be."""


class StorageError(OmniconvError, OSError):
    """Data that cannot be read or written where they are stored. What was finished before is kept."""


class StreamError(OmniconvError, ValueError):
    """A stream that is asked for what it cannot do where it stands."""


class VerificationError(OmniconvError, AssertionError):
    """Two implementations that must agree do not."""


class HostWarning(UserWarning):
    """Part of a model does not run as machine code, but in NumPy; the message names it."""


class RecompileWarning(UserWarning):
    """Shapes that change at every call, so that code is compiled at every call; the message says for which layer."""


class RebuildWarning(UserWarning):
    """A saved network is compiled anew: its machine code is not this user's, or not for here; the message says why."""


_INSIDE: Final = ("omniconv", "torch")


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something at the caller's line that led here: the last one outside this package and PyTorch.

    PyTorch's own lines, and the code that it generates, which belongs to no module, lie between a model that is called
    and a layer of ours in it; no caller can change those.
    """
    level, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "torch")).partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
