"""The command line, one file a command. ``omniconv --help`` lists them; exit codes are in `omniconv.cli.exits`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code.

    Args:
        arguments: words after ``omniconv``; default: those of this process.
    """
    from omniconv.cli.guard import run_guarded

    run_guarded(arguments)
