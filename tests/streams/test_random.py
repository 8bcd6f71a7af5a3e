"""Random networks with random chunks: equal to the whole; and refusals, each of which is global indeed."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from tests.program_oracle import run_program
from tests.seeds import NETWORKS
from tests.streams.nets import LENGTHS, Net, draw_input, draw_net

from omniconv.compiler.planning.options import Options
from omniconv.errors import UnsupportedError
from omniconv.program.steps import ConvStep, SoftmaxStep
from omniconv.runtime.executable import Executable
from omniconv.runtime.stream import Stream
from omniconv.runtime.stream_plan import StreamPlan
from omniconv.spec import Conv
from omniconv.target.select import select_target

WIDE = [pytest.param(seed, marks=pytest.mark.wide) for seed in range(2, NETWORKS)]
REST = [pytest.param(seed, marks=pytest.mark.wide) for seed in range(36, NETWORKS)]


def plan_of(net):
    return StreamPlan(net.lower, net.shape_of(1), net.axis, None, Options(exact=True), select_target(None), "net")


def push_all(stream, x, sizes, axis):
    """All that comes out, in order."""
    found, at = [], 0
    while at < x.shape[axis]:
        part = x[(*(slice(None),) * axis, slice(at, at + next(sizes)))]
        found.append(stream.push(part))
        at += part.shape[axis]
    return [*found, stream.flush()]


def draw_sizes(r, chunk):
    while True:
        yield r.choice((chunk, chunk, r.randint(0, 40)))


@pytest.mark.parametrize("seed", [*range(2), *WIDE])
def test_streams_are_the_whole_bit_for_bit(seed):
    net, r = draw_net(seed), Random(seed)
    program = net.program(r.choice(LENGTHS))
    x = draw_input(net, program.shapes["x"][net.axis], seed)
    whole = Executable.of(program, select_target(None), Options(exact=True))(x)
    chunk = r.randint(1, 60)
    stream = Stream(plan_of(net), chunk)
    got = np.concatenate(push_all(stream, x, draw_sizes(r, chunk), net.axis), stream.plan.out_axis)
    assert got.shape == whole.shape
    assert np.array_equal(got, whole)
    want = run_program(program, {"x": x})[program.outputs[0]]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", [*range(36), *REST])
def test_stretches_compute_what_the_whole_computes_in_exact_arithmetic(seed):
    """The programs of a stream, run by the oracle: nothing depends on kernels here."""
    net, r = draw_net(1000 + seed), Random(seed)
    program = net.program(r.choice(LENGTHS))
    x = draw_input(net, program.shapes["x"][net.axis], seed)
    want = run_program(program, {"x": x})[program.outputs[0]]
    plan = plan_of(net)
    plan._compile = Interpreted
    stream = Stream(plan, r.randint(1, 60))
    parts = push_all(stream, x, draw_sizes(r, stream.chunk), net.axis)
    np.testing.assert_allclose(np.concatenate(parts, plan.out_axis), want, rtol=1e-6, atol=1e-6)
    done = sum(part.shape[plan.out_axis] for part in parts[:-1])
    late = x.shape[net.axis] - done / plan.rate
    assert late < plan.delay + plan.hop + 1 / plan.rate


class Interpreted:
    """A stretch that the oracle runs."""

    def __init__(self, stretch):
        self.stretch, self.run = stretch, _Runner(stretch.program) if stretch.program.outputs else None


class _Runner:
    def __init__(self, program):
        self.program, self.inputs = program, program.inputs

    def run(self, inputs):
        return run_program(self.program, inputs)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.wide) for n in range(3, NETWORKS))])
@pytest.mark.parametrize("what", ["gate", "softmax"])
def test_what_is_refused_reads_all_positions(seed, what):
    net = Net(seed)
    spec = Conv.of(net.channels, 2, net.along(3, 1), dims=net.dims, padding=net.along((1, 1), (0, 0)))
    ones = np.ones(spec.weight_shape, np.float32)
    net.add(lambda p: p.add(ConvStep("x", "first", spec, ones), spec.output_shape(p.shapes["x"])), "first")
    if what == "gate":
        net.gate("first", "global")
    else:
        net.add(lambda p: p.add(SoftmaxStep("first", "global", net.axis), p.shapes["first"], "layer"), "global")
    with pytest.raises(UnsupportedError, match=r"mean over all positions.*squeeze|softmax needs all of axis.*layer"):
        plan_of(net)
    program = net.program(97)
    positive = np.random.default_rng(seed).uniform(0.5, 1.0, program.shapes["x"])
    base = run_program(program, {"x": positive})["global"]
    for end in (0, -1):
        moved = positive.copy()
        moved[(*(slice(None),) * net.axis, end)] += 5.0
        assert (run_program(program, {"x": moved})["global"] != base).all()
