from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.machines import APPLE_M1, HASWELL, NEHALEM, NEOVERSE_N1, RISC_V, SIERRA_FOREST, ZEN_4

import omniconv as oc
from omniconv.errors import UnsupportedError
from omniconv.target import select as module
from omniconv.target.model import Host
from omniconv.target.select import (
    LEVELS,
    VARIABLE,
    available_targets,
    detect_host,
    reject_host,
    resolve_target,
    select_target,
)

OLD = Host("core2", (("sse3", True),), "x86_64-pc-windows-msvc")


def lacks(host: Host, feature: str) -> Host:
    """A machine without one of its features."""
    return replace(host, features=tuple((name, has and name != feature) for name, has in host.features))


@pytest.mark.parametrize(
    ("host", "shape", "names"),
    [
        (ZEN_4, (16, 32, True), ("native", "x86-64-v4", "x86-64-v3", "x86-64-v2", "generic")),
        (HASWELL, (8, 16, True), ("native", "x86-64-v3", "x86-64-v2", "generic")),
        (SIERRA_FOREST, (8, 16, True), ("native", "x86-64-v3", "x86-64-v2", "generic")),
        (NEHALEM, (4, 16, False), ("native", "x86-64-v2", "generic")),
        (OLD, (4, 16, False), ("native", "generic")),
        (NEOVERSE_N1, (4, 32, True), ("native", "neon", "generic")),
        (APPLE_M1, (4, 32, True), ("native", "neon", "generic")),
        (RISC_V, (4, 16, False), ("native", "generic")),
        (lacks(ZEN_4, "avx512vl"), (8, 16, True), ("native", "x86-64-v3", "x86-64-v2", "generic")),
        (lacks(HASWELL, "fma"), (4, 16, False), ("native", "x86-64-v2", "generic")),
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
    features = resolve_target("native", HASWELL).features.split(",")
    assert "+avx2" in features
    assert "-avx512f" in features
    assert resolve_target("native", ZEN_4).features.endswith(",-prefer-256-bit")


def test_a_level_means_exactly_that_instruction_set() -> None:
    for host in (ZEN_4, HASWELL, SIERRA_FOREST):
        found = resolve_target("x86-64-v3", host)
        assert (found.name, found.cpu, found.features) == ("x86-64-v3", "x86-64-v3", "")
        assert (found.lanes, found.registers, found.fma) == (8, 16, True)
        assert (found.cache_bytes, found.l1_bytes) == (2**19, 2**15)
    assert resolve_target("generic", ZEN_4).cpu == "x86-64"


def test_native_knows_the_caches_and_a_level_does_not() -> None:
    small, large = (replace(ZEN_4, cache_bytes=2**size, l1_bytes=2 ** (size - 4)) for size in (18, 21))
    for host in (small, large):
        target = resolve_target("native", host)
        assert (target.cache_bytes, target.l1_bytes) == (host.cache_bytes, host.l1_bytes)
    for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "generic"):
        assert resolve_target(name, small) == resolve_target(name, large)


@pytest.mark.parametrize("name", [level.name for level in LEVELS if level.name != "generic"])
def test_every_level_can_be_compiled_for_anywhere(name: str) -> None:
    hosts = (ZEN_4, NEHALEM, NEOVERSE_N1, RISC_V)
    targets = [resolve_target(name, host) for host in hosts]
    assert {replace(target, triple="") for target in targets} == {replace(targets[0], triple="")}
    for host, target in zip(hosts, targets, strict=True):
        assert (reject_host(target, host) is None) == (name in available_targets(host))


@pytest.mark.parametrize(
    ("name", "host", "problem"),
    [
        ("x86-64-v4", HASWELL, "this machine, haswell, has no avx512f, avx512bw, avx512cd, avx512dq, avx512vl"),
        ("x86-64-v3", NEOVERSE_N1, "it is code for x86-64, and this machine is aarch64"),
        ("neon", ZEN_4, "it is code for aarch64, and this machine is x86-64"),
        ("wasm", ZEN_4, "it is code for wasm32, and this machine is x86-64"),
        ("native", ZEN_4, None),
        ("generic", RISC_V, None),
    ],
)
def test_what_cannot_run_is_told(name: str, host: Host, problem: str | None) -> None:
    found = reject_host(resolve_target(name, host), host)
    assert found == problem


def test_native_code_is_for_such_machines_only() -> None:
    code = resolve_target("native", ZEN_4)
    assert reject_host(code, replace(ZEN_4, cache_bytes=2**18)) is None
    assert "everything that znver4 has, and this machine is haswell" in reject_host(code, HASWELL)


@pytest.mark.parametrize(
    ("host", "name", "problem"),
    [
        (
            ZEN_4,
            "znver4",
            "target 'znver4' is unknown; need one of native, x86-64-v4, x86-64-v3, x86-64-v2, generic, neon",
        ),
        (ZEN_4, "", "target '' is unknown"),
        (RISC_V, "sve", "need one of native, generic, x86-64-v4"),
    ],
)
def test_what_is_unknown_is_refused_and_says_what_is_not(host: Host, name: str, problem: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        resolve_target(name, host)
    assert problem in str(caught.value)
    assert host.cpu in str(caught.value)


def test_code_for_another_machine_is_made_explained_and_not_called() -> None:
    name = "neon" if detect_host().arch == "x86-64" else "x86-64-v3"
    spec = oc.depthwise(in_channels=8, kernel_size=3, padding=1)
    weights = oc.random_weights(spec, np.random.default_rng(0))
    f = oc.compile(spec, (1, 8, 9, 9), weights, target=name, threads=2)
    assert f.explain().startswith(f"target {name} (")
    assert f.kernels == len({call.what for call in f.plan.calls})
    x = np.ones((1, 8, 9, 9), np.float32)
    for call in (lambda: f(x), lambda: f.run({"x": x}), lambda: f.profile(x)):
        with pytest.raises(UnsupportedError, match=f"code for target '{name}' is called, but it is code for .*native"):
            call()


def test_argument_then_variable_then_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detect_host", lambda: HASWELL)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert select_target().name == "native"
    monkeypatch.setenv(VARIABLE, "x86-64-v2")
    assert select_target().lanes == 4
    assert select_target("x86-64-v3").lanes == 8
    monkeypatch.setenv(VARIABLE, "x86-64-v5")
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
