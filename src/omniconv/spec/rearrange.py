"""Steps of a `Chain` that move values and hold no weights: shuffle, pixel shuffle, resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omniconv.choices import as_choice
from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer, as_shape
from omniconv.records import dataclass
from omniconv.spec.arguments import Shape

RESIZE_MODES: Final = ("nearest", "linear")


def _take_shape(shape: Sequence[int], at: str) -> Shape:
    taken = as_shape(shape, at=at)
    if len(taken) < 2:
        raise ShapeError(f"input of shape {taken} has rank {len(taken)}", need="(N, C, *spatial)", at=at)
    return taken


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Channel shuffle: view the C channels as ``(groups, C / groups)``, transpose, flatten.

    Output channel ``j * groups + i`` is input channel ``i * C / groups + j``. A permutation of the channel map: it
    costs nothing where a convolution follows.
    """

    groups: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", as_integer("groups", self.groups, at="shuffle"))

    def source(self, channels: int) -> tuple[int, ...]:
        """For each output channel, the input channel it copies."""
        channels = as_integer("channels", channels)
        if channels % self.groups:
            raise SpecError(
                f"shuffle groups={self.groups} does not divide channels={channels}", need="channels % groups == 0"
            )
        width = channels // self.groups
        return tuple((c % self.groups) * width + c // self.groups for c in range(channels))

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """The same shape."""
        shape = _take_shape(shape, "shuffle")
        self.source(shape[1])
        return shape


@dataclass(frozen=True, slots=True)
class PixelShuffle:
    """Depth to space: ``(N, C f^n, *spatial)`` to ``(N, C, *(spatial * f))``.

    Output channel c at position ``p * f + r`` is input channel ``c * f^n + r`` (r counted row-major) at p, as in
    PyTorch and in ONNX ``DepthToSpace`` with mode CRD.
    """

    factor: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_integer("factor", self.factor, at="pixel_shuffle"))

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Channels divided by ``factor ** axes``, spatial sizes times ``factor``."""
        shape = _take_shape(shape, "pixel_shuffle")
        block = self.factor ** (len(shape) - 2)
        if shape[1] % block:
            raise ShapeError(
                f"pixel shuffle factor={self.factor} does not divide channels={shape[1]}",
                need=f"channels % {block} == 0",
            )
        return (shape[0], shape[1] // block, *(size * self.factor for size in shape[2:]))


@dataclass(frozen=True, slots=True)
class Resize:
    """Enlarge every spatial axis by an integer ``factor``.

    ``nearest``: ``y[o] = x[o // factor]``. ``linear``: interpolation at ``(o + 1/2) / factor - 1/2``, clamped to the
    input (half-pixel centres; PyTorch ``align_corners=False``, ONNX ``half_pixel``).
    """

    factor: int
    mode: str = "nearest"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_integer("factor", self.factor, at="resize"))
        as_choice("resize mode", self.mode, RESIZE_MODES)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes times ``factor``."""
        shape = _take_shape(shape, "resize")
        return (*shape[:2], *(size * self.factor for size in shape[2:]))
