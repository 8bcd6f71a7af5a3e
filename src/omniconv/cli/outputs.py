"""Files that commands write beside their tables: their paths are checked before any work is done, and each file is
written whole or not at all.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.cli.exits import MissingPackageError, UsageProblemError

PICTURES: Final = (".png", ".svg")
PAGES: Final = (".html", ".htm")
REPORTS: Final = (".json",)
ARRAYS: Final = (".npz",)


def check_output(
    option: str,
    path: Path | None,
    endings: Sequence[str],
    packages: Sequence[str] = (),
    extra: str = "report",
    *,
    reads: Path | None = None,
) -> None:
    """Find out whether a file of that name can be written, and with what. An option that is not given is right.

    Args:
        option: as it is written on the command line.
        path: the file.
        endings: known ones.
        packages: what writing needs.
        extra: that brings these.
        reads: a file that the command reads, which it may not write over.

    Raises:
        UsageProblemError: a name without a known ending, or of what is read.
        OSError: a folder that is missing or not writable, or something there that is no file.
        MissingPackageError: a package that is not installed.
    """
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise UsageProblemError(f"{option} {path} has no known ending; need {' or '.join(endings)}")
    _check_folder(option, path, path.parent)
    check_not_read(option, path, reads)
    if path.exists():
        if not path.is_file():
            raise OSError(f"{option} {path} is not a file; need the name of a file, e.g. {path / ('new' + endings[0])}")
        if not os.access(path, os.W_OK):
            raise OSError(f"{option} {path} may not be written; need a file that you may change")
    need_packages(packages, extra)


def check_not_read(option: str, path: Path, reads: Path | None) -> None:
    """What is read is not written over, by whatever name.

    Raises:
        UsageProblemError: both are one file.
    """
    if reads is not None and path.exists() and reads.exists() and path.samefile(reads):
        raise UsageProblemError(f"{option} {path} is the file that is read; need another name")


def check_output_folder(option: str, path: Path | None, packages: Sequence[str] = (), extra: str = "report") -> None:
    """Find out whether files can be written into a folder; it is made where only itself is missing.

    Raises:
        OSError: something there that is no folder, or a folder above it that is missing or not writable.
        MissingPackageError: a package that is not installed.
    """
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise OSError(f"{option} {path} is not a folder; need the name of a folder")
    _check_folder(option, path, path if path.exists() else path.parent)
    need_packages(packages, extra)


def _check_folder(option: str, path: Path, folder: Path) -> None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OSError(f"{option} {path}: {folder} {what}; need a folder that exists, e.g. mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"{option} {path}: {folder} may not be written to; need a folder that you may write to")


def need_packages(packages: Sequence[str], extra: str = "report") -> None:
    """Packages of an extra.

    Raises:
        MissingPackageError: one that is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingPackageError(package, extra)


@contextmanager
def open_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when all of it is written; what had the name before stays until then."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an ``.npz`` file, whatever the arrays are called (``numpy.savez`` takes some names for its arguments)."""
    with open_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
