"""`CallFrame`: what one caller at a time of an executable runs in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.code.build import LoadedKernel
from omniconv.compiler.planning.plan import Plan
from omniconv.runtime import driver
from omniconv.runtime.arena import Arena
from omniconv.runtime.strips import load_strips
from omniconv.runtime.threads import Job, list_places

Words: TypeAlias = npt.NDArray[np.int64]


class CallFrame:
    """What one caller at a time runs in: an arena, and the tables with its addresses.

    Args:
        arena: memory of the values; none where each call borrows it.
        held: the tables that the records name.
        records: one record for each call.
        steps: records to run; where strips of calls run at once, a record for each such group.
        job: that runs ``steps``.
        run: runs a job, on as many threads as it is to run on.

    Attributes:
        arrays: before a run, to be set to the ``id`` of each array, or to ``places``, which stand for arrays at
            ``addresses``.
    """

    __slots__ = ("_held", "_job", "_records", "_steps", "addresses", "arena", "arrays", "places", "run")

    def __init__(
        self, arena: Arena | None, held: object, records: Words, steps: Words, job: Job, run: Callable[[], object]
    ) -> None:
        self.arena, self.arrays, self._held, self._job = arena, job.arrays, held, job
        self._records, self._steps = records, steps
        self.addresses = (ctypes.c_int64 * len(job.arrays))()
        self.places = list_places(self.addresses)
        self.run = run

    def run_timed(self, times: int) -> None:
        """Run all calls one by one, also where strips of them would run at once, and write times to this address."""
        self._job.set(self._records.ctypes.data, len(self._records), times)
        self.run()
        self._job.set(self._steps.ctypes.data, len(self._steps))


def make_frame(
    plan: Plan,
    code: Sequence[LoadedKernel],
    constants: Mapping[int, int],
    zero: int,
    arena: Arena | None,
    make_run: Callable[[Job], Callable[[], object]],
) -> CallFrame:
    """A frame with the tables of a plan.

    Args:
        plan: the plan.
        code: the kernel of each call.
        constants: the address of each constant, by the index of its buffer.
        zero: the address of zeros, as many as the plan asks for.
        arena: memory of the values; ``None`` where each call borrows it.
        make_run: what runs a job, on as many threads as it is to run on.
    """
    start = 0 if arena is None else arena.address
    base = {"zero": zero, "scratch": start + plan.arena_bytes}
    places = [
        start + offset if buffer.kind == "arena" else base.get(buffer.kind, constants.get(index, 0))
        for index, (buffer, offset) in enumerate(zip(plan.buffers, plan.offsets, strict=True))
    ]
    refs = _list_refs(plan)
    args = np.array(places, np.int64)[refs[:, 0]] + refs[:, 1]
    starts = np.cumsum([0, *(len(call.args) for call in plan.calls)])[:-1].tolist()
    # Behind the args of the calls come those of the groups: where the records and the starts of the strips are.
    starts += range(len(args), len(args) + 2 * len(plan.groups), 2)
    table = np.concatenate([args, np.zeros(2 * len(plan.groups), np.int64)])
    first = table.ctypes.data
    rows = zip(code, starts, plan.calls, strict=False)
    records = np.array(
        [(kernel.address, first + 8 * start, call.recipe.units, 0) for kernel, start, call in rows], np.int64
    ).reshape(-1, driver.STEP_WORDS)
    all_strips = [np.cumsum((group.first, *group.counts), dtype=np.int64) for group in plan.groups]
    steps, done = [], 0
    for group, strips, start in zip(plan.groups, all_strips, starts[len(plan.calls) :], strict=True):
        table[start : start + 2] = records.ctypes.data, strips.ctypes.data
        runner = np.array([[load_strips().address, table.ctypes.data + 8 * start, len(group.counts), 1]], np.int64)
        steps += [records[done : group.first], runner]
        done = int(strips[-1])
    joined = np.concatenate([*steps, records[done:]]) if steps else records
    bindings = _find_bindings(plan, table.ctypes.data, refs, borrows=arena is None)
    arrays = len(plan.inputs) + len(plan.outputs) + (arena is None)
    job = Job(joined.ctypes.data, len(joined), arrays, bindings, plan.scratch_bytes)
    return CallFrame(arena, (table, all_strips), records, joined, job, make_run(job))


def _find_bindings(plan: Plan, table: int, refs: Words, *, borrows: bool) -> Words:
    """Which words of the args (``refs``) hold addresses that are known at a call, a row each: address of the word,
    number of the array (outputs count on after the inputs, borrowed memory is the last one), offset [bytes].
    """
    many = len(plan.inputs)
    numbers, starts = np.full(len(plan.buffers), -1), np.zeros(len(plan.buffers), np.int64)
    for index, (buffer, offset) in enumerate(zip(plan.buffers, plan.offsets, strict=True)):
        if buffer.kind in {"input", "output"}:
            numbers[index] = buffer.index + (many if buffer.kind == "output" else 0)
        elif borrows and buffer.kind in {"arena", "scratch"}:
            numbers[index] = many + len(plan.outputs)
            starts[index] = plan.arena_bytes if buffer.kind == "scratch" else offset
    words = np.flatnonzero(numbers[refs[:, 0]] >= 0)
    buffers, offsets = refs[words].T
    return np.stack([table + 8 * words, numbers[buffers], starts[buffers] + offsets], axis=1)


def _list_refs(plan: Plan) -> Words:
    """Buffer and offset [bytes] of every argument of every call."""
    size = plan.program.element.dtype.itemsize
    refs = (
        (buffer, offset * (size if element is None else element.bytes))
        for buffer, offset, element in chain.from_iterable(call.args for call in plan.calls)
    )
    return np.fromiter(chain.from_iterable(refs), np.int64).reshape(-1, 2)
