"""Functions, powers and remainders over the whole range of both elements, within the errors that the modules promise.

mpmath judges functions and powers, `math.fmod` remainders, which are exact.
"""

from __future__ import annotations

import math
from functools import cache

import mpmath
import numpy as np
import pytest
from tests.compiler.harness import TARGETS, build

from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.mapping import ARGS, Map
from omniconv.compiler.memory.layout import Layout
from omniconv.program.element import ELEMENTS
from omniconv.program.functions import FUNCTIONS

_MP = mpmath.mp.clone()
_MP.dps = 60


def _softplus(x):
    return max(x, 0) + _MP.log1p(_MP.exp(-abs(x)))


NAMED = {name: getattr(_MP, name) for name in FUNCTIONS if hasattr(_MP, name)}
EXACT = NAMED | {
    "round": lambda x: _MP.mpf(round(float(x))),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "mish": lambda x: x * _MP.tanh(_softplus(x)) if x > -4000 else _MP.mpf(0),
}
DOMAIN = {
    "log": lambda x: x >= 0, "asin": lambda x: abs(x) <= 1, "acos": lambda x: abs(x) <= 1, "acosh": lambda x: x >= 1,
    "atanh": lambda x: abs(x) <= 1,
}  # fmt: skip
LIMITS = {
    "log": (math.inf, math.nan),
    "erf": (1, -1),
    "sign": (1, -1),
    "atan": (math.pi / 2, -math.pi / 2),
    "sinh": (math.inf, -math.inf),
    "cosh": (math.inf, math.inf),
    "asinh": (math.inf, -math.inf),
    "acosh": (math.inf, math.nan),
    "softplus": (math.inf, 0),
    "mish": (math.inf, math.nan),
} | dict.fromkeys(("floor", "ceil", "round"), (math.inf, -math.inf))
"""At plus and minus infinity; NaN where there is none."""
AT_ZERO = {"log": -math.inf, "cos": 1.0, "cosh": 1.0, "acos": math.pi / 2, "acosh": math.nan, "softplus": math.log(2)}
ULP = (
    dict.fromkeys(FUNCTIONS, 4.0)
    | dict.fromkeys(("sign", "floor", "ceil", "round"), 0.0)
    | {
        "log": 1.2,
        "sin": 1.5,
        "cos": 1.5,
        "atan": 2.0,
        "softsign": 1.5,
        "erf": 3.0,
        "softplus": 3.0,
        "acos": 2.0,
    }
)
WIDE_ONLY = ("asin", "acos", "sinh", "cosh", "asinh", "acosh", "atanh")
"""Computed in float64 for float32, too, where they are within 1."""
ABSOLUTE = {"float32": 2.0**-120, "float64": 2.0**-1000}
"""Of Mish, below which only this counts."""
CASES = [(target.of(element), element) for target in TARGETS for element in ELEMENTS.values()]


@cache
def inputs(dtype):
    """Dense where functions bend, logarithmic everywhere, near 1, multiples of pi/2, and the limits."""
    rng, count = np.random.default_rng(0), 60
    info = np.finfo(dtype)
    low, high = info.minexp - info.nmant, info.maxexp - 0.01
    parts = [rng.uniform(-r, r, count) for r in (0.3, 1.0, 1.5, 4.0, 30.0, 100.0, 800.0, 1e6, 3e7)]
    parts += [2.0 ** rng.uniform(low, high, 3 * count) * rng.choice([-1, 1], 3 * count)]
    parts += [1 + sign * 2.0 ** rng.uniform(-52, 0, count) for sign in (-1, 1)]
    parts += [np.pi / 2 * rng.integers(1, 2**24, count), np.arange(-8, 8) / 2]
    with np.errstate(over="ignore"):
        # The last is the float64 number nearest to a multiple of pi/2, as a share of it.
        limits = [0.0, -0.0, info.smallest_subnormal, -info.smallest_subnormal, info.max, -info.max]
        parts += [
            np.array(limits),
            np.array([6381956970095103 * 2.0**797, 2.0**20, 2.0**20 + 0.25, 88.72, 709.78, 710.4]),
        ]
        x = np.concatenate(parts).astype(dtype)
    return x[np.isfinite(x)]


def padded(x, lanes):
    return np.concatenate([x, np.ones(-x.size % lanes, x.dtype)])


def evaluate(target, x, post, *others):
    arrays = [padded(np.asarray(a), 16) for a in (x, *others)]
    size = arrays[0].size
    layout = Layout((1, size), (size, 1))
    y = np.full_like(arrays[0], np.nan)
    build(Map.of(layout, layout, (post,), target.lanes), target)([arrays[0], y, *arrays[1:]])
    return y[: x.size]


@cache
def exact(name, dtype):
    """The exact results of the inputs in the domain, as mpmath's numbers."""
    return [EXACT[name](_MP.mpf(value)) for value in within(name, dtype).tolist()]


@cache
def within(name, dtype):
    x = inputs(dtype)
    inside = DOMAIN.get(name, lambda x: x == x)(x)
    return x[inside & ~((name == "log") & (x == 0)) & ~((name == "atanh") & (np.abs(x) == 1))]


def nearest(wanted, element):
    if abs(wanted) > element.largest:
        return float(_MP.sign(wanted)) * math.inf
    return float(np.asarray(float(wanted)).astype(element.dtype))


