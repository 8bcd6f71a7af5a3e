"""Axes of images by name: which of them are positions, which are channels, and which are planes on their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omniconv.choices import check_instance
from omniconv.errors import ShapeError
from omniconv.records import dataclass
from omniconv.spec import Shape

CHANNEL = "C"


@dataclass(frozen=True, slots=True)
class Axes:
    """How images lie in an array.

    Attributes:
        names: one letter an axis, such as ``"TCZYX"``; ``C`` are channels.
        spatial: letters of the positions that the network knows, in its order; all others are planes.
    """

    names: str
    spatial: str

    def planes(self, shape: Sequence[int]) -> dict[str, int]:
        """How many planes there are along each axis of theirs."""
        return {name: size for name, size in zip(self.names, shape, strict=True) if self.is_plane(name)}

    def is_plane(self, name: str) -> bool:
        """Whether every position along an axis is an image of its own."""
        return name != CHANNEL and name not in self.spatial

    def inside(self, shape: Sequence[int]) -> Shape:
        """The shape of one image, as the network takes it."""
        sizes = dict(zip(self.names, shape, strict=True))
        return (1, sizes.get(CHANNEL, 1), *(sizes[name] for name in self.spatial))

    def outside(self, planes: Mapping[str, int], inside: Shape) -> Shape:
        """The shape of the array, given how many planes there are and the shape of one image."""
        sizes = {**planes, CHANNEL: inside[1], **dict(zip(self.spatial, inside[2:], strict=True))}
        return tuple(sizes[name] for name in self.names)

    def of_result(self, channels: int) -> Axes:
        """Axes of a result: those of the image, and channels where there are several of them."""
        if CHANNEL in self.names or channels == 1:
            return self
        first = self.names.index(self.spatial[0])
        return Axes(self.names[:first] + CHANNEL + self.names[first:], self.spatial)


def read_axes(axes: str | None, shape: Sequence[int], rank: int, channels: int | None) -> Axes:
    """Which axis of an array is what.

    Args:
        axes: letters, or ``None``: ``(N, C, *spatial)``, without N, and without C where there is one channel. Positions
            are Z, Y and X, as many of the last of them as the network knows, or else the last axes but C.
        shape: of the array.
        rank: axes of the network's input, batch and channels included.
        channels: of that input, where they are known.

    Raises:
        ShapeError: letters that do not fit the array or the network.
    """
    count = rank - 2
    if axes is not None:
        check_instance("axes", axes, str, need="a letter for each axis", fix='"TCZYX"')
    letters = "ZYX"[-count:] if count <= 3 else "UVWXYZ"[:count]
    if axes is None:
        full = "N" + CHANNEL + letters
        short = len(shape) == count and channels == 1
        axes = letters if short else full[len(full) - len(shape) :]
        if len(shape) not in (rank, rank - 1) and not short:
            raise ShapeError(
                f"an array of shape {tuple(shape)} for images of {count} axes",
                need="its axes by name",
                fix=f'axes="T{CHANNEL}{letters}"',
            )
    names = axes.upper()
    others = [name for name in names if name != CHANNEL]
    letters_only = names.isascii() and names.isalpha()
    if len(names) != len(shape) or len(set(names)) != len(names) or not letters_only or len(others) < count:
        raise ShapeError(
            f"axes={axes!r} for an array of shape {tuple(shape)} and images of {count} axes",
            need="a letter for each axis, C for channels",
            fix=f'axes="{CHANNEL}{letters}"',
        )
    spatial = letters if set(letters) <= set(names) else "".join(others[len(others) - count :])
    sizes = dict(zip(names, shape, strict=True))
    if channels is not None and sizes.get(CHANNEL, 1) != channels:
        last = len(shape) == count + 1 and shape[-1] == channels
        raise ShapeError(
            f"axes={names!r} of an array of shape {tuple(shape)} say {sizes.get(CHANNEL, 1)} channels",
            need=f"{channels}",
            fix=f'axes="{letters}{CHANNEL}"' if last else "axes= with C where the channels are",
        )
    return Axes(names, spatial)
