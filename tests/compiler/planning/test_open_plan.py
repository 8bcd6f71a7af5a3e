"""Plans with open sizes: for every size the plan that is made for it alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.planning import open_plans as open_plans_module
from omniconv.compiler.planning.open_plan import OpenPlan
from omniconv.compiler.planning.open_plans import OpenPlans
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import open_planner, plan
from omniconv.compiler.planning.shared import Shared
from omniconv.graph import prepare
from omniconv.graph.open_program import OpenPrograms
from omniconv.program.element import FLOAT32
from omniconv.runtime import model as model_module
from omniconv.target.select import select_target

TARGET = select_target(None)


def small():
    """A stem, depthwise layers of two lengths, a gate, and sums that are resized and joined."""
    g = Graph(opset=17, seed=5)
    x = g.node("Relu", g.conv(g.input("x", "n", 3, "h", "w"), 16, 3, strides=[2, 2]))
    y = g.conv(x, 16, 16, 5, group=16)
    y = g.node("Mul", y, g.node("HardSigmoid", g.conv(g.node("GlobalAveragePool", y), 16, 16, 1)))
    y = g.node("Relu", g.conv(y, 32, 16, 1))
    y = g.node("Relu", g.conv(y, 32, 32, 3, group=32))
    y = g.node(
        "Resize",
        g.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]),
        "",
        g.const([1.0, 1.0, 2.0, 2.0]),
        mode="nearest",
    )
    return g.model(g.node("Concat", y, x, axis=1))


class Sizes:
    """The programs of a model, and what its plans share."""

    def __init__(self, model, options):
        self.programs, self.options = OpenPrograms(prepare(model), None, FLOAT32), options
        self.shared = Shared()

    def lower(self, *sizes):
        return self.programs.find({"x": (sizes[0], 3, *sizes[1:])})

    def open(self, *sizes):
        return OpenPlan(self.lower(*sizes).origin, TARGET, self.options, self.shared)

    def fix(self, opened, *sizes):
        lowered = self.lower(*sizes)
        planner = open_planner(lowered.program, TARGET, self.options, self.shared)
        return opened.fix(lowered.origin.sizes, planner)

    def plan(self, *sizes):
        return plan(self.lower(*sizes).program, TARGET, self.options, self.shared)


def assert_same(found, want):
    """Two plans are the same, but for the numbers of buffers, and the places where calls read their sizes."""
    table, words, numbers = len(want.buffers) - 1, 8 // TARGET.element.bytes, {}
    assert len(found.calls) == len(want.calls)
    expected = want.buffers[table].make()
    starts = sorted({ref.offset // words for call in want.calls for ref in call.args if ref.buffer == table})
    ends = dict(zip(starts, [*starts[1:], len(expected)], strict=True))
    for one, other in zip(found.calls, want.calls, strict=True):
        assert replace(one, args=()) == replace(other, args=())
        assert one.recipe.units == other.recipe.units
        for a, b in zip(one.args, other.args, strict=True):
            if b.buffer == table:
                first, start = a.offset // words, b.offset // words
                sizes = expected[start : ends[start]]
                np.testing.assert_array_equal(found.buffers[a.buffer].make()[first : first + len(sizes)], sizes)
            else:
                assert numbers.setdefault(b.buffer, a.buffer) == a.buffer
                assert a._replace(buffer=b.buffer) == b
    assert len(set(numbers.values())) == len(numbers)
    for b, a in numbers.items():
        one, other = found.buffers[a], want.buffers[b]
        assert replace(one, make=None) == replace(other, make=None)
        if one.kind == "constant" and one.packed is None:
            np.testing.assert_array_equal(one.make(), other.make())
    assert [found.offsets[a] for a in numbers.values()] == [want.offsets[b] for b in numbers]
    left_out = {"calls": (), "buffers": (), "offsets": (), "program": want.program}
    assert replace(found, **left_out) == replace(want, **left_out)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (Options(), [(1, 64, 96), (1, 96, 64), (1, 68, 92), (1, 128, 80)]),
        pytest.param(
            Options(threads=2, layout="NHWC"),
            [(2, 64, 96), (2, 68, 92), (2, 128, 80), (2, 112, 72), (3, 68, 92)],
            marks=pytest.mark.wide,
        ),
    ],
)
def test_the_plan_of_each_size(options, sizes):
    """Of the sizes for which it is right, all that take the same tiles by themselves."""
    of = Sizes(small(), options)
    of.plan(*sizes[0])
    opened, compared = of.open(*sizes[0]), 0
    for each in sizes:
        found, want = of.fix(opened, *each), of.plan(*each)
        if found is not None and [call.decision for call in found.calls] == [call.decision for call in want.calls]:
            assert_same(found, want)
            compared += 1
    assert compared > 1


def test_it_is_not_right_for_all_sizes():
    """An image so small that an axis has one output, and a batch."""
    of = Sizes(small(), Options())
    opened = of.open(1, 64, 96)
    assert of.fix(opened, 1, 64, 96) is not None
    assert of.fix(opened, 1, 4, 4) is None
    assert of.fix(opened, 2, 64, 96) is None, "a batch of one is not opened"


def filtered():
    """Two filtered layers, one of which adds what the other reads."""
    g = Graph(opset=17, seed=3)
    x = g.node("Relu", g.conv(g.input("x", "n", 3, "h", "w"), 64, 3, 1))
    y = g.node("Relu", g.conv(x, 64, 64, 3))
    return g.model(g.node("Add", g.conv(y, 64, 64, 3), x))


@pytest.mark.parametrize("threads", [1, 2])
def test_filtered_layers(threads):
    """Forms and slabs are those that each size has by itself, and so are all other calls."""
    of, forms = Sizes(filtered(), Options(threads=threads)), set()
    of.plan(1, 68, 96)
    opened = of.open(1, 68, 96)
    for sizes in [(68, 96), (128, 208), (12, 16), (9, 9)]:
        found, want = of.fix(opened, 1, *sizes), of.plan(1, *sizes)
        assert_same(found, want)
        assert len(found.filtered) == 2
        forms.update(call.decision.choice for call in found.calls if call.decision is not None)
    assert len({text for text in forms if text.startswith("winograd")}) == 3, "they differ"


@pytest.fixture
def at_once(monkeypatch):
    """Plans with open sizes are there as soon as they are begun, after the first size."""
    monkeypatch.setattr(open_plans_module, "PATIENCE", 1)
    monkeypatch.setattr(model_module, "plan_beside", lambda job: job() or True)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("model", [small(), filtered()], ids=["small", "filtered"])
def test_bits(monkeypatch, model):
    """What a network computes for late sizes is what it computes for them alone."""
    made, fixed, fix = [], [], OpenPlan.fix
    monkeypatch.setattr(OpenPlan, "fix", lambda *args: fixed.append(fix(*args)) or fixed[-1])
    net = oc.compile(model)
    for shape in [(1, 3, 64, 96), (1, 3, 64, 128), (1, 3, 64, 112)]:
        x = np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)
        made.append((x, net(x)))
    assert len(fixed) == 2, "each but the first is tried once"
    assert None not in fixed
    for x, got in made[1:]:
        np.testing.assert_array_equal(got, oc.compile(model)(x))


@pytest.mark.usefixtures("at_once")
def test_filtered_layers_whose_weights_are_computed():
    g = Graph(opset=17)
    model = g.model(g.node("Conv", g.input("x", 1, 64, "h", "w"), g.input("kernel", 64, 64, 3, 3), pads=[1] * 4))
    net, rng = oc.compile(model), np.random.default_rng(0)
    kernel = rng.standard_normal((64, 64, 3, 3), dtype=np.float32)
    for height in (32, 48, 40):
        given = {"x": rng.standard_normal((1, 64, height, 48), dtype=np.float32), "kernel": kernel}
        (y,), (want,) = net.run(given).values(), oc.compile(model).run(given).values()
        np.testing.assert_array_equal(y, want)
    assert "winograd_weights" in [call.what for call in net.executable.plan.calls]


def test_late_sizes_are_not_planned_anew(monkeypatch):
    g = Graph(opset=17)
    net = oc.compile(g.model(g.conv(g.node("Relu", g.conv(g.input("x", 1, 3, "h", "w"), 16, 3, 1)), 24, 16, 1)))
    planned, go_on = [], threading.Event()

    def open_plan(*args):
        go_on.wait()
        planned.append(2)
        return OpenPlan(*args)

    monkeypatch.setattr(open_plans_module, "plan", lambda *args: planned.append(1) or plan(*args))
    monkeypatch.setattr(open_plans_module, "OpenPlan", open_plan)
    for size in (64, 68, 72):
        net.fix({"x": (1, 3, size, 96)})
    assert planned == [1, 1, 1], "no caller waits for what is begun at the second size"
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "omniconv-plan":
            thread.join()
    for size in (76, 80, 84):
        net.fix({"x": (1, 3, size, 96)})
    assert planned == [1, 1, 1, 2]


def begin(begun):
    """Plans whose thread begins as told, but never gets anywhere."""
    of, jobs = Sizes(small(), Options()), []
    plans = OpenPlans(of.shared, lambda job: jobs.append(job) or begun)

    def find(*sizes):
        lowered = of.lower(*sizes)
        plans.find(lowered.program, lowered.origin, TARGET, of.options)
        return len(jobs)

    return plans, find


def test_a_plan_that_is_being_made_is_not_begun_again():
    plans, find = begin(begun=True)
    assert [find(1, size, 96) for size in (64, 96, 128)] == [0, 1, 1]
    plans.forget_locks()
    assert find(1, 160, 96) == 2, "in the child of a fork the thread is gone"


def test_a_thread_that_does_not_start_is_tried_again():
    _, find = begin(begun=False)
    assert [find(1, size, 96) for size in (64, 96, 128)] == [0, 1, 2]


def test_another_caller_may_find_that_there_can_be_none(monkeypatch):
    of = Sizes(small(), Options())
    plans = OpenPlans(of.shared, lambda job: job() or True)

    def find(*sizes):
        lowered = of.lower(*sizes)
        return plans.find(lowered.program, lowered.origin, TARGET, of.options), lowered

    for size in (64, 96):
        _, lowered = find(1, size, 96)

    def meanwhile(*args):
        plans.refuse(lowered.origin, of.options)
        return open_planner(*args)

    monkeypatch.setattr(open_plans_module, "open_planner", meanwhile)
    found, _ = find(1, 128, 96)
    monkeypatch.undo()
    assert_same(found, of.plan(1, 128, 96))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("use", [lambda size: 0 * size, lambda size: {size: 0}[size]], ids=["number", "key"])
def test_a_constant_that_depends_on_sizes_in_secret(monkeypatch, use):
    """It cannot be made for other sizes: each of these is planned by itself, and right."""
    index, refuse, refused = Planner.index, OpenPlans.refuse, []
    monkeypatch.setattr(Planner, "index", lambda self, size, make: index(self, size, lambda: use(size) + make()))
    monkeypatch.setattr(OpenPlans, "refuse", lambda *args: refused.append(1) or refuse(*args))
    model = small()
    net, x = oc.compile(model), np.random.default_rng(0).standard_normal((1, 3, 64, 128), dtype=np.float32)
    net.fix({"x": (1, 3, 64, 96)})
    got = net(x)
    assert refused
    monkeypatch.undo()
    np.testing.assert_array_equal(got, oc.compile(model)(x))
