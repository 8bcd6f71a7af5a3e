r"""The kernel that serves every setting of a convolution: sums over a list of taps.

For image n, group g, its output channel c, and the position (d, r, q) of an output, with C channels a group and the
tap list of T offsets o and, for each channel, T weights w,

.. math::
    y[n\,Y_n + (g C + c) Y_c + d\,Y_d + r\,Y_r + q\,Y_q] = b[g C + c]
        + \sum_{t < T} w[(g C + c) T + t] \; x[n\,X_n + g X_g + d X_d + r X_r + q X_q + o[t]]

All of X and Y are distances [elements], so that a record of numbers says everything: strides in X, dilation and
channels in the offsets, a phase of a transposed convolution in Y. Which numbers serve a layer is
:func:`omniconv.web.tap_plan.plan_taps`.

The module exports ``memory`` and ``taps(record)``; the record is a row of 32-bit words at that address, in the order of
:data:`WORDS`. The page lays the memory out from ``heap`` [bytes] on (below are stack and data) and lets it grow as it
needs, by ``memory.grow``. No byte is read but those that the formula names, and none written. T may be 0, which leaves
the bias.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

from omniconv.compiler.code.build import Source, build_together
from omniconv.compiler.code.cache import open_cache
from omniconv.compiler.code.wasm import STACK, link
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Count, Index, Pointer, Value
from omniconv.records import dataclass
from omniconv.target.model import Target
from omniconv.target.wasm import find_targets
from omniconv.web.module import encode

WORDS: Final = (
    "x",  # address of the first element [bytes], like the four after it
    "y",
    "offsets",  # T offsets, 32 bits each [elements]
    "weights",  # T for each output channel
    "bias",  # one for each output channel
    "taps",  # T
    "images",  # how many n there are, and so on
    "groups",
    "channels",  # of one group
    "planes",
    "rows",
    "columns",
    "x_image",  # X_n [elements], and so on
    "x_group",
    "x_plane",
    "x_row",
    "x_column",
    "y_image",  # Y_n [elements], and so on
    "y_channel",
    "y_plane",
    "y_row",
    "y_column",
)
"""Names of the words of a record, in their order."""
ADDRESSES: Final = 5
"""The first words, which are addresses."""
BLOCK: Final = 4
"""Vectors of neighbouring outputs that are summed at once."""


@dataclass(frozen=True, slots=True)
class TapModule:
    """The kernel as a module.

    Attributes:
        simd, relaxed: for any engine with vectors, and for one that has the relaxed instructions too.
        heap: the first byte that is the page's own.
    """

    simd: bytes
    relaxed: bytes
    heap: int

    def to_json(self) -> dict[str, Any]:
        """The module as a page gets it."""
        return {"simd": encode(self.simd), "relaxed": encode(self.relaxed), "heap": self.heap, "words": WORDS}


@cache
def compile_taps() -> TapModule:
    """Compile the kernel."""
    main = (
        "declare void @kernel(ptr, i64, i64, i64)\n"
        "define void @taps(ptr %record) {\n  call void @kernel(ptr %record, i64 0, i64 1, i64 0)\n  ret void\n}"
    )

    def build(target: Target) -> bytes:
        kernels = {"kernel": Source("taps", partial(emit_taps, target=target))}
        return link(build_together(kernels, main, target, cache=open_cache()), {"taps": "taps"}, (), STACK)

    simd, relaxed = map(build, find_targets())
    return TapModule(simd, relaxed, STACK)


def emit_taps(name: str, target: Target) -> str:
    """The IR of the kernel, whose arguments are a record."""
    k = Kernel(name, target)
    x, y, offsets, weights, bias = (k.arg(number) for number in range(ADDRESSES))
    word = {name: k.word(number) for number, name in enumerate(WORDS) if number >= ADDRESSES}

    def place(letter: str, **positions: Index) -> Index:
        total: Index = 0
        for axis, position in positions.items():
            total = k.add(total, k.mul(position, word[f"{letter}_{axis}"]))
        return total

    with (
        k.loop(word["images"]) as image,
        k.loop(word["groups"]) as group,
        k.loop(word["planes"]) as plane,
        k.loop(word["rows"]) as row,
        k.loop(word["channels"]) as member,
    ):
        channel = k.add(k.mul(group, word["channels"]), member)
        source = k.shift(x, place("x", image=image, group=group, plane=plane, row=row))
        result = k.shift(y, place("y", image=image, channel=channel, plane=plane, row=row))
        line = _Line(
            k, source, result, offsets, k.shift(weights, k.mul(channel, word["taps"])), k.shift(bias, channel), word
        )
        k.both_ways(k.compare("==", word["x_column"], 1), line.emit)
    return k.finish()


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of outputs of one channel."""

    k: Kernel
    x: Pointer
    y: Pointer
    offsets: Pointer
    weights: Pointer
    bias: Pointer
    word: dict[str, Count]

    def emit(self, dense: bool) -> None:
        """Blocks of vectors, then vectors, then single outputs; ``dense`` where neighbours read neighbours."""
        k, columns = self.k, self.word["columns"]
        done: Index = 0
        for vectors, lanes in ((BLOCK, k.lanes), (1, k.lanes), (1, 1)):
            step = vectors * lanes
            end = k.mul(k.divmod(columns, step)[0], step)
            with k.loop(end, start=done, step=step) as column:
                self._emit_block(column, vectors, lanes, dense)
            done = end

    def _emit_block(self, column: Index, vectors: int, lanes: int, dense: bool) -> None:
        k = self.k
        bias = self._broadcast(self.bias, 0, lanes)
        sums = [k.variable(k.vector_type(lanes), bias) for _ in range(vectors)]
        first = k.shift(self.x, k.mul(column, self.word["x_column"]))
        with k.loop(self.word["taps"]) as tap:
            weight = self._broadcast(self.weights, tap, lanes)
            start = k.shift(first, k.lookup_word(self.offsets, tap))
            for number, total in enumerate(sums):
                k.set(total, k.fma(self._load(start, number * lanes, lanes, dense), weight, k.get(total)))

        def store(together: bool) -> None:
            for number, total in enumerate(sums):
                self._store(k.get(total), k.add(column, number * lanes), lanes, together)

        k.both_ways(lanes == 1 or k.compare("==", self.word["y_column"], 1), lambda yes: store(yes and lanes > 1))

    def _broadcast(self, pointer: Pointer, element: Index, lanes: int) -> Value:
        scalar = self.k.load_scalar(pointer, element)
        return scalar if lanes == 1 else self.k.spread(scalar, lanes)

    def _load(self, start: Pointer, column: int, lanes: int, dense: bool) -> Value:
        """What some neighbouring outputs read by one tap."""
        k = self.k
        if dense and lanes > 1:
            return k.load(start, column, lanes=lanes)
        parts = [k.load_scalar(start, k.mul(column + lane, self.word["x_column"])) for lane in range(lanes)]
        return parts[0] if lanes == 1 else k.gather(parts)

    def _store(self, value: Value, column: Index, lanes: int, together: bool) -> None:
        k = self.k
        if together:
            k.store(value, self.y, column)
            return
        for lane, each in enumerate([value] if lanes == 1 else k.scatter(value)):
            k.store_scalar(each, self.y, k.mul(k.add(column, lane), self.word["y_column"]))
