"""Each pass by itself on the whole range of float32: random programs before and after, equal or within its bound.

Inputs are log-uniform from the smallest denormal to the largest number, of both signs, with zeros, infinities, NaN,
65504, and every constant of the program with its neighbours. Both programs are evaluated in float64 by the interpreter
of :mod:`tests.program_oracle`, so that what differs is what the pass did, not rounding on the way.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.program_oracle import apply_post, run_program

from omniconv.program.levels import Levels
from omniconv.program.passes import PASSES, run_passes
from omniconv.program.passes.attach_epilogues import attach_epilogues
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.passes.fold_affine import fold_affine
from omniconv.program.passes.fold_pads import fold_pads
from omniconv.program.passes.join_quantised import join_quantised
from omniconv.program.passes.join_standardised import join_standardised
from omniconv.program.passes.merge_affine import merge_affine
from omniconv.program.passes.merge_clamps import merge_clamps
from omniconv.program.passes.recognise_activations import recognise_activations
from omniconv.program.passes.recognise_channel_moves import recognise_channel_moves
from omniconv.program.passes.tabulate_quantised import tabulate_quantised
from omniconv.program.program import Program
from omniconv.program.steps import (
    ChannelStep,
    ConcatStep,
    ConvStep,
    DenseStep,
    MapStep,
    PadStep,
    PostOp,
    QuantisedMapStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    ReduceStep,
    SliceStep,
    StandardiseStep,
)
from omniconv.spec import Activation, Conv

CASES = int(os.environ.get("OMNICONV_PASS_CASES", "60"))
"""Random programs for each pass."""
UNIT, TINY = 2.0**-24, 2.0**-149
LARGEST = float(np.finfo(np.float32).max)
Float64 = npt.NDArray[np.float64]
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, -65504.0, LARGEST, -LARGEST, TINY, -TINY, 2.0**-126, 1.0, -1.0]
)


def whole_range(rng: np.random.Generator, size: int, constants: Iterator[float] | tuple[float, ...] = ()) -> Float64:
    """Values of every magnitude, and the constants with their neighbours; float32 numbers, in random order."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.array([sign * c for c in constants for sign in (1, -1)], np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    fixed = np.concatenate([near.astype(np.float64), SPECIAL])
    rest = max(size - fixed.size, 0)
    spread = rng.choice([-1.0, 1.0], rest) * 2.0 ** rng.uniform(-149, 128, rest)
    moderate = rng.uniform(-8, 8, rest)
    values = np.concatenate([fixed, np.where(rng.random(rest) < 0.5, spread, moderate)])
    return rng.permutation(values)[:size].astype(np.float32).astype(np.float64)


def number(rng: np.random.Generator) -> float:
    """A constant: mostly plain, sometimes at an end of the range."""
    plain = [0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 6.0, 1 / 6, 1e-6, 1e-3, 0.1, 65504.0, -3.0]
    wild = [1e-38, 1e-30, 1e-20, 1e20, 1e30, 3e38, -LARGEST, LARGEST, TINY, 2.0**-130]
    return float(np.float32(rng.choice(plain if rng.random() < 0.7 else wild)))


def act(name: str, **parameters: float) -> PostOp:
    return PostOp("act", activation=Activation.of(name, **parameters))


def with_constant(op: str, *values: float) -> PostOp:
    """The operation with a number, or with one for each channel."""
    return PostOp(op, np.array(values, np.float32).reshape((1, -1, 1, 1) if len(values) > 1 else ()))


def elementwise(size: int, *steps: MapStep) -> Program:
    """A program of elementwise steps on x; its output is the last one."""
    program = Program(("x",), (steps[-1].y,), {"x": (1, size)})
    for step in steps:
        program.add(step, (1, size))
    return program


def constants_of(program: Program) -> tuple[float, ...]:
    """Every scalar in the program."""
    found: set[float] = {3.0, 6.0}
    for step in program.steps:
        for op in getattr(step, "post", ()):
            if isinstance(op.operand, np.ndarray):
                found.update(op.operand.reshape(-1).astype(float).tolist())
            elif op.activation is not None:
                found.update(value for _, value in op.activation.parameters)
    return tuple(sorted(value for value in found if np.isfinite(value)))


