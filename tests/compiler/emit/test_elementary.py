"""Every activation against float64 over the whole float32 range, within the errors that the module promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, build

from omniconv.compiler.emit import elementary
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.mapping import Map
from omniconv.compiler.memory.layout import Layout
from omniconv.spec import Activation
from omniconv.spec.activation import FORMULAS

_erfc = np.vectorize(math.erfc, otypes=[float])


def _gelu_tanh(x):
    return x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


EXACT = {
    "relu": lambda x, a: np.where(x < 0, 0, x),
    "relu6": lambda x, a: np.clip(x, 0, 6),
    "clip": lambda x, a: np.clip(x, a["lo"], a["hi"]),
    "leaky_relu": lambda x, a: np.where(x < 0, np.float32(a["alpha"]) * x, x),
    "elu": lambda x, a: np.where(x < 0, np.float32(a["alpha"]) * np.expm1(np.minimum(x, 0)), x),
    "sigmoid": lambda x, a: 1 / (1 + np.exp(-x)),
    "silu": lambda x, a: x / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x, a: np.clip(a["alpha"] * x + a["beta"], 0, 1),
    "hard_swish": lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
    "tanh": lambda x, a: np.tanh(x),
    "exp": lambda x, a: np.exp(x),
    "sqrt": lambda x, a: np.sqrt(x),
    "abs": lambda x, a: np.abs(x),
    "neg": lambda x, a: -x,
    "gelu": lambda x, a: x / 2 * _erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x, a: _gelu_tanh(x),
}
ULP = dict.fromkeys(EXACT, 0.5) | {
    "exp": 1.2,
    "sigmoid": 2.5,
    "silu": 2.5,
    "tanh": 2.0,
    "elu": 2.0,
    "leaky_relu": 1.2,
    "gelu": lambda x: np.where(x < 0, 6 + x**2, 6.0),
    "gelu_tanh": lambda x: np.where(x < 0, 4 + 4.8 * np.abs(x + 0.045 * x**3), 2.0),
}
"""Largest error in units in the last place of the result ..."""
ABSOLUTE = dict.fromkeys(EXACT, 0.0) | {
    "sigmoid": 2.0**-126,
    "silu": 2.0**-120,
    "gelu": 2.0**-120,
    "gelu_tanh": 2.0**-120,
    "hard_sigmoid": 2.0**-24,
    "hard_swish": 2.0**-22,
}
"""... or absolute, whichever is larger."""


def inputs():
    """Dense around zero, logarithmic everywhere, each power of two and its neighbours, and the special values."""
    rng = np.random.default_rng(3)
    dense = np.concatenate([rng.uniform(-r, r, 20000) for r in (0.3, 1.0, 4.0, 12.0, 110.0)])
    powers = np.concatenate([2.0 ** np.arange(-149, 128), 2.0 ** rng.uniform(-149, 128, 20000)])
    limits = [0.0, -0.0, 87.68, 88.2, 88.37, 88.72, 88.73, 89.0, 103.9, 104.0, 3.4028235e38, 1e-45]
    base = np.concatenate([dense, powers, -powers, limits, np.negative(limits)]).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([base, np.nextafter(base, np.float32(np.inf)), np.nextafter(base, np.float32(-np.inf))])


class _Unary:
    """A recipe for a function that is not an activation by itself."""

    units = 1

    def __init__(self, name, size):
        self.name, self.size = name, size

    def __repr__(self):
        return f"{self.name}{self.size}"

    def emit(self, name, target):
        k = Kernel(name, target)
        with k.loop(self.size // k.lanes) as i:
            k.store(getattr(elementary, self.name)(k, k.load(k.arg(0), k.mul(i, k.lanes))), k.arg(1), k.mul(i, k.lanes))
        return k.finish()


def evaluate(target, x, activation):
    layout = Layout((1, x.size), (x.size, 1))
    y = np.full_like(x, np.nan)
    build(Map.of(layout, layout, (Post("act", activation=activation),), target.lanes), target)([x, y])
    return y


def errors(got, exact):
    """Absolute errors and errors in units in the last place; results that overflow must be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = exact.astype(np.float32)
        unit = np.spacing(np.minimum(np.abs(exact), 3.4e38).astype(np.float32)).astype(np.float64)
        absolute = np.where(got == nearest, 0.0, np.abs(got - exact))
    return absolute, absolute / unit


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", FORMULAS)
def test_accuracy(name, target):
    activation = Activation.of(name, **({"lo": -1.5, "hi": 2.5} if name == "clip" else {}))
    x = np.abs(inputs()) if name == "sqrt" else inputs()
    got = evaluate(target, x, activation)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        exact = EXACT[name](x.astype(np.float64), activation)
    absolute, ulp = errors(got, exact)
    allowed = ULP[name](x.astype(np.float64)) if callable(ULP[name]) else ULP[name]
    bad = (absolute > ABSOLUTE[name]) & ~(ulp <= allowed + 1e-6)
    worst = np.argmax(np.where(absolute > ABSOLUTE[name], ulp / allowed, 0))
    largest = absolute[np.isfinite(absolute)].max()
    print(f"{name} {target.name}: {ulp[worst]:.2f} ulp at {x[worst]!r}, absolute {largest:.2e}")
    assert not bad.any(), (x[bad][:5], got[bad][:5], exact[bad][:5])


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", FORMULAS)
def test_special_values(name, target):
    x = np.array([np.nan, np.inf, -np.inf] * 7, np.float32)
    activation = Activation.of(name)
    got = evaluate(target, x, activation)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = x.astype(np.float64)
        exact = wide / 2 * (1 + np.tanh(wide)) if name == "gelu_tanh" else EXACT[name](wide, activation)
    assert np.array_equal(got, exact, equal_nan=True)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "tanh"])
def test_zeros_have_the_sign_of_the_input(name, target):
    """Also those that stand for less than the least number: nothing stays behind where GELU has long been nothing."""
    x = np.array([0.0, -0.0, *([-14.5, -20.0, -1e30] if name == "gelu" else [])], np.float32)
    got = evaluate(target, x, Activation.of(name))
    assert not got.any()
    assert np.array_equal(np.signbit(got), np.signbit(x))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["emit_exp", "emit_log"])
def test_functions_without_activation(name, target):
    x = inputs()
    x = np.concatenate([x, np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)])
    x = x[: x.size // 16 * 16]
    y = np.empty_like(x)
    build(_Unary(name, x.size), target)([x, y])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        exact = getattr(np, name.removeprefix("emit_"))(x.astype(np.float64))
    finite = np.isfinite(exact)
    assert np.array_equal(y[~finite], exact[~finite], equal_nan=True)
    absolute, ulp = errors(y[finite], exact[finite])
    print(f"{name} {target.name}: {ulp.max():.2f} ulp, absolute {absolute.max():.2e}")
    assert ulp.max() <= 1.2
