"""Integers of 8 and 32 bits, against real arithmetic in float64."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.quantization.scales import (
    find_affine,
    find_largest_sum,
    find_least_scales,
    quantize_bias,
    quantize_weights,
)

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("limits", [(-1.0, 2.0), (0.0, 6.0), (-3.0, 0.0), (0.2, 0.9), (-5e-30, 1e-30), (-1e38, 1e38)])
def test_zero_is_exact_and_every_value_at_most_half_a_step_off(limits):
    found = find_affine(*limits)
    assert 0 <= found.zero <= 255
    assert np.float32(found.scale) == found.scale
    x = np.linspace(max(min(limits[0], 0), found.low), min(max(limits[1], 0), found.high), 1001).astype(np.float32)
    back = found.scale * (found.round(x).astype(np.float64) - found.zero)
    assert np.abs(back - x).max() <= found.scale * (0.5 + 2.0**-14)
    assert found.round(np.zeros(1))[0] == found.zero
    # The ends are at most half a step away, which is what rounding the zero point costs.
    assert found.low <= min(limits[0], 0) + 0.51 * found.scale
    assert found.high >= max(limits[1], 0) - 0.51 * found.scale


def test_nothing_above_a_clip_is_represented():
    for high in np.float32(RNG.uniform(0.1, 10, 200)):
        found = find_affine(0.0, float(high))
        assert found.high <= high
        assert found.high == pytest.approx(high, rel=1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_weights_keep_their_largest_and_miss_by_half_a_step(axis, reduce_range):
    w = RNG.standard_normal((6, 5, 3)).astype(np.float32) * np.arange(1, 6, dtype=np.float32)[:, None]
    w[:, 2] = 0
    w[3] = 0
    code = quantize_weights(w, axis, reduce_range=reduce_range)
    largest = 63 if reduce_range else 127
    assert np.abs(code.integers).max() == largest
    assert np.abs(code.floats.astype(np.float64) - w).max(initial=0) <= 0.5001 * code.scales.max()
    assert (np.abs(code.floats - w) <= 0.5001 * code.wide).all()
    assert (code.scales > 0).all()
    if axis is not None:
        tops = np.abs(code.integers).max(axis=tuple(n for n in range(3) if n != axis))
        assert set(tops) == {0, largest}


def test_weights_of_zeros_have_a_scale():
    code = quantize_weights(np.zeros((2, 3), np.float32), 0)
    assert code.scales.tolist() == [1, 1]
    assert not code.integers.any()


def test_a_large_bias_widens_the_scale_of_its_channel_alone():
    w = np.full((2, 4), 1e-6, np.float32)
    bias = np.array([1e-4, 1.0], np.float32)
    assert quantize_bias(bias, 1e-4, quantize_weights(w, 0).scales) is None
    code = quantize_weights(w, 0, least=find_least_scales(bias, 1e-4))
    found = quantize_bias(bias, 1e-4, code.scales)
    assert found is not None
    integers, scales = found
    assert integers.dtype == np.int32
    assert code.scales[0] == np.float32(1e-6 / 127)
    assert np.abs(integers * scales.astype(np.float64) - bias).max() <= 0.5 * scales.max()
    assert abs(int(integers[1])) <= 2**30 + 128


def test_scales_whose_product_is_no_float_are_refused():
    assert quantize_bias(np.ones(1, np.float32), 1e-30, np.array([1e-30], np.float32)) is None


def test_the_largest_sum_is_that_of_the_worst_input():
    w = RNG.integers(-127, 128, (3, 2, 3)).astype(np.int8)
    bias = np.array([1000, -20, 0], np.int32)
    for zero in (0, 100, 255):
        worst = 0
        for channel, summand in zip(w.astype(np.int64), bias, strict=True):
            for positive in (0, 255):
                q = np.where(channel > 0, positive, 255 - positive)
                for total in ((channel * (q - zero)).sum(), (channel * q).sum()):
                    worst = max(worst, abs(int(total)), abs(int(total) + int(summand)))
        assert find_largest_sum(w, (1, 2), zero, bias) >= worst
        assert find_largest_sum(w, (1, 2), zero, None) <= find_largest_sum(w, (1, 2), zero, bias)
    assert find_largest_sum(np.full((1, 66000), 127, np.int8), (1,), 0, None) == 127 * 255 * 66000
