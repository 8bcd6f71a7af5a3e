"""Strides, views and the memory plan, against NumPy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machines import V3

from omniconv.compiler.memory.layout import channels_last, plan_pitch, row_major
from omniconv.compiler.memory.storage import (
    Buffer,
    common_split,
    merge_axes,
    permutation_of,
    plan_arena,
    reshape_strides,
    take_channels,
)
from omniconv.program.element import ELEMENTS, Element

SIZES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)


@given(SIZES, st.data())
def test_reshape_strides_agrees_with_numpy(sizes: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    array = np.arange(math.prod(sizes)).reshape([sizes[axis] for axis in order]).transpose(np.argsort(order))
    flat = data.draw(st.permutations([size for size in sizes if size > 1] or [1]))
    shape = tuple(flat)
    view = array.view()
    strides = tuple(stride // array.itemsize for stride in array.strides)
    found = reshape_strides(array.shape, strides, shape)
    try:
        view.shape = shape
    except AttributeError:
        assert found is None
    else:
        assert found is not None
        expected = np.lib.stride_tricks.as_strided(array, shape, [stride * array.itemsize for stride in found])
        assert np.array_equal(expected, view)


@pytest.mark.parametrize(
    ("a", "b", "split"),
    [
        ((2, 12), (24,), (2, 12)),
        ((2, 12), (2, 3, 4), (2, 3, 4)),
        ((4, 3), (2, 6), (2, 2, 3)),
        ((4, 3), (3, 4), None),
        ((1, 5, 1), (5,), (5,)),
    ],
)
def test_common_split(a: tuple[int, ...], b: tuple[int, ...], split: tuple[int, ...] | None) -> None:
    assert common_split(a, b) == split


def test_merge_axes_needs_gapless_strides() -> None:
    assert merge_axes((2, 3, 4), (12, 4, 1), (24, 8, 2)) == (24, (1, 2))
    assert merge_axes((2, 3, 4), (16, 4, 1)) is None
    assert merge_axes((1, 1), (7, 9)) == (1, (0,))


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_arena_buffers_that_live_together_do_not_overlap(items: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer("arena", size, first=min(a, b), last=max(a, b)) for size, a, b in items]
    offsets, total = plan_arena(buffers)
    spans = [set(range(offset, offset + buffer.size)) for offset, buffer in zip(offsets, buffers, strict=True)]
    for i, one in enumerate(buffers):
        assert offsets[i] % 64 == 0
        assert offsets[i] + one.size <= total
        for j in range(i):
            if one.first <= buffers[j].last and buffers[j].first <= one.last:
                assert not spans[i] & spans[j]


def test_a_buffer_is_reused_once_it_is_dead() -> None:
    first, second = Buffer("arena", 1000, first=0, last=1), Buffer("arena", 1000, first=2, last=3)
    assert plan_arena([first, second])[1] == plan_arena([first])[1]


@pytest.mark.parametrize("element", ELEMENTS.values(), ids=str)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_pitch_is_whole_vectors_and_never_a_multiple_of_one_kib(lanes: int, element: Element) -> None:
    target = replace(V3, lanes=lanes).of(element)
    assert target.lanes * element.bytes == 4 * lanes
    for channels in range(1, 1100):
        pitch = plan_pitch(channels, target)
        assert pitch >= channels
        assert pitch % target.lanes == 0
        assert pitch * element.bytes % 1024 != 0


def test_layouts_match_numpy() -> None:
    shape = (2, 5, 3, 4)
    array = np.zeros((2, 3, 4, 7), np.float32)[..., :5].transpose(0, 3, 1, 2)
    assert channels_last(shape, 7).strides == tuple(stride // 4 for stride in array.strides)
    assert row_major(shape).strides == tuple(stride // 4 for stride in np.zeros(shape, np.float32).strides)


def test_channel_views_compose() -> None:
    layout = channels_last((1, 6, 2, 2), 16)
    shuffled, offset = take_channels(layout, [0, 3, 1, 4, 2, 5])
    assert (shuffled.channels, offset) == ((0, 3, 1, 4, 2, 5), 0)
    order = permutation_of(shuffled)
    assert order is not None
    assert order.tolist() == [0, 2, 4, 1, 3, 5]
    half, _ = take_channels(shuffled, [0, 1, 2])
    assert half.channels == (0, 3, 1)
    assert permutation_of(half) is None
    back, offset = take_channels(shuffled, [1, 3])
    assert (back.channels, offset) == (None, 3)
