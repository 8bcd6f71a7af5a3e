"""Backwards through a `Program` with sets of positions: the boxes of every value that an output demands."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np

from omniconv.analysis.hull import Reach, at, everything, merge, through_taps
from omniconv.analysis.regrouping import couples, regroup
from omniconv.analysis.resampling import Resampling, read_table
from omniconv.analysis.runs import Runs, clip, join, scale
from omniconv.analysis.subject import needed_steps
from omniconv.analysis.terms import Box, add_box
from omniconv.analysis.trace import is_gate
from omniconv.compiler.program import (
    ChannelStep,
    ConcatStep,
    ConvStep,
    DenseStep,
    LrnStep,
    MapStep,
    PadStep,
    PoolStep,
    Program,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
)
from omniconv.spec import Axis, Shape

MOST_PHASES: Final = 64
"""Output phases whose fields are worked out one by one."""


@dataclass(slots=True)
class Demand:
    """What one output position demands.

    Attributes:
        boxes: of every value, by name.
        period: moving the output by so many positions moves all it reads, in every value, by whole positions.
        coupled: the positions on several axes decided together what is read, by holes or by a choice of channels.
        exact: there were never too many boxes.
    """

    boxes: dict[str, list[Box]]
    period: int = 1
    coupled: bool = False
    exact: bool = True

    def add(self, name: str, box: Box | None) -> None:
        """Add a box to what is demanded of a value; ``None`` where an axis of it is empty."""
        if box is None:
            self.coupled = True
            return
        for item in box:
            if item.moves and item.rate is not None:
                self.period = math.lcm(self.period, item.rate.denominator)
        if not add_box(self.boxes.setdefault(name, []), box):
            self.exact = False


@dataclass(slots=True)
class Phases:
    """What the output positions of one period demand.

    Attributes:
        period: see :class:`Demand`.
        exact: every position that counts was worked out.
        demands: by position.
    """

    period: int = 1
    exact: bool = True
    demands: dict[tuple[int, ...], Demand] = field(default_factory=dict)

    def on_axis(self, source: str, axis: int) -> list[Reach | None]:
        """For each output phase what is read on one axis of a value, whatever the position on other output axes."""
        found: list[Reach | None] = [None] * (1 + max(max(position, default=0) for position in self.demands))
        for position, demand in self.demands.items():
            for box in demand.boxes.get(source, ()):
                item = box[axis]
                phase = position[(item.origin or 2) - 2] if position else 0
                old = found[phase]
                found[phase] = item if old is None else merge(old, item)
        return found


def find_phases(program: Program, tensor: str, *, gates: bool = True, most: int = MOST_PHASES) -> Phases:
    """What the outputs of one period demand of every value; at most ``most`` of them are worked out.

    Position o on every axis at once stands for position o on each of them, as long as axes do not depend on one
    another; where they do, all positions of one period are worked out.
    """
    rank = max(len(program.shapes[tensor]) - 2, 0)
    found = Phases()
    coupled = False
    while True:
        period = found.period
        places = [(o,) * rank for o in range(min(period, most))]
        if coupled and rank > 1 and period > 1:
            if period**rank <= most:
                places = list(itertools.product(range(period), repeat=rank))
            else:
                found.exact = False
        fresh = [place for place in places if place not in found.demands]
        for place in fresh:
            demand = demand_of(program, tensor, place, gates=gates)
            found.demands[place] = demand
            found.period = math.lcm(found.period, demand.period)
            found.exact &= demand.exact
            coupled |= demand.coupled
        if not fresh:
            found.exact &= found.period <= most
            return found


def demand_of(program: Program, tensor: str, position: tuple[int, ...], *, gates: bool = True) -> Demand:
    """What one output position demands of every value, all its channels and all of the batch."""
    shape = program.shapes[tensor]
    if len(shape) < 3:
        first: Box = tuple(everything(size) for size in shape)
    else:
        moving = (Reach(((o, o),), Fraction(1), origin=axis) for axis, o in enumerate(position, 2))
        first = (everything(shape[0]), everything(shape[1]), *moving)
    demand = Demand({tensor: [first]})
    for index in reversed(needed_steps(program, tensor)):
        step, label = program.steps[index], program.labels[index]
        for held in demand.boxes.get(step.y, ()):
            if isinstance(step, ConvStep) and step.spec.transposed:  # also where this position falls into a hole
                for item, axis in zip(held[2:], step.spec.axes(), strict=True):
                    if item.moves and item.rate is not None:
                        demand.period = math.lcm(demand.period, (item.rate / axis.stride).denominator)
            if isinstance(step, RearrangeStep) and couples(step, held, program.shapes[step.y]):
                demand.coupled = True
            for name, box in _back(program, step, label, held, gates):
                demand.add(name, box)
    return demand


def _back(program: Program, step: ProgramStep, label: str, y: Box, gates: bool) -> list[tuple[str, Box | None]]:
    shape = program.shapes[step.y]
    parts: list[tuple[str, Box | None]] = []
    if isinstance(step, ConcatStep):
        first = 0
        for name in step.xs:
            size = program.shapes[name][step.axis]
            share = _share(y, step.axis, first, size)
            if share is not None:  # what another operand holds is no hole
                parts.append((name, share))
            first += size
        return parts
    for post in step.post if isinstance(step, ConvStep | DenseStep | MapStep) else ():
        if isinstance(post.operand, str):
            operand = program.shapes[post.operand]
            if gates or not is_gate(operand, shape):
                parts.append((post.operand, _broadcast(y, shape, operand)))
    source = program.shapes[step.x]
    if isinstance(step, MapStep) and not gates and is_gate(source, shape):
        return parts
    items = _back_one(step, label, y, source, shape)
    found = tuple(item for item in items if item is not None)
    parts.append((step.x, found if len(found) == len(items) else None))
    return parts


def _share(y: Box, axis: int, first: int, size: int) -> Box | None:
    """The share of one operand of a concatenation; ``None`` where it has none."""
    item = y[axis].moved(-first)
    runs = clip(item.runs, size)
    if not runs:
        return None
    exact = item.exact and (axis < 2 or not item.moves)  # along space, the operand depends on the position
    return (*y[:axis], replace(item, runs=runs, exact=exact), *y[axis + 1 :])


def _broadcast(y: Box, result: Shape, shape: Shape) -> Box:
    """What a value of ``shape`` is asked for that was broadcast to ``result``."""
    extra = len(y) - len(shape)
    return tuple(
        at(0, 0, item.whole) if size == 1 < wide else item
        for size, wide, item in zip(shape, result[extra:], y[extra:], strict=True)
    )


def _taps(y: Box, axes: tuple[Axis, ...]) -> list[Reach | None]:
    return [through_taps(item, axis) for item, axis in zip(y[2:], axes, strict=True)]


def _channels(runs: Runs, size: int) -> Reach | None:
    """Channels of an axis of ``size``; there are none outside."""
    inside = clip(runs, size)
    return Reach(inside) if inside else None


def _back_one(step: ProgramStep, label: str, y: Box, source: Shape, shape: Shape) -> tuple[Reach | None, ...]:
    match step:
        case ConvStep():
            narrow, wide = (count // step.spec.groups for count in (step.spec.out_channels, step.spec.in_channels))
            groups = join((first // narrow, last // narrow) for first, last in y[1].runs)
            seen = tuple((first * wide, last * wide + wide - 1) for first, last in groups)
            return (y[0], _channels(seen, source[1]), *_taps(y, step.spec.axes()))
        case PoolStep():
            axes = tuple(
                Axis(k, s, d, pair)
                for k, s, d, pair in zip(step.kernel, step.stride, step.dilation, step.padding, strict=True)
            )
            return (*y[:2], *_taps(y, axes))
        case DenseStep():
            return (*y[:-1], everything(source[-1], f"dense layer {label!r}"))
        case MapStep():
            return _broadcast(y, shape, source)
        case ReduceStep():
            name = f"{step.op} over all positions {label!r}"
            return (*y[:2], *(everything(size, name if size > 1 else "") for size in source[2:]))
        case SoftmaxStep():
            axis = step.axis % len(source)
            if axis == 1:
                return (y[0], everything(source[1]), *y[2:])
            return (*y[:axis], everything(source[axis], f"softmax {label!r}"), *y[axis + 1 :])
        case LrnStep():
            before, after = (step.size - 1) // 2, step.size // 2
            seen = join((first - before, last + after) for first, last in y[1].runs)
            return (y[0], _channels(seen, source[1]), *y[2:])
        case ChannelStep():
            taken = (step.source[c] for first, last in y[1].runs for c in range(first, last + 1))
            return (y[0], _channels(join((c, c) for c in taken), source[1]), *y[2:])
        case RearrangeStep():
            return regroup(step, y, source, shape)
        case SliceStep():
            return tuple(
                item.scaled(scale(item.runs, stride, first), Fraction(stride), Fraction(first))
                for item, first, stride in zip(y, step.starts, step.steps, strict=True)
            )
        case PadStep():
            moved = [item.moved(-pair[0]) for item, pair in zip(y, step.pads, strict=True)]
            if step.mode == "constant":  # batch and channels end where they end
                return (
                    *(_channels(item.runs, size) for item, size in zip(moved[:2], source, strict=False)),
                    *moved[2:],
                )
            padded = (any(pair) for pair in step.pads[:2])
            inner = (everything(size) if p else item for size, p, item in zip(source, padded, moved, strict=False))
            return (*inner, *moved[2:])
        case ResizeStep():
            tables = [_table(step, axis, size) for axis, size in enumerate(source[2:])]
            return (*y[:2], *(_resampled(item, table) for item, table in zip(y[2:], tables, strict=True)))
        case ConcatStep():
            raise AssertionError("has several inputs")
    raise AssertionError(step)


def _resampled(item: Reach, table: Resampling) -> Reach | None:
    found = item.scaled(table.read(((item.low, item.high),) if item.whole else item.runs), table.slope, table.shift)
    return found if found is None or table.regular or not item.moves else replace(found, exact=False)


class _Key:
    """A step by identity, so that its tables are read once."""

    def __init__(self, step: ResizeStep) -> None:
        self.step = step

    def __hash__(self) -> int:
        return id(self.step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.step is self.step


@lru_cache(maxsize=256)
def _read(key: _Key, axis: int, size: int) -> Resampling:
    return read_table(np.asarray(key.step.index[axis]), np.asarray(key.step.weight[axis]), size)


def _table(step: ResizeStep, axis: int, size: int) -> Resampling:
    return _read(_Key(step), axis, size)
