"""Open sizes inside of records."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from omniconv.closing import Conditions, Later, close, describe, find_close, list_open, pin
from omniconv.open_size import Formulas, LateOpenSizeError, Opener, OpenSize, Trace, ask
from omniconv.records import dataclass


class Pair(NamedTuple):
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Record:
    size: int
    pair: Pair
    name: str = "word"


def opened(*sizes: int) -> tuple[Trace, list[Any]]:
    trace = Trace(keys=False)
    opener = Opener(trace)
    return trace, [opener.any(size) for size in sizes]


def test_sizes_are_put_in_their_places() -> None:
    _, (h, w) = opened(7, 5)
    formulas, item = Formulas(), (Record(h + 1, Pair(3, h * w)), Pair(1, 2), partial(np.full, w, 2.0))
    inner = find_close(item, formulas)
    assert inner is not None
    record, pair, make = inner(formulas.evaluate([10, 4]))
    assert record == Record(11, Pair(3, 40))
    assert isinstance(record.pair, Pair)
    assert pair is item[1]
    assert make().tolist() == [2.0] * 4
    assert close(item[:2]) == (Record(8, Pair(3, 35)), Pair(1, 2))
    assert find_close(item[1], formulas) is None
    assert len(list_open(item)) == 3


def test_what_comes_later_stays_until_all_is_known() -> None:
    trace, (n,) = opened(3)
    later = Later((n,), np.arange, (n + 2,)).then(lambda array: 2 * array)
    formulas = Formulas()
    inner = find_close(later, formulas)
    assert inner is not None
    assert inner(formulas.evaluate([1])).tolist() == [0, 2, 4]
    again = inner(formulas.open(trace, [2]))
    assert isinstance(again, Later)
    assert isinstance(again.shape[0], OpenSize)
    assert again.ask(lambda array: bool(array.size == 4))
    conditions = Conditions(trace.guards, trace.questions, formulas)
    assert conditions.hold(formulas.evaluate([2]))
    assert not conditions.hold(formulas.evaluate([5]))


def test_questions_are_conditions() -> None:
    trace, (n,) = opened(6)
    assert ask(lambda size, by: size % by == 0, n, 3)
    assert ask(lambda size: size == 4, 4)
    formulas = Formulas()
    conditions = Conditions(trace.guards, trace.questions, formulas)
    assert [conditions.hold(formulas.evaluate([size])) for size in (6, 7, 9)] == [True, False, True]


def test_pinned_sizes_hold_for_no_others() -> None:
    trace, (n,) = opened(6)
    assert pin(Record(n, Pair(0, 1))) == Record(6, Pair(0, 1))
    formulas = Formulas()
    conditions = Conditions(trace.guards, (), formulas)
    assert [conditions.hold(formulas.evaluate([size])) for size in (6, 7)] == [True, False]


def test_equal_for_all_sizes() -> None:
    _, (h, w) = opened(6, 6)
    assert describe((h, w)) == describe((h + 1 - 1, w))
    assert describe((h, w)) != describe((w, h))


def test_what_is_asked_too_late_is_refused() -> None:
    trace, (n,) = opened(6)
    trace.over = True
    array = Later((n,), np.arange, (n,))
    for late in (
        lambda: n + 1,
        lambda: n > 3,
        lambda: int(n),
        lambda: str(n),
        lambda: ask(bool, n),
        lambda: array.T,
        lambda: np.asarray(array, np.int64),
    ):
        with pytest.raises(LateOpenSizeError):
            late()


def test_sizes_of_two_things_do_not_meet() -> None:
    (_, (a,)), (_, (b,)) = opened(6), opened(6)
    with pytest.raises(TypeError, match="opened for different things"):
        a + b