def off(got, wanted, element):
    """The error in units in the last place; 0 for the nearest number."""
    close = nearest(wanted, element)
    if got == close:
        return 0.0
    if not (math.isfinite(got) and math.isfinite(close)):
        return math.inf
    unit = float(np.spacing(np.asarray(abs(close), element.dtype)))
    return float(abs(_MP.mpf(got) - wanted) / unit)


@pytest.mark.parametrize(("target", "element"), CASES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, target, element):
    x = within(name, element.dtype)
    got = evaluate(target, x, Post(name)).tolist()
    allowed = 1.0 if name in WIDE_ONLY and element.bytes == 4 else ULP[name]
    floor = ABSOLUTE[element.name] if name == "mish" else 0.0
    wrong = [
        (at, value, float(wanted))
        for at, value, wanted in zip(x.tolist(), got, exact(name, element.dtype), strict=True)
        if off(value, wanted, element) > allowed and not abs(_MP.mpf(value) - wanted) <= floor
    ]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(("target", "element"), CASES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, target, element):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], element.dtype)
    got = evaluate(target, x, Post(name))
    high, low = LIMITS.get(name, (math.nan, math.nan))
    zero = AT_ZERO.get(name, 0.0)
    np.testing.assert_allclose(got, np.array([np.nan, high, low, zero, zero]), rtol=4 * element.roundoff)
    odd = name not in AT_ZERO and name != "sign"
    assert not odd or (not np.signbit(got[3]) and np.signbit(got[4]))


@pytest.mark.parametrize(("target", "element"), CASES, ids=str)
@pytest.mark.parametrize("name", DOMAIN)
def test_outside_the_domain(name, target, element):
    x = inputs(element.dtype)
    x = x[~DOMAIN[name](x)]
    assert x.size
    assert np.isnan(evaluate(target, x, Post(name))).all()


def pairs(dtype):
    """Bases with exponents that leave results in the range, whole exponents, and every two of the special values."""
    rng, count = np.random.default_rng(1), 250
    info = np.finfo(dtype)
    most = 0.69 * info.maxexp
    special = np.array(
        [
            0.0,
            -0.0,
            1.0,
            -1.0,
            np.inf,
            -np.inf,
            np.nan,
            0.5,
            -0.5,
            2.0,
            -2.0,
            3.0,
            -3.0,
            1e30,
            -1e30,
            1e-40,
            5e-324,
            2.0**53,
            2.0**53 + 2,
            1 + 2.0**-23,
            1 - 2.0**-23,
            float(info.max),
            float(info.smallest_subnormal),
        ]
    )
    bases = [2.0 ** rng.uniform(info.minexp, info.maxexp - 1, count), np.abs(1 + 2.0 ** rng.uniform(-20, 0, count))]
    exponents = [rng.uniform(-1, 1, count) * most / np.log(base) for base in bases]
    whole = rng.integers(-20, 20, count), rng.integers(-8, 8, count)
    x = np.concatenate([np.repeat(special, special.size), *bases, whole[0]])
    y = np.concatenate([np.tile(special, special.size), *exponents, whole[1]])
    with np.errstate(over="ignore"):
        return x.astype(dtype), y.astype(dtype)


def operand(size):
    return PlacedOperand(ARGS, (size, 1, 0, 0, 0), False)


def c_power(x, y):
    """C's pow, special values included, as a float64."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and y % 2 == 1 else math.inf
    except ValueError:  # Python's 0 to a negative power, or no real power
        return math.copysign(math.inf, x if y % 2 == 1 else 1.0) if x == 0 else math.nan


@pytest.mark.parametrize(("target", "element"), CASES, ids=str)
def test_powers(target, element):
    x, y = pairs(element.dtype)
    got = evaluate(target, x, Post("pow", operand=operand(x.size + -x.size % 16)), y)
    back = evaluate(target, y, Post("rpow", operand=operand(x.size + -x.size % 16)), x)
    assert np.array_equal(got, back, equal_nan=True)
    for a, b, value in zip(x.tolist(), y.tolist(), got.tolist(), strict=True):
        rough = c_power(a, b)
        with np.errstate(over="ignore"):
            close = float(np.asarray(rough).astype(element.dtype))
        if not math.isfinite(close) or close == 0 or math.isnan(value):
            assert value == close or (math.isnan(value) and math.isnan(close)), (a, b, value, rough)
            assert math.isnan(close) or math.copysign(1, value) == math.copysign(1, close), (a, b, value, rough)
        elif value != close:
            assert off(value, (_MP.mpf(a) ** _MP.mpf(b)).real, element) <= (1.0 if element.bytes == 4 else 2.0), (a, b)


@pytest.mark.parametrize(("target", "element"), CASES, ids=str)
def test_remainders_are_exact(target, element):
    x, y = pairs(element.dtype)
    rng, info = np.random.default_rng(2), np.finfo(element.dtype)
    low, high = info.minexp - info.nmant, info.maxexp - 1
    drawn = (2.0 ** rng.uniform(low, high, (2, 300))).astype(element.dtype)
    near = (drawn[0] / rng.integers(1, 2000, 300)).astype(element.dtype)
    x, y = np.concatenate([x, drawn[0], drawn[0]]), np.concatenate([y, drawn[1], near])
    got = evaluate(target, x, Post("fmod", operand=operand(x.size + -x.size % 16)), y)
    with np.errstate(invalid="ignore"):
        want = np.fmod(x, y)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])
