"""Tables of one axis against exact arithmetic, and against what PyTorch interpolates."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from omniconv.program.sampling import COORDINATES, NEAREST, UNNAMED, Sampling, plan_axis, scaled_size

SCALES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.2, 1.7, 2.0, 3.0, 3.3)
SIZES = (*range(1, 13), 17, 20, 31, 40)


def f32(value: Fraction | float) -> Fraction:
    """The nearest float32."""
    return Fraction(float(np.float32(float(value))))


def coordinate(rule: str, o: int, n: int, m: int, s: Fraction, rounding) -> Fraction:
    """The input coordinate of output ``o``, each operation rounded by ``rounding``."""
    r, half = rounding, Fraction(1, 2)
    if s == 1:
        return Fraction(o)
    if rule == "align_corners":
        return r(r(Fraction(o * (n - 1))) / (m - 1)) if m > 1 else Fraction(0)
    if rule == "asymmetric":
        return r(o / s)
    if rule == "tf_half_pixel_for_nn":
        return r((o + half) / s)
    if rule == "half_pixel_symmetric":
        shift = r(Fraction(n, 2) * r(1 - r(m / r(s * n))))
        return r(shift + (o + half) / s - half)
    if rule == "pytorch_half_pixel" and m == 1:
        return Fraction(0)
    return r(r((o + half) / s) - half)


def nearest(rule: str, x: Fraction, s: Fraction) -> int:
    """The position taken for coordinate ``x``: what is within 1e-6 of halfway counts as halfway."""
    if rule in ("floor", "ceil"):
        return math.floor(x) if rule == "floor" else math.ceil(x)
    if rule == UNNAMED:
        return math.ceil(x) if s < 1 else math.floor(x)
    below, past = math.floor(x), x - math.floor(x) - Fraction(1, 2)
    if abs(past) <= Fraction(1, 10**6):
        return below + (rule == "round_prefer_ceil")
    return below + (past > 0)


def cases(sizes: tuple[int, ...]):
    """(n, m, s as the table takes it, s exactly)."""
    for n, scale in itertools.product(sizes, SCALES):
        if m := scaled_size(n, scale):
            yield n, m, float(np.float32(scale)), f32(scale)
            yield n, m, None, Fraction(m, n)


@pytest.mark.parametrize(
    "sizes", [SIZES[:-3], pytest.param(SIZES[-3:], marks=pytest.mark.wide)], ids=["small", "large"]
)
@pytest.mark.parametrize("rule", [*NEAREST, UNNAMED])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest_is_decided_in_float32(coordinates: str, rule: str, sizes: tuple[int, ...]) -> None:
    how = Sampling("nearest", coordinates, rule, single=True)
    for n, m, scale, exact in cases(sizes):
        s = f32(exact)
        want = [min(max(nearest(rule, coordinate(coordinates, o, n, m, s, f32), s), 0), n - 1) for o in range(m)]
        index, weight = plan_axis(how, n, m, scale)
        assert index.tolist() == [want], (n, m, scale)
        assert weight.tolist() == [[1.0] * m]


def kernel(mode: str, t: Fraction, a: Fraction) -> Fraction:
    t = abs(t)
    if mode == "linear":
        return max(1 - t, Fraction(0))
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else Fraction(0)


def weights(how: Sampling, n: int, x: Fraction, s: Fraction) -> list[Fraction]:
    """The exact weight of every input."""
    squeeze = min(s, Fraction(1)) if how.antialias else Fraction(1)
    reach = math.ceil(2 / squeeze) + 1
    found = [Fraction(0)] * n
    for position in range(math.floor(x) - reach, math.floor(x) + reach + 1):
        if how.exclude_outside and not 0 <= position < n:
            continue
        found[min(max(position, 0), n - 1)] += kernel(how.mode, (position - x) * squeeze, Fraction(how.cubic_a))
    total = sum(found) if how.exclude_outside or how.antialias else Fraction(1)
    return [weight / total for weight in found]


@pytest.mark.parametrize("sizes", [(1, 2, 3, 5, 8), pytest.param((13,), marks=pytest.mark.wide)], ids=str)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_weights_are_exact(coordinates: str, mode: str, exclude: bool, antialias: bool, sizes: tuple[int, ...]) -> None:
    how = Sampling(mode, coordinates, cubic_a=-0.5, exclude_outside=exclude, antialias=antialias)
    for n, m, scale, s in cases(sizes):
        index, weight = plan_axis(how, n, m, scale)
        got = np.zeros((n, m))
        for row, factors in zip(index, weight, strict=True):
            np.add.at(got, (row, np.arange(m)), factors.astype(np.float64))
        for o in range(m):
            copied = antialias and n == m
            x = Fraction(o) if copied else coordinate(coordinates, o, n, m, s, lambda value: value)
            want = [float(item) for item in weights(how, n, x, s)]
            assert np.abs(got[:, o] - want).max() <= 2.0**-24 * len(weight) * np.abs(weight).max(), (n, m, scale, o)


def test_sizes_are_float32_products() -> None:
    assert [scaled_size(10, scale) for scale in (0.7, 0.3, 0.6, 0.1, 1.1, 3.3)] == [7, 3, 6, 1, 11, 33]
    assert [scaled_size(5, 0.5), scaled_size(5, 0.5, rounded=True)] == [2, 3]


def test_halfway_that_float32_misses_counts_as_halfway() -> None:
    how = Sampling("nearest", "half_pixel", "round_prefer_ceil", single=True)
    assert plan_axis(how, 20, 6)[0].tolist() == [[1, 5, 8, 11, 15, 18]]


def test_nearest_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    compared = 0
    # Of usual scales, 0.3, 0.6 and 1.2 are left out: PyTorch multiplies by 1 / s there, the runtimes divide by s.
    for n, scale in itertools.product(range(1, 41), (0.5, 0.7, 0.75, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.0, 2.5, 3.0, 3.3)):
        m = scaled_size(n, scale)
        if m in (0, n):
            continue
        x = torch.arange(n, dtype=torch.float32)[None, None]
        want = torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")[0, 0].tolist()
        assert plan_axis(Sampling(single=True), n, m, float(np.float32(scale)))[0][0].tolist() == want, (n, scale)
        compared += 1
    assert compared > 400


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("corners", [False, True])
def test_interpolation_is_that_of_pytorch(mode: str, corners: bool) -> None:
    torch = pytest.importorskip("torch")
    how = Sampling(mode, "align_corners" if corners else "half_pixel")
    for n, m in itertools.product((1, 2, 3, 5, 8, 13, 20), (1, 2, 3, 4, 7, 9, 16, 23)):
        x = torch.eye(n, dtype=torch.float64)[None, :, None]
        want = torch.nn.functional.interpolate(
            x, size=(1, m), mode={"linear": "bilinear", "cubic": "bicubic"}[mode], align_corners=corners
        )[0, :, 0].numpy()
        index, weight = plan_axis(how, n, m)
        got = np.zeros((n, m))
        for row, factors in zip(index, weight, strict=True):
            np.add.at(got, (row, np.arange(m)), factors.astype(np.float64))
        assert np.abs(got - want).max() <= 4 * 2.0**-24, (n, m)
