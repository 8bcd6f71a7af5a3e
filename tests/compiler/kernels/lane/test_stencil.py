"""Tiles along an axis: every output once or more, and classes of tiles that read the same offsets."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from omniconv.compiler.kernels.lane.tiles import TileAxis
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.spec import Axis

AXES = [
    TileAxis(walk, count, spread)
    for size, kernel, stride, dilation, padding in itertools.product(
        (1, 2, 5, 13, 30), (1, 2, 3), (1, 2, 3), (1, 2, 4), ((0, 0), (1, 1), (3, 0), (9, 9))
    )
    if size + sum(padding) > dilation * (kernel - 1)
    for walk in [AxisWalk.of(Axis(kernel, stride, dilation, padding), size)]
    for spread in {1, min(dilation, walk.output) if stride == 1 else 1}
    for count in range(1, min(4, -(walk.output // -spread)) + 1)
]


def starts(axis: TileAxis) -> list[int]:
    return [min(tile // axis.spread * axis.extent, axis.last) + tile % axis.spread for tile in range(axis.tiles)]


def test_tiles_and_classes(tally: Callable[..., None]) -> None:
    for axis in AXES:
        check(axis)
        tally("axes of tiles")


def check(axis: TileAxis) -> None:
    walk = axis.walk
    outputs = {start + index * axis.spread for start in starts(axis) for index in range(axis.count)}
    assert set(range(walk.output)) <= outputs
    assert (max(outputs) >= walk.output) <= axis.guarded
    classes = axis.classes()
    assert [a for a, _, _ in classes] == [0, *(b for _, b, _ in classes[:-1])]
    assert classes[-1][1] == axis.tiles
    assert len(classes) <= 3
    for first, last, inside in classes:
        for start in starts(axis)[first:last]:
            origin = start // walk.out_step * walk.in_step + walk.first[0]
            exist = {offset for offset in axis.offsets if 0 <= origin + offset < walk.size}
            assert inside is None or inside == exist


def test_usual_classes() -> None:
    """The first tile without what lands before the input, those between, and the last."""
    axis = TileAxis(AxisWalk.of(Axis(3, padding=(1, 1)), 16), 4, 1)
    assert axis.classes() == [(0, 1, frozenset(range(1, 6))), (1, 3, frozenset(range(6))), (3, 4, frozenset(range(5)))]
    inner = TileAxis(AxisWalk.of(Axis(3), 16), 2, 1)
    assert inner.classes() == [(0, 7, frozenset(range(4)))]
    far = TileAxis(AxisWalk.of(Axis(3, 1, 4, (4, 4)), 16), 1, 1)
    assert [inside for _, _, inside in far.classes()] == [{4, 8}, {0, 4, 8}, {0, 4}]
    wide = TileAxis(AxisWalk.of(Axis(3, 1, 1, (9, 9)), 16), 1, 1)
    assert wide.classes() == [(0, wide.tiles, None)], "too many kinds of tiles for code of their own"
