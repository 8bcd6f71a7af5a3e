"""The other runtimes, one file each. A peer is imported only where it is installed and asked for.

A peer module defines ``NAME``, ``PACKAGE`` (its distribution) and ``load(workload, threads)``, which returns a call
without arguments that computes all outputs from the workload's inputs. It raises `PeerError` where the peer cannot run
the workload. To add one, add a file and name it in :data:`MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final, TypeAlias, cast

from omniconv.bench.machine import find_version
from omniconv.bench.workload import Array, Workload

Call: TypeAlias = Callable[[], Sequence[Array]]

MODULES: Final = ("onnxruntime", "openvino", "torch")
"""Names of the importable packages, and of the files in this folder."""


class PeerError(Exception):
    """A peer cannot run this workload; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One installed runtime."""

    name: str
    version: str
    load: Callable[[Workload, int], Call]


def installed_peers(names: Sequence[str] | None = None) -> Iterator[Peer]:
    """The peers that are installed, of those in ``names`` (default: all)."""
    for module_name in MODULES:
        if (names is not None and module_name not in names) or find_spec(module_name) is None:
            continue
        module = import_module(f"{__name__}.{module_name}")
        yield Peer(
            cast("str", module.NAME),
            find_version(module.PACKAGE) or "unknown",
            cast("Callable[[Workload, int], Call]", module.load),
        )


def missing_peers(names: Sequence[str] | None = None) -> list[str]:
    """Names of the known peers that are not installed."""
    return [name for name in MODULES if (names is None or name in names) and find_spec(name) is None]
