"""`LayerWeights`: the second operand of a layer: a constant, packed once, or a value, packed at every call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial

import numpy as np

from omniconv.compiler.lowering.arrange import as_row_major
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef
from omniconv.program.bfloat16 import round_to_bfloat16
from omniconv.program.steps import Array
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights or biases of a layer.

    Attributes:
        make: the constant. Of a value: for each element its number in row-major order, counted from 1, so that whatever
            arranges a constant, with zeros between its elements, also says where each element of a value belongs.
        source: where a value is, row major.
        size: elements.
        narrow: whether a constant is kept as bfloat16.
    """

    make: Callable[[], Array]
    source: BufferRef | None
    size: int
    narrow: bool = False

    @classmethod
    def of(cls, planner: Planner, operand: Array | str, *, narrow: bool = False) -> LayerWeights:
        """The second operand of a step; a constant rounded to bfloat16, where that is asked for."""
        if isinstance(operand, str):
            found = as_row_major(planner, operand)
            shape, size = found.layout.shape, found.layout.extent
            return cls(lambda: np.arange(1, size + 1, dtype=np.float64).reshape(shape), found.ref, size)
        array = operand
        return cls(partial(round_to_bfloat16, array) if narrow else lambda: array, None, array.size, narrow)

    def map(self, change: Callable[[Array], Array]) -> LayerWeights:
        """The same elements in another order or shape."""
        make = self.make
        return replace(self, make=lambda: change(make()))

    def widened(self) -> LayerWeights:
        """The same numbers, rounded or not, kept as float32."""
        return replace(self, narrow=False)

    def pack(
        self, planner: Planner, size: int, arrange: Callable[[Array], Array], key: Hashable | None = None
    ) -> BufferRef:
        """The elements as ``arrange`` has them: ``size`` in all, zeros included.

        ``key`` is all that it depends on, where plans for images of other sizes may share the result.
        """
        make = self.make
        if self.narrow:
            return planner.narrow_constant(size, lambda: arrange(make()), packed=key)
        if self.source is None:
            return planner.constant(size, lambda: arrange(make()), packed=key)
        # A zero behind the elements stands for all that is none of them.
        ended = BufferRef(planner.add_buffer("arena", self.size + 1))
        packed = BufferRef(planner.add_buffer("arena", size + planner.target.lanes))
        table = planner.index(size, lambda: (arrange(make()).astype(np.int64) - 1) % (self.size + 1))
        lanes = planner.target.lanes
        planner.call(Copy.of(((self.size, 1, 1),), lanes), [self.source, ended], "pack")
        end = BufferRef(ended.buffer, self.size)
        planner.call(Copy.of(((1, 1, 1),), lanes), [planner.zeros(1), end], "pack")
        planner.call(Copy.of(((size, 1, 1),), lanes, mapped=0), [ended, packed, table], "pack")
        return packed


def pack_bias(
    planner: Planner,
    bias: LayerWeights | None,
    size: int,
    arrange: Callable[[Array | None], Array],
    key: Hashable | None = None,
) -> BufferRef:
    """Biases as ``arrange`` has them; it makes zeros of none."""
    if bias is None:
        return planner.constant(size, lambda: arrange(None), packed=key)
    return bias.pack(planner, size, arrange, key)
