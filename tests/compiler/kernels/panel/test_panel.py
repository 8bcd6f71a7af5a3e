"""Panels: the order of units, the last tile of a row, and vectors that hold fewer channels than lanes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, build, check_shares, placed
from tests.guard import guarded
from tests.machines import V3
from tests.registry.compiled import run_compiled

import omniconv as oc
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.lower import is_parted
from omniconv.compiler.kernels.panel.tiles import PanelTile, cost_panel, plan_panel
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk

POINT = AxisWalk.flat(1)


def pointwise(target, groups, inputs, outputs, positions, tile):
    """A grouped pointwise layer, its weights as a matrix for each group, input, result and args."""
    rng = np.random.default_rng(groups)
    x = Buffer(placed((1, groups * inputs, positions), target.lanes), target.lanes)
    x.view[...] = rng.integers(-4, 5, x.view.shape)
    y = Buffer(placed((1, groups * outputs, positions), target.lanes, pitch=groups * outputs + 2), target.lanes)
    source, result = x.layout.grid, y.layout.grid
    recipe = Panel(
        batch=1,
        axes=(POINT, POINT, AxisWalk.flat(positions)),
        groups=groups,
        inputs=inputs,
        outputs=outputs,
        x_strides=(source.sn, *source.strides),
        y_strides=(result.sn, *result.strides),
        x_channel=1,
        x_group=inputs,
        y_group=outputs,
        mapped=False,
        tail=False,
        posts=(),
        tile=tile,
        lanes=target.lanes,
    )
    w = rng.integers(-4, 5, (groups, outputs, inputs)).astype(np.float32)
    weights = recipe.pack_weights(w.reshape(groups * outputs, inputs, 1, 1, 1), transposed=False, flip=False)
    args = [x, weights, recipe.pack_bias(None), y, np.zeros(groups * inputs, np.float32), np.zeros(1, np.int64)]
    expected = np.einsum("goi,gip->gop", w, x.view.reshape(groups, inputs, positions)).reshape(1, -1, positions)
    return recipe, args, y, expected


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("positions", [1, 4, 11, 12, 13])
def test_units_in_either_order(inner, cut, positions, target):
    tile = PanelTile(4, 1, 2, 2, inner, cut)
    recipe, args, y, expected = pointwise(target, 3, 5, target.lanes + 1, positions, tile)
    assert np.array_equal(check_shares(recipe, target, args, y), expected)
    panels = recipe.groups * recipe.panels
    assert recipe.units == panels * recipe.blocks
    y.storage[:] = np.nan
    build(recipe, target)([b.storage if isinstance(b, Buffer) else b for b in args], 0, panels)
    done = ~np.isnan(y.view)
    if inner:  # all channels of the first block of two tiles
        last = 8 if positions % 4 == 0 or cut or positions > 8 else positions
        assert done[:, :, : min(last, positions)].all()
        assert not done[:, :, min(last, positions) :].any()
    elif recipe.blocks == 2:  # all positions of half of the panels
        assert done[:, : target.lanes].all()
        assert not done[:, -1].any()


def test_panels_take_turns_while_their_weights_stay_near():
    def inner(groups, inputs, outputs, walk=POINT):
        return plan_panel(Problem(1, (POINT, walk, AxisWalk.flat(49)), groups, inputs, outputs), V3).inner

    assert inner(4, 32, 32)
    assert not inner(4, 64, 64), "64 KiB of weights"
    assert inner(1, 256, 256), "256 KiB, half of the second-level cache, are read in order"
    assert not inner(1, 256, 264)
    assert not inner(4, 32, 32, replace(AxisWalk.flat(9), kernel=3, taps=(3,), ostep=1)), "several taps"


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(("inputs", "positions", "cut"), [(384, 13, False), (640, 14, True), (400, 3, False)])
def test_tiles_that_take_turns_at_spans_make_the_same_sums(inputs, positions, cut, target):
    tile = PanelTile(4, 2, 4, 3, False, cut)
    plain, args, y, _ = pointwise(target, 2, inputs, 3 * target.lanes + 1, positions, tile)
    rng = np.random.default_rng(1)
    args[0].view[...] = rng.standard_normal(args[0].view.shape)
    args[1] = rng.standard_normal(args[1].shape).astype(np.float32)
    args[2] = rng.standard_normal(args[2].shape).astype(np.float32)
    expected = check_shares(plain, target, args, y).copy()
    parted = replace(plain, parted=True)
    room = Buffer(placed((1, parted.room), target.lanes), target.lanes)
    assert np.array_equal(check_shares(parted, target, [*args, room], y), expected)


def test_tiles_take_turns_where_weights_come_from_far_and_are_used_often():
    def parted(positions, inputs=768, outputs=3072):
        tile = plan_panel(Problem(1, (POINT, POINT, AxisWalk.flat(positions)), 1, inputs, outputs), V3)
        return is_parted(pointwise(V3, 1, inputs, outputs, positions, tile)[0], V3)

    assert parted(49)
    assert not parted(30), "few tiles"
    assert not parted(49, inputs=1536, outputs=384), "2.4 MB of weights"


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(("vectors", "cut", "more"), [(0, False, 0), (1, True, 3), (4, False, 1)])
def test_a_channel_that_is_left_over_is_summed_along_its_inputs(vectors, cut, more, target):
    outputs, wide = vectors * target.lanes + 1, max(vectors // 2, 1)
    tile = PanelTile(4, wide, 2, 2, True, cut)
    recipe, args, y, expected = pointwise(target, 2, 2 * target.lanes + more, outputs, 14, tile)
    assert recipe.dots
    assert np.array_equal(check_shares(recipe, target, args, y), expected)
    for other in (
        replace(recipe, outputs=outputs + 1),
        replace(recipe, outputs=outputs + wide * target.lanes - 1),
        replace(recipe, inputs=2 * target.lanes - 1),
        replace(recipe, inputs=257 * target.lanes),
        replace(recipe, x_channel=2),
        replace(recipe, mapped=True),
    ):
        assert not other.dots


@pytest.mark.parametrize("target", [target.name for target in TARGETS])
@pytest.mark.parametrize("kernel", [1, 3])
def test_layers_of_one_channel_have_borders_and_activations(kernel, target):
    """Integers are exact, whatever the order of a sum."""
    layer = oc.cross_correlation(in_channels=37, out_channels=1, kernel_size=kernel, padding=kernel - 1, stride=2)
    spec = oc.Chain((layer, oc.Activation.of("relu")))
    rng = np.random.default_rng(kernel)
    x = rng.integers(-4, 5, (2, 37, 9, 12)).astype(np.float32)
    weights = [(rng.integers(-4, 5, (1, 37, kernel, kernel)).astype(np.float32), np.float32([3]))]
    for layout in ("NCHW", "NHWC"):
        found = run_compiled(spec, x, weights, target=target, layout=layout)
        assert np.array_equal(found, oc.reference(spec, x, weights))


def test_panels_leave_such_a_channel_to_itself():
    for outputs in (17, 49, 257):
        tile = plan_panel(Problem(1, (POINT, POINT, AxisWalk.flat(49)), 1, 64, outputs), V3)
        assert (outputs // 8) % tile.vectors == 0, "the vectors before it fill whole panels"
    of_many = Problem(1, (POINT, POINT, AxisWalk.flat(49)), 1, 64, 48)
    assert cost_panel(replace(of_many, outputs=49), V3) < 1.1 * cost_panel(of_many, V3)


@dataclass(frozen=True)
class Store:
    """A kernel that copies the first ``count`` of some lanes."""

    lanes: int
    count: int
    units: int = 1

    def emit(self, name, target):
        k = Kernel(name, target, self.lanes)
        k.store(k.load(k.arg(0)), k.arg(1), count=self.count)
        return k.finish()


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_part_of_a_vector_is_stored(lanes):
    """Nothing behind it, with masks and without."""
    x = np.arange(lanes, dtype=np.float32)
    for count in range(1, lanes + 1):
        y = guarded(count)
        build(Store(lanes, count), TARGETS[0])([x, y])
        assert np.array_equal(y, x[:count])
        y = np.full(lanes, np.nan, np.float32)
        build(Store(lanes, count), TARGETS[0])([x, y])
        assert np.array_equal(y[:count], x[:count])
        assert np.isnan(y[count:]).all()
