"""Operators that Omniconv computes in NumPy itself, folded and on the host: against loops over every entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import ModelError, ShapeError
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import Node
from omniconv.graph.operator import OPERATORS

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning")


def run(op: str, *arrays: Any, count: int = 1, opset: int = 18, **attributes: Any) -> list[np.ndarray]:
    """The outputs of one node whose inputs are all given at run time."""
    g = Graph(opset)
    given = {f"i{index}": np.asarray(array) for index, array in enumerate(arrays) if array is not None}
    names = []
    for index, array in enumerate(arrays):
        name = f"i{index}" if array is not None else ""
        names.append(name)
        if name:
            g.input(name, *given[name].shape, dtype=helper.np_dtype_to_tensor_dtype(given[name].dtype))
    found = g.node(op, *names, name="y", count=count, **attributes)
    outputs = [found] if count == 1 else found
    model = g.model(*outputs)
    for info in model.graph.output:
        info.type.tensor_type.elem_type = 0
    wide = np.dtype(np.float64) in {array.dtype for array in given.values()}
    results = oc.compile(model, dtype="float64" if wide else "float32").run(given)
    return [results[name] for name in outputs]


def places(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    yield from np.ndindex(shape)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "int32"])
@pytest.mark.parametrize(
    ("shape", "axis", "k"),
    [((3, 40), -1, 5), ((40, 3), 0, 5), ((2, 9, 4), 1, 9), ((30,), 0, 1), ((2, 50), 1, 0), ((4, 64), -1, 15)],
)
def test_the_best_come_in_order_and_of_equals_the_first(
    shape: tuple[int, ...], axis: int, k: int, dtype: str, largest: int
) -> None:
    x = np.random.default_rng(k).integers(0, 7, shape).astype(dtype)
    values, at = run("TopK", x, np.array([k]), count=2, axis=axis, largest=largest)
    moved = np.moveaxis(x, axis, -1)
    got, where = np.moveaxis(values, axis, -1), np.moveaxis(at, axis, -1)
    assert values.dtype == x.dtype
    assert at.dtype == np.int64
    for place in places(moved.shape[:-1]):
        row = moved[place].tolist()
        order = sorted(range(len(row)), key=lambda index: (-row[index] if largest else row[index], index))[:k]
        assert where[place].tolist() == order
        assert got[place].tolist() == [row[index] for index in order]


@pytest.mark.parametrize("largest", [0, 1])
def test_not_a_number_is_the_largest(largest: int) -> None:
    x = np.float32([[3, np.nan, -np.inf, np.inf, 0, -0.0, 7, np.nan] + [1] * 20])
    _, at = run("TopK", x, np.array([4]), count=2, largest=largest)
    assert at.tolist() == ([[1, 7, 3, 6]] if largest else [[2, 4, 5, 8]])


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "int64"])
@pytest.mark.parametrize("values", ["different", "few", "extreme"])
@pytest.mark.parametrize(("rows", "length", "k"), [(1, 8732, 10), (7, 1003, 100), (3, 81, 10), (5, 33, 1)])
def test_the_best_of_long_rows(rows: int, length: int, k: int, values: str, dtype: str, largest: int) -> None:
    """Among few values most entries equal the last that is wanted; the extremes of a type have no negative of it."""
    rng = np.random.default_rng(length)
    info = np.finfo(dtype) if dtype == "float32" else np.iinfo(dtype)
    ends = np.array([info.min, info.max], dtype)
    x = {
        "different": rng.permutation(rows * length).astype(dtype).reshape(rows, length),
        "few": rng.integers(0, 3, (rows, length)).astype(dtype),
        "extreme": np.full((rows, length), ends[1 - largest]),
    }[values]
    x[:, -1], x[:, 5] = ends
    found, at = run("TopK", x, np.array([k]), count=2, largest=largest)
    order = np.lexsort((np.broadcast_to(np.arange(length), x.shape), x.astype(object) * (1 - 2 * largest)), -1)[:, :k]
    assert at.tolist() == order.tolist()
    assert np.array_equal(found, np.take_along_axis(x, order, -1))


@pytest.mark.parametrize("place", [0, 700, 1002])
@pytest.mark.parametrize("largest", [0, 1])
def test_not_a_number_is_found_in_every_part_of_a_row(place: int, largest: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 1003)).astype(np.float32)
    x[1, place] = np.nan
    _, at = run("TopK", x, np.array([9]), count=2, largest=largest)
    numbers = np.where(np.isnan(x), np.inf, x)
    assert at.tolist() == np.argsort(-numbers if largest else numbers, -1, kind="stable")[:, :9].tolist()


@pytest.mark.parametrize(("shape", "k"), [((3, 0), 0), ((3, 4), 0), ((0, 4), 2)])
def test_top_of_nothing(shape: tuple[int, int], k: int) -> None:
    for axis, form in ((1, shape), (0, shape[::-1])):
        node = Node("TopK", "", "", ("x", "k"), ("values", "places"), {"axis": axis}, 11)
        arrays = (np.zeros(form, np.float32), np.array([k]))
        values, at = fold_node(OPERATORS["", "TopK"].fold, node, arrays, Budget(1 << 20))
        assert values.shape == at.shape == ((form[0], k) if axis else (k, form[1]))
        assert (values.dtype, at.dtype) == (np.float32, np.int64)


def test_more_than_there_are_is_refused() -> None:
    for k in (6, -1, 2**62):
        with pytest.raises((ModelError, ShapeError), match="TopK"):
            run("TopK", np.zeros((2, 5), np.float32), np.array([k]), count=2)


def suppress(boxes: np.ndarray, scores: np.ndarray, most: int, overlap: float, least: float, center: int) -> list[Any]:
    """The definition, box by box."""
    found: list[Any] = []
    for batch, kind in places(scores.shape[:2]):
        row = scores[batch, kind]
        kept: list[int] = []
        for index in sorted((i for i in range(len(row)) if row[i] > least), key=lambda i: (-row[i], i)):
            if len(kept) < most and all(share(boxes[batch, index], boxes[batch, k], center) <= overlap for k in kept):
                kept.append(index)
        found += [[batch, kind, index] for index in kept]
    return found


def share(a: np.ndarray, b: np.ndarray, center: int) -> float:
    sides = []
    for low in (0, 1):
        pairs = []
        for box in (a, b):
            ends = (box[low] - box[low + 2] / 2, box[low] + box[low + 2] / 2) if center else (box[low], box[low + 2])
            pairs.append((min(ends), max(ends)))
        sides.append((max(min(p[1] for p in pairs) - max(p[0] for p in pairs), 0), [p[1] - p[0] for p in pairs]))
    both = sides[0][0] * sides[1][0]
    union = sum(sides[0][1][i] * sides[1][1][i] for i in (0, 1)) - both
    return both / union if both > 0 else 0.0


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize(("count", "most"), [(1, 5), (40, 7), (200, 1000), (150, 66)])
def test_boxes_that_overlap_a_better_one_are_dropped(count: int, most: int, center: int) -> None:
    """Corners and sizes are small integers, so that nothing is rounded but the quotient."""
    rng = np.random.default_rng(count)
    boxes = np.concatenate([rng.integers(0, 40, (2, count, 2)), rng.integers(1, 12, (2, count, 2)) * 2], 2)
    if not center:
        boxes[..., 2:] += boxes[..., :2]
        boxes[:, ::3] = boxes[:, ::3][..., [2, 1, 0, 3]]  # corners may come in any order
    scores = rng.integers(-4, 9, (2, 3, count)) / 4
    given = [boxes.astype(np.float32), scores.astype(np.float32)]
    numbers = [np.array([most]), np.float32([0.3]), np.float32([0.2])]
    [got] = run("NonMaxSuppression", *given, *numbers, center_point_box=center)
    assert got.tolist() == suppress(*given, most, 0.3, 0.2, center)


@pytest.mark.parametrize(("room", "most"), [(300, 500), (300, 300), (60, 500)])
def test_many_boxes_stay_or_go(room: int, most: int) -> None:
    """More boxes than are compared at once, both of those that stay and of those that a better one covers."""
    rng = np.random.default_rng(room)
    corners = rng.integers(0, room, (1, 500, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, (1, 500, 2)) * 2], 2).astype(np.float32)
    scores = rng.integers(0, 99, (1, 1, 500)).astype(np.float32)
    [got] = run("NonMaxSuppression", boxes, scores, np.array([most]), np.float32([0.3]), np.float32([9.5]))
    assert got.tolist() == suppress(boxes, scores, most, 0.3, 9.5, 0)


def test_bounds_of_boxes_may_be_left_out() -> None:
    boxes, scores = np.float32([[[0, 0, 1, 1], [2, 2, 3, 3]]]), np.float32([[[-1, -2]]])
    assert run("NonMaxSuppression", boxes, scores)[0].shape == (0, 3)
    assert run("NonMaxSuppression", boxes, scores, np.array([5]))[0].tolist() == [[0, 0, 0], [0, 0, 1]]
    with pytest.raises(ModelError, match="need 0 to 1"):
        run("NonMaxSuppression", boxes, scores, np.array([5]), np.float32([-0.5]))
    with pytest.raises(ModelError, match="boxes of shape"):
        run("NonMaxSuppression", boxes, scores[..., :1], np.array([5]))


COMBINE: dict[str, Any] = {
    "none": lambda _old, new: new,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": max,
    "min": min,
}


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("reduction", COMBINE)
@pytest.mark.parametrize("repeated", [False, True])
def test_entries_are_replaced_or_combined(reduction: str, dtype: str, repeated: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (3, 6, 2)).astype(dtype)
    at = rng.integers(-6, 6, (2, 4, 2)) if repeated else np.argsort(rng.random((2, 6, 2)), 1)[:, :4]
    updates = rng.integers(-4, 5, at.shape).astype(dtype)
    want = x.copy()
    for place in places(at.shape):
        target = (place[0], at[place], place[2])
        want[target] = COMBINE[reduction](want[target], updates[place])
    [got] = run("ScatterElements", x, at, updates, axis=1, reduction=reduction)
    np.testing.assert_array_equal(got, want)

    pairs = rng.integers(-3, 3, (5, 2)) if repeated else np.array([[0, 1], [2, 5], [-1, 0], [1, 1], [0, -1]])
    rows = rng.integers(-4, 5, (5, 2)).astype(dtype)
    want = x.copy()
    for pair, row in zip(pairs, rows, strict=True):
        for index, value in enumerate(row):
            want[pair[0], pair[1], index] = COMBINE[reduction](want[pair[0], pair[1], index], value)
    np.testing.assert_array_equal(run("ScatterND", x, pairs, rows, reduction=reduction)[0], want)


def test_what_cannot_be_scattered_is_refused() -> None:
    x, at = np.zeros((2, 3), np.float32), np.zeros((1, 3), np.int64)
    with pytest.raises(ModelError, match="updates of shape"):
        run("ScatterElements", x, at, np.zeros((1, 2), np.float32))
    with pytest.raises(ModelError, match="reduction='mean'"):
        run("ScatterElements", x, at, np.zeros((1, 3), np.float32), reduction="mean")


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("op", "best"), [("ArgMax", max), ("ArgMin", min)])
def test_where_the_extreme_is(op: str, best: Any, last: int) -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 9, 3)).astype(np.float32)
    [got] = run(op, x, axis=1, select_last_index=last)
    assert got.shape == (2, 1, 3)
    for a, _, b in places(got.shape):
        row = x[a, :, b].tolist()
        assert got[a, 0, b] == (8 - row[::-1].index(best(row)) if last else row.index(best(row)))
    assert run(op, x, axis=-2, keepdims=0)[0].shape == (2, 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_is_on(axis: int) -> None:
    indices = np.array([[0, 4, -1], [-5, 5, -6]])
    [got] = run("OneHot", indices, np.array(5), np.float32([2, 7]), axis=axis)
    got = np.moveaxis(got, axis, -1)
    for place in places(indices.shape):
        on = indices[place] + 5 * (indices[place] < 0)
        assert got[place].tolist() == [7 if on == index else 2 for index in range(5)]


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3, 4, 2), (7,), ()])
def test_what_is_not_zero(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    flat = np.atleast_1d(x)
    assert run("NonZero", x)[0].T.tolist() == [list(place) for place in places(flat.shape) if flat[place]]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("form", ["tensor", "axis", "block"])
def test_numbers_are_quantised(dtype: str, form: str) -> None:
    rng = np.random.default_rng(0)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = rng.integers(2 * low - 9, 2 * high + 9, (2, 6, 3)).astype(np.float32) / 8
    x[0, 0] = [np.inf, -np.inf, np.nan]
    x[1, 0] = [1e30, -1e30, 0]
    shape = {"tensor": (), "axis": (6,), "block": (2, 3, 3)}[form]
    scale, zero = np.exp2(rng.integers(-2, 2, shape)).astype(np.float32), rng.integers(low, high, shape).astype(dtype)
    extra = {"opset": 21, "block_size": 2} if form == "block" else {"opset": 21 if dtype.endswith("16") else 13}
    [got] = run("QuantizeLinear", x, scale, zero, axis=1, **extra)
    for place in places(x.shape):
        spot = {"tensor": (), "axis": (place[1],), "block": (place[0], place[1] // 2, place[2])}[form]
        value = float(x[place]) / float(scale[spot])
        value = low if np.isnan(value) else value if np.isinf(value) else round(value) + int(zero[spot])
        assert got[place] == min(max(value, low), high)
    [back] = run("DequantizeLinear", got, scale, zero, axis=1, **extra)
    for place in places(x.shape):
        spot = {"tensor": (), "axis": (place[1],), "block": (place[0], place[1] // 2, place[2])}[form]
        assert back[place] == (int(got[place]) - int(zero[spot])) * float(scale[spot])


def test_wide_integers_are_subtracted_exactly() -> None:
    x = np.int32([2**31 - 1, -(2**31), 16777217])
    np.testing.assert_array_equal(run("DequantizeLinear", x, np.float32(1))[0], x.astype(np.float32))
    with pytest.raises(ModelError, match="one for each entry of the axis"):
        run("QuantizeLinear", np.zeros((2, 3), np.float32), np.ones(2, np.float32), np.zeros(2, np.uint8), axis=1)


def test_they_are_folded_as_well() -> None:
    g = Graph()
    values, _ = g.node("TopK", g.const([3.0, 1.0, 2.0]), g.ints(2), count=2)
    g.node("Mul", g.input("x", 2), values, name="y")
    net = oc.compile(g.model("y"), strict=True)
    np.testing.assert_array_equal(net(np.float32([1, 1])), [3, 2])
