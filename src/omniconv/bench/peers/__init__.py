"""The other runtimes, one file each. A peer is imported only where it is installed and asked for.

A peer module defines ``NAME``, ``PACKAGE`` (its distribution), ``LAYOUTS`` and ``load(workload, threads, layout)``,
which returns a call without arguments that computes all outputs from the workload's inputs, in its number type. It
raises `PeerError` where the peer cannot run the workload, and may have ``PROMISES`` (see `Peer`). To add one, add a
file and name it in :data:`MODULES`.

``LAYOUTS`` names the orders in memory that the peer takes its arrays in: ``"NCHW"`` (channels first) and, where it has
them, ``"NHWC"`` (channels last) and ``"packed"`` (blocks of channels, its own order). Arrays are brought into that
order before anything is timed. Outputs are returned as channels-first views, whatever their order in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from importlib import import_module
from importlib.util import find_spec
from typing import Final, TypeAlias, cast

from omniconv.bench.machine import find_version
from omniconv.bench.workload import Array, Workload
from omniconv.records import dataclass

TimedCall: TypeAlias = Callable[[], Sequence[Array]]

MODULES: Final = ("onnxruntime", "openvino", "torch", "ncnn", "executorch")
"""Names of the importable packages, and of the files in this folder."""

SLOW_TO_LOAD: Final = frozenset({"executorch"})
"""Peers that take seconds to load a problem; the quick mode leaves them out."""

SUFFIXES: Final = {"NCHW": "", "NHWC": " NHWC", "packed": " packed"}


class PeerError(Exception):
    """A peer cannot run this workload; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One installed runtime, taking its arrays in one order.

    Attributes:
        name: of the runtime, with the order where it is not channels first.
        version: of its distribution.
        load: prepares a workload for a number of threads.
        runtime: name of the runtime.
        layout: order of its arrays in memory.
        promises: number type -> the largest difference that it promises, relative to the largest output, where that is
            more than is asked of others.
    """

    name: str
    version: str
    load: Callable[[Workload, int], TimedCall]
    runtime: str = ""
    layout: str = "NCHW"
    promises: Mapping[str, float] = field(default_factory=dict)


def installed_peers(
    names: Sequence[str] | None = None, *, layouts: Sequence[str] | None = ("NCHW",), quick: bool = False
) -> Iterator[Peer]:
    """The peers that are installed.

    Args:
        names: only these modules (default: all).
        layouts: only these orders in memory (``None``: all that each peer has).
        quick: leave out those that are slow to load and not in ``names``.
    """
    for module_name in MODULES:
        if (names is not None and module_name not in names) or find_spec(module_name) is None:
            continue
        if quick and names is None and module_name in SLOW_TO_LOAD:
            continue
        module = import_module(f"{__name__}.{module_name}")
        runtime = cast("str", module.NAME)
        version = find_version(module.PACKAGE) or "unknown"
        orders = cast("tuple[str, ...]", module.LAYOUTS)
        for layout in orders:
            if layouts is not None and layout not in layouts:
                continue

            def load(workload: Workload, threads: int, module: object = module, layout: str = layout) -> TimedCall:
                found: TimedCall = module.load(workload, threads, layout)  # type: ignore[attr-defined]
                return found

            promises = getattr(module, "PROMISES", {})
            yield Peer(runtime + SUFFIXES[layout] * (len(orders) > 1), version, load, runtime, layout, promises)


def missing_peers(names: Sequence[str] | None = None) -> list[str]:
    """Names of the known peers that are not installed."""
    return [name for name in MODULES if (names is None or name in names) and find_spec(name) is None]
