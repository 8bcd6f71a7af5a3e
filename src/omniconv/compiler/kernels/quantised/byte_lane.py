r"""Small groups of integers by bytes: quads of inputs in the lanes of their outputs.

The products of two taps, one above the other, are added in 16 bits before they are widened: of a quad and its four
weights, and of another, each sum of neighbours has four products. With inputs from 0 to 255 and weights of 7 bits it is
between :math:`-255 N` and :math:`255 P`, where :math:`N + P \le 256` are the sizes of its negative and positive
weights together: less than :math:`2^{16}` apart. A number that puts the middle at zero is added, modulo
:math:`2^{16}`, and then the sum fits 16 bits; the biases are less by all such numbers. So the same code is exact for
weights from -63 to 63, and for others that keep to these limits.

Inputs are made bytes as they are loaded. What they are more than the integers is in the biases as well, and so taps
outside of x are never left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import add_quads, load_words, narrow_words, pair_words
from omniconv.compiler.emit.machine import Bits, Pointer
from omniconv.compiler.kernels.quantised.lane import Halves, QuantisedLane, Tap
from omniconv.compiler.kernels.quantised.quads import QUAD
from omniconv.compiler.kernels.quantised.taps import in_packed_order
from omniconv.program.levels import Levels
from omniconv.records import dataclass

_PARTS = 3
"""Vectors of a pair of taps: weights of the one, of the other, and what centres their sums."""
_LOW, _HIGH = -(2**15), 2**15 - 1


class PackedBytes(NamedTuple):
    """Weights as the kernel reads them.

    Attributes:
        weights: by block, pair of taps, quad of inputs, vector of sums, and part, 32 bits for each output.
        moved: of each output what its bias is more.
    """

    weights: npt.NDArray[np.int16]
    moved: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedByteLane(QuantisedLane):
    """The recipe of one layer whose groups have whole quads of inputs and together fill vectors of words.

    Attributes:
        least: the least integer of x.
    """

    least: int

    @property
    def skips(self) -> bool:
        """No: the biases count on all taps."""
        return False

    @property
    def turns(self) -> int:
        """Quads of each output channel for a tap."""
        return self.inputs // QUAD

    @property
    def block_words(self) -> int:
        """Packed weights of a block [elements]."""
        return len(self.tap_pairs) * self.turns * 2 * _PARTS * self.lanes

    @property
    def tap_pairs(self) -> list[tuple[Tap, Tap | None]]:
        """The taps of two rows in pairs, those of an odd last row each for itself, W innermost."""
        depth, height, width = (axis.kernel for axis in self.walk.axes)
        return [
            ((d, h, w), (d, h + 1, w) if h + 1 < height else None)
            for d in range(depth)
            for h in range(0, height, 2)
            for w in range(width)
        ]

    def packing(self, levels: Levels) -> Hashable:
        """What weights are packed by, beside themselves."""
        return type(self).__name__, self.walk.lanes, levels

    def pack_bytes(self, w: npt.NDArray[np.int16], levels: Levels) -> PackedBytes | None:
        """Weights in PyTorch's shape as the kernel reads them; ``None`` where weights or inputs are no bytes, or sums
        would not fit.
        """
        span = levels.high - levels.low
        if span > 255 or not levels.low <= 0 <= levels.high or w.min(initial=0) < -128 or w.max(initial=0) > 127:
            return None
        pairs = self.tap_pairs
        cube = w.reshape(self.groups, self.outputs, self.turns, QUAD, *(axis.kernel for axis in self.walk.axes))
        quads = np.zeros((self.groups, self.outputs, len(pairs), self.turns, 2, QUAD), np.int64)
        for number, pair in enumerate(pairs):
            for which, tap in enumerate(pair):
                if tap is not None:
                    quads[:, :, number, :, which] = cube[(..., *tap)]
        # Sums of neighbours: by tap of a pair, then of both.
        single = quads.reshape(*quads.shape[:-1], QUAD // 2, 2)
        low, high = (span * part.sum(-1) for part in (np.minimum(single, 0), np.maximum(single, 0)))
        if low.min(initial=0) < _LOW or high.max(initial=0) > _HIGH:
            return None
        low, high = low.sum(-2), high.sum(-2)
        centre = -((low + high) // 2)
        if (low + centre).min(initial=0) < _LOW or (high + centre).max(initial=0) > _HIGH:
            return None
        centre[:, :, [number for number, pair in enumerate(pairs) if pair[1] is None]] = 0
        moved = self.least * quads.sum((2, 3, 4, 5)) - centre.sum((2, 3, 4))
        parts = np.concatenate([quads.astype(np.int8), centre.astype(np.int16).view(np.int8)[..., None, :]], -2)
        return PackedBytes(self._order(parts), moved.reshape(-1))

    def _order(self, parts: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
        """Parts by group, output, pair of taps, quad, part and byte, in the order that they are read in."""
        missing = self.blocks * self.held - self.groups
        padded = np.pad(parts, [(0, missing)] + [(0, 0)] * (parts.ndim - 1))
        by_block = padded.reshape(self.blocks, self.held * self.outputs, *parts.shape[2:])
        ordered = in_packed_order(self._fill(np.moveaxis(by_block, 1, -1)), self.walk.lanes)
        halves = ordered.reshape(*ordered.shape[:-1], 2, self.walk.lanes)
        return np.ascontiguousarray(halves.transpose(0, 1, 2, 5, 3, 6, 4)).reshape(-1).view(np.int16)

    def _spread(self, k: Kernel, here: Bits, there: Bits) -> Iterator[Halves]:
        """For each quad of inputs, and for each vector of sums, the quads of both taps in the lanes of its outputs."""
        if self.least:
            more = Bits(k.splat(-self.least, here.type))
            here, there = k.b.add(here, more), k.b.add(there, more)
        joined = narrow_words(k, here, there)
        for turn in range(self.turns):
            halves = list[tuple[Bits, ...]]()
            for half in self._wanted():
                # Of four quads side by side two are of one tap, and two of the other.
                first = [(quad + turn) // 2 * QUAD + (quad + turn) % 2 for quad in half]
                places = [[(2 * quad + 4 * tap, 2 * quad + 4 * tap + 1) for quad in first] for tap in range(2)]
                halves.append(tuple(pair_words(k, joined, joined, each) for each in places))
            yield halves

    def _add(
        self, k: Kernel, total: tuple[Bits, Bits], halves: Halves, weights: Pointer, number: int, turn: int
    ) -> tuple[Bits, Bits]:
        both = self.tap_pairs[number][1] is not None
        found = []
        for half, (each, quads) in enumerate(zip(total, halves, strict=True)):
            at = _PARTS * (2 * (number * self.turns + turn) + half)
            *factors, centre = (load_words(k, weights, (at + part) * self.lanes, self.lanes) for part in range(_PARTS))
            count = 2 if both else 1
            found.append(add_quads(k, each, quads[:count], factors[:count], centre if both else None))
        return found[0], found[1]
