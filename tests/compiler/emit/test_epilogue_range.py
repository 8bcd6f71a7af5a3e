"""Epilogues behind a convolution on the whole range of float32: what is written in registers follows IEEE 754.

The convolution is depthwise with a kernel of one, which passes values of every size, infinities and NaN on as they are.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.emit.test_elementary import ABSOLUTE, ULP, errors, inputs
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, strictly

from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, PostOp
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Conv
from omniconv.spec.activation import FORMULAS
from omniconv.target.select import detect_host, resolve_target

CHANNELS = 16
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 65504.0, 1e5, 3.4028235e38, -3.4028235e38, 1e-45, -1e-45, 2.0**-126]
BINARY = {
    "add": [1e-6, 3e38], "sub": [1e-6, np.inf], "rsub": [1.0], "mul": [0.0, 1e-30, 1e30], "div": [6.0, 1e-45, np.inf],
    "rdiv": [1.0, 0.0], "max": [0.0, 1e-6, -np.inf], "min": [65504.0, np.nan], "prelu": [0.1, -2.0],
    "threshold": [0.0, 1e-6], "less": [0.0, np.nan], "less_equal": [1e-6], "greater": [65504.0], "greater_equal": [0.0],
    "equal": [0.0, np.inf], "keep": [0.0, 1.0], "drop": [0.0, 1.0], "rkeep": [2.0], "rdrop": [np.nan],
    "fmod": [1.0, 3.5e-3, np.inf], "rfmod": [1.0, 0.0],
}  # fmt: skip


def values() -> np.ndarray:
    """A few thousand numbers of every magnitude, in the shape of the input."""
    drawn = np.random.default_rng(0).choice(inputs(), CHANNELS * 240 - len(SPECIAL))
    return np.concatenate([np.array(SPECIAL, np.float32), drawn]).reshape(1, CHANNELS, 12, 20)


def judge(post: PostOp, target: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The input, what machine code computes, and the oracle."""
    x = values()
    spec = Conv.of(CHANNELS, CHANNELS, 1, groups=CHANNELS)
    program = Program(("x",), ("y",), {"x": x.shape})
    one = np.ones((CHANNELS, 1, 1, 1), np.float32)
    program.add(ConvStep("x", "y", spec.resolve(x.shape), one, None, (post,)), x.shape)
    planned = plan(program, resolve_target(target, detect_host()), Options(exact=True))
    got = strictly(Executable(planned), {"x": x})["y"]
    return x, got, run_program(program, {"x": x})["y"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FORMULAS)
def test_activations(name: str, target: str) -> None:
    activation = Activation.of(name, **({"lo": -1.5, "hi": 65504.0} if name == "clip" else {}))
    x, got, want = judge(PostOp("act", activation=activation), target)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.isinf(got), np.isinf(want.astype(np.float32)))
        finite = np.isfinite(got)
        absolute, ulp = errors(got[finite], want[finite])
        allowed = ULP[name](x[finite].astype(np.float64)) if callable(ULP[name]) else ULP[name]
        # The oracle's 1 + erf and 1 + tanh cancel to 2^-53, its exp(x) - 1 to 2^-53 near zero.
        room = ABSOLUTE[name] + 2.0**-51 * (1 + np.minimum(np.abs(x[finite].astype(np.float64)), 128))
    assert ((absolute <= room) | (ulp <= allowed + 1e-6)).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", BINARY)
def test_operations_with_a_number(op: str, target: str) -> None:
    for number in BINARY[op]:
        _, got, want = judge(PostOp(op, np.array(number, np.float32)), target)
        with np.errstate(all="ignore"):
            # One rounding of the exact result: float64 of two float32 numbers is exact or wide enough.
            np.testing.assert_array_equal(got, want.astype(np.float32), err_msg=f"{op} {number}")
