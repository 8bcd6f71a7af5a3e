"""Walking the output of a convolution: rows, phases and affine taps, the same for every kernel family.

Along one axis, tap t of phase f has kernel index ``k0[f] + t * kstep`` and reads input position ``q * in_step +
first[f] + t * ostep`` for output position ``start[f] + out_step * q``. A plain convolution has one phase whose numbers
are Python integers, so that all of this folds away; the phases of a transposed convolution come from small constant
tables, so that the code does not grow with their number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniconv.integers import ceil_div
from omniconv.open_size import Opener, is_open, remember
from omniconv.records import dataclass
from omniconv.spec import Axis, Conv, Shape

_POINT: Final = Axis(1)


@dataclass(frozen=True, slots=True)
class AxisWalk:
    """The phases of one axis, for one input size."""

    size: int
    output: int
    in_step: int
    out_step: int
    ostep: int
    kstep: int
    kernel: int
    first: tuple[int, ...]
    k0: tuple[int, ...]
    taps: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    @remember(maxsize=1024)
    def of(cls, axis: Axis, size: int) -> AxisWalk:
        """The walk of one axis; a flipped kernel is expected to be packed in reverse."""
        phases = replace(axis, flip=False).phases(size)
        longest = max((phase.taps for phase in phases), key=len)
        several = len(longest) > 1
        return cls(
            size=size,
            output=axis.infer_output(size),
            in_step=phases[0].in_step,
            out_step=phases[0].step,
            ostep=longest[1][1] - longest[0][1] if several else 0,
            kstep=longest[1][0] - longest[0][0] if several else 1,
            kernel=axis.kernel,
            first=tuple(phase.taps[0][1] if phase.taps else 0 for phase in phases),
            k0=tuple(phase.taps[0][0] if phase.taps else 0 for phase in phases),
            taps=tuple(len(phase.taps) for phase in phases),
            counts=tuple(phase.count for phase in phases),
        )

    @classmethod
    def flat(cls, size: int) -> AxisWalk:
        """The walk of a pointwise axis."""
        return cls.of(_POINT, size)

    @property
    def pointwise(self) -> bool:
        """Whether each output reads the one input at its own place."""
        alone = self.kernel == self.in_step == self.out_step == 1 and len(self.first) == 1
        return alone and not self.first[0] and self.output == self.size

    def reach(self, begin: int, end: int) -> tuple[int, int]:
        """The positions that the outputs ``begin <= o < end`` read, from and to (not included), also outside the input.

        ``begin`` has to be a whole number of phases, and there has to be some output of each.
        """
        low, high = [], []
        for phase, (first, taps) in enumerate(zip(self.first, self.taps, strict=True)):
            if taps:
                ends = first + begin // self.out_step * self.in_step, (taps - 1) * self.ostep
                last = (ceil_div(end - begin - phase, self.out_step) - 1) * self.in_step
                low.append(ends[0] + min(ends[1], 0))
                high.append(ends[0] + max(ends[1], 0) + last)
        return min(low, default=0), max(high, default=0) + 1

    @property
    def low(self) -> int:
        """First position that the first output of any phase reads."""
        return self.reach(0, self.out_step)[0]

    @property
    def span(self) -> int:
        """Positions from the first to the last that the first outputs of all phases read."""
        low, high = self.reach(0, self.out_step)
        return high - low

    def cut(self, begin: int, end: int) -> tuple[int, AxisWalk]:
        """The walk of the outputs ``begin <= o < end`` alone, over no more input than they need; see :meth:`reach`.

        Returns the first input position of the cut, which counts from there. Where no tap lands inside, one position
        remains, which no tap reads.
        """
        low, high = self.reach(begin, end)
        low = min(max(low, 0), self.size - 1)
        high = max(low + 1, min(high, self.size))
        moved = begin // self.out_step * self.in_step - low
        first = tuple(first + moved if taps else 0 for first, taps in zip(self.first, self.taps, strict=True))
        counts = tuple(ceil_div(end - begin - phase, self.out_step) for phase in range(self.phases))
        return low, replace(self, size=high - low, output=end - begin, first=first, counts=counts)

    def opened(self, opener: Opener) -> AxisWalk:
        """The same walk with its sizes opened, and where its taps begin, which differs where the padding does."""
        if self.size == self.output == self.kernel == 1:
            return self
        counts = tuple(map(opener.any, self.counts))
        first = tuple(map(opener.any, self.first)) if self.phases == 1 and self.kernel > 1 else self.first
        # Every layer of every size is opened: `replace` would take twice as long.
        return AxisWalk(
            opener.any(self.size),
            opener.any(self.output),
            self.in_step,
            self.out_step,
            self.ostep,
            self.kstep,
            self.kernel,
            first,
            self.k0,
            self.taps,
            counts,
        )

    def placed(self, opener: Opener) -> AxisWalk:
        """The same walk with that opened which tells where its outputs lie in the image: what there is of the input
        around them.
        """
        if self.phases > 1 or self.kernel == 1:
            return self
        return replace(self, size=opener.any(self.size), first=tuple(map(opener.any, self.first)))

    @property
    def phases(self) -> int:
        """Number of phases."""
        return len(self.counts)

    @property
    def static(self) -> bool:
        """Whether nothing depends on the output position: a single phase, in which every tap of the kernel lands.

        (The one output of a strided transposed axis has a single phase with some of the taps.)
        """
        return len(self.counts) == 1 and self.taps[0] == self.kernel

    @property
    def bordered(self) -> bool:
        """Whether some tap of some output lands outside the input, or may do so where sizes are open."""
        if is_open(self.size) and self.kernel > 1:
            return True
        for first, taps, count in zip(self.first, self.taps, self.counts, strict=True):
            ends = [first, first + max(taps - 1, 0) * self.ostep]
            if taps and (min(ends) < 0 or max(ends) + (count - 1) * self.in_step >= self.size):
                return True
        return False

    @property
    def share_inside(self) -> float:
        """Part of all (output, tap) pairs that land inside the input."""
        inside = total = 0
        for first, taps, count in zip(self.first, self.taps, self.counts, strict=True):
            for offset in range(first, first + taps * self.ostep, self.ostep) if self.ostep else [first] * taps:
                low = max(0, ceil_div(-offset, self.in_step))
                high = min(count, (self.size - 1 - offset) // self.in_step + 1)
                inside += max(0, high - low)
            total += taps * count
        return inside / max(total, 1)


def walks(spec: Conv, spatial: Shape) -> tuple[AxisWalk, AxisWalk, AxisWalk]:
    """The walks of a resolved layer along depth, height and width; missing axes are pointwise."""
    found = [AxisWalk.of(axis, size) for axis, size in zip(spec.axes(), spatial, strict=True)]
    padded = [AxisWalk.flat(1)] * (3 - len(found)) + found
    return padded[0], padded[1], padded[2]
