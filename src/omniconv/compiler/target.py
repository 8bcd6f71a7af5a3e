"""`Target`: the instruction set that code is generated for, and the choice of one.

The choice is :func:`resolve_target`, a pure function of (name, host): it can be asked about any machine. A level
(``x86-64-v3``) means exactly that instruction set, so that it can be forced, compared and cached across machines;
``native`` means everything the host has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from omniconv.compiler.caches import find_caches
from omniconv.errors import UnsupportedError
from omniconv.integers import state

VARIABLE: Final = "OMNICONV_TARGET"


@dataclass(frozen=True, slots=True)
class Target:
    """What the code generator needs to know of a processor.

    Attributes:
        name: the name that selects it: ``native``, ``generic`` or a level.
        lanes: float32 values in one vector.
        registers: vector registers.
        fma: whether a fused multiply-add is one instruction.
        cpu: LLVM's name of the processor.
        features: LLVM's feature string, such as ``+avx2,-avx512f``.
        triple: LLVM's target triple.
        cache_bytes: second-level cache of one core: the host's for ``native``, a fixed size for a level, so that code
            for a level does not depend on the machine [bytes].
    """

    name: str
    lanes: int
    registers: int
    fma: bool
    cpu: str
    features: str
    triple: str
    cache_bytes: int

    def __str__(self) -> str:
        fma = "FMA" if self.fma else "no FMA"
        return f"{self.name} ({self.cpu}, {self.lanes} lanes, {self.registers} registers, {fma})"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: what LLVM says of it, and the second-level cache of one core [bytes].

    ``features`` maps every known feature to whether the machine has it.
    """

    cpu: str
    features: tuple[tuple[str, bool], ...]
    triple: str
    cache_bytes: int = 2**20

    @property
    def arch(self) -> str:
        """``x86-64``, ``aarch64``, or the first word of the triple."""
        word = self.triple.split("-", 1)[0].lower()
        return {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}.get(word, word)

    def has(self, needed: tuple[str, ...]) -> bool:
        """Whether the machine has every feature in ``needed``."""
        present = {name for name, value in self.features if value}
        return present.issuperset(needed)


@dataclass(frozen=True, slots=True)
class Level:
    """One row of :data:`LEVELS`: the vector shape of an instruction set and what a machine must have to run it."""

    name: str
    arch: str
    lanes: int
    registers: int
    fma: bool
    needs: tuple[str, ...]
    cpu: str
    features: str = ""
    cache_bytes: int = 2**19


_V2: Final = ("cx16", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3: Final = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4: Final = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_WIDE: Final = "-prefer-256-bit"  # some processor models ask LLVM to avoid 512-bit vectors; kernels are written in them

LEVELS: Final = (
    Level("x86-64-v4", "x86-64", 16, 32, True, _V4, "x86-64-v4", _WIDE, 2**20),
    Level("x86-64-v3", "x86-64", 8, 16, True, _V3, "x86-64-v3"),
    Level("x86-64-v2", "x86-64", 4, 16, False, _V2, "x86-64-v2"),
    Level("generic", "x86-64", 4, 16, False, (), "x86-64"),
    Level("neon", "aarch64", 4, 32, True, ("neon",), "generic", "+neon"),
    Level("generic", "aarch64", 4, 32, True, (), "generic"),
)
"""Best first within an architecture. What a level needs is its definition (psABI for x86-64); its cache is the smallest
that is common where it is the best level.
"""


def resolve_target(name: str, host: Host) -> Target:
    """The target called ``name`` on ``host``: a pure function, for any machine.

    Args:
        name: ``native``, ``generic`` or a level of the host's architecture.
        host: the machine the code will run on.

    Raises:
        UnsupportedError: the name is unknown, or the host cannot run it.
    """
    if not isinstance(name, str):
        raise UnsupportedError(
            state("target", name, "is not a name"), need="the name of an instruction set", fix='"native"'
        )
    levels = [level for level in LEVELS if level.arch == host.arch and host.has(level.needs)]
    if name == "native":
        level = levels[0] if levels else Level("generic", host.arch, 4, 16, False, (), host.cpu)
        features = [("+" if value else "-") + feature for feature, value in sorted(host.features)]
        if level.lanes == 16:
            features.append(_WIDE)
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


def host_target() -> Target:
    """Everything this machine has."""
    return resolve_target("native", detect_host())


def select_target(name: str | None = None) -> Target:
    """The target to compile for: ``name``, else the environment variable ``OMNICONV_TARGET``, else the host.

    Raises:
        UnsupportedError: the name is unknown, or this machine cannot run it.
    """
    wanted = name if name is not None else os.environ.get(VARIABLE, "").strip() or "native"
    return resolve_target(wanted, detect_host())
