"""Quantised networks in tiles and in streams: the same integers as of the whole, and what is global is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tests.graph.small_models import Graph
from tests.program_oracle import run_program
from tests.streams.test_random import Interpreted

import omniconv as oc
from omniconv.compiler.planning.options import Options
from omniconv.errors import UnsupportedError
from omniconv.graph.program import to_program
from omniconv.program.element import INT16
from omniconv.runtime.stream import Stream
from omniconv.runtime.stream_plan import StreamPlan
from omniconv.target.select import select_target

RNG = np.random.default_rng(0)


def network(sizes, *, pooled=False):
    """Strided, dilated and depthwise layers, a pool, an enlargement, a concatenation and a sum."""
    dims = len(sizes)
    g = Graph()

    def conv(x, outputs, inputs, k=3, dilation=1, **attributes):
        w = g.random(outputs, inputs // attributes.get("group", 1), *(k,) * dims)
        pads, dilations = [dilation * (k // 2)] * 2 * dims, [dilation] * dims
        return g.node("Conv", x, w, g.random(outputs), pads=pads, dilations=dilations, **attributes)

    x = g.node("Relu", conv(g.input("x", 1, 2, *sizes), 8, 2))
    y = g.node("Relu", conv(x, 8, 8, strides=[2] * dims))
    y = g.node("Clip", conv(y, 8, 8, dilation=2, group=8), g.const(-3), g.const(6))
    y = g.node("MaxPool", y, kernel_shape=[3] * dims, pads=[1] * 2 * dims)
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = g.node("Resize", y, "", g.const([1, 1, *(2,) * dims]), mode="nearest", **how)
    y = g.node("Add", conv(g.node("Concat", x, y, axis=1), 8, 16, 1), x)
    if pooled:
        y = g.node("Mul", y, g.node("Sigmoid", conv(g.node("GlobalAveragePool", y), 8, 8, 1)))
    y = conv(g.node("Relu", y), 3, 8)
    return oc.quantize(g.model(y), RNG.standard_normal((2, 2, *(24,) * dims)).astype(np.float32))


@pytest.fixture(scope="module")
def signals():
    """A network of signals, and one."""
    return network(("t",)), RNG.standard_normal((1, 2, 150)).astype(np.float32)


def test_programs_of_parts_compute_the_same_integers(signals):
    model, x = signals

    def lower(shape):
        return to_program(model, shapes={"x": shape}), frozenset()

    program, _ = lower(x.shape)
    assert sum(element == INT16 for element in program.elements.values()) > 8
    (name,) = program.outputs
    want = run_program(program, {"x": x})[name]
    plan = oc.plan_tiles(model, x.shape, tile=(33,))
    assert plan.tiles == 5
    for tile in plan:
        span, read = (slice(*box[0]) for box in (tile.outputs[name], tile.reads["x"]))
        part = plan.whole.part(tile.outputs[name]).program
        assert np.array_equal(run_program(part, {"x": x[..., read]})[name], want[..., span])
    stream = Stream(StreamPlan(lower, x.shape, 2, None, Options(), select_target(None), "net"), 20)
    stream.plan._compile = Interpreted
    got = [stream.push(x[..., :33]), stream.push(x[..., 33:80]), stream.push(x[..., 80:]), stream.flush()]
    assert np.array_equal(np.concatenate(got, 2), want)


def test_sizes_that_samples_gave_stay_open():
    g = Graph()
    y = g.node("Conv", g.input("x", "n", 2, "t"), g.random(3, 2, 5), pads=[2, 2])
    model = oc.quantize(g.model(y), RNG.standard_normal((4, 2, 24)).astype(np.float32), shapes={"x": (1, 2, 24)})
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["n", 2, "t"]
    assert oc.plan_tiles(model, (1, 2, 50), tile=(9,)).tiles == 6


@pytest.mark.wide
def test_tiles_and_streams_are_the_whole_bit_for_bit(signals):
    model, x = signals
    net = oc.compile(model)
    whole, stream, other = net(x), net.stream(2, 20), net.stream(2, 20)
    got = [stream.push(x[..., :33]), stream.push(x[..., 33:80])]
    other.restore(stream.state())
    assert np.array_equal(np.concatenate([*got, other.push(x[..., 80:]), other.flush()], 2), whole)
    assert np.array_equal(oc.tiled(model, x, tile=(33,), progress=False), whole)
    images, x = network(("h", "w")), RNG.standard_normal((1, 2, 44, 38)).astype(np.float32)
    whole = oc.compile(images, shapes={"x": x.shape})(x)
    assert np.array_equal(oc.tiled(images, x, tile=(44, 20), progress=False), whole)


@pytest.mark.wide
def test_a_mean_of_integers_is_global():
    model, x = network(("t",), pooled=True), RNG.standard_normal((1, 2, 50)).astype(np.float32)
    with pytest.raises(UnsupportedError, match=r"mean over all positions .* cannot be computed in tiles"):
        oc.tiled(model, x, tile=(16,), two_pass=True, progress=False)
    with pytest.raises(UnsupportedError, match="mean over all positions"):
        oc.compile(model).stream(2, 10)
