"""A recurrent layer as calls: the states before put in their places, the recurrence, the last states.

The result lies in memory by time, sequence, direction and unit, with a row before its first time: there, and behind the
last time of a reversed direction, the states before it are copied. The next layer then reads it as it lies.

One call does all times where there are threads for at most the directions, one call a time where more threads share
the hidden units: steps end by count, so that the end of a call is where they meet. Where a time is too little work for
that, or a reset gate stands before the product, threads share the sequences.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.compiler.kernels.recurrent.kernel import GateGroup, Recurrence
from omniconv.compiler.kernels.recurrent.tiles import plan_tile
from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major, copy_axes
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.program.steps import Array, RecurrentStep
from omniconv.program.steps.recurrent import GATES
from omniconv.records import dataclass

SHARED_MACS: Final = 2**17
"""Multiply-accumulates of a time from which threads share it: 5 microseconds, beside which meeting them is little."""
SHARED_TIMES: Final = 2**10
"""Times that are calls of their own, at most."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a layer's values are: X, the result, and one time of each [elements]."""

    x: BufferRef
    y: BufferRef
    x_time: int
    y_time: int
    x_direction: int
    y_direction: int

    def at(self, direction: int, time: int) -> tuple[BufferRef, BufferRef]:
        """X and the result of a direction at a time."""
        x, y = self.x, self.y
        return (
            x.shift(time * self.x_time + direction * self.x_direction),
            y.shift(time * self.y_time + direction * self.y_direction),
        )


def lower_recurrent(planner: Planner, step: RecurrentStep) -> None:
    """A recurrent layer."""
    total, directions, batch, hidden = planner.shape(step.y)
    times, width = total - step.states, GATES[step.cell] * hidden
    x = as_row_major(planner, step.x)
    row = batch * directions * hidden
    room = planner.add_buffer("arena", (total + 1) * row + planner.target.lanes)
    layout = Layout((total, directions, batch, hidden), (row, hidden, directions * hidden, 1), readable=True)
    planner.stored[step.y] = Stored(room, row, layout)
    places = _Places(x.ref, BufferRef(room, row), batch * directions * width, row, width, hidden)
    for number, reverse in enumerate(step.reverse):
        _, before = places.at(number, times if reverse else -1)
        _place_state(planner, step.h, number, layout, before)
        if step.states == 2:
            _place_state(planner, step.c, number, layout, places.at(number, times + 1)[1])
    together = len(set(step.functions)) == 1
    groups = [tuple(range(directions))] if together else [(number,) for number in range(directions)]
    shared = _share_times(planner, step, times, batch)
    if shared:
        groups = [(number,) for number in range(directions)]
    calls = [_Call(planner, step, places, group, times, batch, shared) for group in groups]
    for turn in range(times if shared else 1):
        for call in calls:
            call.place(turn)
    if step.lengths is None:
        for number, reverse in enumerate(step.reverse):
            _, last = places.at(number, 0 if reverse else times - 1)
            dims = [(batch, directions * hidden, directions * hidden), (hidden, 1, 1)]
            copy_axes(planner, dims, last, places.at(number, times)[1])


def _place_state(planner: Planner, name: str | None, direction: int, layout: Layout, target: BufferRef) -> None:
    """The state before one direction, or zeros, where the recurrence reads it."""
    _, _, batch, hidden = layout.shape
    if name is None:
        source, strides = planner.zeros(hidden), (0, 1)
    else:
        found = planner.get(name)
        found = found if found.layout.channels is None else as_channels_last(planner, name)
        steps = found.layout.strides
        source, strides = found.ref.shift(direction * steps[0]), (steps[1], steps[2])
    dims = [(batch, strides[0], layout.strides[2]), (hidden, strides[1], 1)]
    copy_axes(planner, dims, source, target)


