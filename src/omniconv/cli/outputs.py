"""Files that commands write beside their tables: checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from omniconv.cli.exits import MissingPackageError, UsageProblemError

PICTURES = (".png", ".svg")
PAGES = (".html", ".htm")


def check_output(option: str, path: Path, endings: Sequence[str], packages: Sequence[str]) -> None:
    """Find out whether a file of that name can be written, and with what.

    Raises:
        UsageProblemError: a name without a known ending, or the name of a folder.
        MissingPackageError: a package that is not installed.
    """
    if path.suffix.lower() not in endings or path.is_dir():
        raise UsageProblemError(f"{option} {path} has no known ending; need {' or '.join(endings)}")
    need_packages(packages)


def need_packages(packages: Sequence[str]) -> None:
    """Packages of the extra ``report``.

    Raises:
        MissingPackageError: one that is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingPackageError(package, "report")
