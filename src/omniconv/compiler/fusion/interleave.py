"""Interleaving: the calls of several layers, band by band, each value between them a few rows in a buffer.

Rows of the last layer's output are worked off in bands. For each band every layer computes the rows that are still
missing, so that none is computed twice; the rows that the next band needs again are moved to the front of the value's
buffer when its end is reached. For several threads the rows are divided into strips first, which have buffers of their
own and know nothing of one another: they meet only when all are done. Where two strips meet, a few rows are computed
by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

from omniconv.compiler.fusion.bands import Change, Stage
from omniconv.compiler.fusion.frames import X, Y
from omniconv.compiler.lowering.arrange import of_element
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.memory.planner import Call
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True)
class StageJob:
    """One call: output rows ``begin`` to ``end`` of a stage, from input rows ``low`` to ``high``."""

    stage: int
    begin: int
    end: int
    low: int
    high: int


@dataclass(frozen=True)
class Interleaving:
    """A way to work off some linked layers.

    Attributes:
        stages: the layers.
        height: rows of the last output in a band.
        strips: parts that the rows of each image are divided into.
        threads: how many share the work.
    """

    stages: tuple[Stage, ...]
    height: int
    strips: int
    threads: int

    @cached_property
    def bands(self) -> tuple[tuple[tuple[StageJob, ...], ...], ...]:
        """For each strip of an image, for each band, the calls in order."""
        last = self.stages[-1]
        edges = sorted({last.round(last.rows * strip // self.strips) for strip in range(self.strips)} | {0, last.rows})
        return tuple(self._strip(begin, end) for begin, end in pairwise(edges))

    def _strip(self, begin: int, end: int) -> tuple[tuple[StageJob, ...], ...]:
        """The bands of the last output's rows from ``begin`` to ``end``."""
        last = self.stages[-1]
        done: list[int | None] = [None] * len(self.stages)
        bands = []
        while begin < end:
            stop = min(last.round(begin + self.height), end)
            jobs: list[StageJob] = []
            low, high = begin, stop
            for index in range(len(self.stages) - 1, -1, -1):
                stage = self.stages[index]
                start = done[index]
                if start is None:
                    start = low // stage.step * stage.step
                high = high if high == stage.rows else stage.round(high)
                if high <= start:
                    break
                done[index] = high
                low, needed = stage.needs(start, high)
                jobs.append(StageJob(index, start, high, low, needed))
                high = needed
            bands.append(tuple(reversed(jobs)))
            begin = stop
        return tuple(bands)

    @cached_property
    def rooms(self) -> tuple[int, ...]:
        """Rows that the buffer of each value between two stages holds.

        Room for what is alive at once, and once more for what is kept for the next band, so that moving that to the
        front does not overlap itself.
        """
        found = []
        for index in range(len(self.stages) - 1):
            alive = kept = 0
            for jobs in (jobs for bands in self.bands for jobs in bands):
                for job, reader in pairwise(jobs):
                    if job.stage == index:
                        alive = max(alive, job.end - min(job.begin, reader.low))
                        kept = max(kept, job.begin - reader.low)
            found.append(min(self.stages[index].rows, alive + kept))
        return tuple(found)

    @property
    def between_bytes(self) -> int:
        """Bytes of the buffers of all values between the stages."""
        return sum(room * stage.row_bytes for stage, room in zip(self.stages[:-1], self.rooms, strict=True))

    def emit(self, buffers: list[Buffer], target: Target) -> list[list[Call]]:
        """The calls of every strip. Strips that may run at once get buffers of their own."""
        images = self.stages[0].result.images
        parts = [(image, bands) for image in range(images) for bands in self.bands]
        teams = min(len(parts), 2 * self.threads) if self.threads > 1 else 1
        for stage, room in zip(self.stages[:-1], self.rooms, strict=True):
            where = stage.ref(Y)
            size = where.offset + teams * room * stage.row_stride(Y) + target.of(where.element or target.element).lanes
            buffers[where.buffer].size = (where.element or target.element).bytes * size
        how = self._describe()
        strips = []
        for team in range(teams):
            calls: list[Call] = []
            for image, bands in parts[len(parts) * team // teams : len(parts) * (team + 1) // teams]:
                calls += self._emit_strip(image, bands, team, target)
            strips.append([replace(call, how=how) for call in calls])
        return strips

    def _emit_strip(self, image: int, bands: Sequence[tuple[StageJob, ...]], team: int, target: Target) -> list[Call]:
        """The calls of one strip of an image, in the buffers of a team."""
        calls: list[Call] = []
        first: dict[int, int] = {}  # the row at the front of each value's buffer
        last = len(self.stages) - 1

        def place(index: int, which: int, row: int) -> BufferRef:
            """A row of x or y: where the whole layer has it, or in the buffer of the value in between."""
            stage, value = self.stages[index], index if which == Y else index - 1
            if not 0 <= value < last:
                return stage.place(which, image, row)
            at = team * self.rooms[value] + row - first[value]
            return stage.ref(which).shift(at * stage.row_stride(which))

        for jobs in bands:
            wanted = {job.stage - 1: job.low for job in jobs}
            for job in jobs:
                index, stage = job.stage, self.stages[job.stage]
                first.setdefault(index, job.begin)
                if index < last and job.end - first[index] > self.rooms[index]:
                    low = min(wanted[index], job.begin)
                    old = place(index, Y, low)
                    first[index] = low
                    if low < job.begin:
                        dims = (((job.begin - low) * stage.row_stride(Y), 1, 1),)
                        recipe = of_element(Copy.of(dims, target.of(old.element or target.element).lanes), old.element)
                        refs = old.bits, place(index, Y, low).bits
                        calls.append(Call(recipe, refs, stage.call.step, "halo"))
                x, y = place(index, X, job.low), place(index, Y, job.begin)
                calls.append(stage.part(image, job.begin, job.end, x, y))
        return calls

    def _describe(self) -> str:
        """For `explain`."""
        count = max(map(len, self.bands))
        bands = f"{count} band{'s' if count > 1 else ''} of {self.height} row{'s' if self.height > 1 else ''}"
        strips = f" in each of {self.strips} strips" if self.strips > 1 else ""
        values = sum(stage.result_bytes for stage in self.stages[:-1])
        changes = sum(isinstance(stage, Change) for stage in self.stages)
        layers = len(self.stages) - changes
        what = f"{layers} layer{'s' if layers > 1 else ''}"
        if changes:
            what += f" and {changes} change{'s' if changes > 1 else ''} of layout"
        return (
            f"fused: {what} in turn, {bands}{strips}; "
            f"{self.between_bytes // 1024} KiB in place of {values // 1024} KiB between them"
        )
