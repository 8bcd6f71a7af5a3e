"""Elementwise operations on quantised values: to float32, the operations, and back to the levels."""

from __future__ import annotations

from dataclasses import replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, emit_binary, emit_epilogue
from omniconv.compiler.emit.integers import (
    clamp_float,
    load_words,
    round_even,
    spread_word,
    store_words,
    to_float,
    widen_words,
    words,
)
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.mapping import ARGS, Map, X, Y, by_runs, find_order
from omniconv.compiler.kernels.quantised.scaling import lower_quantised_scaling
from omniconv.compiler.kernels.quantised.turn import lower_quantised_turn
from omniconv.compiler.lowering.arrange import as_channels_last, as_expanded, as_row_major
from omniconv.compiler.lowering.posts import find_runs, follows_runs, lower_posts
from omniconv.compiler.memory.planner import Planner
from omniconv.open_size import Opener
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedConvStep, QuantisedMapStep
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMap:
    """The recipe of one elementwise kernel.

    Attributes:
        walk: positions, strides and operations; strides count elements of whatever type the value has.
        x_scale: of x, where that is quantised.
        scales: of the operand of each operation, ``None`` where it is of floats, or there is none.
        levels: of y, where that is quantised.
    """

    walk: Map
    x_scale: float | None
    scales: tuple[float | None, ...]
    levels: Levels | None

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.units

    def opened(self, opener: Opener) -> QuantisedMap:
        """The same kernel for values of any size."""
        return replace(self, walk=self.walk.opened(opener))

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        self.walk.emit_positions(k, lambda at, part: self._pixel(k, at, part))
        return k.finish()

    def _pixel(self, k: Kernel, at: tuple[Index, Index, Index, Index], part: Index) -> None:
        walk = self.walk

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                channel = k.add(c, v * walk.lanes)
                count = tail if v == vectors - 1 else None
                place = Position(*at, channel)
                value = self._read(k, k.arg(X), walk.x_strides, walk.readable, self.x_scale, place, count)
                for post, scale in zip(walk.posts, self.scales, strict=True):
                    if post.operand is None:
                        value = emit_epilogue(k, [post], value, place, count)
                        continue
                    operand = post.operand
                    other = self._read(k, k.arg(operand.arg), operand.strides, operand.readable, scale, place, count)
                    value = emit_binary(k, post.op, value, other)
                self._write(k, value, place, count)

        plain = walk.tail and walk.readable and all(post.readable for post in walk.posts)
        emit_vectors(k, walk.sizes[1], body, group=1, masked=not plain, part=part, parts=walk.parts)

    def _read(
        self,
        k: Kernel,
        pointer: Pointer,
        strides: tuple[int, ...],
        readable: bool,
        scale: float | None,
        at: Position,
        count: int | None,
    ) -> Value:
        """A vector of an operand as numbers."""
        lanes, offset = self.walk.lanes, _offset(k, strides, at)
        if scale is None:
            if strides[1] == 0:
                return k.load_splat(pointer, offset)
            if strides[1] == 1:
                return k.load(pointer, offset, count=None if readable else count)
            return k.gather(
                [k.load_scalar(pointer, k.add(offset, lane * strides[1])) for lane in range(count or lanes)]
            )
        # Integers lie in the arena, where every value may be read a vector past its end.
        if strides[1] == 1:
            found = load_words(k, pointer, offset, lanes)
        else:
            found = spread_word(k, pointer, offset, lanes)
        return k.b.fmul(to_float(k, widen_words(k, found)), k.splat(scale))

    def _write(self, k: Kernel, value: Value, at: Position, count: int | None) -> None:
        walk = self.walk
        offset = _offset(k, walk.y_strides, at)
        count = None if walk.tail else count
        if self.levels is None:
            k.store(value, k.arg(Y), offset, count=count)
            return
        scaled = k.b.fdiv(value, k.splat(self.levels.scale))
        found = round_even(k, clamp_float(k, scaled, self.levels.low, self.levels.high))
        store_words(k, k.b.trunc(found, words(walk.lanes)), k.arg(Y), offset, count)


def _offset(k: Kernel, strides: tuple[int, ...], at: Position) -> Index:
    offset: Index = 0
    for index, stride in zip((at.n, at.c, at.d, at.h, at.w), strides, strict=True):
        offset = k.add(offset, k.mul(index, stride))
    return offset


def lower_quantised_map(planner: Planner, step: QuantisedMapStep) -> None:
    """Elementwise operations on quantised values, channels last or row major, as the operands are."""
    if lower_quantised_turn(planner, step):
        return
    shape, source = planner.shape(step.y), planner.shape(step.x)
    if 2 <= len(shape) <= 5 and (find_order(planner, step) or _feeds_layer(planner, step)):
        x = as_channels_last(planner, step.x, len(shape))
        y = planner.produce_over(step.y, step.x, x) if source == shape else planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, shape, ARGS)
        walk = Map.of(x.layout, y.layout, posts, planner.target.lanes)
        if lower_quantised_scaling(planner, step, walk, (x.ref, y.ref, *refs)):
            return
    else:
        operands = (post.operand for post in step.post if post.operand is not None)
        runs = find_runs(shape, [source, *(planner.shape(a) if isinstance(a, str) else a.shape for a in operands)])
        x = as_row_major(planner, step.x) if follows_runs(shape, source, runs) else as_expanded(planner, step.x, shape)
        y = planner.produce(step.y, plain=True)
        posts, refs = lower_posts(planner, step.post, shape, ARGS, runs)
        walk = Map.of(by_runs(x.layout, shape, runs), by_runs(y.layout, shape, runs), posts, planner.target.lanes)
    named = iter(step.scales)
    scales = tuple(next(named) if isinstance(post.operand, str) else None for post in step.post)
    recipe = QuantisedMap(walk=walk, x_scale=step.x_scale, scales=scales, levels=step.levels)
    planner.call(recipe, [x.ref, y.ref, *refs], "map")


def _feeds_layer(planner: Planner, step: QuantisedMapStep) -> bool:
    """Whether a convolution reads whole vectors of channels of the result: floats change their order faster than words
    do.
    """
    if planner.shape(step.y)[1] < planner.target.lanes:
        return False
    return any(isinstance(each, QuantisedConvStep) and each.x == step.y for each in planner.program.steps)
