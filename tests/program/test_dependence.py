"""What each step says of itself, against what it does in float64 when one entry of its inputs is moved."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import get_args

import numpy as np
import pytest
from tests.program.steps_drawn import DRAWS, elements_of, program_of
from tests.program_oracle import run_program

from omniconv.analysis.pull import pull
from omniconv.analysis.push import push, push_parts
from omniconv.errors import ShapeError
from omniconv.program.dependence import Dependence, Everything
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConstantStep,
    ConvStep,
    PoolStep,
    PostOp,
    ProgramStep,
    RecurrentStep,
    ReduceStep,
    Step,
)

SEEDS = range(40)
KINDS = pytest.mark.parametrize("kind", get_args(ProgramStep), ids=lambda kind: kind.__name__)


def test_every_step_is_drawn():
    assert set(DRAWS) == set(get_args(ProgramStep))
    assert len({kind.word for kind in DRAWS}) == len(DRAWS)


def values_of(program, seed, low=0.5, high=1.0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(low, high, program.shapes[name]) for name in program.inputs}


def changes(program, values):
    """For each input, entries of it x entries of the result: whether moving the one changes the other."""
    base = run_program(program, values)["y"]
    found = {}
    for name, value in values.items():
        rows = np.zeros((value.size, base.size), bool)
        for i in range(value.size):
            moved = value.copy()
            moved.flat[i] += 0.25
            rows[i] = (np.abs(run_program(program, {**values, name: moved})["y"] - base) > 1e-13).ravel()
        found[name] = rows
    return found


def loose(dependence):
    """Values whose dependence is all on all: the answer must hold what is true, and may hold more."""
    return {part.name for part in dependence.parts if any(isinstance(form, Everything) for form in part.forms)}


def forwards(program, dependence):
    """The same by the forms, first to last."""
    found = {}
    for part in dependence.parts:
        size = int(np.prod(program.shapes[part.name]))
        rows = []
        for i in range(size):
            x = np.zeros(program.shapes[part.name], bool)
            x.flat[i] = True
            for form in part.forms:
                x = push(form, x, "count")
            assert x.shape == program.shapes["y"] or not part.forms
            rows.append(np.broadcast_to(x, program.shapes["y"]).ravel())
        found[part.name] = found.get(part.name, False) | np.array(rows)
    return found


def backwards(program, dependence):
    """The same by the forms, last to first."""
    found = {name: [] for name in program.inputs}
    for o in range(int(np.prod(program.shapes["y"]))):
        columns = {name: np.zeros(program.shapes[name], bool) for name in program.inputs}
        for part in dependence.parts:
            y = np.zeros(program.shapes["y"], bool)
            y.flat[o] = True
            for form in reversed(part.forms):
                y = pull(form, y, "count")
            columns[part.name] |= y
        for name, column in columns.items():
            found[name].append(column.ravel())
    return {name: np.array(columns).T for name, columns in found.items()}


@KINDS
def test_each_entry_depends_on_exactly_what_changes_it(kind):
    for seed in SEEDS:
        program = program_of(DRAWS[kind](Random(seed)))
        (step,) = program.steps
        dependence = step.dependence(program.shapes)
        assert tuple(part.name for part in dependence.parts) == step.reads
        truth = changes(program, values_of(program, seed))
        for found in (forwards(program, dependence), backwards(program, dependence)):
            assert set(found) == set(truth)
            for name, rows in truth.items():
                if isinstance(step, RecurrentStep):
                    check_recurrence(step, program, name, found[name], rows)
                    continue
                held = found[name] | rows if name in loose(dependence) else rows
                assert np.array_equal(found[name], held), (seed, step, name)


def check_recurrence(step, program, name, found, truth):
    """A recurrent layer takes all units of a time together, and a sequence as if it were no shorter than any: what is
    true is held, and times, sequences and directions are exact where all sequences are of one length.
    """
    assert np.array_equal(found | truth, found), step
    if step.lengths is not None:
        return
    sizes, shape = program.shapes[name], program.shapes["y"]
    if name == "x":
        split = (*sizes[:2], len(step.reverse), -1)
        found, truth = (each.reshape(*split, *shape).any((3, 7)) for each in (found, truth))
    else:
        found, truth = (each.reshape(*sizes, *shape).any((2, 6)) for each in (found, truth))
    # The first cell of an LSTM is not in the last hidden state alone: one part of a result stands for all of it.
    assert np.array_equal(found, truth), step


def test_states_that_are_rounded_together_mix_sequences():
    drawn = (DRAWS[RecurrentStep](Random(seed)) for seed in range(200))
    step, shapes, shape = next(
        each for each in drawn if each[0].cell == "lstm" and each[0].lengths is None and each[2][2] > 1 and each[0].h
    )
    program = program_of((replace(step, rounded=True), shapes, shape))
    dependence, truth = program.steps[0].dependence(program.shapes), changes(program, values_of(program, 0))
    for found in (forwards(program, dependence), backwards(program, dependence)):
        for name, rows in truth.items():
            assert np.array_equal(found[name] | rows, found[name]), name
    assert truth["h"].reshape(*program.shapes["h"], *shape)[:, 0, :, :, :, 1].any()


def test_only_computed_weights_and_nothing_else_are_loose():
    kinds = {kind for kind in DRAWS for seed in SEEDS if loose_of(program_of(DRAWS[kind](Random(seed))))}
    assert kinds == {ConvStep}
    for seed in SEEDS:
        program = program_of(DRAWS[ConvStep](Random(seed)))
        assert loose_of(program) == ({"w"} & set(program.inputs))


def loose_of(program):
    return loose(program.steps[0].dependence(program.shapes))


@KINDS
def test_a_step_is_linear_where_it_says_so(kind):
    """f(a) + f(b) = f(a + b) + f(0) for all inputs together, exactly where it says so."""
    for seed in SEEDS:
        program = program_of(DRAWS[kind](Random(seed)))
        dependence = program.steps[0].dependence(program.shapes)
        a, b = values_of(program, seed), values_of(program, seed + 1000)
        zero = {name: np.zeros_like(value) for name, value in a.items()}
        both = {name: a[name] + b[name] for name in a}
        ya, yb, y0, y = (run_program(program, values)["y"] for values in (a, b, zero, both))
        assert np.allclose(ya + yb, y + y0, rtol=1e-9, atol=1e-9) == dependence.linear, (seed, program.steps[0])


@KINDS
def test_shares_that_are_added(kind):
    """The response to ones is what the parts that add give; nothing else is left out."""
    for seed in SEEDS:
        program = program_of(DRAWS[kind](Random(seed)))
        dependence = program.steps[0].dependence(program.shapes)
        parts = [part for part in dependence.parts if part.adds]
        ones = {name: np.ones(program.shapes[name]) for name in program.inputs}
        y = push_parts(parts, ones, "response")
        assert (y is None) == (kind is ConstantStep)
        assert y is None or y.shape in (program.shapes["y"], program.shapes[parts[0].name])
        step = program.steps[0]
        factors = [op.operand for op in getattr(step, "post", ()) if op.op == "mul"]
        factors += [getattr(step, name, None) for name in ("w", "dy")]
        assert {part.name for part in dependence.parts} - {part.name for part in parts} == {
            name for name in factors if isinstance(name, str)
        }


@KINDS
def test_shapes_are_those_that_are_produced(kind):
    for seed in SEEDS:
        drawn = DRAWS[kind](Random(seed))
        step, shapes, result = drawn
        assert step.output_shape({**shapes, "y": result}) == result
        refused = 0
        for wrong in ((), (*result, 2)):  # an elementwise step may broadcast, and one entry may have any rank
            try:
                Program(tuple(shapes), shapes=dict(shapes), elements=elements_of(step)).add(step, wrong, "step")
            except ShapeError:
                refused += 1
        assert refused, (seed, step)


@KINDS
def test_steps_without_their_own_say_everything(kind):
    """The answer of the base class holds all that is really read."""
    program = program_of(DRAWS[kind](Random(3)))
    (step,) = program.steps
    dependence = Step.dependence(step, program.shapes)
    assert isinstance(dependence, Dependence)
    assert not dependence.linear
    assert all(isinstance(form, Everything) for part in dependence.parts for form in part.forms)
    truth = changes(program, values_of(program, 3))
    for found in (forwards(program, dependence), backwards(program, dependence)):
        for name, rows in truth.items():
            assert found[name].all()
            assert found[name].shape == rows.shape


@KINDS
def test_renaming_renames_all_that_is_read_and_produced(kind):
    for seed in SEEDS:
        step, _, _ = DRAWS[kind](Random(seed))
        names = {name: f"new {name}" for name in (*step.reads, "y")}
        renamed = step.renamed(names)
        assert renamed.reads == tuple(names[name] for name in step.reads)
        assert renamed.y == "new y"
        assert type(renamed) is kind
        assert step.renamed({}).reads == step.reads


@pytest.mark.parametrize("kind", [PoolStep, ReduceStep])
def test_a_maximum_depends_on_what_a_mean_depends_on(kind):
    for seed in SEEDS:
        step, shapes, result = DRAWS[kind](Random(seed))
        mean, largest = program_of((step, shapes, result)), program_of((replace(step, op="max"), shapes, result))
        found = [forwards(each, each.steps[0].dependence(each.shapes))["x"] for each in (mean, largest)]
        assert np.array_equal(*found)
        assert not largest.steps[0].dependence(largest.shapes).linear
        rows = np.zeros_like(found[1])
        base = np.zeros(shapes["x"])
        for i in range(base.size):  # over zeros, any entry that is raised alone is a maximum
            moved = base.copy()
            moved.flat[i] = 1.0
            rows[i] = run_program(largest, {"x": moved})["y"].ravel() > 0
        assert np.array_equal(rows, found[1])


@pytest.mark.parametrize(
    ("op", "linear", "adds"),
    [
        ("add", True, True),
        ("sub", True, True),
        ("rsub", True, True),
        ("mul", False, False),
        ("div", False, False),
        ("rdiv", False, False),
        ("max", False, False),
        ("min", False, False),
        ("prelu", False, False),
    ],
)
def test_operations_say_whether_they_add(op, linear, adds):
    from omniconv.program.steps import MapStep

    step = MapStep("x", "y", (PostOp(op, "a"),))
    found = step.dependence({"x": (1, 2), "a": (1, 2), "y": (1, 2)})
    assert found.linear == linear
    assert [part.adds for part in found.parts] == [True, adds]
