"""Lane kernels, rows and stencils alike: bit-equal sums, and nothing read or written beyond the last channel."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed
from tests.guard import guarded
from tests.machines import V3, V4
from tests.program_oracle import run_conv

from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.lane.rows import ARGS, Lane
from omniconv.compiler.kernels.lane.stencil import Stencil
from omniconv.compiler.kernels.lane.tiles import StencilTile, list_rows, list_stencils, reject_lane
from omniconv.compiler.problem.candidate import find_cheapest
from omniconv.compiler.problem.problem import Problem
from omniconv.gradients import compile_forward
from omniconv.open_size import Opener, Trace
from omniconv.program.steps import ConvStep
from omniconv.spec import Conv
from omniconv.target.select import detect_host, resolve_target

NATIVE = resolve_target("native", detect_host())
WIDE = replace(NATIVE, name="wide", lanes=V4.lanes, registers=V4.registers, traits=V4.traits)
"""The code for 16 lanes; LLVM splits its vectors where the machine has none so long."""
GROUPS = [
    (1, 1, 3), (1, 1, 21), (1, 2, 11), (1, 3, 7), (1, 5, 4), (2, 2, 7), (3, 3, 7), (2, 3, 5), (3, 4, 5), (4, 6, 5),
    (7, 7, 3),
]  # fmt: skip
"""Inputs and outputs of a group, and groups."""
EVERY_SECOND = [
    pytest.param(*group, marks=[pytest.mark.wide] if index % 2 else []) for index, group in enumerate(GROUPS)
]


class Room(Buffer):
    """The storage of one layout; where whole vectors may be read, that is a vector past the end, as in an arena."""

    def __init__(self, layout, lanes, values=None):
        super().__init__(layout, lanes, values)
        if layout.readable:
            self.storage = guarded(layout.extent + lanes)
            self.view = as_strided(self.storage, layout.shape, tuple(4 * stride for stride in layout.strides))
            self.view[...] = values


def recipes(spec, shape, x, y, post, target):
    """The kernels of a layer: a row and a stencil of outputs, where the family serves it."""
    problem = Problem.of(spec, shape)
    if reject_lane(problem, target) is not None:
        return
    for found in (find_cheapest(list_rows(problem, target)), find_cheapest(list_stencils(problem, target))):
        if found is not None:
            family = Stencil if isinstance(found.tile, StencilTile) else Lane
            source, result = x.grid, y.grid
            more = {"ahead": 16} if family is Stencil else {}  # which may ask for what is no memory
            yield family(
                batch=shape[0],
                axes=problem.axes,
                groups=spec.groups,
                inputs=problem.inputs,
                outputs=problem.outputs,
                x_strides=(source.sn, *source.strides),
                y_strides=(result.sn, *result.strides),
                readable=x.readable,
                tail=y.tail,
                posts=(post,),
                tile=found.tile,
                lanes=target.lanes,
                halved=not target.traits.permutes_cross_halves,
                **more,
            )


@pytest.mark.parametrize("target", [*TARGETS, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize(("inputs", "outputs", "groups"), EVERY_SECOND)
def test_ragged_channels(inputs, outputs, groups, target, rng):
    """Every combination of what may be read and written past the last channel, at guard pages and among neighbours."""
    spec = Conv.of(groups * inputs, groups * outputs, 3, padding=((1, 2), (2, 0)), groups=groups)
    shape = (2, spec.in_channels, 4, 7)
    draw = lambda *sizes: rng.integers(-4, 5, sizes).astype(np.float32)
    values, w, b = draw(*shape), draw(*spec.weight_shape), draw(spec.out_channels)
    result = spec.output_shape(shape)
    added = draw(*result)
    expected = run_conv(ConvStep("x", "y", spec, w, b), {"x": values.astype(np.float64)}) + added
    zero = guarded(spec.in_channels + 2 * target.lanes, 0.0)
    for readable in (False, True):
        for tail in (False, True):
            for open_operand in (False, True):
                lanes = target.lanes
                pitch = None if tail else spec.out_channels + 3
                x = Room(placed(shape, lanes, readable=readable), lanes, values)
                y = Buffer(placed(result, lanes, pitch=pitch, tail=tail), lanes)
                r = Room(placed(result, lanes, readable=open_operand), lanes, added)
                grid = r.layout.grid
                post = Post("add", None, PlacedOperand(ARGS, (grid.sn, 1, *grid.strides), open_operand))
                for recipe in recipes(spec, shape, x.layout, y.layout, post, target):
                    weights = recipe.pack_weights(w, transposed=False, flip=False)
                    got = check_shares(recipe, target, [x, weights, recipe.pack_bias(b), y, zero, r], y)
                    assert np.array_equal(got, expected), recipe


@pytest.mark.parametrize("dilation", [1, 2, 3, 50])
def test_rows_of_dilated_layers_are_all_computed_and_neighbours_share_inputs(dilation):
    spec = Conv.of(8, 8, 3, padding=dilation, dilation=dilation, groups=8)
    layout = placed((1, 8, 23, 8), 16)
    order = next(recipes(spec, (1, 8, 23, 8), layout, layout, Post("act"), WIDE)).order
    if dilation == 1:
        assert order == []
        return
    assert sorted(order) == list(range(23))
    steps = [b - a for a, b in pairwise(order)]
    assert steps.count(dilation) == max(23 - dilation, 0)
    tall = placed((1, 8, 5000, 1), 16)
    found = next(recipes(Conv.of(8, 8, 3, padding=2, dilation=2, groups=8), tall.shape, tall, tall, Post("act"), WIDE))
    assert found.order == []  # the code must not grow with the height


def recipe(inputs, outputs, groups, *, readable=False, tail=False, target=WIDE):
    spec = Conv.of(groups * inputs, groups * outputs, 3, padding=1, groups=groups)
    x = placed((1, spec.in_channels, 8, 8), target.lanes, readable=readable)
    y = placed((1, spec.out_channels, 8, 8), target.lanes, tail=tail)
    return next(recipes(spec, x.shape, x, y, Post("act"), target))


def test_the_last_vector_lies_over_the_one_before_it():
    assert recipe(1, 1, 37).firsts == [0, 16, 21]
    assert recipe(1, 1, 37, readable=True).firsts == [0, 16, 21]
    assert recipe(2, 2, 11).firsts == [0, 3]
    assert recipe(3, 3, 7).firsts == [0, 2]
    assert recipe(3, 3, 7, target=V3).firsts == [0, 2, 4, 5]


def test_it_need_not_where_there_are_lanes_to_spare():
    assert recipe(1, 1, 37, readable=True, tail=True).firsts == [0, 16, 32]
    assert recipe(1, 1, 32).firsts == [0, 16]
    assert recipe(1, 1, 9).firsts == [0]  # there is none before it


def test_weights_and_bias_follow_the_overlap():
    found = recipe(1, 1, 21)
    w = np.arange(21 * 9, dtype=np.float32).reshape(21, 1, 3, 3)
    packed = found.pack_weights(w, transposed=False, flip=False).reshape(2, 9, 1, 16)
    assert np.array_equal(packed[0, :, 0], w[:16].reshape(16, 9).T)
    assert np.array_equal(packed[1, :, 0], w[5:].reshape(16, 9).T)
    assert np.array_equal(found.pack_bias(np.arange(21, dtype=np.float32)), [*range(16), *range(5, 21)])


def test_an_operand_that_ends_with_its_channels_counts_too():
    found = recipe(1, 1, 21, readable=True, tail=True)
    for strides, readable, overlapping in (
        ((0, 1, 0, 0, 21), False, True),
        ((0, 1, 0, 0, 21), True, False),
        ((0, 0, 0, 0, 1), False, False),
    ):
        post = Post("add", None, PlacedOperand(ARGS, strides, readable))
        assert replace(found, posts=(post,)).overlapping == overlapping


def test_rows_of_tiles_that_come_from_afar_are_asked_for_ahead():
    def ahead(channels, shape, **more):
        spec = Conv.of(channels, channels, 3, padding=more.get("dilation", 1), groups=channels, **more)
        f = compile_forward(spec, shape, bias=False, layout="NHWC", target="x86-64-v3")
        recipe = f.plan.calls[-1].recipe
        opened = recipe.opened(Opener(Trace(at=len(f.plan.calls[-1].args))))
        return tuple("llvm.prefetch" in each.emit("f", f.target) for each in (recipe, opened))

    assert ahead(128, (16, 128, 56, 56)) == (True, True)
    assert ahead(128, (16, 128, 56, 56), stride=2) == (True, True)
    assert ahead(128, (2, 128, 56, 56)) == (False, True), "the next cache holds them, which open sizes tell later"
    assert ahead(32, (64, 32, 56, 56)) == (False, False), "pixels of two lines are foreseen"
    dilated = ahead(128, (16, 128, 56, 56), dilation=2)
    assert dilated == (False, False), "the next tile of a dilated layer is not below"
