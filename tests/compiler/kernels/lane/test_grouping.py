"""How groups sit in vectors, and what reaches each lane, for every number of lanes and channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tests.compiler.harness import build
from tests.guard import guarded

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.target.select import detect_host, resolve_target

NATIVE = resolve_target("native", detect_host())
SHAPES = [(4, False), (4, True), (8, False), (8, True), (16, False)]
"""Lanes, and whether vectors are made of halves."""


@dataclass(frozen=True)
class Inputs:
    """A kernel that stores what :meth:`Grouping.emit_inputs` yields for the vector that begins at one channel."""

    grouping: Grouping
    column: int
    count: int | None
    units: int = 1

    def emit(self, name, target):
        k = Kernel(name, target, self.grouping.lanes)
        inputs = self.grouping.emit_inputs(k, k.arg(0), self.column, self.count, range(self.grouping.inputs))
        for j, value in inputs:
            k.store(value, k.arg(1), j * self.grouping.lanes)
        return k.finish()


@pytest.mark.parametrize(("lanes", "halved"), SHAPES)
def test_slots_hold_whole_groups_in_order(lanes, halved):
    for outputs in range(1, lanes + 1):
        found = Grouping(lanes, 1, outputs, halved)
        assert list(found.slots) == sorted(set(found.slots))
        assert found.slots[-1] < lanes
        part = lanes // 2 if halved and 2 * outputs <= lanes else lanes
        assert (found.width, found.groups) == (len(found.slots), part // outputs * lanes // part)
        for first in range(0, found.width, outputs):
            group = found.slots[first : first + outputs]
            assert list(group) == list(range(group[0], group[0] + outputs))
            if part < lanes:
                assert group[0] // part == group[-1] // part, "a group straddles the middle"


@pytest.mark.sampled
@pytest.mark.parametrize(("lanes", "halved"), SHAPES)
@pytest.mark.parametrize("inputs", range(1, 9))
def test_every_lane_gets_the_input_of_its_group(lanes, inputs, halved):
    for outputs in range(inputs, lanes + 1):
        found = Grouping(lanes, inputs, outputs, halved)
        for groups in {1, found.groups}:
            for spare in (False, True):
                count = None if spare else groups * inputs
                if spare and groups < found.groups:
                    continue
                # What may not be read ends at a guard page.
                x = guarded(3 + groups * inputs + (lanes if spare else 0))
                x[3 : 3 + groups * inputs] = np.arange(groups * inputs)
                y = np.full((inputs, lanes), np.nan, np.float32)
                build(Inputs(found, 3, count), NATIVE)([x, y])
                for place, lane in enumerate(found.slots[: groups * outputs]):
                    assert np.array_equal(y[:, lane], place // outputs * inputs + np.arange(inputs)), found
