"""The one place where errors become a line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer

from omniconv.cli.exits import Exit, MissingPackageError, UsageProblemError
from omniconv.errors import OmniconvError, VerificationError

PARSER_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""Base of the option parser's errors, whichever library typer takes its parser from."""


def run_guarded(arguments: Sequence[str] | None) -> NoReturn:
    """Run the application; turn errors into one line on standard error and a documented exit code."""
    try:
        from omniconv.cli.app import app

        code = app(args=None if arguments is None else list(arguments), prog_name="omniconv", standalone_mode=False)
    except VerificationError as error:
        _leave(Exit.DISAGREEMENT, error)
    except OmniconvError as error:
        _leave(Exit.BAD_INPUT, error)
    except UsageProblemError as error:
        _leave(Exit.USAGE, error)
    except PARSER_ERROR as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else _name_command(arguments)
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        _leave(Exit.USAGE, f"{message}; see {command} --help")
    except MissingPackageError as error:
        _leave(Exit.MISSING_PACKAGE, error)
    except (BrokenPipeError, SystemExit) as error:
        # The option parser has a code of its own for a pipe that closes.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(Exit.OK))
    except OSError as error:
        _leave(Exit.BAD_INPUT, error)
    except (KeyboardInterrupt, typer.Abort):
        _leave(Exit.INTERRUPTED, "interrupted")
    sys.exit(code if isinstance(code, int) else int(Exit.OK))


def _name_command(arguments: Sequence[str] | None) -> str:
    """The command that was asked for, where the parser gave up before it knew."""
    from omniconv.cli.app import app

    first = next(iter(sys.argv[1:] if arguments is None else arguments), "")
    known = {item.callback.__name__ for item in app.registered_commands if item.callback is not None}
    return f"omniconv {first}" if first in known else "omniconv"


def _leave(code: Exit, error: object) -> NoReturn:
    text = " ".join(str(error).split())
    sys.stderr.write(f"error: {text}\n")
    sys.exit(int(code))
