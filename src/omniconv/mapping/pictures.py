"""Pictures as arrays: their sizes are read, and checked, before their pixels are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, LimitError, ShapeError
from omniconv.limits import format_size
from omniconv.mapping.memory import SHARES
from omniconv.outside import need_package

PICTURES: Final = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".webp")
"""Endings that Pillow reads here; what it finds inside may be any of `FORMATS`."""
FORMATS: Final = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "WEBP")
"""Of these none runs another program, as EPS would."""
MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
"""What a picture of 8 bits becomes for a network of so many channels."""
WIDE: Final = {"I": 4, "F": 4}
"""Modes of more than 8 bits, beside those that begin with ``I;16`` [bytes a value]."""
Check: TypeAlias = Callable[[tuple[int, ...], int, int], None]
"""Refuses a shape with so many bytes for each value, and so many more."""


def read_picture(path: Path, channels: int | None, check: Check) -> tuple[npt.NDArray[Any], str]:
    """The first frame of a picture as it is stored, and its axes by name.

    Args:
        path: of the file.
        channels: that are wanted: grey, colour, colour with transparency; ``None`` for those that it has.
        check: called before pixels are read.

    Raises:
        DataError: 16 bits where 8 are wanted.
    """
    need_package("PIL", "pillow")
    from PIL import Image

    with Image.open(path, formats=FORMATS) as picture:
        return convert(picture, channels, check)


def convert(picture: Any, channels: int | None, check: Check) -> tuple[npt.NDArray[Any], str]:
    """The same of a picture that is open; see :func:`read_picture`."""
    own, (width, height) = picture.mode, picture.size
    deep = _is_deep(picture)
    if own in WIDE or own.startswith("I;16"):
        bits = 16 if deep else 8 * WIDE.get(own, 2)
        check((height, width), WIDE.get(own, 2), 0)
        if channels not in (None, 1):
            raise DataError(f"grey of {bits} bits for {channels} channels", need="a picture of 8 bits, or an array")
        return np.asarray(picture, np.uint16 if bits == 16 else None), "YX"
    if deep:
        raise DataError("colour of 16 bits", need="a picture of 8 bits, grey of 16, or an array")
    mode = MODES.get(channels or 0) or {"1": "L", "L": "L", "RGBA": "RGBA"}.get(own, "RGB")
    # Both exist at once, the picture and what it becomes.
    check((height, width, len(mode)), 1, 0 if mode == own else height * width * len(picture.getbands()))
    return np.asarray(picture if mode == own else picture.convert(mode)), "YX" if mode == "L" else "YXC"


def _is_deep(picture: Any) -> bool:
    """Whether samples have 16 bits in the file. Where a pixel has several, Pillow would give half of each."""
    for codec, _, _, found in getattr(picture, "tile", ()):
        words = found if isinstance(found, tuple) else (found,)
        if any(isinstance(word, str) and ";16" in word for word in words):
            return True
        if codec.startswith("ppm") and any(isinstance(word, int) and word > 255 for word in words):
            return True  # the largest value that the file says it has
    return False


def read_tiff(path: Path, check: Check) -> tuple[npt.NDArray[Any], str | None]:
    """The first series of a TIFF file, and its axes by name where these are positions and channels.

    Raises:
        ShapeError: a file without an image.
    """
    need_package("tifffile")
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise ShapeError(f"no image in {path.name!r}", need="one")
        series = file.series[0]
        # Tiles are unpacked whole, also those that are larger than the image.
        tile = math.prod(series.keyframe.chunks) if series.keyframe.is_tiled else 0
        check(tuple(series.shape), series.dtype.itemsize, tile * series.dtype.itemsize)
        # Samples of a pixel are channels; pages that nothing is said about lie above one another.
        names = str(series.axes).replace("S", "C").replace("Q", "Z").replace("I", "Z")
        array = series.asarray()
    kept = [n for n, (name, size) in enumerate(zip(names, array.shape, strict=True)) if size > 1 or name in "ZYXC"]
    array = array.reshape([array.shape[n] for n in kept])
    names = "".join(names[n] for n in kept)
    return array, names if set(names) <= set("ZYXC") and len(set(names)) == len(names) else None


def check_size(limit: int, wanted: int) -> Check:
    """Refuses images that take more than ``limit`` [bytes]: as they are stored, and as the network takes them.

    Args:
        limit: for one image.
        wanted: bytes for each value that the network computes with; 0 where another array comes of it first.
    """

    def check(shape: tuple[int, ...], stored: int, more: int) -> None:
        needed = math.prod(shape) * (stored + wanted) + more
        if needed > limit:
            raise LimitError(
                f"an image of {'x'.join(map(str, shape))} values takes {format_size(needed)}",
                need=f"at most {format_size(limit)} for each",
                fix=f'memory="{-(-needed * SHARES // 2**20)}M", or omniconv.tiled',
            )

    return check
