"""Every elementary function in float64 against mpmath over the whole range, within the errors that are promised."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from tests.compiler.emit.test_elementary import _Unary, evaluate
from tests.compiler.harness import TARGETS, build

from omniconv.program.element import FLOAT64
from omniconv.spec import Activation
from omniconv.spec.activation import FORMULAS

WIDE = [target.of(FLOAT64) for target in TARGETS]
_CONTEXT = mpmath.mp.clone()
_CONTEXT.dps = 60
_ROOT = _CONTEXT.sqrt(2)


def _share(x):
    return 1 / (1 + _CONTEXT.exp(-x))


EXACT = {
    "relu": lambda x, a: max(x, 0),
    "relu6": lambda x, a: min(max(x, 0), 6),
    "clip": lambda x, a: min(max(x, a["lo"]), a["hi"]),
    "leaky_relu": lambda x, a: x if x >= 0 else a["alpha"] * x,
    "elu": lambda x, a: x if x >= 0 else a["alpha"] * _CONTEXT.expm1(x),
    "sigmoid": lambda x, a: _share(x),
    "silu": lambda x, a: x * _share(x),
    "hard_sigmoid": lambda x, a: min(max(a["alpha"] * x + a["beta"], 0), 1),
    "hard_swish": lambda x, a: x * min(max(x / 6 + 0.5, 0), 1),
    "tanh": lambda x, a: _CONTEXT.tanh(x),
    "exp": lambda x, a: _CONTEXT.exp(x),
    "sqrt": lambda x, a: _CONTEXT.sqrt(x),
    "abs": lambda x, a: abs(x),
    "neg": lambda x, a: -x,
    "gelu": lambda x, a: x * _CONTEXT.erfc(-x / _ROOT) / 2 if abs(x) < 60 else max(x, 0),
    "gelu_tanh": lambda x, a: x * _share(2 * _CONTEXT.sqrt(2 / _CONTEXT.pi) * (x + _CONTEXT.mpf("0.044715") * x**3)),
}
ULP = 4.0
"""Largest error in units in the last place of the result ..."""
ABSOLUTE = {"silu": 2.0**-1060, "gelu": 2.0**-1060, "gelu_tanh": 2.0**-1060, "hard_sigmoid": 2.0**-53,
            "hard_swish": 2.0**-51}  # fmt: skip
"""... or absolute, whichever is larger."""


def inputs(count=200):
    """Dense around zero and where functions under- and overflow, logarithmic everywhere, and the limits."""
    rng = np.random.default_rng(3)
    dense = np.concatenate([rng.uniform(-r, r, count) for r in (0.3, 1.0, 4.0, 12.0, 45.0, 760.0)])
    powers = np.concatenate([2.0 ** np.arange(-1074, 1024, 7), 2.0 ** rng.uniform(-1074, 1024, count)])
    near = 2.0 ** rng.uniform(-60, 7, count)
    limits = [
        0.0,
        -0.0,
        0.5,
        1.0,
        3.0,
        26.5,
        38.5,
        40.0,
        708.4,
        709.78271289338397,
        709.7827128933841,
        744.4,
        745.2,
        746.0,
    ]
    base = np.concatenate([dense, powers, -powers, near, -near, limits, np.negative(limits)])
    with np.errstate(over="ignore", under="ignore"):
        found = np.concatenate([base, np.nextafter(base, np.inf), np.nextafter(base, -np.inf)])
    return found[: found.size // 16 * 16]


def errors(got, x, exact):
    """Errors, and errors in units in the last place; a result is right where it is the nearest number."""
    absolute, ulp = np.zeros(x.size), np.zeros(x.size)
    for i, (value, at) in enumerate(zip(got.tolist(), x.tolist(), strict=True)):
        wanted = exact(_CONTEXT.mpf(at))
        nearest = float(wanted)
        if value == nearest:
            continue
        assert np.isfinite(value), (at, value, nearest)
        off = abs(_CONTEXT.mpf(value) - wanted)
        absolute[i], ulp[i] = float(off), float(off / np.spacing(min(abs(nearest), np.finfo(np.float64).max)))
    return absolute, ulp


@pytest.mark.parametrize("target", WIDE, ids=lambda t: t.name)
@pytest.mark.parametrize("name", FORMULAS)
def test_accuracy(name, target):
    activation = Activation.of(name, **({"lo": -1.5, "hi": 2.5} if name == "clip" else {}))
    x = np.abs(inputs()) if name == "sqrt" else inputs()
    got = evaluate(target, x, activation)
    absolute, ulp = errors(got, x, lambda v: EXACT[name](v, activation))
    floor = ABSOLUTE.get(name, 0.0)
    bad = (absolute > floor) & (ulp > ULP)
    worst = np.argmax(np.where(absolute > floor, ulp, 0))
    print(f"{name} {target.name}: {ulp[worst]:.2f} ulp at {x[worst]!r}")
    assert not bad.any(), (x[bad][:5], got[bad][:5], ulp[bad][:5])


@pytest.mark.parametrize("target", WIDE, ids=lambda t: t.name)
@pytest.mark.parametrize("name", FORMULAS)
def test_special_values(name, target):
    """As float32 has them: NaN stays, infinities give the limits of the formulas, NaN where those are 0 times one."""
    x = np.array([np.nan, np.inf, -np.inf] * 7)
    narrow = evaluate(target.of(TARGETS[0].element), x.astype(np.float32), Activation.of(name))
    assert np.array_equal(evaluate(target, x, Activation.of(name)), narrow, equal_nan=True)


@pytest.mark.parametrize("target", WIDE, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["emit_exp", "emit_log"])
def test_functions_without_activation(name, target):
    x = inputs() if name == "emit_exp" else np.abs(inputs())
    y = np.empty_like(x)
    build(_Unary(name, x.size), target)([x, y])
    function = getattr(_CONTEXT, name.removeprefix("emit_"))
    finite = x != 0 if name == "emit_log" else np.full(x.size, True)
    assert np.all(y[~finite] == -np.inf)
    _, ulp = errors(y[finite], x[finite], function)
    print(f"{name} {target.name}: {ulp.max():.2f} ulp")
    assert ulp.max() <= ULP


@pytest.mark.parametrize("target", WIDE, ids=lambda t: t.name)
def test_logarithms_outside(target):
    x = np.array([np.nan, np.inf, -np.inf, -1.0, -5e-324, 0.0, -0.0, -1e300] * 2)
    y = np.empty_like(x)
    build(_Unary("emit_log", x.size), target)([x, y])
    with np.errstate(all="ignore"):
        assert np.array_equal(y, np.log(x), equal_nan=True)
