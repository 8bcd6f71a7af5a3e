"""Which worker computes which tiles: every kind of tile is compiled by each worker that meets it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from omniconv.tiles.plan import ImageTile, TilePlan


def share_kinds(plan: TilePlan, workers: int) -> Iterator[tuple[int, ImageTile, int | None]]:
    """The tiles with their numbers, and which worker had better compute each.

    A kind of few tiles, as those of borders are, is of one worker alone. Kinds of many tiles come last, and go to
    whoever is free, so that all end together.
    """
    tiles = list(enumerate(plan))
    counts = Counter(tile.kind for _, tile in tiles)
    load, homes = [0] * workers, dict[tuple[int, ...], int]()
    for kind, count in counts.most_common():
        if 2 * workers * count <= len(tiles):
            home = homes[kind] = load.index(min(load))
            load[home] += count
    rows = [[one for one in tiles if homes.get(one[1].kind) == home] for home in range(workers)]
    for row in itertools.zip_longest(*rows):
        yield from ((*one, home) for home, one in enumerate(row) if one is not None)
    yield from ((*one, None) for one in tiles if one[1].kind not in homes)
