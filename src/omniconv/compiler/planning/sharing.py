r"""How many threads the work of a program is worth.

Formula: ``t`` threads take about::

    seconds(1) = alone + shared
    seconds(t) = alone + shared / t + wake + steps (meet + each t)

where *wake* is what it takes to wake the others, and after each step they meet, one after the other. ``shared`` is
what the multiply-adds of all steps take, or the bytes that they read and write where those take longer, on a processor
at its peak; ``alone`` is that of recurrent layers that nobody can help with. The number with the least time is taken,
the smallest of equal ones: a pure function of program, target and the most that there may be, so that no plan depends
on how busy a machine is. A layer of less than about 11 us is done by one thread; a MobileNet v2 (0.3 G multiply-adds
in 55 steps) is worth 28.

Sources: times of layers and chains of 3x3 of 0.04 to 340 M multiply-adds on one and two threads of Zen 3. Two were
faster from about 25 us on, with estimates that are a half of that, and a step cost about 1.5 us more.
"""

from __future__ import annotations

import math
from typing import Final

from omniconv.compiler.kernels.recurrent import lower as recurrent
from omniconv.program.program import Program
from omniconv.program.steps import RecurrentStep
from omniconv.target.model import Target

WAKE_US: float = 4.0
"""To wake the other threads, and to be sure that they are done [us]."""
MEET_US: float = 1.0
EACH_US: float = 0.25
"""For threads to meet after a step: whatever their number, and for each of them [us]."""
VECTORS: Final = 4000.0
"""Vectors of multiply-adds that a core does in a microsecond."""
BYTES: Final = 16000.0
"""Bytes that a core reads or writes in a microsecond."""


def count_worth(program: Program, target: Target, most: int) -> int:
    """Threads that take the least time for a call, ``most`` at most."""
    if most == 1:
        return 1
    alone, shared = _estimate(program, target)
    steps = len(program.steps)

    def microseconds(threads: int) -> float:
        if threads == 1:
            return alone + shared
        return alone + shared / threads + WAKE_US + steps * (MEET_US + EACH_US * threads)

    return min(range(1, most + 1), key=microseconds)


def _estimate(program: Program, target: Target) -> tuple[float, float]:
    """What the steps take that cannot be shared, and all others [us]."""
    alone = shared = 0.0
    size, shapes = program.element.bytes, program.shapes
    for step in program.steps:
        work = step.work(shapes)
        values = sum(math.prod(shapes[name]) for name in (*step.reads, step.y))
        taken = max(work.macs / (VECTORS * target.lanes), size * (values + work.parameters) / BYTES)
        if isinstance(step, RecurrentStep) and not _shares(step, *shapes[step.x][:2]):
            alone += taken
        else:
            shared += taken
    return alone, shared


def _shares(step: RecurrentStep, times: int, sequences: int) -> bool:
    """Whether a recurrent layer has directions, sequences or large states to share out."""
    return len(step.reverse) * (1 if step.rounded else sequences) > 1 or (
        step.w.size >= recurrent.SHARED_MACS and times <= recurrent.SHARED_TIMES
    )