def _share_times(planner: Planner, step: RecurrentStep, times: int, batch: int) -> bool:
    """Whether threads share the hidden units of each time."""
    single = step.cell != "gru" or step.b is not None
    macs = batch * step.w.size // len(step.w)
    more = planner.threads > len(step.reverse) or times == 1
    return more and single and step.lengths is None and macs >= SHARED_MACS and times <= SHARED_TIMES


def _plan_phases(planner: Planner, step: RecurrentStep, rows: int) -> tuple[GateGroup, ...]:
    """Which gates are added up together."""
    gates: tuple[tuple[int, ...], ...] = (tuple(range(GATES[step.cell])),)
    if step.cell == "gru" and step.b is None:
        gates = ((0, 1), (2,))
    elif step.coupled:
        gates = ((0, 1, 3),)
    return tuple(GateGroup(each, plan_tile(len(each), rows, step.hidden, planner.target)) for each in gates)


class _Call:
    """The call, or one for each time, of some directions."""

    def __init__(
        self,
        planner: Planner,
        step: RecurrentStep,
        places: _Places,
        group: tuple[int, ...],
        times: int,
        batch: int,
        shared: bool,
    ) -> None:
        self.planner, self.places, self.group, self.times = planner, places, group, times
        self.shared, self.reverse = shared, step.reverse[group[0]]
        hidden = step.hidden
        chunk = 1 if step.lengths is not None else batch
        spare = planner.threads // len(group)
        if not shared and spare > 1 and not step.rounded:  # which is over all sequences
            chunk = next(size for size in range(1, chunk + 1) if chunk % size == 0 and size * spare >= chunk)
        recipe = Recurrence(
            cell=step.cell,
            functions=step.functions[group[0]],
            clip=step.clip,
            coupled=step.coupled,
            biased=step.b is not None,
            peepholes=step.p is not None,
            times=1 if shared else times,
            batch=batch,
            hidden=hidden,
            reverse=tuple(step.reverse[number] for number in group),
            ragged=step.lengths is not None,
            x=(places.x_time, len(step.reverse) * places.x_direction, places.x_direction),
            y=(places.y_time, len(step.reverse) * hidden, hidden),
            phases=_plan_phases(planner, step, chunk),
            chunk=chunk,
            parts=1,
            lanes=planner.target.lanes,
            rounded=step.rounded,
            scaled=step.scale is not None,
        )
        self.recipe = replace(recipe, parts=recipe.most_parts) if shared else recipe
        parts, none = list(group), planner.zeros(1)
        w = step.w
        keep = planner.narrow_constant if step.y in planner.program.rounded else planner.constant
        packing = "recurrence", recipe.phases, recipe.lanes, group
        self.w = keep(len(group) * recipe.panel, lambda: recipe.pack_weights(w[parts]), packed=packing)
        self.b, self.p, self.scale = (
            none if array is None else _flat(planner, array, parts) for array in (step.b, step.p, step.scale)
        )
        self.lengths = none if step.lengths is None else planner.table(step.lengths)
        self.temp = planner.thread_memory(recipe.scratch)

    def place(self, turn: int) -> None:
        """Append the call of all times, or of the one that comes in this turn."""
        time = 0 if not self.shared else self.times - 1 - turn if self.reverse else turn
        x, y = self.places.at(self.group[0], time)
        _, c = self.places.at(self.group[0], self.times + 1)
        tile = self.recipe.phases[0].tile
        how = f"{tile.rows} sequences by {tile.wide} vectors of sums at a time"
        if self.shared:
            how += f"; every time is shared out in {self.recipe.parts} parts"
        args = [x, y, c if self.recipe.cell == "lstm" else y, self.w, self.b, self.p, self.lengths]
        args += [self.temp, self.scale]
        self.planner.call(self.recipe, args, "recurrence", how=how)


def _flat(planner: Planner, array: Array, directions: list[int]) -> BufferRef:
    """Rows of a constant, one for each direction."""
    return planner.constant(array[directions].size, lambda: np.ascontiguousarray(array[directions]).reshape(-1))
