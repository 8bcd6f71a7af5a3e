"""Backwards through a form with boxes of positions: what a box of a result demands of the value it is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import assert_never

import numpy as np

from omniconv.analysis.hull import Reach, at, everything, through_taps
from omniconv.analysis.regrouping import regroup
from omniconv.analysis.resampling import Resampling, read_table
from omniconv.analysis.runs import Runs, clip, join, read, scale
from omniconv.analysis.terms import Box
from omniconv.program.dependence import (
    Blocks,
    Broadcast,
    Everything,
    Form,
    Pad,
    Place,
    Product,
    Regroup,
    Resample,
    Scale,
    Slice,
    Take,
    Window,
)

Move = Callable[[Reach], "Reach | None"]


class Nothing(Enum):
    """Why a box demands nothing of a value. An empty box is no such case: it is all of a value without axes."""

    HOLE = "a hole is all there is"
    ELSEWHERE = "all of it is another operand's"


def back(form: Form, y: Box, label: str) -> Box | Nothing:
    """What a box demands through one form, as if space had no end; batch and channels end where they end."""
    match form:
        case Window():
            return _on(y, form.axis, lambda item: _taps(form, item))
        case Product():
            box: Box | Nothing = _on(y, form.blocks.axis, lambda item: _block(form.blocks, item, label))
            for window in form.windows:
                if not isinstance(box, Nothing):
                    box = back(window, box, label)
            return box
        case Blocks():
            return _on(y, form.axis, lambda item: _block(form, item, label))
        case Resample():
            return _on(y, form.axis, lambda item: _resampled(form, item))
        case Take():
            return _on(y, form.axis, lambda item: _taken(form, item))
        case Slice():
            start, step = form.start, form.step
            return _on(
                y, form.axis, lambda item: item.scaled(scale(item.runs, step, start), Fraction(step), Fraction(start))
            )
        case Pad():
            return _on(y, form.axis, lambda item: _padded(form, item))
        case Place():
            return _placed(form, y)
        case Regroup():
            return regroup(form, y)
        case Broadcast():
            extra = len(form.shape) - len(form.source)
            return tuple(
                at(0, 0, item.whole) if size == 1 < wide else item
                for size, wide, item in zip(form.source, form.shape[extra:], y[extra:], strict=True)
            )
        case Scale():
            return y
        case Everything():
            return tuple(everything(size, _name(form.why, label, size)) for size in form.source)
    assert_never(form)


def _on(y: Box, axis: int, move: Move) -> Box | Nothing:
    """One axis of a box moved."""
    item = move(y[axis])
    if item is y[axis]:
        return y
    return Nothing.HOLE if item is None else (*y[:axis], item, *y[axis + 1 :])


def _name(why: str, label: str, size: int) -> str:
    """Why a whole axis is read, where it is worth a word."""
    return f"{why} {label!r}" if why and size > 1 else ""


def _inside(runs: Runs, size: int) -> Reach | None:
    """Positions of an axis that ends where it ends, such as that of the channels."""
    inside = clip(runs, size)
    return Reach(inside) if inside else None


def _taps(form: Window, item: Reach) -> Reach | None:
    return through_taps(item, form.taps) if form.axis > 1 else _inside(read(item.runs, form.taps), form.size)


def _block(form: Blocks, item: Reach, label: str) -> Reach | None:
    if form.why:
        return everything(form.inputs, _name(form.why, label, form.inputs))
    narrow, wide = form.outputs // form.groups, form.inputs // form.groups
    groups = join((first // narrow, last // narrow) for first, last in item.runs)
    return _inside(tuple((first * wide, last * wide + wide - 1) for first, last in groups), form.inputs)


def _taken(form: Take, item: Reach) -> Reach | None:
    taken = np.zeros(form.size + 2, bool)
    for first, last in item.runs:
        taken[form.index[first : last + 1] + 1] = True
    edges = np.flatnonzero(taken[1:] != taken[:-1]).reshape(-1, 2)
    return Reach(tuple((int(first), int(after) - 1) for first, after in edges))


def _padded(form: Pad, item: Reach) -> Reach | None:
    if form.axis > 1:
        return item.moved(-form.before)
    return _inside(item.moved(-form.before).runs, form.size) if form.constant else everything(form.size)


def _placed(form: Place, y: Box) -> Box | Nothing:
    """The share of one operand of a concatenation."""
    item = y[form.axis].moved(-form.first)
    runs = clip(item.runs, form.size)
    if not runs:
        return Nothing.ELSEWHERE
    exact = item.exact and (form.axis < 2 or not item.moves)  # along space, the operand depends on the position
    return (*y[: form.axis], replace(item, runs=runs, exact=exact), *y[form.axis + 1 :])


def _resampled(form: Resample, item: Reach) -> Reach | None:
    table = _read(_Key(form))
    found = item.scaled(table.read(((item.low, item.high),) if item.whole else item.runs), table.slope, table.shift)
    return found if found is None or table.regular or not item.moves else replace(found, exact=False)


class _Key:
    """The tables of a resampling by identity, so that they are read once."""

    def __init__(self, form: Resample) -> None:
        self.form = form

    def __hash__(self) -> int:
        return hash((id(self.form.index), id(self.form.weight), self.form.size))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Key)
            and other.form.index is self.form.index
            and other.form.weight is self.form.weight
            and other.form.size == self.form.size
        )


@lru_cache(maxsize=256)
def _read(key: _Key) -> Resampling:
    return read_table(np.asarray(key.form.index), np.asarray(key.form.weight), key.form.size)
