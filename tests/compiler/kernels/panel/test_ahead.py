"""Weights that are asked for before their turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.compiler.kernels.panel.test_panel import POINT, pointwise
from tests.machines import V3

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.phases import PhaseTables
from omniconv.compiler.kernels.panel.ahead import MOST_TURNS, ask_next_panel, count_turns
from omniconv.compiler.kernels.panel.tiles import PanelTile
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.spec import Axis

FAR = 512, 512
"""Channels whose weights are more than half of the second-level cache."""
UNROLL = 4


class Asked(Kernel):
    """Keeps the elements that are asked for."""

    def __init__(self):
        super().__init__("asked", V3)
        self.elements = set()

    def prefetch(self, pointer, elements=0, *, write=False, level=1):
        self.elements.add(elements)


def recipe(positions=49, rows=4, channels=FAR, **sizes):
    tile = PanelTile(rows, 3, UNROLL, 2)
    return replace(pointwise(V3, 1, *channels, positions, tile)[0], **sizes)


@pytest.mark.parametrize("positions", [8, 49, 4 * MOST_TURNS])
def test_tiles_ask_for_all_of_the_next_panel_and_each_for_a_part(positions):
    panel = recipe(positions)
    turns, width = count_turns(panel, Asked()), panel.tile.vectors * panel.lanes
    assert turns == -(-positions // 4)
    wanted = range(panel.depth * width, 2 * panel.depth * width)
    found, line = [], V3.traits.line_bytes
    for turn in range(turns):
        k = Asked()
        for first in range(0, panel.inputs, UNROLL):
            ask_next_panel(panel, k, turns, turn, k.arg(1), first, UNROLL, width)
        found.append({at * 4 // line for at in k.elements})
    lines = {at * 4 // line for at in wanted}
    assert lines <= set().union(*found)
    assert max(map(len, found)) <= 2 * len(lines) / turns + width


@pytest.mark.parametrize(
    "panel",
    [
        recipe(4),
        recipe(4 * MOST_TURNS + 1),
        recipe(channels=(64, 64)),
        recipe(tile=PanelTile(4, 3, UNROLL, 2, inner=True)),
        recipe(w_strides=(1, 0, 0)),
        recipe(sweep=True),
    ],
    ids=["one tile", "many tiles", "near weights", "panels in turn", "several matrices", "whole rows"],
)
def test_where_nothing_is_asked_for(panel):
    assert count_turns(panel, Asked()) == 0


@pytest.mark.parametrize(
    ("padding", "order"), [((1, 1), [0, 2, 4, 6, 1, 3, 5, 7]), ((1, 2), [0, 1, 2, 3, 4, 5, 6])], ids=["even", "uneven"]
)
def test_rows_of_a_phase_follow_one_another_where_phases_have_equally_many(padding, order):
    walk = AxisWalk.of(Axis(4, stride=2, padding=padding, transposed=True), 4)
    k = Asked()
    tables = PhaseTables(k, walk)
    assert [tables.by_phase(index) for index in range(walk.output)] == order
    assert count_turns(recipe(4, axes=(POINT, walk, walk)), k) == 4
