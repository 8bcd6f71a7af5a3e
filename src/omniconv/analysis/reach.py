"""Backwards through a `Program` with interval maps: one `Reach` for each axis of each value (:mod:`..hull`)."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from omniconv.analysis.hull import MIXED, Reach, everything, merge, through_taps
from omniconv.analysis.resampling import Resampling, read_table
from omniconv.analysis.subject import needed_steps
from omniconv.analysis.trace import is_gate
from omniconv.program.program import Program
from omniconv.program.steps import (
    WITH_POSTS,
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    DenseStep,
    LrnStep,
    MapStep,
    PadStep,
    PoolStep,
    ProductStep,
    ProgramStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    weight_values,
)
from omniconv.spec import Axis, Shape

Reaches: TypeAlias = "tuple[Reach | None, ...]"

MOST_PHASES: Final = 64
"""Output phases whose fields are worked out one by one."""


def start(shape: Shape, position: tuple[int, ...]) -> Reaches:
    """The demand for one position: all of batch and channels, one place on each axis after them."""
    if len(shape) < 3:
        return tuple(everything(size) for size in shape)
    found: list[Reach | None] = [everything(shape[0]), everything(shape[1])]
    for axis, o in enumerate(position, 2):
        found.append(Reach(o, o, Fraction(1), (Fraction(0), Fraction(0)), axis))
    return tuple(found)


def reach_phases(
    program: Program, tensor: str, *, gates: bool = True, most: int = MOST_PHASES
) -> tuple[list[dict[str, Reaches]], int]:
    """What the outputs 0, 1, ... of one period demand of every value, and the period.

    Moving an output by the period moves all it reads, in every value on the way, by whole positions. At most ``most``
    outputs are worked out; output o is position o on every axis at once, since axes do not depend on one another.
    """
    rank = max(len(program.shapes[tensor]) - 2, 0)
    found: list[dict[str, Reaches]] = []
    period = 1
    while len(found) < min(period, most):
        demands, own = _reach(program, tensor, (len(found),) * rank, gates)
        found.append(demands)
        period = math.lcm(period, own)
    return found, period


def _reach(program: Program, tensor: str, position: tuple[int, ...], gates: bool) -> tuple[dict[str, Reaches], int]:
    demands: dict[str, Reaches] = {tensor: start(program.shapes[tensor], position)}
    period = 1
    for index in reversed(needed_steps(program, tensor)):
        step, label = program.steps[index], program.labels[index]
        held = demands.get(step.y)
        if held is None:
            continue
        for name, part in _back(program, step, label, held, gates):
            old = demands.get(name)
            demands[name] = part if old is None else tuple(merge(a, b) for a, b in zip(old, part, strict=True))
            for item in part:
                if item is not None and item.rate is not None and item.origin is not None and not item.whole:
                    period = math.lcm(period, item.rate.denominator)
        if isinstance(step, ConvStep) and step.spec.transposed:  # also where this position falls into a hole
            for item, axis in zip(held[2:], step.spec.axes(), strict=True):
                if item is not None and item.rate is not None and item.origin is not None and not item.whole:
                    period = math.lcm(period, (item.rate / axis.stride).denominator)
    return demands, period


def _back(program: Program, step: ProgramStep, label: str, y: Reaches, gates: bool) -> list[tuple[str, Reaches]]:
    shape = program.shapes[step.y]
    parts: list[tuple[str, Reaches]] = []
    if isinstance(step, ConcatStep):
        first = 0
        for name in step.xs:
            size = program.shapes[name][step.axis]
            part = _slice_of(y, step.axis, first, size)
            if part is not None:
                parts.append((name, part))
            first += size
        return parts
    if isinstance(step, ConstantStep):
        return parts
    for post in step.post if isinstance(step, WITH_POSTS) else ():
        if isinstance(post.operand, str):
            operand = program.shapes[post.operand]
            if gates or not is_gate(operand, shape):
                parts.append((post.operand, _broadcast(y, shape, operand)))
    source = program.shapes[step.x]
    if isinstance(step, MapStep) and not gates and is_gate(source, shape):
        return parts
    parts.append((step.x, _back_one(step, label, y, source, shape)))
    parts += [(name, _back_weights(step, label, y, shape, program.shapes[name])) for name in weight_values(step)]
    return parts


def _back_weights(step: ProgramStep, label: str, y: Reaches, shape: Shape, weights: Shape) -> Reaches:
    """What weights that are computed are asked for: a column of a product, all of a convolution."""
    if isinstance(step, ProductStep):
        wide = _broadcast(y, shape, (*weights[:-2], shape[-2], weights[-1]))
        return (*wide[:-2], everything(weights[-2], f"product {label!r}"), wide[-1])
    return tuple(everything(size, f"weights of {label!r}" if size > 1 else "") for size in weights)


def _slice_of(y: Reaches, axis: int, first: int, size: int) -> Reaches | None:
    """The share of one operand of a concatenation; ``None`` where it has none."""
    item = y[axis]
    if item is None:
        return y
    item = item.moved(-first)
    low, high = max(item.low, 0), min(item.high, size - 1)
    return None if low > high else (*y[:axis], replace(item, low=low, high=high), *y[axis + 1 :])


def _broadcast(y: Reaches, result: Shape, shape: Shape) -> Reaches:
    """What a value of ``shape`` is asked for that was broadcast to ``result``."""
    extra = len(y) - len(shape)
    return tuple(
        Reach(0, 0, whole=item.whole) if size == 1 < wide and item is not None else item
        for size, wide, item in zip(shape, result[extra:], y[extra:], strict=True)
    )


def _taps(y: Reaches, axes: tuple[Axis, ...]) -> list[Reach | None]:
    return [None if item is None else through_taps(item, axis) for item, axis in zip(y[2:], axes, strict=True)]


def _back_one(step: ProgramStep, label: str, y: Reaches, source: Shape, shape: Shape) -> Reaches:
    match step:
        case ConvStep():
            return (y[0], everything(source[1]), *_taps(y, step.spec.axes()))
        case PoolStep():
            axes = tuple(
                Axis(k, s, d, pair)
                for k, s, d, pair in zip(step.kernel, step.stride, step.dilation, step.padding, strict=True)
            )
            return (*y[:2], *_taps(y, axes))
        case DenseStep():
            return (*y[:-1], everything(source[-1], f"dense layer {label!r}"))
        case ProductStep():
            wide = _broadcast(y, shape, (*source[:-1], shape[-1]))
            return (*wide[:-1], everything(source[-1], f"product {label!r}"))
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
        case LrnStep() | ChannelStep():
            return (y[0], everything(source[1]), *y[2:])
        case RearrangeStep():
            return _rearrange(step, y, source, shape)
        case SliceStep():
            return tuple(
                None if item is None else _sliced(item, first, stride)
                for item, first, stride in zip(y, step.starts, step.steps, strict=True)
            )
        case PadStep():
            return tuple(
                None if item is None else item.moved(-pair[0]) for item, pair in zip(y, step.pads, strict=True)
            )
        case ResizeStep():
            found: list[Reach | None] = []
            for axis, item in enumerate(y[2:]):
                table = _table(step, axis, source[axis + 2])
                span = None if item is None else table.span(item.low, item.high)
                found.append(None if item is None or span is None else item.scaled(*span, table.slope, table.shift))
            return (*y[:2], *found)
        case ConcatStep():
            raise AssertionError("has several inputs")
    raise AssertionError(step)


def _sliced(item: Reach, first: int, stride: int) -> Reach:
    a, b = first + stride * item.low, first + stride * item.high
    return item.scaled(min(a, b), max(a, b), Fraction(stride), Fraction(first))


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


def _digits(item: Reach, sizes: list[int]) -> list[Reach | None]:
    """One axis that is the row-major merge of several: what each of those is asked for."""
    found: list[Reach | None] = []
    inner = math.prod(sizes)
    major = next((n for n, size in enumerate(sizes) if size > 1), 0)
    for number, size in enumerate(sizes):
        inner //= size
        low, high = item.low // inner, item.high // inner
        if number <= major:
            shift = Fraction(1, 2 * inner) - Fraction(1, 2)
            found.append(
                item.scaled(low, high, Fraction(1, inner), shift) if size > 1 or number == major else Reach(0, 0)
            )
        elif high - low + 1 >= size:
            found.append(replace(everything(size), whole=item.whole))
        else:
            a, b = low % size, high % size
            span = (a, b) if a <= b else (0, size - 1)
            mixed = item.origin is not None and not item.whole
            found.append(Reach(*span, whole=frozenset({MIXED}) if mixed and size > 1 else item.whole))
    return found


def _rearrange(step: RearrangeStep, y: Reaches, source: Shape, shape: Shape) -> Reaches:
    wide = [step.split[axis] for axis in step.perm]
    after = group_axes(shape, wide)
    before = group_axes(source, step.split)
    if after is None or before is None:
        return tuple(everything(size, MIXED if size > 1 else "") for size in source)
    parts: list[Reach | None] = []
    for item, group in zip(y, after, strict=True):
        sizes = [wide[n] for n in group]
        if item is None:
            parts.extend([None] * len(group))
        else:
            parts.extend([item] if len(group) == 1 else _digits(item, sizes))
    placed: list[Reach | None] = [None] * len(parts)
    for axis, item in zip(step.perm, parts, strict=True):
        placed[axis] = item
    return tuple(_compose([placed[n] for n in group], [step.split[n] for n in group]) for group in before)


def _compose(items: list[Reach | None], sizes: list[int]) -> Reach | None:
    """The opposite of `_digits`: the axis that is the row-major merge of several."""
    if any(item is None for item in items):
        return None
    low = high = 0
    inner = math.prod(sizes)
    moving: list[tuple[Reach, int]] = []
    still = Fraction(0)
    whole: frozenset[str] = frozenset()
    aligned = True
    for item, size in zip(items, sizes, strict=True):
        assert item is not None
        inner //= size
        low, high = low + item.low * inner, high + item.high * inner
        whole, aligned = whole | item.whole, aligned and item.aligned
        if item.origin is None:
            still += Fraction((item.low + item.high) * inner, 2)
        else:
            moving.append((item, inner))
    if len(moving) != 1:
        return Reach(low, high, aligned=aligned, whole=whole | ({MIXED} if moving else set()))
    item, inner = moving[0]
    return replace(item.scaled(low, high, Fraction(inner), still), whole=whole, aligned=aligned)


def group_axes(shape: Shape, parts: list[int] | Shape) -> list[list[int]] | None:
    """For each axis of ``shape``, the consecutive axes of ``parts`` whose product it is; ``None`` if they overlap."""
    groups: list[list[int]] = [[] for _ in shape]
    axis, product = 0, 1
    for number, size in enumerate(parts):
        while axis < len(shape) - 1 and product == shape[axis] and (size > 1 or groups[axis]):
            if size == 1 and shape[axis + 1] != 1:
                break
            axis, product = axis + 1, 1
        product *= size
        groups[axis].append(number)
    fits = all(math.prod(parts[n] for n in group) == size for size, group in zip(shape, groups, strict=True))
    return groups if fits else None
