"""Exit codes, and the one place where errors become a line on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NoReturn

import typer

from omniconv.errors import OmniconvError, VerificationError


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

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; need: pip install "omniconv[{extra}]"')


class UsageProblemError(Exception):
    """The command line is wrong in a way that the option parser does not see."""


PARSER_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""Base of the option parser's errors, whichever library typer takes its parser from."""


def run_guarded(arguments: Sequence[str] | None) -> NoReturn:
    """Run the application; turn errors into one line on standard error and a documented exit code."""
    from omniconv.cli.app import app

    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="omniconv", standalone_mode=False)
    except VerificationError as error:
        _leave(Exit.DISAGREEMENT, error)
    except OmniconvError as error:
        _leave(Exit.BAD_INPUT, error)
    except UsageProblemError as error:
        _leave(Exit.USAGE, error)
    except PARSER_ERROR as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "omniconv"
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        _leave(Exit.USAGE, f"{message}; see {command} --help")
    except MissingPackageError as error:
        _leave(Exit.MISSING_PACKAGE, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(Exit.OK))
    except OSError as error:
        _leave(Exit.BAD_INPUT, error)
    except (KeyboardInterrupt, typer.Abort):
        _leave(Exit.INTERRUPTED, "interrupted")
    sys.exit(code if isinstance(code, int) else int(Exit.OK))


def _leave(code: Exit, error: object) -> NoReturn:
    text = " ".join(str(error).split())
    sys.stderr.write(f"error: {text}\n")
    sys.exit(int(code))
