"""Single steps entry by entry, channels included, and networks made for one difficulty each."""

from __future__ import annotations

import numpy as np
import pytest
from tests.analysis.dags import with_nan_borders
from tests.program_oracle import run_program

from omniconv.analysis import connectivity, cost, coverage, overlap, receptive_field, required_input
from omniconv.analysis.connectivity import count_paths
from omniconv.analysis.trace import trace
from omniconv.program.program import Program
from omniconv.program.steps import (
    ChannelStep,
    ConvStep,
    DenseStep,
    LrnStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    RearrangeStep,
    ReduceStep,
    SliceStep,
    SoftmaxStep,
    Step,
)
from omniconv.spec import Chain, Conv

X = (2, 6, 3, 4)
ONES = np.ones((5, 4), np.float32)

STEPS = {
    "lrn 3": (LrnStep("x", "y", 3, 0.5, 0.75, 1.0), X),
    "lrn 4": (LrnStep("x", "y", 4, 0.5, 0.75, 1.0), X),
    "lrn 20": (LrnStep("x", "y", 20, 0.5, 0.75, 1.0), X),
    "softmax 1": (SoftmaxStep("x", "y", 1), X),
    "softmax -1": (SoftmaxStep("x", "y", -1), X),
    "log softmax 2": (SoftmaxStep("x", "y", 2, log=True), X),
    "dense": (DenseStep("x", "y", ONES), (2, 6, 3, 5)),
    "sum": (ReduceStep("x", "y", "sum"), (2, 6)),
    "mean": (ReduceStep("x", "y", "mean"), (2, 6, 1, 1)),
    "channels": (ChannelStep("x", "y", (5, 0, 0, 3)), (2, 4, 3, 4)),
    "slice": (SliceStep("x", "y", (1, 5, 0, 3), (1, -2, 2, -1)), (1, 3, 2, 4)),
    "pad": (PadStep("x", "y", ((0, 1), (1, 0), (2, 2), (0, 1)), "reflect"), (3, 7, 7, 5)),
    "pad constant": (PadStep("x", "y", ((0, 0), (1, 2), (0, 1), (2, 0))), (2, 9, 4, 6)),
    "transpose": (RearrangeStep("x", "y", X, (2, 0, 3, 1)), (3, 2, 4, 6)),
    "reshape": (RearrangeStep("x", "y", X, (0, 1, 2, 3)), (4, 9, 4)),
    "flatten": (RearrangeStep("x", "y", X, (0, 1, 2, 3)), (2, 72)),
    "pool": (PoolStep("x", "y", "mean", (2, 3), (2, 2), (1, 1), ((0, 0), (1, 1))), (2, 6, 2, 2)),
    "broadcast": (MapStep("x", "y", (PostOp("add", "x"),)), X),
    "group": (
        ConvStep("x", "y", Conv.of(6, 4, 2, groups=2, padding=1), np.ones((4, 3, 2, 2), np.float32)), (2, 4, 4, 5)
    ),
}  # fmt: skip


def single(step, shape):
    program = Program(("x",), shapes={"x": X})
    program.add(step, shape, "step")
    program.outputs = ("y",)
    return program


@pytest.mark.parametrize("name", STEPS)
def test_each_entry_depends_on_what_changes_it(name):
    program = single(*STEPS[name])
    x = np.random.default_rng(0).uniform(0.2, 0.8, X)
    base = run_program(program, {"x": x})["y"]
    changes = np.zeros((x.size, base.size), bool)
    for i in range(x.size):
        moved = x.copy()
        moved.flat[i] += 0.5
        changes[i] = (np.abs(run_program(program, {"x": moved})["y"] - base) > 1e-12).ravel()
    for o in range(base.size):
        demand = np.zeros(base.shape, bool)
        demand.flat[o] = True
        assert np.array_equal(trace(program, "y", demand)["x"].ravel(), changes[:, o]), o
    if base.ndim > 1:
        joined = changes.reshape(*X, *base.shape)
        order = (1, 4 + 1, *(axis for axis in range(joined.ndim) if axis not in (1, 5)))
        joined = joined.transpose(order).reshape(X[1], base.shape[1], -1).any(axis=-1)
        assert np.array_equal(count_paths(program, "y", "x") != 0, joined.T)


