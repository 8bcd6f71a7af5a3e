from __future__ import annotations

from pathlib import Path

from omniconv.target.caches import ASSUMED_CACHES, Cache, find_caches
from omniconv.target.select import detect_host


def write(folder: Path, index: int, **files: str) -> None:
    (folder / f"index{index}").mkdir()
    for name, text in files.items():
        (folder / f"index{index}" / name).write_text(text + "\n")


def test_data_caches_from_the_smallest(tmp_path: Path) -> None:
    write(tmp_path, 0, type="Data", size="48K", level="1", shared_cpu_list="0")
    write(tmp_path, 1, type="Instruction", size="32K", level="1", shared_cpu_list="0")
    write(tmp_path, 2, type="Unified", size="512K", level="2", shared_cpu_list="0-1")
    write(tmp_path, 3, type="Unified", size="32768K", level="3", shared_cpu_list="0-15")
    write(tmp_path, 4, type="Unified", level="4")
    assert find_caches(tmp_path) == (
        Cache("L1", 48 * 2**10, private=True),
        Cache("L2", 2**19, private=False),
        Cache("L3", 2**25, private=False),
    )


def test_assumed_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert find_caches(tmp_path) == ASSUMED_CACHES
    assert find_caches(tmp_path / "missing") == ASSUMED_CACHES


def test_caches_of_this_machine_grow() -> None:
    sizes = [cache.size for cache in find_caches()]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 2**12
    assert detect_host().cache_bytes in sizes
