"""Kernels and a table of steps that notice when a step does not see all of the step before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from omniconv.compiler.code.build import LoadedKernel, Source, load
from omniconv.runtime import driver
from omniconv.runtime.threads import Team, release_team, take_team
from omniconv.target.select import select_target

Words = npt.NDArray[np.int64]


def emit_mark(name: str) -> str:
    """``new[u] = old[u] + 1`` if ``old[u] == old[u - 1] == old[u + 1]`` (in a ring), else ``fail += 1``."""
    return f"""
define void @{name}(ptr %args, i64 %begin, i64 %end) {{
  %old = load ptr, ptr %args
  %p1 = getelementptr ptr, ptr %args, i64 1
  %new = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %args, i64 2
  %fail = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %args, i64 3
  %size = load i64, ptr %p3
  br label %loop
loop:
  %u = phi i64 [ %begin, %0 ], [ %next, %join ]
  %up = add i64 %u, 1
  %right = urem i64 %up, %size
  %down = add i64 %u, %size
  %down1 = sub i64 %down, 1
  %left = urem i64 %down1, %size
  %ap = getelementptr i64, ptr %old, i64 %u
  %a = load i64, ptr %ap
  %bp = getelementptr i64, ptr %old, i64 %left
  %b = load i64, ptr %bp
  %cp = getelementptr i64, ptr %old, i64 %right
  %c = load i64, ptr %cp
  %ab = icmp eq i64 %a, %b
  %ac = icmp eq i64 %a, %c
  %same = and i1 %ab, %ac
  br i1 %same, label %write, label %wrong
write:
  %dp = getelementptr i64, ptr %new, i64 %u
  %more = add i64 %a, 1
  store i64 %more, ptr %dp
  br label %join
wrong:
  atomicrmw add ptr %fail, i64 1 monotonic
  br label %join
join:
  %next = add i64 %u, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret void
}}
"""


def emit_count(name: str) -> str:
    """``args[0][u] += 1`` for each unit."""
    return f"""
define void @{name}(ptr %args, i64 %begin, i64 %end) {{
  %a = load ptr, ptr %args
  br label %loop
loop:
  %u = phi i64 [ %begin, %0 ], [ %next, %loop ]
  %at = getelementptr i64, ptr %a, i64 %u
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at
  %next = add i64 %u, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %done
done:
  ret void
}}
"""


def emit_share(name: str) -> str:
    """``args[0][begin] = end``."""
    return f"""
define void @{name}(ptr %args, i64 %begin, i64 %end) {{
  %a = load ptr, ptr %args
  %at = getelementptr i64, ptr %a, i64 %begin
  store i64 %end, ptr %at
  ret void
}}
"""


def emit_meet(name: str) -> str:
    """``args[0][begin] = own``, once so many parts as ``args[2]`` says are at work, which ``args[1]`` counts."""
    return f"""
define void @{name}(ptr %args, i64 %begin, i64 %end, i64 %own) {{
  %a = load ptr, ptr %args
  %at = getelementptr i64, ptr %a, i64 %begin
  store i64 %own, ptr %at
  %p1 = getelementptr ptr, ptr %args, i64 1
  %count = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %args, i64 2
  %many = load i64, ptr %p2
  %before = atomicrmw add ptr %count, i64 1 seq_cst
  br label %wait
wait:
  %here = load atomic i64, ptr %count seq_cst, align 8
  %all = icmp sge i64 %here, %many
  br i1 %all, label %done, label %wait
done:
  ret void
}}
"""


@dataclass
class Kernels:
    mark: LoadedKernel
    count: LoadedKernel
    share: LoadedKernel
    meet: LoadedKernel


def make_kernels() -> Kernels:
    emits = (emit_mark, emit_count, emit_share, emit_meet)
    sources = [Source(f"test {emit.__name__}", emit, "test") for emit in emits]
    return Kernels(*load(sources, select_target("native"), cache=None))


def make_table(steps: list[tuple[int, int, int, int]]) -> Words:
    return np.ascontiguousarray(np.array(steps, np.int64).reshape(-1, driver.STEP_WORDS))


def run_ring(team: Team, kernels: Kernels, steps: int, size: int) -> tuple[Words, int]:
    """Steps that each read what all threads wrote in the step before; any order other than step by step is counted."""
    buffers = np.zeros((2, size), np.int64)
    fail = np.zeros(1, np.int64)
    a, b = buffers[0].ctypes.data, buffers[1].ctypes.data
    args = [np.array([p, q, fail.ctypes.data, size], np.int64) for p, q in ((a, b), (b, a))]
    table = make_table([(kernels.mark.address, args[step % 2].ctypes.data, size, 0) for step in range(steps)])
    team.run(table.ctypes.data, steps)
    return buffers[steps % 2], int(fail[0])


@contextmanager
def acquire_team(threads: int) -> Iterator[Team]:
    """A team of the pool for the duration of a ``with`` block."""
    team = take_team(threads)
    try:
        yield team
    finally:
        release_team(team)