@pytest.mark.parametrize("name", STEPS)
def test_borders_of_each_step(name):
    program = single(*STEPS[name])
    y = run_program(with_nan_borders(program), {"x": np.ones(X)})["y"]
    assert np.array_equal(receptive_field(program).border, np.isnan(y).any(axis=tuple(range(min(2, y.ndim)))))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("mode", ["count", "mean", "weights"])
def test_numbers_are_positive_where_booleans_are_set(name, mode):
    program = single(*STEPS[name])
    shape = program.shapes["y"]
    rng = np.random.default_rng(1)
    demand = rng.uniform(size=shape) > 0.7
    reached = trace(program, "y", demand)["x"]
    assert np.array_equal(trace(program, "y", demand.astype(float), mode=mode)["x"] > 0, reached)


class UnknownStep(Step):
    """A step that says nothing about itself but its shape."""

    word = "unknown"

    def __init__(self, x, y):
        self.x, self.y = x, y

    def output_shape(self, shapes):
        return shapes[self.x]


def test_a_step_that_does_not_say_counts_as_everything_and_is_named():
    program = Program(("x",), shapes={"x": (2, 3, 8)})
    spec = Conv.of(3, 3, 3, dims=1, padding=1, groups=3)
    program.add(ConvStep("x", "c", spec, np.ones(spec.weight_shape, np.float32)), (2, 3, 8), "conv")
    program.add(UnknownStep("c", "u"), (2, 3, 8), "odd")
    program.outputs = ("u",)
    found = receptive_field(program)
    assert found.whole == ("unknown 'odd'",)
    assert found.size == (8,)
    assert found.support.all()
    assert found.border.all()
    assert connectivity(program).full
    assert not connectivity(program, "c").full
    assert required_input(program, [(3, 4)]).box == ((0, 8),)
    assert coverage(program).support.all()
    assert cost(program).layers[1].kind == "unknown"


def test_outputs_without_a_tap_on_one_axis_see_no_border_on_the_other():
    conv = Conv.of(1, 1, (1, 2), stride=(2, 1), transposed=True)
    found = receptive_field(conv, shape=(1, 1, 2, 1))
    assert found.border.tolist() == [[True, True], [False, False], [True, True]]


def test_holes_do_not_hide_the_period():
    """At every other output the last layer has no tap: the period of the first shows at the others only."""
    up = {"dims": 1, "transposed": True}
    chain = Chain((Conv.of(1, 1, 3, stride=3, **up), Conv.of(1, 1, 1, stride=2, **up)))
    (axis,) = receptive_field(chain).axes
    assert axis.period == 6
    assert [phase.size for phase in axis.phases] == [1, 0, 1, 0, 1, 0]
    assert overlap(chain).counts.tolist() == [1, 0]


def test_branches_that_are_crooked_alike_are_still_crooked():
    program = Program(("x",), shapes={"x": (1, 1, 20)})

    def conv(x, y, pair):
        spec = Conv.of(1, 1, 3, dims=1, padding=[pair])
        program.add(ConvStep(x, y, spec, np.ones(spec.weight_shape, np.float32)), (1, 1, 20), y)

    def add(a, b, y):
        program.add(MapStep(a, y, (PostOp("add", b),)), (1, 1, 20), y)

    for side in "ab":
        conv("x", f"n{side}", (1, 1))
        conv(f"n{side}", f"p{side}", (2, 0))
        conv(f"n{side}", f"q{side}", (0, 2))
        add(f"p{side}", f"q{side}", f"s{side}")
    add("sa", "sb", "y")
    program.outputs = ("y",)
    found = receptive_field(program)
    assert not found.aligned
    assert found.size == (7,)
    assert not receptive_field(program, "sa").aligned
    assert receptive_field(program, "pa").aligned
