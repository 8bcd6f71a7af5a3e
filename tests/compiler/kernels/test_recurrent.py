"""Recurrent layers against float64, within a bound that is accumulated over their times."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from tests.compiler.harness import TARGETS
from tests.machines import SKYLAKE_SERVER, V3, V4, ZEN_3, native
from tests.program.steps_drawn import flat_recurrence, program_of
from tests.program_oracle import run_program
from tests.recurrent_bound import bound_recurrence

from omniconv.compiler.code.build import compile_assembly
from omniconv.compiler.kernels.recurrent.kernel import Recurrence
from omniconv.compiler.kernels.recurrent.tiles import plan_tile
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.program.element import ELEMENTS
from omniconv.program.passes import keep_exact_weights
from omniconv.program.program import Program
from omniconv.program.steps import RecurrentStep
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation

SIZES = [(1, 1, 1), (3, 1, 5), (4, 2, 8), (2, 3, 17), (5, 7, 33), (3, 5, 64), (9, 2, 31)]
"""Times, sequences and hidden units."""


def compiled(program, target, threads=1):
    return Executable(plan(program, target, Options(threads=threads)), threads=threads)


def values_of(program, seed):
    rng = np.random.default_rng(seed)
    dtype = program.element.dtype
    return {name: rng.uniform(-2, 2, program.shapes[name]).astype(dtype) for name in program.inputs}


def check(program, target, values, threads=1):
    """Run a program of one recurrent layer and judge it; returns its result."""
    (step,) = program.steps
    got = compiled(program, target, threads).run(values)["y"]
    wide = {name: value.astype(np.float64) for name, value in values.items()}
    want, bound = bound_recurrence(step, wide, {}, program.shapes["y"], program.element.roundoff)
    np.testing.assert_array_equal(want, run_program(program, values)["y"])
    assert got.shape == want.shape
    held = np.abs(want) + bound < program.element.largest  # with ReLU, a state may grow out of the range of float32
    worst = np.max(np.abs(got - want)[held] / np.maximum(bound[held], 1e-300), initial=0.0)
    assert worst <= 1, (worst, step)
    return got


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 12), marks=pytest.mark.wide)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_layer_is_near_float64(size, seeds, target):
    for seed in seeds:
        program = program_of(flat_recurrence(Random(seed * 100 + size[2]), *size))
        check(program, target, values_of(program, seed))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_float64(target):
    for seed in range(12):
        drawn = flat_recurrence(Random(seed), 4, 3, 19)
        step, shapes, result = drawn
        program = Program(tuple(shapes), shapes=dict(shapes), element=ELEMENTS["float64"])
        program.add(step, result, "step")
        program.outputs = ("y",)
        check(program, target, values_of(program, seed))


def large(cell, reverse, batch, hidden, times=3, rounded=False, **changes):
    """A layer with so much work that threads share it."""
    rng = np.random.default_rng(1)
    gates, count = {"lstm": (4, 3), "gru": (3, 2), "rnn": (1, 1)}[cell]
    d = len(reverse)
    draw = lambda *shape: rng.uniform(-0.1, 0.1, shape).astype(np.float32)
    functions = (Activation.of("sigmoid"), *(Activation.of("tanh"),) * (count - 1))
    step = RecurrentStep(
        "x",
        "y",
        cell,
        draw(d, gates * hidden, hidden),
        reverse,
        (functions,) * d,
        "h",
        "c" if cell == "lstm" else None,
        rounded=rounded,
        **{key: draw(*shape) for key, shape in changes.items()},
    )
    shapes = {"x": (times, batch, d * gates * hidden), "h": (d, batch, hidden)}
    shapes.update({"c": (d, batch, hidden)} if cell == "lstm" else {})
    return program_of((step, shapes, (times + step.states, d, batch, hidden)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "program",
    [
        large("lstm", (False,), 8, 68),
        large("lstm", (True,), 3, 151),
        large("lstm", (False, True), 2, 130),
        large("gru", (False, True), 6, 90),
        large("gru", (True,), 2, 171, b=(1, 171)),
        large("rnn", (True,), 4, 200),
        large("lstm", (False,), 1, 187, times=1),
    ],
    ids=lambda program: f"{program.steps[0].cell} {program.shapes['y']}",
)
def test_results_do_not_depend_on_threads(program, target):
    values = values_of(program, 5)
    alone = check(program, target, values)
    for threads in (2, 3, 4):
        np.testing.assert_array_equal(alone, check(program, target, values, threads))


def test_threads_share_what_there_is():
    """Directions, or the units of each time, or sequences."""
    target = TARGETS[0]

    def recipes(program, threads):
        found = [call.recipe for call in plan(program, target, Options(threads=threads)).calls]
        return [recipe for recipe in found if isinstance(recipe, Recurrence)]

    alone = recipes(large("lstm", (False,), 8, 68), 1)
    assert [(r.units, r.times) for r in alone] == [(1, 3)]
    units = recipes(large("lstm", (False,), 8, 68), 2)
    assert len(units) == 3
    assert {(r.times, r.units > 2) for r in units} == {(1, True)}
    assert len(set(map(repr, units))) == 1
    directions = recipes(large("lstm", (False, True), 2, 130), 2)
    assert [(r.units, r.times) for r in directions] == [(2, 3)]
    assert len(recipes(large("lstm", (False, True), 2, 130), 4)) == 6
    sequences = recipes(large("gru", (False,), 6, 90), 3)
    assert [(r.units, r.chunk) for r in sequences] == [(3, 2)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_special_values_stay_in_their_sequence(target):
    """NaN and infinities of one sequence reach its later times, and nothing else."""
    program = large("lstm", (False,), 3, 13, times=4)
    values = values_of(program, 3)
    clean = compiled(program, target).run(values)["y"]
    values["x"] = values["x"].copy()
    values["x"][2, 1, 0], values["h"][0, 2, 5] = np.nan, np.inf
    got = compiled(program, target).run(values)["y"]
    np.testing.assert_array_equal(got[:, :, 0], clean[:, :, 0])
    np.testing.assert_array_equal(got[:2, :, 1], clean[:2, :, 1])
    assert np.isnan(got[3:, :, 1]).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(run_program(program, values)["y"]))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("gates", [1, 2, 3, 4])
def test_tiles_fit_the_registers(gates, target):
    for batch in (1, 2, 3, 5, 8, 64):
        for hidden in (1, 7, 96, 256):
            tile = plan_tile(gates, batch, hidden, target)
            assert 1 <= tile.rows <= batch
            assert tile.vectors <= -(hidden // -target.lanes)
            assert tile.wide <= gates * tile.vectors
            assert tile.rows * tile.wide + min(tile.rows, tile.wide) + 1 <= target.registers


SPILL = re.compile(r"\tvmov\w+\t[^\n]*\(%rsp\)")
"""A vector register that goes to the stack or comes from there."""


@pytest.mark.parametrize("target", [V3, V4, native(ZEN_3), native(SKYLAKE_SERVER)], ids=lambda t: f"{t.name} {t.cpu}")
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
def test_inner_loops_multiply_and_add_and_nothing_of_them_is_spilled(batch, target):
    for cell in ("lstm", "gru", "rnn"):
        program = large(cell, (False,), batch, 96)
        recipe = next(call.recipe for call in plan(program, target).calls if isinstance(call.recipe, Recurrence))
        hot = inner_loops(compile_assembly(recipe.emit("f", target), target))
        assert hot
        assert not [loop for loop in hot if SPILL.search(loop)], (cell, recipe.phases)


def inner_loops(text):
    """Loops of one block with a multiply-add for each number that is spread: those of the products."""
    blocks = re.split(r"\n(?=\.L\w+:)", text)
    loops = []
    for block in blocks:
        label, lines = block.split(":")[0], block.splitlines()
        ends = [at for at, line in enumerate(lines) if re.match(rf"\tj\w+\t{re.escape(label)}$", line)]
        body = "\n".join(lines[: ends[-1] + 1]) if ends else ""
        if "vbroadcast" in body and "vfmadd" in body and "vdiv" not in body:
            loops.append(body)
    return loops


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_weights_are_packed_in_reading_order(target):
    recipe = next(
        call.recipe for call in plan(large("gru", (False,), 2, 13), target).calls if isinstance(call.recipe, Recurrence)
    )
    w = np.arange(1, 1 + 3 * 13 * 13, dtype=np.float64).reshape(1, 39, 13)
    packed = recipe.pack_weights(w)
    assert packed.size == recipe.panel
    assert sorted(packed[packed > 0]) == list(w.ravel())
    tile = recipe.phases[0].tile
    width = min(tile.wide, 3 * tile.vectors) * target.lanes
    spread = np.zeros((3, recipe.pitch))
    spread[:, :13] = w[0, :, 0].reshape(3, 13)  # the first unit before, on the units of each gate
    block = spread[list(recipe.phases[0].gates), : tile.vectors * target.lanes].ravel()
    np.testing.assert_array_equal(packed[:width], block[:width])


def rounded_by_hand(program, target, values):
    """Time after time by a layer of one time, whose states before are rounded in NumPy."""
    (step,) = program.steps
    times, batch, width = program.shapes["x"]
    shapes = {**program.shapes, "x": (1, batch, width)}
    inputs = {name: shapes[name] for name in program.inputs}
    one = program_of((replace(step, rounded=False), inputs, (3, *program.shapes["y"][1:])))
    net = compiled(one, target)
    found = np.zeros(program.shapes["y"], np.float32)
    for d, reverse in enumerate(step.reverse):
        h, c = values["h"].copy(), values["c"].copy()
        for t in reversed(range(times)) if reverse else range(times):
            low, high = np.minimum(h[d].min(), np.float32(0)), np.maximum(h[d].max(), np.float32(0))
            width = (high - low) / np.float32(255)
            point = np.rint(-low / width)
            levels = np.maximum(np.minimum(np.rint(h / width), 255 - point), -point)
            y = net.run({"x": values["x"][t : t + 1], "h": levels * width, "c": c})["y"]
            h, c = y[1], y[2]
            found[t, d] = h[d]
        found[times, d], found[times + 1, d] = h[d], c[d]
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "size", [((False, True), 3, 19), pytest.param(((True,), 1, 187), marks=pytest.mark.wide)], ids=str
)
def test_rounded_states(size, target):
    program = large("lstm", *size, rounded=True)
    values = values_of(program, 7)
    expected = rounded_by_hand(program, target, values)
    assert (expected != compiled(large("lstm", *size), target).run(values)["y"]).any()
    for threads in (1, 3):
        np.testing.assert_array_equal(compiled(program, target, threads).run(values)["y"], expected)
    np.testing.assert_allclose(run_program(program, values)["y"], expected, rtol=0, atol=2e-3)


def test_states_of_nothing_stay():
    program = large("lstm", (False,), 2, 5, times=1, rounded=True)
    zeros = {name: np.zeros(program.shapes[name], np.float32) for name in program.inputs}
    assert not compiled(program, TARGETS[0]).run(zeros)["y"].any()


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_levels_of_weights(target, monkeypatch):
    """Weights that are whole numbers, times a scale for each gate and unit: kept as bfloat16, with the same bits."""
    program = large("lstm", (False, True), 2, 130, rounded=True, scale=(2, 4 * 130))
    step = program.steps[0]
    levels = np.random.default_rng(2).integers(-255, 256, step.w.shape).astype(np.float32)
    program.steps[0] = replace(step, w=levels, scale=np.abs(step.scale) / 100)
    values, found = values_of(program, 3), {}
    for least in (0, 2**40):
        monkeypatch.setattr(keep_exact_weights, "LEAST_BYTES", least)
        net = compiled(program, target, 3)
        assert net.plan.program.rounded == (set() if least else {"y"})
        found[least] = net.run(values)["y"]
    np.testing.assert_array_equal(found[0], found[2**40])
    np.testing.assert_allclose(found[0], run_program(program, values)["y"], rtol=0, atol=2e-3)
