"""How many cores there are, by the files of systems that are not this one; and how many threads are taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import omniconv as oc
from omniconv import processors
from omniconv.errors import SpecError
from omniconv.processors import VARIABLE, count_cpus, find_cores, take_threads

NEWER, OLDER = "core_cpus_list", "thread_siblings_list"


@pytest.fixture(autouse=True)
def without_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def build(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def topology(name: str, *cores: tuple[int, ...]) -> dict[str, str]:
    """The files that say which processors share a core."""
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": ",".join(map(str, core)) for core in cores for cpu in core
    }


def allow(monkeypatch: pytest.MonkeyPatch, *cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: len(cpus), raising=False)


@pytest.mark.parametrize(
    ("allowed", "cores"), [((0, 1, 2, 3), 2), ((0, 2), 1), ((0, 1), 2), ((3,), 1), ((0, 1, 2, 3, 9), 3)]
)
@pytest.mark.parametrize("name", [NEWER, OLDER, "unknown"])
def test_hardware_threads_of_a_core_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, allowed: tuple[int, ...], cores: int
) -> None:
    """Of a processor that the system says nothing of, such as the ninth, it is taken to be a core."""
    root = build(tmp_path, topology(name, (0, 2), (1, 3)))
    allow(monkeypatch, *allowed)
    found = find_cores(root)
    assert found.number == (len(allowed) if name == "unknown" else cores)
    assert f"{found.number} core" in found.why
    assert count_cpus(root) == len(allowed)


@pytest.mark.parametrize(
    ("files", "cores", "cpus"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"}, 1, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "1600000 100000"}, 8, 8),
        # The group of a service, or one around it.
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "300000 100000"}, 3, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            2,
            2,
        ),
        # In a container, whose path is that of the outside.
        ({"proc/self/cgroup": "0::/docker/12ab", "sys/fs/cgroup/cpu.max": "250000 50000"}, 5, 5),
        # Version 1, alone and beside version 2.
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/docker/12ab\n2:cpuset:/\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "450000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
            5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/x",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            8,
            8,
        ),
        # What is no quota is none.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "many 100000"}, 8, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "9" * 5000 + " 100000"}, 8, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 0"}, 8, 8),
        ({"proc/self/cgroup": "0::/../..", "sys/fs/cgroup/cpu.max": ""}, 8, 8),
        ({"proc/self/cgroup": "nonsense\n:::"}, 8, 8),
        ({}, 8, 8),
    ],
)
def test_a_quota_is_a_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int, cpus: int
) -> None:
    allow(monkeypatch, *range(8))
    found = find_cores(build(tmp_path, files))
    assert (found.number, count_cpus(tmp_path)) == (cores, cpus)
    assert ("quota" in found.why) == (cores < 8)


def test_other_systems_count_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processors, "_allowed", lambda: None)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 6, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    found = find_cores(tmp_path)
    assert found.number == count_cpus(tmp_path) == 6
    assert "does not say which of them share a core" in found.why
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert find_cores(tmp_path).number == 1


def test_python_may_have_been_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allow(monkeypatch, *range(8))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert find_cores(tmp_path) == (3, "3 processors, as Python was told")


def test_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for; else what the variable says; else the cores, whatever other libraries are told."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert take_threads(None) == find_cores()
    monkeypatch.setenv(VARIABLE, " 3 ")
    assert take_threads(None) == (3, VARIABLE)
    assert take_threads(np.int32(2)) == (2, "")
    for wrong in ("0", "-1", "1.0", "two", "1025", "9" * 5000, "٣"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(SpecError, match=f"{VARIABLE}=.*need 1 to 1024"):
            take_threads(None)
        assert take_threads(1) == (1, "")


def test_networks_say_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default as many as there are, fewer where there is little to do; what is asked for stays."""
    monkeypatch.setenv(VARIABLE, "5")
    spec = oc.pointwise(in_channels=12, out_channels=9)
    weights = oc.random_weights(spec, np.random.default_rng(0))
    found = oc.compile(spec, (1, 12, 5, 5), weights)
    assert found.threads == 5
    assert f"5 threads ({VARIABLE})" in found.explain()
    from omniconv.compiler.planning import sharing

    monkeypatch.setattr(sharing, "WAKE_US", 4.0)
    found = oc.compile(spec, (1, 12, 5, 5), weights)
    assert found.threads == 1
    assert f"1 thread (of {VARIABLE}: there is too little to share)" in found.explain()
    found = oc.compile(spec, (1, 12, 5, 5), weights, threads=2)
    assert found.threads == 2
    assert "; 2 threads (one does it all: there is too little to share);" in found.explain()
