r"""The page image and its preparation, in NumPy.

The network takes the central 224 x 224 pixels of a page whose shorter side was brought to 256, normalised with the
means and deviations of ImageNet. Its authors resize with an 8-tap Lanczos filter without
smoothing beforehand; the same filter is computed here:

.. math:: y[o] = \sum_{t=-3}^{4} x[\lfloor c \rfloor + t] \, L(c - \lfloor c \rfloor - t), \qquad
          c = (o + 1/2) \frac{n_{in}}{n_{out}} - 1/2, \qquad L(u) = \mathrm{sinc}(u) \, \mathrm{sinc}(u / 4),

with weights that sum to 1, border pixels repeated, and the result rounded to 8 bits.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]

SHORT_SIDE: Final = 256
CROP: Final = 224
MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
TAPS: Final = 8


def load_page() -> Image:
    """The scanned page fragment that scikit-image carries, in grey, the right way up."""
    from skimage import data

    page: Any = data.page  # type: ignore[no-untyped-call,unused-ignore]
    return np.asarray(page(), dtype=np.uint8)


def rotate(image: Image, degrees: int) -> Image:
    """Turn an image clockwise by a multiple of 90 degrees; pixels are moved, not resampled.

    Example:
        >>> rotate(np.array([[1, 2], [3, 4]], np.uint8), 90).tolist()
        [[3, 1], [4, 2]]
    """
    return np.ascontiguousarray(np.rot90(image, -(degrees // 90)))


def make_filter(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Positions and weights, both of shape ``(target, 8)``, that resize ``source`` pixels to ``target``."""
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centre).astype(np.int64)
    offsets = np.arange(1 - TAPS // 2, TAPS // 2 + 1)
    distance = (centre - first)[:, None] - offsets
    weights = np.sinc(distance) * np.sinc(distance / (TAPS // 2))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(first[:, None] + offsets, 0, source - 1), weights


def resize(image: npt.NDArray[Any], height: int, width: int) -> Image:
    """Resize a grey image, rows first."""
    index, weights = make_filter(image.shape[0], height)
    rows = np.einsum("otw,ot->ow", image[index].astype(np.float64), weights)
    index, weights = make_filter(image.shape[1], width)
    both = np.einsum("hot,ot->ho", rows[:, index], weights)
    result: Image = np.clip(np.rint(both), 0, 255).astype(np.uint8)
    return result


def prepare(image: Image) -> npt.NDArray[np.float32]:
    """Turn a grey image of any size into the network's input ``(1, 3, 224, 224)``."""
    height, width = image.shape
    scale = SHORT_SIDE / min(height, width)
    resized = resize(image, round(height * scale), round(width * scale))
    top, left = ((size - CROP) // 2 for size in resized.shape)
    crop = resized[top : top + CROP, left : left + CROP].astype(np.float32) / np.float32(255)
    mean, deviation = (np.array(values, np.float32)[:, None, None] for values in (MEAN, DEVIATION))
    return np.ascontiguousarray(((crop[None] - mean) / deviation)[None])
