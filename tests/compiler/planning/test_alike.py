"""Calls of one plan that share machine code: the same bits from fewer kernels; what nothing is like stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from tests.graph.small_models import Graph

from omniconv.compiler.code.build import Source
from omniconv.compiler.code.opened import OpenKernel
from omniconv.compiler.kernels.mapping import Map
from omniconv.compiler.kernels.reduction import Reduce
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.planning.alike import share_code
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.graph import to_program
from omniconv.program.element import FLOAT64
from omniconv.runtime.executable import Executable
from omniconv.target.select import select_target

TARGET = select_target(None)


def mobile_network(channels, height, width):
    """Blocks as MobileNet has them: pointwise to more channels, depthwise, pointwise to fewer, added."""
    g, before = Graph(), channels[0]
    x = g.input("x", 1, before, height, width)
    for after in channels:
        wide = 6 * before
        y = g.node("Clip", g.conv(x, wide, before, k=1), g.const(0.0), g.const(6.0))
        y = g.node("Relu", g.conv(y, wide, wide, group=wide))
        y = g.conv(y, after, wide, k=1)
        x, before = (g.node("Add", y, x) if after == before else y), after
    return g.model(x)


def joined_network(channels):
    """Pointwise layers from few and from many channels, whose results are joined side by side."""
    g = Graph()
    x = g.input("x", 1, channels, 9, 7)
    wide = g.node("Relu", g.conv(x, 2 * channels, channels, k=1))
    parts = [g.conv(x, channels, channels, k=1), g.conv(wide, channels, 2 * channels, k=1)]
    joined = g.node("Concat", *(g.node("Relu", part) for part in parts), axis=1)
    return g.model(g.node("Relu", g.conv(joined, 8, 2 * channels, k=1)))


def both(program, target, options):
    """The plan as it is and with shared code, run on the same values; the numbers of kernels."""
    alone = plan(program, target, options)
    shared = share_code(alone)
    x = {
        name: np.random.default_rng(7).standard_normal(program.shapes[name]).astype(program.element.dtype)
        for name in program.inputs
    }
    found = [Executable(each, threads=options.threads) for each in (alone, shared)]
    for name, want in found[0].run(x).items():
        np.testing.assert_array_equal(found[1].run(x)[name], want)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(64, 48), (33, 29)])
def test_bands_and_layers_share_kernels_and_keep_their_bits(size, threads):
    program = to_program(mobile_network((16, 16, 24, 24, 32), *size))
    alone, shared = both(program, TARGET, Options(threads=threads, cache=2**18))
    assert shared.kernels < alone.kernels
    assert "for several sizes" in shared.explain()
    assert any(isinstance(call.recipe, OpenKernel) for call in shared.plan.calls)


def test_each_shared_kernel_is_begun_once_while_others_are_written():
    begun = []
    shared = share_code(plan(to_program(mobile_network((16, 16, 24, 24), 64, 48)), TARGET), begun.extend)
    calls = [call for call in shared.calls if isinstance(call.recipe, OpenKernel)]
    assert calls
    assert len(set(begun)) == len(begun)
    assert {Source.of(call.recipe, call.what, TARGET) for call in calls} == set(begun)


def test_layers_with_several_taps_keep_their_channels_in_their_code():
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", 1, 3, 224, 224), 32, 3, strides=[2, 2]))
    program = to_program(g.model(g.conv(g.node("Relu", g.conv(x, 32, 32, group=32)), 16, 32, k=1)))
    alone = plan(program, TARGET)
    first = [call for call in alone.calls if call.step == 0]
    kept = [call for call in share_code(alone).calls if call.step == 0]
    assert first
    assert kept == first


def test_elements_of_eight_bytes():
    program = replace(to_program(mobile_network((16, 16, 24, 24), 40, 24)), element=FLOAT64)
    alone, shared = both(program, TARGET, Options(cache=2**18))
    assert shared.kernels < alone.kernels


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3", "x86-64-v2", "neon"])
def test_a_shared_kernel_that_may_not_write_past_its_channels_can_be_written_for_every_target(name):
    program = to_program(joined_network(58))
    alone = plan(program, select_target(name))
    shared = share_code(alone)
    assert [call.recipe.units for call in shared.calls] == [call.recipe.units for call in alone.calls]


@pytest.mark.parametrize("channels", [29, 58])
def test_results_side_by_side_keep_their_bits(channels):
    alone, shared = both(to_program(joined_network(channels)), TARGET, Options())
    assert shared.kernels <= alone.kernels


def test_what_nothing_is_like_stays_as_it_is():
    g = Graph()
    found = plan(to_program(g.model(g.conv(g.input("x", 1, 8, 9, 9), 8, 8))), TARGET)
    assert share_code(found) is found


def test_copies_maps_and_means_of_several_channels_share_kernels():
    """What is joined to more and more channels, normalised and weighed by its means."""
    g = Graph()
    x = g.input("x", 1, 16, 9, 7)
    parts, weighed = [g.node("Relu", x)], []
    for _ in range(4):
        joined = g.node("Concat", *parts, axis=1)
        weighed.append(g.node("Mul", joined, g.node("GlobalAveragePool", joined)))
        parts.append(g.conv(weighed[-1], 16, 16 * len(parts), k=1))
    weighed = [g.node("GlobalAveragePool", each) for each in (*weighed, parts[-1])]
    alone, shared = both(to_program(g.model(g.node("Concat", *weighed, axis=1))), TARGET, Options())
    texts = {call.recipe.text for call in shared.plan.calls if isinstance(call.recipe, OpenKernel)}
    for recipe in (Copy, Map, Reduce):
        assert any(text.startswith(f"open kernel of {recipe.__name__}(") for text in texts), recipe
    assert shared.kernels < alone.kernels
