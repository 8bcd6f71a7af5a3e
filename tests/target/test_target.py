from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from omniconv.errors import UnsupportedError
from omniconv.target import select as module
from omniconv.target.model import Host, Target
from omniconv.target.select import LEVELS, VARIABLE, available_targets, detect_host, resolve_target, select_target


def make_host(level: str, cpu: str = "some-cpu", arch: str = "x86_64", without: tuple[str, ...] = ()) -> Host:
    """A machine with exactly what a level needs."""
    needs = next(row.needs for row in LEVELS if row.name == level and row.arch in (arch, "x86-64", "aarch64"))
    known = {feature for row in LEVELS for feature in row.needs}
    features = tuple((feature, feature in needs and feature not in without) for feature in sorted(known))
    return Host(cpu, features, f"{arch}-unknown-linux-gnu")


V4 = make_host("x86-64-v4", "skylake-avx512")
V3 = make_host("x86-64-v3", "haswell")
V2 = make_host("x86-64-v2", "nehalem")
OLD = Host("core2", (("sse3", True),), "x86_64-pc-windows-msvc")
ARM = Host("neoverse-n1", (("neon", True), ("sve", False)), "aarch64-unknown-linux-gnu")
MAC = Host("apple-m1", (("neon", True),), "arm64-apple-darwin23.0")
RISC = Host("sifive-u74", (), "riscv64-unknown-linux-gnu")


@pytest.mark.parametrize(
    ("host", "shape", "names"),
    [
        (V4, (16, 32, True), ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "generic")),
        (V3, (8, 16, True), ("native", "x86-64-v3", "x86-64-v2", "generic")),
        (V2, (4, 16, False), ("native", "x86-64-v2", "generic")),
        (OLD, (4, 16, False), ("native", "generic")),
        (ARM, (4, 32, True), ("native", "neon", "generic")),
        (MAC, (4, 32, True), ("native", "neon", "generic")),
        (RISC, (4, 16, False), ("native", "generic")),
        (make_host("x86-64-v4", without=("avx512vl",)), (8, 16, True), ("native", "x86-64-v3", "x86-64-v2", "generic")),
        (make_host("x86-64-v3", without=("fma",)), (4, 16, False), ("native", "x86-64-v2", "generic")),
    ],
)
def test_native_takes_the_widest_the_host_has(host: Host, shape: tuple[int, int, bool], names: tuple[str, ...]) -> None:
    target = resolve_target("native", host)
    assert (target.lanes, target.registers, target.fma) == shape
    assert (target.name, target.cpu, target.triple) == ("native", host.cpu, host.triple)
    assert available_targets(host) == names
    for name in names:
        assert resolve_target(name, host).name == name


def test_native_names_every_feature() -> None:
    features = resolve_target("native", V3).features.split(",")
    assert "+avx2" in features
    assert "-avx512f" in features


def test_a_level_means_exactly_that_instruction_set() -> None:
    for host in (V4, V3):
        assert resolve_target("x86-64-v3", host) == Target(
            "x86-64-v3", 8, 16, True, "x86-64-v3", "", "x86_64-unknown-linux-gnu", 2**19
        )
    assert resolve_target("generic", V4).cpu == "x86-64"


def test_native_knows_the_cache_and_a_level_does_not() -> None:
    hosts = [replace(V4, cache_bytes=size) for size in (2**18, 2**21)]
    assert [resolve_target("native", host).cache_bytes for host in hosts] == [2**18, 2**21]
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "generic"):
        assert resolve_target(name, hosts[0]) == resolve_target(name, hosts[1])


@pytest.mark.parametrize(
    ("host", "name", "problem"),
    [
        (V3, "x86-64-v4", "cannot run on this x86-64 machine; need one of native, x86-64-v3, x86-64-v2, generic"),
        (ARM, "x86-64-v3", "cannot run on this aarch64 machine; need one of native, neon, generic"),
        (V4, "neon", "cannot run on this x86-64"),
        (V4, "znver4", "target 'znver4' is unknown; need one of native, x86-64-v4"),
        (V4, "", "target '' is unknown"),
        (RISC, "neon", "need one of native, generic"),
    ],
)
def test_what_cannot_run_is_refused_and_says_what_can(host: Host, name: str, problem: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        resolve_target(name, host)
    assert problem in str(caught.value)
    assert host.cpu in str(caught.value)


def test_argument_then_variable_then_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detect_host", lambda: V3)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert select_target().name == "native"
    monkeypatch.setenv(VARIABLE, "x86-64-v2")
    assert select_target().lanes == 4
    assert select_target("x86-64-v3").lanes == 8
    monkeypatch.setenv(VARIABLE, "x86-64-v4")
    with pytest.raises(UnsupportedError, match=VARIABLE):
        select_target()


def test_this_machine_has_a_target() -> None:
    target = resolve_target("native", detect_host())
    assert target.lanes in (4, 8, 16)
    assert target.cpu in str(target)


def test_choosing_loads_no_llvm() -> None:
    code = (
        "import sys; from omniconv.target.select import Host, resolve_target;"
        "resolve_target('native', Host('a', (), 'x86_64-linux')); assert 'llvmlite' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