def assert_close(got: Float64, want: Float64, allowed: Any, note: object) -> None:
    """NaN for NaN, infinity for infinity, and the rest within ``allowed``."""
    with np.errstate(all="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.abs(got - want) <= allowed)
    assert same.all(), (note, got[~same][:4], want[~same][:4])


# Activations: written-out ones, and what is nearly one

Builder = Callable[["Writer", str], str]


class Writer:
    """Writes elementwise steps; every constant and every step may be disturbed."""

    def __init__(self, rng: np.random.Generator, disturb: float) -> None:
        self.rng, self.disturb, self.steps, self.disturbed = rng, disturb, list[MapStep](), 0

    def step(self, x: str, *post: PostOp) -> str:
        y = f"v{len(self.steps)}"
        self.steps.append(MapStep(x, y, post))
        if self.rng.random() < self.disturb:
            self.disturbed += 1
            op = self.rng.choice(["add", "sub", "mul", "div", "max", "min"])
            return self.step(y, with_constant(str(op), number(self.rng)))
        return y

    def const(self, op: str, x: str, value: float) -> str:
        if self.rng.random() < self.disturb:
            self.disturbed += 1
            value *= 1 + float(self.rng.choice([1e-2, 1e-4, 1e-6, -1e-6]))
        return self.step(x, with_constant(op, value))

    def both(self, op: str, a: str, b: str) -> str:
        if op in ("add", "mul", "max") and self.rng.random() < 0.5:
            a, b = b, a
        return self.step(a, PostOp(op, b))

    def gate(self, x: str) -> str:
        """clip(x + 3, 0, 6) in one of its ways."""
        x = self.const("add", x, 3.0)
        way = self.rng.integers(3)
        if way == 0:
            return self.step(x, act("relu6"))
        if way == 1:
            return self.step(x, act("clip", lo=0.0, hi=6.0))
        return self.const("min", self.step(x, act("relu")), 6.0)


def _gelu_tanh(w: Writer, x: str) -> str:
    cube = w.const("mul", w.both("mul", w.both("mul", x, x), x), 0.044715)
    u = w.const("mul", w.both("add", x, cube), float(np.sqrt(2 / np.pi)))
    return w.both("mul", w.const("mul", x, 0.5), w.const("add", w.step(u, act("tanh")), 1.0))


def _gelu(w: Writer, x: str) -> str:
    inner = w.step(w.const("mul", x, float(np.sqrt(0.5))), PostOp("erf"))
    return w.const("mul", w.both("mul", x, w.const("add", inner, 1.0)), 0.5)


WRITTEN: dict[str, Builder] = {
    "silu": lambda w, x: w.both("mul", x, w.step(x, act("sigmoid"))),
    "silu by exp": lambda w, x: w.both("div", x, w.const("add", w.step(w.step(x, act("neg")), act("exp")), 1.0)),
    "hard swish": lambda w, x: w.const("div", w.both("mul", x, w.gate(x)), 6.0),
    "hard swish by sixth": lambda w, x: w.both("mul", x, w.const("mul", w.gate(x), 1 / 6)),
    "hard sigmoid": lambda w, x: w.const("mul", w.gate(x), 1 / 6),
    "sigmoid": lambda w, x: w.const("rdiv", w.const("add", w.step(w.step(x, act("neg")), act("exp")), 1.0), 1.0),
    "sigmoid by tanh": lambda w, x: w.const(
        "mul", w.const("add", w.step(w.const("mul", x, 0.5), act("tanh")), 1.0), 0.5
    ),
    "leaky relu": lambda w, x: w.both("max", x, w.const("mul", x, 0.1)),
    "leaky relu by two": lambda w, x: w.both(
        "sub", w.step(x, act("relu")), w.const("mul", w.step(w.step(x, act("neg")), act("relu")), 0.1)
    ),
    "gelu_tanh": _gelu_tanh,
    "gelu": _gelu,
    "x over relu": lambda w, x: w.both("div", x, w.const("add", w.step(x, act("relu")), 1e-6)),
}
NAMES = {
    "silu", "hard_swish", "hard_sigmoid", "sigmoid", "leaky_relu", "gelu", "gelu_tanh", "tanh",
}  # fmt: skip


def recognised(program: Program) -> bool:
    """Whether the output is one activation of the input."""
    step = program.steps[-1]
    return (
        isinstance(step, MapStep)
        and len(step.post) == 1
        and step.post[0].activation is not None
        and step.post[0].activation.name in NAMES
    )


def activation_bound(x: Float64, y: Float64) -> Float64:
    """What moving every constant by 2^-22 of itself changes; only between -16 and 16 is anything but y at stake."""
    with np.errstate(all="ignore"):
        inside = np.where(np.abs(x) <= 16, np.abs(x) + 1, 0)
        hard = np.where(np.abs(x) <= 3.01, 3.0, 0)
        # Far below zero, the 1 + tanh and 1 + erf that were written cancel to 2^-53 in float64, too.
        cancelled = np.where(np.abs(x) <= 128, np.abs(x) + 1, 0)
        return np.nan_to_num(2.0**-21 * ((1 + inside**2) * np.abs(y) + 0.25 * hard) + 2.0**-52 * cancelled + TINY)


@pytest.mark.parametrize("disturb", [0.0, 0.15])
@pytest.mark.parametrize("name", WRITTEN)
def test_recognised_activations_equal_what_was_written(name: str, disturb: float, tally: Any) -> None:
    rng = np.random.default_rng(1)
    for case in range(CASES if disturb else 8):
        writer = Writer(rng, disturb)
        writer.step("x", act("neg"))  # something before it that is not part of it
        y = WRITTEN[name](writer, "v0" if case % 2 else "x")
        program = elementwise(240, *writer.steps)
        assert program.outputs == (y,)
        x = whole_range(rng, 240, constants_of(program)).reshape(1, -1)
        done = recognise_activations(program)
        if not writer.disturbed:
            assert recognised(done) == (name != "x over relu")
        if done.steps != program.steps:
            tally("programs with a recognised activation" + (" though disturbed" if writer.disturbed else ""))
        # Each step that was made, on the values that were there before: so by induction for the whole.
        program.outputs = tuple(step.y for step in program.steps)
        values = {"x": x} | run_program(program, {"x": x})
        for step in done.steps:
            assert isinstance(step, MapStep)
            with np.errstate(all="ignore"):
                got = apply_post(values[step.x], step.post, values)
            want = values[step.y]
            made = step not in program.steps
            assert_close(got, want, activation_bound(values[step.x], want) if made else 0.0, program.steps)
        tally("programs of written-out activations, whole range")


@pytest.mark.parametrize(
    ("post", "x", "want"),
    [
        ((act("relu"), act("clip", hi=65504.0)), (1e5, np.inf), (65504.0, 65504.0)),
        ((act("silu"), with_constant("min", 65504.0)), (1e5, np.inf), (65504.0, 65504.0)),
        ((act("hard_sigmoid"), with_constant("max", 1e-6)), (-np.inf, -9.0), (1e-6, 1e-6)),
        ((act("relu6"), with_constant("add", 1e-6)), (-1.0, 0.0), (1e-6, 1e-6)),
    ],
)
def test_clamps_and_epsilons_stay(post: tuple[PostOp, ...], x: tuple[float, ...], want: tuple[float, ...]) -> None:
    program = elementwise(len(x), *(MapStep(f"v{i}" if i else "x", f"v{i + 1}", (op,)) for i, op in enumerate(post)))
    got = run_program(run_passes(program), {"x": np.array([x])})
    np.testing.assert_array_equal(got["v2"].astype(np.float32), np.array([want], np.float32))


def test_an_epsilon_beside_a_relu_stays() -> None:
    program = elementwise(
        3,
        MapStep("x", "r", (act("relu"),)),
        MapStep("r", "e", (with_constant("add", 1e-6),)),
        MapStep("x", "y", (PostOp("div", "e"),)),
    )
    got = run_program(run_passes(program), {"x": np.array([[-1.0, 0.0, 1.0]])})["y"]
    np.testing.assert_allclose(got, [[-1e6, 0.0, 0.999999]], rtol=1e-6)


# Clamps


def random_clamp(rng: np.random.Generator) -> PostOp:
    way = rng.integers(5)
    if way == 0:
        return act(str(rng.choice(["relu", "relu6"])))
    if way == 1:
        return act("clip", lo=number(rng), hi=number(rng))
    if way == 2:
        return act(str(rng.choice(["abs", "neg"])))
    return with_constant(str(rng.choice(["max", "min"])), number(rng))


def test_joined_clamps_are_equal_to_the_bit(tally: Any) -> None:
    rng = np.random.default_rng(2)
    for _ in range(5 * CASES):
        program = elementwise(160, MapStep("x", "y", tuple(random_clamp(rng) for _ in range(rng.integers(1, 6)))))
        x = whole_range(rng, 160, constants_of(program)).reshape(1, -1)
        done = merge_clamps(program)
        np.testing.assert_array_equal(run_program(done, {"x": x})["y"], run_program(program, {"x": x})["y"])
        assert len(done.steps[0].post) <= len(program.steps[0].post)  # type: ignore[union-attr]
        tally("programs of clamps, whole range")


# Affine operations: a run after a convolution or within a step


def random_affine(rng: np.random.Generator, channels: int) -> PostOp:
    values = [number(rng) for _ in range(channels if rng.random() < 0.5 else 1)]
    return with_constant(str(rng.choice(["add", "sub", "rsub", "mul", "div"])), *values)


def magnitude(post: tuple[PostOp, ...], v: Float64) -> Float64:
    """The operations with absolute values, added throughout."""
    with np.errstate(all="ignore"):
        for op in post:
            a = np.abs(np.asarray(op.operand, np.float64))
            v = v * a if op.op == "mul" else v / a if op.op == "div" else v + a
    return v


def test_merged_affine_operations_stay_within_the_bound(tally: Any) -> None:
    rng = np.random.default_rng(3)
    counts: Counter[bool] = Counter()
    for _ in range(8 * CASES):
        channels = 3
        post = tuple(random_affine(rng, channels) for _ in range(rng.integers(1, 5)))
        shape = (1, channels, 8, 8)
        program = Program(("x",), ("y",), {"x": shape})
        program.add(MapStep("x", "y", post), shape)
        x = whole_range(rng, 64 * channels, constants_of(program)).reshape(shape)
        done = merge_affine(program)
        after = done.steps[0].post  # type: ignore[union-attr]
        counts[len(after) < len(post)] += 1
        s = magnitude(post, np.abs(x))
        got, want = (run_program(p, {"x": x})["y"] for p in (done, program))
        assert_close(got, want, 1.001 * UNIT * s + TINY, post)
        # The same in float32, where constants and products may overflow.
        if len(after) < len(post):
            inside = s < LARGEST / 4
            narrow = x.astype(np.float32)
            with np.errstate(all="ignore"):
                for op in after:
                    narrow = {"mul": np.multiply, "add": np.add, "div": np.divide}[op.op](narrow, op.operand)
            assert_close(narrow[inside].astype(np.float64), want[inside], (4 * UNIT * s + 4 * TINY)[inside], post)
        tally("programs of affine operations, whole range")
    assert counts[True] > CASES, counts


def random_layer(rng: np.random.Generator) -> tuple[ConvStep | DenseStep, tuple[int, ...], tuple[int, ...], int]:
    """A layer on x of random kind, the shapes before and after it, and the axis of its channels."""

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        w = rng.standard_normal(shape) * 2.0 ** (rng.integers(-30, 30) if rng.random() < 0.3 else 0)
        extremes = rng.choice([0.0, 1e-44, 1e-39, 1e-20, 1e10], shape)
        return np.where(rng.random(shape) < 0.2, extremes, w).astype(np.float32)

    bias = rng.standard_normal(4).astype(np.float32) if rng.random() < 0.5 else None
    way = rng.integers(4)
    if way == 0:
        return DenseStep("x", "v", weights(4, 5), bias), (6, 5), (6, 4), 1
    if way == 1:
        spec = Conv.of(6, 4, 2, groups=2, transposed=True, stride=2)
        return ConvStep("x", "v", spec, weights(6, 2, 2, 2), bias), (1, 6, 4, 4), (1, 4, 8, 8), 1
    groups = 2 if way == 2 else 1
    spec = Conv.of(6, 4, 3, groups=groups, padding=1)
    return ConvStep("x", "v", spec, weights(4, 6 // groups, 3, 3), bias), (1, 6, 5, 5), (1, 4, 5, 5), 1


def absolute(step: ConvStep | DenseStep, shape: tuple[int, ...], y: tuple[int, ...], x: Float64) -> tuple[Any, Any]:
    """``sum |w| |x| + |b|`` and ``sum |x|``."""
    results = []
    for w, b in ((np.abs(step.w), None if step.b is None else np.abs(step.b)), (np.ones_like(step.w), None)):
        same = DenseStep("x", "v", w, b) if isinstance(step, DenseStep) else ConvStep("x", "v", step.spec, w, b)
        program = Program(("x",), ("v",), {"x": shape})
        program.add(same, y)
        results.append(run_program(program, {"x": np.abs(x)})["v"])
    return results[0], results[1]


def test_folded_affine_operations_stay_within_the_bound(tally: Any) -> None:
    rng = np.random.default_rng(4)
    folded = 0
    for _ in range(8 * CASES):
        step, shape, y, _axis = random_layer(rng)
        post = tuple(
            PostOp(op.op, np.asarray(op.operand).reshape(-1) if isinstance(step, DenseStep) else op.operand)
            for op in (random_affine(rng, 4) for _ in range(rng.integers(1, 4)))
        )
        program = Program(("x",), ("y",), {"x": shape})
        program.add(step, y)
        program.add(MapStep("v", "y", post), y)
        x = whole_range(rng, int(np.prod(shape)), constants_of(program)).reshape(shape)
        if rng.random() < 0.7:  # without infinities, or they reach everything
            x = np.where(np.isfinite(x), x, 1.0)
        done = fold_affine(program)
        folded += len(done.steps) < 2
        sums, inputs = absolute(step, shape, y, x)
        got, want = (run_program(p, {"x": x})["y"] for p in (done, program))
        remaining = done.steps[-1].post if len(done.steps) > 1 else ()  # type: ignore[union-attr]
        taken = post[: len(post) - len(remaining)]
        # What the fold may change is carried through the operations that are left.
        with np.errstate(all="ignore"):
            change = 1.001 * (UNIT * magnitude(taken, sums) + TINY * (1 + inputs))
            for op in remaining:
                a = np.abs(np.asarray(op.operand, np.float64))
                change = change * a if op.op == "mul" else change / a if op.op == "div" else change
            allowed = change + 1e-14 * magnitude(post, sums)
        assert_close(got, want, np.nan_to_num(allowed, posinf=np.inf), (step, post))
        tally("layers with affine operations, whole range")
    assert folded > CASES, folded


# Passes that compute nothing anew: equal to the bit


def random_moves(rng: np.random.Generator) -> Program:
    """Pads, shuffles, slices, reshapes, dead steps, convolutions, activations and operations of two values."""
    shape = (1, 4, 6, 6)
    program = Program(("x",), (), {"x": shape})
    values = ["x"]
    for index in range(rng.integers(3, 9)):
        x, y = str(rng.choice(values)), f"v{index}"
        match rng.integers(7):
            case 0:
                order = tuple(int(c) for c in rng.permutation(4))
                program.add(ChannelStep(x, y, order), shape)
            case 1:
                split, perm = ((1, 2, 2, 6, 6), (0, 2, 1, 3, 4)) if rng.random() < 0.5 else (shape, (0, 1, 3, 2))
                program.add(RearrangeStep(x, y, split, perm), shape)
            case 2:
                program.add(SliceStep(x, y, (0, 3, 0, 5), (1, -1, 1, -1)), shape)
            case 3:
                a, b = int(rng.integers(0, 3)), int(rng.integers(0, 3))
                mode = str(rng.choice(["constant", "reflect", "edge", "wrap"]))
                value = float(rng.choice([0.0, 0.0, -0.0, 1e-6, np.inf])) if mode == "constant" else 0.0
                padded = (1, 4, 6 + a + b, 6)
                program.add(PadStep(x, f"{y}p", ((0, 0), (0, 0), (a, b), (0, 0)), mode, value), padded)
                spec = Conv.of(4, 4, (a + b + 1, 1))
                w = rng.standard_normal((4, 4, *spec.kernel_size)).astype(np.float32)
                program.add(ConvStep(f"{y}p", y, spec, w), shape)
            case 4:
                other = str(rng.choice(values))
                op = str(rng.choice(["add", "sub", "rsub", "mul", "div", "rdiv", "max", "min", "prelu"]))
                program.add(MapStep(x, y, (PostOp(op, other),)), shape)
            case 5:
                program.add(MapStep(x, y, (act(str(rng.choice(["relu", "abs", "silu", "tanh"]))),)), shape)
            case _:
                program.add(MapStep(x, y, (random_affine(rng, 4),)), shape)
        values.append(y)
    program.outputs = (values[-1], *(str(name) for name in rng.choice(values, rng.integers(0, 2))))
    return program


EXACT = (drop_dead, recognise_channel_moves, fold_pads, attach_epilogues)


@pytest.mark.parametrize("run", EXACT, ids=lambda run: run.__name__)
def test_other_passes_are_equal_to_the_bit(run: Callable[[Program], Program], tally: Any) -> None:
    rng = np.random.default_rng(5)
    changed = 0
    for _ in range(3 * CASES):
        program = random_moves(rng)
        x = whole_range(rng, 144, constants_of(program)).reshape(1, 4, 6, 6)
        done = run(program)
        changed += done.steps != program.steps
        want = run_program(program, {"x": x})
        for name, value in run_program(done, {"x": x}).items():
            # A sum of the same terms in the same order is the same number, so nothing may differ.
            np.testing.assert_array_equal(value, want[name], err_msg=repr(program.steps))
        tally("programs of moves, whole range")
    assert changed > CASES / 2, changed


# Values standardised between reshapes


def standardised(shape: tuple[int, ...], groups: int, post: tuple[PostOp, ...] = (), perm: bool = False) -> Program:
    """x of ``shape`` as so many groups, standardised, and back; with a transpose of groups before, where asked for."""
    flat = (shape[0], groups, math.prod(shape[1:]) // groups)
    program = Program(("x",), ("y",), {"x": shape})
    split, order = (flat, (1, 0, 2)) if perm else (shape, tuple(range(len(shape))))
    program.add(RearrangeStep("x", "flat", split, order), flat)
    program.add(StandardiseStep("flat", "done", 1e-5, 1, post), flat)
    program.add(RearrangeStep("done", "y", flat, (0, 1, 2)), shape)
    return program


def test_what_is_standardised_between_reshapes_stays(tally: Any) -> None:
    rng = np.random.default_rng(6)
    joined = 0
    for _ in range(CASES):
        shape = tuple(int(size) for size in rng.integers(1, 5, rng.integers(2, 5)))
        program = standardised(shape, int(rng.choice([n for n in (1, 2, 3, 4) if math.prod(shape[1:]) % n == 0])))
        done = join_standardised(program)
        joined += len(done.steps) == 1
        with np.errstate(all="ignore"):
            for x in (whole_range(rng, math.prod(shape)), rng.uniform(-8, 8, math.prod(shape))):
                got, want = (run_program(p, {"x": x.reshape(shape)})["y"] for p in (done, program))
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-9, err_msg=repr(program.steps))
        tally("programs of standardised groups, whole range")
    assert joined > CASES / 3, joined


def test_standardised_values_keep_other_moves_and_operations() -> None:
    kept = [
        standardised((2, 4, 6), 2, perm=True), standardised((2, 4, 6), 1, (with_constant("mul", 2.0),)),
        standardised((2, 3, 4), 2),
    ]  # fmt: skip
    read = standardised((2, 4, 6), 1)
    read.outputs = ("y", "done")
    for program in (*kept, read):
        assert join_standardised(program).steps == program.steps
    (step,) = join_standardised(standardised((2, 4, 6), 4)).steps
    assert isinstance(step, StandardiseStep)
    assert (step.x, step.y, step.axes) == ("x", "y", 1)


def test_joined_quantised_steps_compute_the_same(tally) -> None:
    """Chains and branches of elementwise operations and moves, quantised before and behind."""
    rng = np.random.default_rng(11)
    for _ in range(CASES):
        shape = (1, 2 * int(rng.integers(1, 4)), *map(int, rng.integers(1, 5, 2)))
        program, scales = Program(("x", "z"), shapes=dict.fromkeys("xz", shape)), 2.0 ** rng.integers(-6, 3, 8)
        for name in "xz":
            levels = Levels(float(scales[0]), -int(rng.integers(0, 256)), int(rng.integers(1, 256)))
            program.add(QuantisedMapStep(name, f"{name}q", None, levels=levels), shape)
            program.add(QuantisedMapStep(f"{name}q", f"{name}d", float(scales[1])), shape)
        value, other = "xd", rng.choice(["zd", "z", "xd"])
        for number in range(int(rng.integers(0, 4))):
            match rng.choice(["act", "binary", "constant", "move", "split"]):
                case "act":
                    step: Any = MapStep(value, f"v{number}", (act(str(rng.choice(["relu", "hard_swish"]))),))
                case "binary":
                    step = MapStep(value, f"v{number}", (PostOp(str(rng.choice(["add", "mul", "sub"])), str(other)),))
                case "constant":
                    step = MapStep(value, f"v{number}", (with_constant("mul", float(rng.choice([0.5, 2.0, 0.1]))),))
                case "move":
                    step = ChannelStep(value, f"v{number}", tuple(map(int, rng.permutation(shape[1]))))
                case _:
                    names = (value, str(rng.choice([value, "zd"])))
                    program.add(ConcatStep(names, f"w{number}", 1), (1, 2 * shape[1], *shape[2:]))
                    step = SliceStep(f"w{number}", f"v{number}", (0, int(rng.integers(0, shape[1])), 0, 0), (1,) * 4)
            value = program.add(step, shape)
        program.add(QuantisedMapStep(value, "q", None, levels=Levels(float(scales[2]), -128, 127)), shape)
        program.add(QuantisedMapStep("q", "y", float(scales[2])), shape)
        program.outputs = ("y",)
        joined = join_quantised(program)
        x = whole_range(rng, 2 * math.prod(shape)).reshape(2, *shape)
        inputs = {"x": x[0], "z": x[1]}
        # An operation that is joined is rounded to float32, as the machine does it; its neighbours are not.
        got, want = (run_program(each, inputs)["y"] for each in (joined, program))
        assert_close(got, want, 0 if len(joined.steps) == len(program.steps) else scales[2], (program.steps, scales))
        assert np.mean((got != want) & ~np.isnan(want)) <= 0.1
        tally("programs of quantised elementwise operations, whole range")


@pytest.mark.parametrize(("shared", "joined"), [(False, True), (True, False)])
def test_a_mean_is_joined_unless_its_result_is_read_twice(shared: bool, joined: bool) -> None:
    shape, levels = (2, 5, 3, 4), Levels(0.5, -100, 155)
    program = Program(("x",), shapes={"x": shape})
    program.add(QuantisedMapStep("x", "q", None, levels=levels), shape)
    program.add(QuantisedMapStep("q", "d", 0.5), shape)
    program.add(ReduceStep("d", "m", "mean"), (2, 5, 1, 1))
    program.add(QuantisedMapStep("m", "n", None, levels=Levels(0.125, -128, 127)), (2, 5, 1, 1))
    program.add(QuantisedMapStep("n", "y", 0.125), (2, 5, 1, 1))
    program.outputs = ("y", "m") if shared else ("y",)
    found = join_quantised(program)
    assert any(isinstance(step, QuantisedMeanStep) for step in found.steps) == joined
    x = np.random.default_rng(0).uniform(-30, 30, shape)
    assert np.array_equal(run_program(found, {"x": x})["y"], run_program(program, {"x": x})["y"])


def test_functions_of_one_quantised_value_are_tables(tally: Any) -> None:
    """Chains and products of functions, rounded to levels in between: the same integers for each that there is."""
    rng = np.random.default_rng(12)
    for _ in range(CASES):
        shape, low, scales = (1, 4, 8, 8), -int(rng.integers(0, 256)), 2.0 ** rng.integers(-5, 2, 9)
        program = Program(("x",), shapes={"x": shape})
        levels = Levels(float(scales[0]), low, low + 255)
        program.add(QuantisedMapStep("x", "v0", None, levels=levels), shape)
        known = {"v0": float(scales[0])}
        for number in range(1, int(rng.integers(2, 6))):
            name, other = (str(rng.choice(list(known))) for _ in range(2))
            post = [
                (act(str(rng.choice(["sigmoid", "hard_swish", "relu", "tanh"]))),),
                (PostOp(str(rng.choice(["mul", "add", "sub", "max"])), other), PostOp("softplus")),
                (with_constant("mul", 0.3), with_constant("add", -0.7)),
                (PostOp("log"),),
                (),
            ][int(rng.integers(0, 5))]
            read = tuple(known[other] for op in post if isinstance(op.operand, str))
            to = Levels(float(np.float32(scales[number] / 3)), -int(rng.integers(0, 256)), int(rng.integers(1, 256)))
            program.add(QuantisedMapStep(name, f"v{number}", known[name], post, read, to), shape)
            known[f"v{number}"] = to.scale
        last, scale = list(known.items())[-1]
        program.add(QuantisedMapStep(last, "y", scale), shape)
        program.outputs = ("y",)
        found = tabulate_quantised(program)
        (last_step,) = [step for step in program.steps if step.y == last]
        assert isinstance(last_step, QuantisedMapStep)
        if last_step.post:
            assert [type(step) for step in found.steps[1:]] == [QuantisedTableStep, QuantisedMapStep]
        x = (np.arange(256, dtype=np.float64) + low).reshape(shape) * scales[0]
        assert np.array_equal(run_program(found, {"x": x})["y"], run_program(program, {"x": x})["y"]), program.steps
        tally("programs of functions of one quantised value")


def test_tables_are_not_made_of_two_values_or_of_repeated_ones() -> None:
    shape, levels = (1, 3, 2, 2), Levels(0.5, -128, 127)
    program = Program(("x", "z"), shapes={"x": shape, "z": (1, 3, 1, 1)})
    for name in "xz":
        program.add(QuantisedMapStep(name, f"{name}q", None, levels=levels), program.shapes[name])
    program.add(QuantisedMapStep("xq", "a", 0.5, (PostOp("mul", "zq"),), (0.5,), levels), shape)
    program.add(QuantisedMapStep("a", "b", 0.5, (PostOp("mul", np.ones((3, 1, 1), np.float32)),), (), levels), shape)
    program.add(QuantisedMapStep("b", "c", 0.5, (act("relu"), PostOp("add", "x")), (None,), levels), shape)
    program.add(QuantisedMapStep("c", "y", 0.5), shape)
    program.outputs = ("y",)
    assert tabulate_quantised(program) is program


def test_every_pass_is_tested_here() -> None:
    assert set(PASSES) == {
        *EXACT,
        fold_affine,
        merge_affine,
        merge_clamps,
        recognise_activations,
        join_standardised,
        join_quantised,
        tabulate_quantised,
    }
