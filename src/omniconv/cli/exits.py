"""Exit codes, and the errors that only the command line raises."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    DISAGREEMENT = 4
    MISSING_PACKAGE = 5
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.INTERNAL: "a defect of Omniconv; please report the traceback",
    Exit.USAGE: "the command line is wrong",
    Exit.BAD_INPUT: "a model, a shape, a file or a problem line is refused",
    Exit.DISAGREEMENT: "outputs differ from those of another runtime, or from what is expected",
    Exit.MISSING_PACKAGE: "an optional package is not installed",
    Exit.INTERRUPTED: "interrupted",
}


class MissingPackageError(Exception):
    """An optional package is not installed; the message says how to get it."""

    def __init__(self, package: str, extra: str, *, beside: str = "") -> None:
        also = f" and {beside}" if beside else ""
        super().__init__(f'{package} is not installed; need: pip install "omniconv[{extra}]"{also}')


class UsageProblemError(Exception):
    """The command line is wrong in a way that the option parser does not see."""
