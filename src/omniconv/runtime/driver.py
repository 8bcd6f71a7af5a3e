r"""The driver: the machine code that runs a table of steps on a team of threads, as LLVM IR.

Of each step a thread t of T owns the units from ``units * t // T`` to ``units * (t + 1) // T`` and takes them a part
at a time; then it helps the threads after it with what they have left. A step is over when all of its units are done,
whoever did them: nobody waits for a thread that is still asleep, or that the system holds up between two turns::

    for each step (function, args, units, grain):
        for owner in t, t + 1, ... (mod T):
            while owner has units left: take grain, or a third of them, and call function(args, begin, end, OWN t)
        add what was done here to the count of the step, and wait until that is full

OWN is how far the memory of a thread is behind that of the one before it, the same for all steps: a step may be a
table of steps itself (:mod:`omniconv.runtime.strips`), and threads then run kernels of several ones at a time.

The counters (how many units of each owner are taken, and how many are done) carry the number of the run in their upper
half; one of an earlier run counts as zero, so that nothing has to be reset. A worker that comes late runs through the
finished steps. One that comes after the end must not look at the table: workers count themselves into ACTIVE before
they look whether the run is OPEN, and the caller closes it before it waits for ACTIVE to be zero.

Thread 0 is the caller. The others live in the worker loop: they spin on the epoch for a short while, then announce
that they sleep and wait for a semaphore. The caller raises the epoch first and looks for sleepers second, a worker
announces itself first and looks at the epoch second, both in one total order, so that one of them sees the other. A
semaphore may be posted once too often (to a worker that saw the epoch itself) and a wait may end early (a signal); a
worker that wakes up looks at the epoch again, so neither does harm.

Another library can lend its threads: PARALLEL is then the address of its ``void parallel(void (*member)(void *), void
*control, unsigned threads, unsigned flags)``, which calls ``member(control)`` on so many threads, or fewer, and returns
when all are back (``GOMP_parallel`` of OpenMP). Each draws a ticket, which says whose units it owns; the one that draws
the first writes the times. There are no workers then, and nothing to wake or to wait for.

The driver is one function, ``i64 driver(ptr control, i64 thread, i64 what)``, and does one of three things:
``thread = 0`` one run of the job ``what`` as the caller, ``thread > 0`` the worker loop until it is told to stop,
``thread < 0`` nothing but ``what`` pauses, for measuring them. Control block and job are arrays of 64-bit words.

A job names the table and, as bindings, the words that hold addresses of the caller's arrays. The caller only says
which array objects they are; the driver reads where their elements lie, which is one load here and half a microsecond
in Python.
"""

from __future__ import annotations

from typing import Final

from omniconv.compiler.code.build import Source
from omniconv.runtime.driver_ir import DRIVER
from omniconv.target.model import Target

STEP_WORDS: Final = 4
"""Words of one record of a step table: address of the function, address of its arguments, units, and the most units
that a thread takes at a time (0: one of :data:`PARTS` of what is left)."""
PARTS: Final = 3
"""A thread takes so large a part of what is left of a share where the step does not say: less and less, so that all
finish together also where units differ or a thread is held up."""
ROUND_UP: Final = PARTS - 1

LINE: Final = 16
"""Words between two words that different threads write: two cache lines, because processors fetch them in pairs."""

# Words of a job: table, number of its records, address for their times or 0, bindings and their number, where in an
# array object the address of its elements is [bytes], and how far the memory of a thread is behind that of the one
# before it [bytes].
JOB_TABLE, JOB_STEPS, JOB_TIMES, BINDINGS, COUNT, MEMBER, JOB_OWN, JOB_WORDS = 0, 1, 2, 3, 4, 5, 6, 7
BINDING_WORDS: Final = 3
"""Words of one binding: address of the word to write, address of a word with the address of the array object, and
what to add to the address of its elements [bytes]."""
MOVED, CROWDED = 1, 2
"""What a run answers instead of 0: the caller is not on the processor that the workers keep off (any more); or nothing
was run, because the table has more steps than there are counters."""

# Words of the control block. Written by the driver before it raises the epoch:
TABLE, STEPS, TAG = 0, 1, 2
# ... by the team between runs:
STOP, COUNTERS, ROOM_STEPS, AVOIDED = 3, 4, 5, 6
# ... and once, before any thread starts:
THREADS, IDLE_SPINS, BARRIER_SPINS, WAIT, POST, YIELD, CLOCK, GET_CPU, PARALLEL = 7, 8, 9, 10, 11, 12, 13, 14, 15
EPOCH: Final = LINE
OWN: Final = EPOCH + 1
"""The job's :data:`JOB_OWN`, written before the epoch is raised."""
OPEN: Final = 2 * LINE
ACTIVE: Final = 3 * LINE
TICKET: Final = 4 * LINE
"""How many threads that are lent have come in this run."""
TIMES: Final = TICKET + 1
WORKERS: Final = 5 * LINE
"""First word of the line of thread 0; thread t has the line at ``WORKERS + t * LINE``."""
SLEEPS, SEMAPHORE, ROOM = 0, 1, 8
"""Words in the line of a thread: whether it announced that it sleeps, its semaphore's handle and the room for that."""

# Times are read with `int clock_gettime(int clock, struct timespec *)`, or where there is none with
# `int QueryPerformanceCounter(int64_t *)`.
_GETTIME: Final = """
  call i32 %clock(i32 <MONOTONIC>, ptr %now)
  %seconds = load i64, ptr %now
  %rest = getelementptr i64, ptr %now, i64 1
  %nanoseconds = load i64, ptr %rest
  %scaled = mul i64 %seconds, 1000000000
  %ticks = add i64 %scaled, %nanoseconds"""
_CLOCKS: Final = {
    "posix": _GETTIME.replace("<MONOTONIC>", "1"),
    "mac": _GETTIME.replace("<MONOTONIC>", "6"),
    "windows": """
  call i32 %clock(ptr %now)
  %ticks = load i64, ptr %now""",
}


def driver_source(target: Target, clock: str) -> Source:
    """The recipe of the driver.

    Args:
        target: what it is compiled for.
        clock: how time is read: ``posix``, ``mac`` or ``windows``.
    """
    pause = target.traits.pause
    return Source(f"driver {pause} {clock}", lambda name: emit_driver(name, pause, clock), "driver")


def emit_driver(name: str, pause: tuple[str, int | None] | None, clock: str) -> str:
    """LLVM IR of the driver under the given symbol.

    Args:
        name: the symbol.
        pause: the intrinsic for one turn of a wait, and its argument if it has one.
        clock: how time is read.
    """
    word, argument = pause or ("", None)
    kind, value = ("", "") if argument is None else ("i32", f"i32 {argument}")
    fields = {
        "NAME": name,
        "PAUSE": f"call void @{word}({value})" if word else "",
        "DECLARE_PAUSE": f"declare void @{word}({kind})" if word else "",
        "READ_CLOCK": _CLOCKS[clock],
        **{word: str(value) for word, value in globals().items() if word.isupper() and isinstance(value, int)},
    }
    text = DRIVER
    for word in sorted(fields, key=len, reverse=True):
        text = text.replace(f"<{word}>", fields[word])
    return text
