"""`TileResults`: where the outputs of a run go, and which tiles of them are finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omniconv.outside import storing
from omniconv.tiles.compiled import Array
from omniconv.tiles.journal import Journal, digest
from omniconv.tiles.moves import Plane, outwards, slices
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.results import Destination
from omniconv.tiles.room import Rooms, as_stored
from omniconv.tiles.storage import read_box, write_box
from omniconv.tiles.sums import Partial


class TileResults:
    """The outputs of a run, each with a journal of its own where it is on a disk. To be closed.

    A tile is finished where all journals say so, and all of its outputs are there.

    Args:
        plan: the tiles.
        places: where each output goes.
        content: what is computed, see :func:`omniconv.tiles.journal.describe`.
        lies: where the positions of each output lie.
        resume: go on with what is there.

    Attributes:
        journals: by output; none for memory.
        rooms: memory of tiles on their way.

    Raises:
        DataError, StorageError: as `Journal`.
    """

    def __init__(
        self,
        plan: TilePlan,
        places: Mapping[str, Destination],
        content: dict[str, Any],
        lies: Mapping[str, str],
        *,
        resume: bool,
    ) -> None:
        self.plan, self.places, self.rooms = plan, dict(places), Rooms()
        self.journals: dict[str, Journal] = {}
        try:
            for name, place in places.items():
                if place.journal is not None:
                    with storing(f"opening {str(place.journal)!r}"):
                        self.journals[name] = Journal(
                            place.journal, {**content, "output": name, "place": lies[name]}, resume=resume
                        )
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Make all arrays ready."""
        for name, place in self.places.items():
            place.begin(old=name in self.journals and bool(self.journals[name].done))

    def find(self, number: int) -> tuple[str, dict[str, str]] | None:
        """Digests of what an earlier run read for a tile and wrote of each output, if it was finished."""
        lines = [journal.done.get(number) for journal in self.journals.values()]
        found = [line for line in lines if line is not None]
        if len(found) != len(self.places) or len({read for read, _ in found}) != 1:
            return None
        return found[0][0], {name: written for name, (_, written) in zip(self.journals, found, strict=True)}

    def is_there(self, plane: Plane, tile: ImageTile, written: Mapping[str, str]) -> bool:
        """Whether outputs of an earlier run are as they were."""
        return all(
            is_there(self.places[name].array, self.plan, name, plane, tile, known) for name, known in written.items()
        )

    def write(self, number: int, plane: Plane, tile: ImageTile, read: str, ys: Mapping[str, Array]) -> None:
        """Write a tile, and note it."""
        written = {name: self.write_one(name, plane, tile, y) for name, y in ys.items()}
        self.note(number, read, written)

    def write_one(self, name: str, plane: Plane, tile: ImageTile, y: Array) -> str:
        """Write a tile of one output; its digest, where there is a journal."""
        where = slices(self.plan.outputs[name].axes, plane, tile.outputs[name])
        with storing(f"writing {where}"):
            y = as_stored(y, self.rooms.named(name))
            write_box(self.places[name].array, where, y)
            if name not in self.journals:
                return ""
            self.places[name].flush()
            return digest((y,))

    def note(self, number: int, read: str, written: Mapping[str, str]) -> None:
        """Note that a tile is finished, with the digests of what it read and wrote."""
        with storing("writing the journal"):
            for name, journal in self.journals.items():
                journal.add(number, read, written.get(name, NOTHING))

    def find_sum(self, place: tuple[int, int, int]) -> tuple[str, Partial] | None:
        """A digest of what an earlier run read for a tile of a sweep, and what it found."""
        for journal in self.journals.values():
            return journal.sums.get(place)
        return None

    def note_sum(self, place: tuple[int, int, int], read: str, found: Partial) -> None:
        """Note what a tile of a sweep found."""
        with storing("writing the journal"):
            for journal in list(self.journals.values())[:1]:
                journal.add_sum(place, read, found)

    def finish(self) -> dict[str, Any]:
        """Make all results appear under their names, and return them."""
        with storing("finishing the result"):
            found = {name: place.finish() for name, place in self.places.items()}
            for journal in self.journals.values():
                journal.finish()
        return found

    def close(self) -> None:
        """Keep the journals for another run."""
        for journal in self.journals.values():
            journal.close()


NOTHING = digest(())
"""Of an output that has no part in a tile."""


def is_there(array: Any, plan: TilePlan, name: str, plane: Plane, tile: ImageTile, written: str) -> bool:
    """Whether a tile of one output is as it was written."""
    if name not in tile.outputs:
        return written == NOTHING
    where = slices(plan.outputs[name].axes, plane, tile.outputs[name])
    with storing(f"reading {where} of the result", fix="resume=False, which begins anew"):
        return digest((read_box(array, where),)) == written


def turn_outwards(plan: TilePlan, ys: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a tile as they lie in their arrays."""
    return {name: outwards(plan.outputs[name].axes, y) for name, y in ys.items()}
