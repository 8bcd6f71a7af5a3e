"""`Target`: the instruction set that code is generated for, and the choice of one.

The choice is :func:`resolve_target`, a pure function of (name, host): it can be asked about any machine. A level
(``x86-64-v3``) means exactly that instruction set, so that it can be forced, compared and cached across machines;
``native`` means everything the host has.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

from omniconv.errors import UnsupportedError
from omniconv.target import aarch64, x86
from omniconv.target.caches import find_caches
from omniconv.target.model import Host, Level, Target

VARIABLE: Final = "OMNICONV_TARGET"


LEVELS: Final = (*x86.LEVELS, *aarch64.LEVELS)
"""Every level, best first within an architecture."""


def resolve_target(name: str, host: Host) -> Target:
    """The target called ``name`` on ``host``: a pure function, for any machine.

    Args:
        name: ``native``, ``generic`` or a level of the host's architecture.
        host: the machine the code will run on.

    Raises:
        UnsupportedError: the name is unknown, or the host cannot run it.
    """
    levels = [level for level in LEVELS if level.arch == host.arch and host.has(level.needs)]
    if name == "native":
        level = levels[0] if levels else Level("generic", host.arch, 4, 16, False, (), host.cpu)
        features = [("+" if value else "-") + feature for feature, value in sorted(host.features)]
        if level.lanes == 16:
            features.append(x86.WIDE)
        flat = ",".join(features)
        return Target(
            "native", level.lanes, level.registers, level.fma, host.cpu, flat, host.triple, host.cache_bytes
        )  # fmt: skip
    if name == "generic" and not levels:
        return Target("generic", 4, 16, False, "generic", "", host.triple, 2**19)
    for level in levels:
        if level.name == name:
            return Target(
                name, level.lanes, level.registers, level.fma, level.cpu, level.features, host.triple, level.cache_bytes
            )  # fmt: skip
    known = any(level.name == name for level in LEVELS)
    names = ", ".join(available_targets(host))
    raise UnsupportedError(
        f"target {name!r} cannot run on this {host.arch} machine" if known else f"target {name!r} is unknown",
        need=f"one of {names}",
        at=f"{VARIABLE} or target= | host {host.cpu}",
    )


def available_targets(host: Host) -> tuple[str, ...]:
    """Names that :func:`resolve_target` accepts for ``host``, ``native`` first."""
    names = [level.name for level in LEVELS if level.arch == host.arch and host.has(level.needs)]
    return ("native", *(names or ["generic"]))


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
    return Host(str(llvm.get_host_cpu_name()), pairs, str(llvm.get_process_triple()), second)


def select_target(name: str | None = None) -> Target:
    """The target to compile for: ``name``, else the environment variable ``OMNICONV_TARGET``, else the host.

    Raises:
        UnsupportedError: the name is unknown, or this machine cannot run it.
    """
    wanted = name if name is not None else os.environ.get(VARIABLE, "").strip() or "native"
    return resolve_target(wanted, detect_host())
