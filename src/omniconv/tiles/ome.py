"""OME-Zarr (0.4 and 0.5): which resolutions a group has, along which axes, and where their positions lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from omniconv.errors import DataError
from omniconv.records import dataclass
from omniconv.tiles.axes import CHANNEL
from omniconv.tiles.place import Moves, OpenedImage
from omniconv.tiles.storage import is_zarr

TYPES: Final = {"time": "T", "channel": CHANNEL}
"""Letters of axes that have a type of their own."""
ORDER: Final = "TCZYX"
"""Axes that a group may have, in this order."""
WRITTEN: Final = "0"
"""Name of the array of a result."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """Where the positions of an array lie: position i along an axis at ``scale * i + translation``.

    Attributes:
        scale, translation: by the letter of each axis; ``None`` where the group says it in a way that is not known.
        units: by letter, where there are some.
    """

    scale: dict[str, float] | None
    translation: dict[str, float]
    units: dict[str, str]

    def move(self, moves: Moves) -> Specimen:
        """See :class:`omniconv.tiles.place.Location`; what is given here are middles of positions, not their edges."""
        if self.scale is None:
            raise DataError("coordinate transformations of a kind that is not known", need="scale and translation")
        scale, translation = dict(self.scale), dict(self.translation)
        for letter, move in moves.items():
            one, middle = scale.get(letter, 1.0), float((move.rate - 1) / 2 + move.start)
            translation[letter] = translation.get(letter, 0.0) + one * middle
            scale[letter] = one * float(move.rate)
        return Specimen(scale, translation, self.units)


def open_group(given: Any, group: Any, level: int) -> OpenedImage:
    """One resolution of a group, the finest first; of a group without a description its first array.

    Raises:
        DataError: a level that it has not, a group without arrays, or a description that does not fit.
    """
    names = sorted(group.array_keys())
    ome: Any = group.attrs.get("ome")
    scales: Any = group.attrs.get("multiscales") or (ome.get("multiscales") if isinstance(ome, dict) else None)
    if not scales:
        if not names:
            raise DataError("a Zarr group without arrays", need="an array, or a group with one")
        _check_level(level, 1)
        return OpenedImage(given, level, group[names[0]])
    try:
        sets = list(scales[0]["datasets"])
        paths = [one["path"] for one in sets]
    except (LookupError, TypeError):
        sets, paths = [], []
    if not paths or not all(isinstance(path, str) for path in paths):
        raise DataError("multiscales of a Zarr group that name no array", need="datasets with a path, or the array")
    _check_level(level, len(paths))
    array = group[paths[level]]
    if not is_zarr(array):
        raise DataError(f"{paths[level]!r} of a Zarr group is not an array", need="an array")
    described = scales[0].get("axes")
    if not described:
        return OpenedImage(given, level, array)
    letters, units = _read_axes(described, len(array.shape))
    return OpenedImage(given, level, array, letters, _read_place(scales[0], sets[level], letters, units))


def _check_level(level: int, count: int) -> None:
    if level >= count:
        raise DataError(f"level={level} of an image with {count} resolutions", need=f"0 to {count - 1}")


def _read_axes(described: Any, count: int) -> tuple[str, dict[str, str]]:
    """A letter for each axis, and units by letter.

    Raises:
        DataError: axes that are not those of the array, or cannot be told apart.
    """
    found, units = [], {}
    for one in described if isinstance(described, list) else []:
        name, kind = (one.get("name"), one.get("type")) if isinstance(one, dict) else (one, None)
        letter = TYPES.get(kind, name) if isinstance(kind, str) else name
        found.append(letter.upper() if isinstance(letter, str) else "")
        if isinstance(one, dict) and isinstance(one.get("unit"), str):
            units[found[-1]] = one["unit"]
    right = all(len(letter) == 1 and letter.isascii() and letter.isalpha() for letter in found)
    if len(found) != count or len(set(found)) != count or not right:
        raise DataError(
            f"axes {[one.get('name') if isinstance(one, dict) else one for one in described][:9]} of a Zarr group for "
            f"an array of {count} axes"
            if isinstance(described, list)
            else "axes of a Zarr group that are no list",
            need="a name of one letter for each, or a type (time, channel)",
            fix="the array in the group, with axes=",
        )
    return "".join(found), units


def _read_place(scales: Any, one: Any, letters: str, units: dict[str, str]) -> Specimen:
    """What the transformations of a resolution, and then those of all of them, say."""
    scale, translation = dict.fromkeys(letters, 1.0), dict.fromkeys(letters, 0.0)
    try:
        steps = [*one.get("coordinateTransformations", ()), *scales.get("coordinateTransformations", ())]
        for step in steps:
            kind = step["type"]
            if kind == "identity":
                continue
            values = dict(zip(letters, map(float, step[kind]), strict=True))
            if kind == "scale":
                scale = {letter: scale[letter] * values[letter] for letter in letters}
                translation = {letter: translation[letter] * values[letter] for letter in letters}
            elif kind == "translation":
                translation = {letter: translation[letter] + values[letter] for letter in letters}
            else:
                return Specimen(None, {}, units)
    except (LookupError, TypeError, ValueError, AttributeError):
        return Specimen(None, {}, units)
    if not all(map(math.isfinite, (*scale.values(), *translation.values()))):
        return Specimen(None, {}, units)
    return Specimen(scale, translation, units)


def describe_group(axes: str, place: Specimen | None, name: str) -> dict[str, Any]:
    """The description of a group with one resolution, in the form of version 0.5.

    Raises:
        DataError: axes that such a group may not have, or in another order.
    """
    if "".join(letter for letter in ORDER if letter in axes) != axes or len(axes) < 2:
        raise DataError(
            f"a result along {axes} in an OME-Zarr", need=f"axes in the order of {ORDER}", fix="CYX, or a plain .zarr"
        )
    kinds = {"T": "time", CHANNEL: "channel"}
    place = place or Specimen(dict.fromkeys(axes, 1.0), {}, {})
    assert place.scale is not None
    described = [
        {"name": letter.lower(), "type": kinds.get(letter, "space")}
        | ({"unit": place.units[letter]} if letter in place.units else {})
        for letter in axes
    ]
    steps = [
        {"type": "scale", "scale": [place.scale.get(letter, 1.0) for letter in axes]},
        {"type": "translation", "translation": [place.translation.get(letter, 0.0) for letter in axes]},
    ]
    sets = [{"path": WRITTEN, "coordinateTransformations": steps}]
    return {"ome": {"version": "0.5", "multiscales": [{"name": name, "axes": described, "datasets": sets}]}}


def is_own_group(path: Path) -> bool:
    """Whether a folder is a group as results are: one array, and a description."""
    import zarr

    group: Any = zarr.open_group(path, mode="r")
    return set(group.keys()) == {WRITTEN} and is_zarr(group[WRITTEN]) and "ome" in group.attrs
