"""What a report must say about where its numbers come from."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("omniconv", "numpy", "llvmlite", "onnx", "onnxruntime", "openvino", "torch", "ncnn", "executorch")


def describe_machine(threads: int) -> dict[str, Any]:
    """CPU, cores, threads, system, versions and commit, for a JSON report."""
    return {
        "cpu": name_cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := find_version(name)) is not None},
        "commit": find_commit(),
        "settings": {key: value for key, value in sorted(os.environ.items()) if key.startswith("OMNICONV_")},
    }


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next allocation, as a process that runs for long does anyway.

    Without, an output array that is large and new for each call may come as fresh pages from the system every time or
    not, depending on what else was freed before, and the pages may take longer than the layer. True where it is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not the GNU C library
        return False
    # With a threshold for pages of their own, which cannot be above 32 MB, larger arrays would still be new each time.
    trim_threshold, mmap_max = -1, -4
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, 2**31 - 1))


def find_version(package: str) -> str | None:
    """The version of an installed distribution, ``None`` where there is none. Nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def name_cpu() -> str:
    """The model name of the processor, as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def find_commit() -> str | None:
    """The commit of the source tree this package runs from, with ``+`` if it has changes; ``None`` when installed."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
