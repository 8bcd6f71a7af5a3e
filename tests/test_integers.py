from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from omniconv.errors import DataError, ShapeError, SpecError
from omniconv.integers import LIMIT, as_flag, as_integer, as_integers, as_shape


def _torch(value: Any) -> Any:
    return pytest.importorskip("torch").tensor(value)


class Index:
    """An integer of a library nobody has heard of."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


@pytest.mark.parametrize(
    "make", [int, np.int8, np.int32, np.int64, np.uint16, np.uint64, np.array, Index, _torch], ids=lambda m: m.__name__
)
def test_whatever_has_an_index_is_an_integer(make: Callable[[int], Any]) -> None:
    found = as_integer("n", make(5))
    assert type(found) is int
    assert found == 5
    shape = as_shape((1, make(3), make(7)))
    assert shape == (1, 3, 7)
    assert {type(size) for size in shape} == {int}


@pytest.mark.parametrize(
    "value",
    [True, np.True_, np.array(True), 3.0, np.float32(3), np.array(3.0), "3", None, (3,), np.array([3])],
    ids=repr,
)
def test_what_is_no_integer(value: object) -> None:
    with pytest.raises(SpecError, match=r"^n=.* is not an integer; need an integer from 2 to 9, e\.g\. 4 \| here$"):
        as_integer("n", value, 2, 9, fix="4", at="here")
    with pytest.raises(ShapeError, match=r"^shape=.* is not made of integers; need \(N, C, \*spatial\)$"):
        as_shape((1, value, 2))


@pytest.mark.parametrize("value", ["torch.tensor(True)", "torch.tensor(3.0)", "torch.tensor([3])"])
def test_tensors_that_are_no_integers(value: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(SpecError, match="is not an integer"):
        as_integer("n", eval(value, {"torch": torch}))


def test_ranges() -> None:
    assert as_integer("n", LIMIT) == LIMIT
    with pytest.raises(DataError, match=r"^n=1 is out of range; need an integer from 2 to 9$"):
        as_integer("n", np.int64(1), 2, 9, error=DataError)
    with pytest.raises(SpecError, match=r"^n=0 is out of range; need an integer of at least 1$"):
        as_integer("n", 0, high=None)
    with pytest.raises(ShapeError, match=r"^shape=\(1, 0\) has an empty, negative or absurd axis; need sizes"):
        as_shape(np.array([1, 0]))


@pytest.mark.parametrize("make", [tuple, list, np.array, _torch, iter], ids=lambda m: m.__name__)
def test_sequences(make: Callable[[list[int]], Any]) -> None:
    found = as_integers("rates", make([1, 2, 5]))
    assert found == (1, 2, 5)
    assert {type(item) for item in found} == {int}


def test_sizes_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    assert as_shape(torch.Size([1, 2, 3])) == (1, 2, 3)
    assert type(as_shape(torch.Size([1, 2, 3]))) is tuple


@pytest.mark.parametrize("value", ["123", b"123", {1: 2}, {1, 2}, 3, None, np.array(3), 2.5], ids=repr)
def test_what_is_no_sequence(value: object) -> None:
    with pytest.raises(SpecError, match=r"^rates=.* is not a sequence of integers; need rates$"):
        as_integers("rates", value, need="rates")


def test_messages_do_not_print_whole_arrays() -> None:
    with pytest.raises(ShapeError, match=r"^shape is ndarray of shape \(1, 3, 8, 8\); need \(N, C, "):
        as_shape(np.zeros((1, 3, 8, 8)))
    with pytest.raises(SpecError) as caught:
        as_integers("rates", [1.5] * 1000)
    assert len(str(caught.value)) < 200


def test_truth_values() -> None:
    assert as_flag("flip", np.True_) is True
    assert as_flag("flip", np.array(False)) is False
    for value in (1, "no", None, np.array([True]), 0.0):
        with pytest.raises(SpecError, match=r"^flip=.* is not a truth value; need True or False$"):
            as_flag("flip", value)
