"""Pages for measuring accuracy: a real scan, cut, rescaled, darkened, blurred, tilted and noisy; a seed says all.

The scan is that of a printed page that scikit-image carries. Calibration sees its left part, tests its right part.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.demo.page import load_page, prepare, resize, rotate

Array: TypeAlias = npt.NDArray[Any]
LEFT: Final = 0.55
"""The share of the scan's width that calibrates."""


class Wear(NamedTuple):
    """What happens to a page.

    Attributes:
        window: the smallest share of the scan's height and width that a page shows.
        scales: the least and largest factor that it is rescaled by.
        noise: the largest deviation of noise [grey levels of 256].
        blur: the largest deviation of a Gaussian, before it is rescaled [pixels].
        tilt: it stands askew by so much at most [degrees].
    """

    window: float
    scales: tuple[float, float]
    noise: float
    blur: float = 0.0
    tilt: float = 0.0


EASY: Final = Wear(0.7, (0.6, 1.8), 16.0)
HARD: Final = Wear(0.35, (0.35, 1.0), 24.0, blur=1.0, tilt=8.0)
"""Pages that a network for whole pages gets wrong now and then."""


def make_page(rng: np.random.Generator, scan: Array, wear: Wear) -> npt.NDArray[np.uint8]:
    """One page of a scan."""
    height, width = (int(size * rng.uniform(wear.window, 1.0)) for size in scan.shape)
    corners = zip(scan.shape, (height, width), strict=True)
    top, left = (int(rng.integers(0, size - part + 1)) for size, part in corners)
    scale = rng.uniform(*wear.scales)
    part = scan[top : top + height, left : left + width]
    if wear.tilt or wear.blur:
        ndimage: Any = import_module("scipy.ndimage")  # it carries no types
        askew = ndimage.rotate(part, rng.uniform(-wear.tilt, wear.tilt), reshape=False, order=1, mode="nearest")
        part = ndimage.gaussian_filter(askew, rng.uniform(0, wear.blur), output=np.float64)
    page = resize(part, max(int(scale * height), 1), max(int(scale * width), 1))
    noise = rng.normal(0, rng.uniform(0, wear.noise), page.shape)
    light = rng.uniform(0.7, 1.1) * page + rng.uniform(-20, 20) + noise
    return np.clip(light, 0, 255).astype(np.uint8)


def load_scan(*, test: bool) -> Array:
    """The part of the scan that tests, or calibrates."""
    scan: Array = load_page()
    middle = int(LEFT * scan.shape[1])
    return scan[:, middle:] if test else scan[:, :middle]


def make_pages(count: int, seed: int, *, test: bool, wear: Wear = EASY) -> tuple[Array, list[int]]:
    """Printed pages as the network of orientations takes them, in all four, with the number of each."""
    rng = np.random.default_rng(seed)
    scan, labels = load_scan(test=test), [index % 4 for index in range(count)]
    pages = [prepare(rotate(make_page(rng, scan, wear), 90 * label)) for label in labels]
    return np.concatenate(pages), labels
