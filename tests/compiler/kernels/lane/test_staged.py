"""Staged kernels: the sums of the lane kernel, for every geometry, at guard pages and on any number of threads."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed
from tests.compiler.kernels.lane.test_lane import WIDE
from tests.compiler.memory.test_planner import words
from tests.guard import guarded
from tests.machines import MACHINES, V2, V3
from tests.program_oracle import run_conv

import omniconv as oc
from omniconv.compiler.code.build import compile_assembly
from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.lane.rows import ARGS, Lane
from omniconv.compiler.kernels.lane.staged import Staged
from omniconv.compiler.kernels.lane.tiles import count_parts, list_rows
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.problem.candidate import find_cheapest
from omniconv.compiler.problem.problem import Problem
from omniconv.program.from_spec import program_of
from omniconv.program.steps import ConvStep
from omniconv.reference import random_weights
from omniconv.spec import Conv

GEOMETRIES = [
    ((6, 7), 3, {"padding": ((1, 2), (2, 0))}),
    ((9, 8), 3, {"padding": 2, "dilation": 2}),
    ((8, 9), 3, {"padding": 1, "stride": 2}),
    ((1, 11), 4, {"padding": 2}),
    ((3, 4, 5), (3, 2, 3), {"padding": 1}),
    ((17,), 9, {"padding": 4}),
    ((4, 4), 5, {"padding": 40}),  # outputs much wider than inputs
    ((9, 4), 3, {"padding": 10, "dilation": 7}),
    ((5, 4), 4, {"padding": 1, "stride": 2, "transposed": True}),
]


@pytest.mark.parametrize("target", [*TARGETS, WIDE], ids=lambda t: t.name)
@pytest.mark.parametrize(("sizes", "kernel", "options"), GEOMETRIES)
def test_sums_are_those_of_the_lane_kernel(sizes, kernel, options, target, rng):
    spec = Conv.of(96, 96, kernel, dims=len(sizes), groups=96, **options)
    shape = (2, 96, *sizes)
    draw = lambda *sizes: rng.integers(-4, 5, sizes).astype(np.float32)
    values, w, b, added = draw(*shape), draw(*spec.weight_shape), draw(96), draw(*spec.output_shape(shape))
    expected = run_conv(ConvStep("x", "y", spec, w, b), {"x": values.astype(np.float64)}) + added
    problem = Problem.of(spec, shape)
    tile = find_cheapest(list_rows(problem, target)).tile
    x = Buffer(placed(shape, target.lanes, pitch=256), target.lanes, values)
    y = Buffer(placed(expected.shape, target.lanes, pitch=99), target.lanes)
    r = Buffer(placed(expected.shape, target.lanes), target.lanes, added)
    source, result, grid = (each.layout.grid for each in (x, y, r))
    post = Post("add", None, PlacedOperand(ARGS, (grid.sn, 1, *grid.strides), False))
    plain = Lane(
        batch=2,
        axes=problem.axes,
        groups=96,
        inputs=1,
        outputs=1,
        x_strides=(source.sn, *source.strides),
        y_strides=(result.sn, *result.strides),
        readable=False,
        tail=False,
        posts=(post,),
        tile=tile,
        lanes=target.lanes,
        halved=not target.traits.permutes_cross_halves,
    )
    for parts in (1, 3):
        recipe = Staged.of(plain, parts)
        assert (recipe.units, recipe.blocks) == (2 * parts, 1)
        weights = recipe.pack_weights(w, transposed=spec.transposed, flip=spec.flip)
        zero, room = guarded(96 + 2 * target.lanes, 0.0), guarded(recipe.scratch)
        got = check_shares(recipe, target, [x, weights, recipe.pack_bias(b), y, zero, r, room], y)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("channels", "sizes", "kernel", "staged"),
    [
        (512, (14, 14), 3, True),
        (256, (14, 14), 5, True),
        (256, (14, 14), 3, False),  # 30 pixels under a tile, 32 fit
        (512, (20, 20), 3, False),  # a stencil
        (128, (20, 20), 7, True),
        (128, (20, 20), 5, False),  # 60 pixels under a tile, 64 fit
        (520, (14, 14), 5, False),  # pixels in different sets
        (1024, (5, 5), 3, True),
    ],
)
def test_crowded_images_that_fit_are_staged(channels, sizes, kernel, staged, rng):
    spec = Conv.of(channels, channels, kernel, padding=kernel // 2, groups=channels)
    shape = (2, channels, *sizes)
    weights, x = random_weights(spec, rng), rng.standard_normal(shape).astype(np.float32)
    want = np.moveaxis(oc.compile(spec, shape, weights)(x), 1, -1)
    for machine in (V2, V3, MACHINES["zen3"], MACHINES["sierra-forest"]):
        found = plan(program_of(spec, shape, weights), machine, Options(layout="NHWC"))
        assert words(found)[-1:] == ["lane"]
        assert isinstance(found.calls[-1].recipe, Staged) == staged
        assert ("staged: " in found.calls[-1].how) == staged
    results = []
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    for threads in (1, 2, 3):
        f = oc.compile(spec, shape, weights, layout="NHWC", threads=threads)
        results.append(f(x))
        assert np.allclose(results[-1], want, atol=1e-5)
        assert np.array_equal(results[-1], results[0])


@pytest.mark.parametrize("target", MACHINES.values(), ids=list(MACHINES))
def test_parts_fit_and_are_whole(target):
    narrowest, room = target.traits.line_bytes // 2, target.l1_bytes * 4 // 5
    for size in (*range(1, 30), 80):
        for channels in (64, 96, 256, 512, 960, 1000):
            spec = Conv.of(channels, channels, 3, padding=1, groups=channels)
            problem = Problem.of(spec, (1, channels, size, size))
            parts = count_parts(problem, target, find_cheapest(list_rows(problem, target)).tile)
            least = 4 * size * size * narrowest
            if parts is None:
                assert least > target.cache_bytes * 4 // 5 or channels % narrowest
            elif least > room:
                assert channels == parts * narrowest
            else:
                assert channels % (parts * narrowest) == 0
                assert 4 * size * size * channels // parts <= room


def test_sums_stay_in_registers(rng):
    """Where pixels of one chunk of taps were kept for the next one, sums went through the stack."""
    machine, spec = MACHINES["zen3"], Conv.of(128, 128, 7, padding=3, groups=128)
    shape = (1, 128, 28, 28)
    found = plan(program_of(spec, shape, random_weights(spec, rng)), machine, Options(layout="NHWC"))
    recipe = found.calls[-1].recipe
    assert isinstance(recipe, Staged)
    assert recipe.tile.chunk < 7
    assembly = compile_assembly(recipe.emit("staged", machine), machine)
    inner = [block for block in re.split(r"\n(?=\.LBB)", assembly) if block.count("vfmadd") > 20]
    assert inner
    assert not [line for block in inner for line in block.splitlines() if "ymm" in line and "(%rsp)" in line]
