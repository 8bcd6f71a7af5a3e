"""Steps of a `Chain` that move values and hold no weights: shuffle, pixel shuffle, resize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from omniconv.errors import ShapeError, SpecError

RESIZE_MODES: Final = ("nearest", "linear")


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Channel shuffle: view the C channels as ``(groups, C / groups)``, transpose, flatten.

    Output channel ``j * groups + i`` is input channel ``i * C / groups + j``. A permutation of the channel map: it
    costs nothing where a convolution follows.
    """

    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise SpecError(f"shuffle groups={self.groups}", need="groups >= 1")

    def source(self, channels: int) -> tuple[int, ...]:
        """For each output channel, the input channel it copies."""
        if channels % self.groups:
            raise SpecError(
                f"shuffle groups={self.groups} does not divide channels={channels}", need="channels % groups == 0"
            )
        width = channels // self.groups
        return tuple((c % self.groups) * width + c // self.groups for c in range(channels))

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The same shape."""
        self.source(shape[1])
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class PixelShuffle:
    """Depth to space: ``(N, C f^n, *spatial)`` to ``(N, C, *(spatial * f))``.

    Output channel c at position ``p * f + r`` is input channel ``c * f^n + r`` (r counted row-major) at p, as in
    PyTorch and in ONNX ``DepthToSpace`` with mode CRD.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise SpecError(f"pixel shuffle factor={self.factor}", need="factor >= 1")

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Channels divided by ``factor ** axes``, spatial sizes times ``factor``."""
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
        if self.factor < 1:
            raise SpecError(f"resize factor={self.factor}", need="factor >= 1")
        if self.mode not in RESIZE_MODES:
            raise SpecError(f"resize mode={self.mode!r} is unknown", need="one of " + ", ".join(RESIZE_MODES))

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes times ``factor``."""
        return (*shape[:2], *(size * self.factor for size in shape[2:]))
