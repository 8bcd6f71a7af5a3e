"""How many processors this process may use, how many of them are cores of their own, and how many threads a call takes
where nobody says.

Two hardware threads of one core share its multipliers: a second thread there takes as much from the first as it adds,
and waits for it. So threads are counted by cores. A container's quota is time: of one that is worth 1.5 processors, two
threads that wait for one another would stand still a quarter of the time, so that it counts as one.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from omniconv.errors import SpecError
from omniconv.integers import as_integer, ceil_div

VARIABLE: Final = "OMNICONV_THREADS"
MAX_THREADS: Final = 1024
_DIGITS: Final = 20
"""Of a time in a file of the system; more are no time."""
_ROOT: Final = Path("/")
_SIBLINGS: Final = ("core_cpus_list", "thread_siblings_list")
"""Files that list the processors of one core, by the name of newer and of older Linux."""


class TakenThreads(NamedTuple):
    """How many threads, and why so many; no reason where the caller said it."""

    number: int
    why: str = ""


def take_threads(asked: object) -> TakenThreads:
    """The threads of a call: what was asked for, or with ``None`` the default.

    That is the first of: the environment variable ``OMNICONV_THREADS``; the cores that this process may use, see
    :func:`find_cores`. ``OMP_NUM_THREADS`` is another library's.

    Example:
        >>> take_threads(3)
        TakenThreads(number=3, why='')
        >>> take_threads(0)
        Traceback (most recent call last):
            ...
        omniconv.errors.SpecError: threads=0 is out of range; need an integer from 1 to 1024

    Raises:
        SpecError: no number from 1 to :data:`MAX_THREADS`.
    """
    if asked is not None:
        return TakenThreads(as_integer("threads", asked, 1, MAX_THREADS))
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return find_cores()
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 9 and 1 <= int(text) <= MAX_THREADS):
        raise SpecError(f"{VARIABLE}={text!r} is no number of threads", need=f"1 to {MAX_THREADS}", fix="2")
    return TakenThreads(int(text), VARIABLE)


def find_cores(root: Path = _ROOT) -> TakenThreads:
    """Cores that this process may use, and where the number comes from.

    Those of the processors that it may run on (its affinity), or fewer where a container has a smaller share of their
    time (the quota of control groups, versions 1 and 2, rounded down) or where Python was told so (``-X cpu_count``).
    Other systems than Linux do not say which processors share a core: there each counts.

    Args:
        root: the folder that holds ``proc`` and ``sys``.
    """
    allowed = _allowed()
    if allowed is None:
        count, what = os.cpu_count() or 1, f"processors; {sys.platform} does not say which of them share a core"
    else:
        cores = {_core_of(cpu, root) for cpu in allowed}
        count, what = len(cores), f"{'core' if len(cores) == 1 else 'cores'} that this process may run on"
    told = getattr(os, "process_cpu_count", lambda: None)()
    if told is not None and told < min(count, len(allowed or range(count))):
        count, what = told, "processors, as Python was told"
    quota = _read_quota(root)
    if quota is not None and quota[0] < quota[1] * count:
        count = max(quota[0] // quota[1], 1)
        what = f"by a control group's quota of {quota[0] / quota[1]:.3g} processors"
        return TakenThreads(count, what)
    return TakenThreads(min(count, MAX_THREADS), f"{count} {what}")


def count_cpus(root: Path = _ROOT) -> int:
    """Processors this process may use: those it may run on, or fewer where a container has a smaller share of them,
    rounded up.
    """
    allowed = _allowed()
    count = os.cpu_count() or 1 if allowed is None else len(allowed)
    quota = _read_quota(root)
    return max(count if quota is None else min(count, ceil_div(*quota)), 1)


def _allowed() -> frozenset[int] | None:
    """Processors that this process may run on; ``None`` where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


@lru_cache(maxsize=4096)
def _core_of(cpu: int, root: Path) -> str:
    """A name of the core of a processor, one of its own where the system does not say."""
    folder = root / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
    for name in _SIBLINGS:
        text = _read(folder / name)
        if text:
            return text
    return str(cpu)


def _read_quota(root: Path) -> tuple[int, int] | None:
    """The smallest quota of the control groups that this process is in: time and period, in the same unit."""
    found = []
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, read = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"), _read_second
        elif "cpu" in controllers.split(","):
            mounts, read = (root / "sys/fs/cgroup/cpu", root / "sys/fs/cgroup" / controllers), _read_first
        else:
            continue
        # Inside a container the path may be that of the outside: then only the mount itself is there.
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for mount in mounts:
            folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
            found += [quota for folder in folders if (quota := read(folder)) is not None]
    return min(found, key=lambda quota: quota[0] / quota[1], default=None)


def _read_second(folder: Path) -> tuple[int, int] | None:
    """A quota of version 2: ``max 100000`` where there is none."""
    words = _read(folder / "cpu.max").split()
    return _as_quota(*words) if len(words) == 2 else None


def _read_first(folder: Path) -> tuple[int, int] | None:
    """A quota of version 1: -1 where there is none."""
    return _as_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _as_quota(time: str, period: str) -> tuple[int, int] | None:
    numbers = all(text.isdigit() and len(text) <= _DIGITS for text in (time, period))
    return (int(time), int(period)) if numbers and int(time) and int(period) else None


def _read(path: Path) -> str:
    """What a small file says, or nothing."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
