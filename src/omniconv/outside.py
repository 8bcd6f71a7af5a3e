"""What lies outside: packages that may be missing, and storage and workers that may fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from omniconv.errors import OmniconvError, StorageError, UnsupportedError

EXTRA: Final = 'pip install "omniconv[{}]"'


@contextmanager
def storing(
    what: str,
    fix: str = "the same call again goes on where it stopped",
    need: str = "storage that can be read and written",
) -> Iterator[None]:
    """Say of what goes wrong while something is read, written, or done by a worker that it did.

    Raises:
        StorageError: it went wrong, in whatever way: libraries that read damaged files raise everything.
    """
    try:
        yield
    except OmniconvError:
        raise
    except Exception as error:
        raise StorageError(f"{what}: {type(error).__name__}: {error}", need=need, fix=fix) from error


def need_package(package: str, name: str = "", extra: str = "tiles") -> None:
    """Refuse what needs a package that is not installed, but comes with an extra.

    Args:
        package: as it is imported.
        name: as it is installed; default the same.
        extra: of this package that brings it.

    Raises:
        UnsupportedError: it is not.
    """
    if find_spec(package) is None:
        raise UnsupportedError(f"{name or package} is not installed", need=EXTRA.format(extra))
