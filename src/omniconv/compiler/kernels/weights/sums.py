r"""`Sums`: the gradient of a layer's weights as the kernels see it.

.. math:: G[g, a, b, t] = \sum_n \sum_q \text{narrow}[n, g A + a, q] \; \text{wide}[n, g B + b, q s + t d - p]

For an ordinary layer dy is narrow and x is wide; for a transposed one they are exchanged. Positions outside of wide
are zero.
"""

from __future__ import annotations

import math
from dataclasses import replace

from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.spec import Conv, Shape


@dataclass(frozen=True, slots=True)
class SumAxis:
    """One axis: positions ``count`` of narrow and ``size`` of wide; the others as in :class:`omniconv.spec.Axis`."""

    count: int
    size: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    @property
    def flat(self) -> bool:
        """Whether each position meets the one at its own place and no other."""
        return self == SumAxis(self.count, self.count)

    def inside(self, tap: int) -> tuple[int, int]:
        """The range of narrow positions that meet a position of wide by a tap."""
        offset = tap * self.dilation - self.before
        low = min(self.count, max(0, ceil_div(-offset, self.stride)))
        high = min(self.count, (self.size - 1 - offset) // self.stride + 1)
        return low, max(low, high)

    @property
    def interior(self) -> tuple[int, int]:
        """The range of narrow positions that meet one by every tap; empty at 0 where there are none."""
        low, high = self.inside(0)[0], self.inside(self.kernel - 1)[1]
        return (low, high) if low < high else (0, 0)

    @property
    def bordered(self) -> bool:
        """Whether some tap of some position meets nothing."""
        return self.interior != (0, self.count)


@dataclass(frozen=True, slots=True)
class Sums:
    """What is to be summed: images, axes, groups and channels of a group, of narrow and of wide."""

    batch: int
    axes: tuple[SumAxis, SumAxis, SumAxis]
    groups: int
    narrow: int
    wide: int

    @classmethod
    def of(cls, spec: Conv, x: Shape, dy: Shape) -> Sums:
        """The sums of a layer with explicit padding, for an input and a gradient of these shapes."""
        narrow, wide = (x, dy) if spec.transposed else (dy, x)
        assert not isinstance(spec.padding, str), "the padding is resolved"
        columns = zip(
            narrow[2:],
            wide[2:],
            spec.kernel_size,
            spec.stride,
            spec.dilation,
            (a for a, _ in spec.padding),
            strict=True,
        )
        axes = [SumAxis(1, 1)] * (3 - spec.dims) + [SumAxis(*column) for column in columns]
        groups = spec.groups
        return cls(x[0], (axes[0], axes[1], axes[2]), groups, narrow[1] // groups, wide[1] // groups)

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def pointwise(self) -> bool:
        """Whether there is one tap and every position meets its own."""
        return all(axis.flat for axis in self.axes)

    @property
    def rows(self) -> int:
        """Rows of narrow in all images."""
        return self.batch * self.axes[0].count * self.axes[1].count

    def turn(self) -> Sums:
        """The same of a pointwise layer, with narrow and wide exchanged."""
        return replace(self, narrow=self.wide, wide=self.narrow)
