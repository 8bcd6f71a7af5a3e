r"""The one integer arithmetic: output sizes, taps, output phases, intervals.

For one axis of a cross-correlation with kernel size :math:`k`, stride :math:`s`, dilation :math:`d` and padding
:math:`p` before,

.. math:: y[o] = \sum_{t<k} x[o s + t d - p]\; w[t]

and for the transposed convolution, its adjoint,

.. math:: y[i s + t d - p] \mathrel{+}= x[i]\; w[t] .

Both are written here as *phases*: output positions ``start + step * q`` for ``q < count`` share one list of taps,
and tap ``(t, offset)`` reads ``x[q * in_step + offset]`` (zero outside). A cross-correlation has one phase; a
transposed convolution has up to ``s`` of them, each an ordinary stride-1 correlation. Everything else (reference,
machine code, receptive fields, overlap) is derived from these lists. Integers only, standard library only.
"""

from __future__ import annotations

import operator
from typing import TypeAlias

from omniconv.integers import as_flag, as_integer, as_integers, ceil_div
from omniconv.open_size import remember
from omniconv.records import dataclass

Pair: TypeAlias = tuple[int, int]


def count_extent(kernel: int, dilation: int) -> int:
    """Positions spanned by one kernel: ``dilation * (kernel - 1) + 1`` [positions]."""
    return dilation * (kernel - 1) + 1


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a convolution.

    ``output_padding`` is the number of extra output positions after the last one of a transposed convolution;
    ``flip`` numbers the taps backwards (true convolution).
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: Pair = (0, 0)
    transposed: bool = False
    output_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        # Axes are keys of caches, and NumPy's integers equal Python's: only the latter may be inside.
        for name, low in (("kernel", 1), ("stride", 1), ("dilation", 1), ("output_padding", 0)):
            object.__setattr__(self, name, as_integer(name, getattr(self, name), low))
        object.__setattr__(self, "padding", as_integers("padding", self.padding, None, need="(before, after)"))
        for name in ("transposed", "flip"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))

    @property
    def extent(self) -> int:
        """Positions spanned by the dilated kernel."""
        return count_extent(self.kernel, self.dilation)

    def infer_output(self, size: int) -> int:
        """Output size for an input of ``size``; below 1 when the kernel does not fit.

        ``floor((size + p - e) / s) + 1``, transposed ``(size - 1) * s + e - p + output_padding``, with the extent ``e``
        and the total padding ``p``.
        """
        size, total = as_integer("size", size), sum(self.padding)
        if self.transposed:
            return (size - 1) * self.stride + self.extent - total + self.output_padding
        return (size + total - self.extent) // self.stride + 1

    def infer_input(self, first: int, last: int) -> Pair:
        """Hull ``(lowest, highest)`` of the input positions that outputs ``first..last`` may read (not clipped)."""
        first, last = as_integer("first", first, None), as_integer("last", last, None)
        before, extent, stride = self.padding[0], self.extent, self.stride
        if self.transposed:
            return ceil_div(first + before - extent + 1, stride), (last + before) // stride
        return first * stride - before, last * stride - before + extent - 1

    def phases(self, size: int) -> tuple[Phase, ...]:
        """The output phases for an input of ``size`` positions; together they cover every output position once."""
        return _phases(self, as_integer("size", size))


@dataclass(frozen=True, slots=True)
class Phase:
    """Output positions ``start + step * q``, ``q < count``, that share one list of taps.

    Attributes:
        taps: ``(kernel index, offset)``; tap reads input position ``q * in_step + offset``. Offsets always form an
            arithmetic progression, and so do the kernel indices.
    """

    start: int
    step: int
    count: int
    in_step: int
    taps: tuple[Pair, ...]

    def outputs(self) -> range:
        """The output positions of this phase."""
        return range(self.start, self.start + self.step * self.count, self.step)

    def inside(self, offset: int, size: int) -> Pair:
        """The half-open range of ``q < count`` for which the tap at ``offset`` lands inside an input of ``size``."""
        low = min(self.count, max(0, ceil_div(-offset, self.in_step)))
        high = min(self.count, (size - 1 - offset) // self.in_step + 1)
        return low, max(low, high)


@remember(maxsize=4096)
def _phases(axis: Axis, size: int) -> tuple[Phase, ...]:
    output = axis.infer_output(size)
    before = axis.padding[0]
    indices = range(axis.kernel)
    if not axis.transposed:
        taps = tuple((axis.kernel - 1 - t if axis.flip else t, t * axis.dilation - before) for t in indices)
        return (Phase(0, 1, output, axis.stride, taps),)
    phases = []
    for start in range(min(axis.stride, output)):
        count = ceil_div(output - start, axis.stride)
        taps = tuple(
            (axis.kernel - 1 - t if axis.flip else t, (start + before - t * axis.dilation) // axis.stride)
            for t in indices
            if (start + before - t * axis.dilation) % axis.stride == 0
        )
        phases.append(Phase(start, axis.stride, count, 1, taps))
    return tuple(phases)


def plan_same_padding(axis: Axis, size: int, *, lower: bool) -> Pair:
    """Padding that makes the output ``ceil(size / stride)``; the odd one goes after, or before when ``lower``.

    It is an integer also for an open size: padding is part of a layer.
    """
    output = ceil_div(size, axis.stride)
    total = operator.index(max((output - 1) * axis.stride + axis.extent - size, 0))
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)
