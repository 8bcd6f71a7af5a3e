"""Named machines, as LLVM describes them: choices are pure functions of these, none of which need be here."""

from __future__ import annotations

from omniconv.target.model import Host, Target
from omniconv.target.select import LEVELS, available_targets, detect_host, resolve_target

LINUX = "x86_64-unknown-linux-gnu"
ARM_LINUX = "aarch64-unknown-linux-gnu"


def needs(level: str) -> tuple[str, ...]:
    """The features that a level asks for."""
    return next(row.needs for row in LEVELS if row.name == level)


MORE_FEATURES = {"avx512bf16", "avx512vnni", "avxvnni", "fma4"}
"""What machines may have beyond their level."""
X86_FEATURES = sorted({feature for row in LEVELS if row.arch == "x86-64" for feature in row.needs} | MORE_FEATURES)
ARM_FEATURES = ("bf16", "dotprod", "fp-armv8", "fullfp16", "i8mm", "neon", "sve")


def x86(cpu: str, level: str, *more: str, l2: int, l1: int = 2**15) -> Host:
    """A processor with what a level needs and some more, on Linux."""
    has = {*needs(level), *more}
    return Host(cpu, tuple((name, name in has) for name in X86_FEATURES), LINUX, l2, l1)


def arm(cpu: str, *has: str, l2: int, l1: int, triple: str = ARM_LINUX) -> Host:
    """A processor with these features."""
    return Host(cpu, tuple((name, name in has) for name in ARM_FEATURES), triple, l2, l1)


NEHALEM = x86("nehalem", "x86-64-v2", l2=2**18)
HASWELL = x86("haswell", "x86-64-v3", l2=2**18)
ZEN_3 = x86("znver3", "x86-64-v3", l2=2**19)
ZEN_4 = x86("znver4", "x86-64-v4", "avx512vnni", l2=2**20)
SKYLAKE_SERVER = x86("skylake-avx512", "x86-64-v4", l2=2**20)
SIERRA_FOREST = x86("sierraforest", "x86-64-v3", "avxvnni", l2=2**22)
"""VNNI without AVX-512."""
COOPER_LAKE = x86("cooperlake", "x86-64-v4", "avx512bf16", "avx512vnni", l2=2**20)
"""Pairs of bfloat16."""
NEOVERSE_N1 = arm("neoverse-n1", "dotprod", "fp-armv8", "fullfp16", "neon", l2=2**20, l1=2**16)
NEOVERSE_V1 = arm("neoverse-v1", "dotprod", "fp-armv8", "fullfp16", "neon", "sve", l2=2**20, l1=2**16)
APPLE_M1 = arm(
    "apple-m1", "dotprod", "fp-armv8", "fullfp16", "neon", l2=12 * 2**20, l1=2**17, triple="arm64-apple-darwin23.0"
)
NEOVERSE_N2 = arm("neoverse-n2", "bf16", "dotprod", "fp-armv8", "fullfp16", "i8mm", "neon", "sve", l2=2**20, l1=2**16)
"""Pairs of bfloat16, and quads of bytes whatever their sign."""
RISC_V = Host("sifive-u74", (), "riscv64-unknown-linux-gnu")

HOSTS = {
    "nehalem": NEHALEM, "haswell": HASWELL, "zen3": ZEN_3, "zen4": ZEN_4, "skylake-server": SKYLAKE_SERVER,
    "sierra-forest": SIERRA_FOREST, "neoverse-n1": NEOVERSE_N1, "neoverse-v1": NEOVERSE_V1, "apple-m1": APPLE_M1,
    "risc-v": RISC_V,
}  # fmt: skip
"""Every machine by its name."""


def native(host: Host) -> Target:
    """Everything that a machine has."""
    return resolve_target("native", host)


V2, V3, V4, NEON = (resolve_target(name, ZEN_4) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "neon"))
"""The levels, which are the same on every machine."""
MACHINES = {name: native(host) for name, host in HOSTS.items()}
"""The native target of every machine."""


def each_length() -> list[Target]:
    """One target of this machine for each length of vectors, everything that it has first: 16, 8 and 4 lanes on x86-64,
    as far as it has them.
    """
    host = detect_host()
    found: dict[int, Target] = {}
    for target in (resolve_target(name, host) for name in available_targets(host)):
        found.setdefault(target.lanes, target)
    return [*found.values()]
