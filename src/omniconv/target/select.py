"""The choice of a target to compile for, and whether it runs on a machine.

The choice is :func:`resolve_target`, a pure function of (name, host): it can be asked about any machine. A level
(``x86-64-v3``) means exactly that instruction set, so that it can be forced, compared and cached across machines, and
compiled for on any; ``native`` means everything the host has.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

from omniconv.errors import UnsupportedError
from omniconv.integers import state
from omniconv.target import aarch64, wasm, x86
from omniconv.target.caches import find_caches
from omniconv.target.model import Host, Level, Target, arch_of
from omniconv.target.other import describe

VARIABLE: Final = "OMNICONV_TARGET"


LEVELS: Final = (*x86.LEVELS, *aarch64.LEVELS, *wasm.LEVELS)
"""Every level, best first within an architecture."""


def resolve_target(name: str, host: Host) -> Target:
    """The target called ``name`` as seen from ``host``: a pure function, for any machine.

    Args:
        name: ``native``, ``generic``, or a level of any architecture. ``native`` and ``generic`` are those of the host.
        host: the machine that compiles.

    Raises:
        UnsupportedError: the name is unknown.
    """
    if not isinstance(name, str):
        raise UnsupportedError(
            state("target", name, "is not a name"), need="the name of an instruction set", fix='"native"'
        )
    levels = _levels_of(host)
    if name == "native":
        return next(level for level in levels if host.has(level.needs)).native_target(host)
    for level in (*levels, *LEVELS):
        if name == level.name or name in level.aliases:
            here = level.arch == host.arch
            return level.target(host.triple if here else level.triple)
    names = dict.fromkeys(("native", *(level.name for level in (*levels, *LEVELS))))
    raise UnsupportedError(
        f"target {name!r} is unknown",
        need=f"one of {', '.join(names)}",
        at=f"{VARIABLE} or target= | host {host.cpu}",
    )


@lru_cache(maxsize=64)
def reject_host(target: Target, host: Host) -> str | None:
    """Why a machine cannot run what is compiled for a target; ``None`` where it can."""
    arch = arch_of(target.triple)
    if arch != host.arch:
        return f"it is code for {arch}, and this machine is {host.arch}"
    if target.name == "native":
        here = resolve_target("native", host)
        alike = (target.cpu, target.features) == (here.cpu, here.features)
        return None if alike else f"it is code for everything that {target.cpu} has, and this machine is {host.cpu}"
    level = next(level for level in _levels_of(host) if level.name == target.name)
    missing = [feature for feature in level.needs if not host.has((feature,))]
    return f"this machine, {host.cpu}, has no {', '.join(missing)}" if missing else None


def _levels_of(host: Host) -> list[Level]:
    """The levels of a host's architecture, best first; the last one runs on all of its machines."""
    return [level for level in LEVELS if level.arch == host.arch] or [describe(host.arch)]


def available_targets(host: Host) -> tuple[str, ...]:
    """Names of the targets that run on ``host``, ``native`` first."""
    return ("native", *(level.name for level in _levels_of(host) if host.has(level.needs)))


@lru_cache(maxsize=1)
def detect_host() -> Host:
    """This machine, as LLVM sees it."""
    import llvmlite.binding as llvm

    try:
        features = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM does not know how to ask this processor
        features = {}
    pairs = tuple(sorted((str(name), bool(value)) for name, value in features.items()))
    sizes = {cache.name: cache.size for cache in find_caches()}
    second = sizes.get("L2", max(sizes.values()))
    first = min(sizes.get("L1", 2**15), second)
    return Host(str(llvm.get_host_cpu_name()), pairs, str(llvm.get_process_triple()), second, first)


def select_target(name: str | None = None) -> Target:
    """The target to compile for: ``name``, else the environment variable ``OMNICONV_TARGET``, else the host.

    Raises:
        UnsupportedError: the name is unknown.
    """
    wanted = name if name is not None else os.environ.get(VARIABLE, "").strip() or "native"
    return resolve_target(wanted, detect_host())
