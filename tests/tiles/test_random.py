"""Random networks in random tiles: equal to the whole; and refusals, each of which is global indeed."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from tests.program_oracle import run_program
from tests.seeds import NETWORKS
from tests.tiles.nets import draw_global, draw_image, draw_net

import omniconv as oc
from omniconv.analysis.tiling import tiling
from omniconv.compiler.planning.options import Options
from omniconv.errors import UnsupportedError
from omniconv.program.keep_axes import keep_axes
from omniconv.runtime.executable import Executable
from omniconv.target.select import select_target
from omniconv.tiles import plan_tiles, tiled
from omniconv.tiles.lines import Whole, cut_line

WIDE = [pytest.param(seed, marks=pytest.mark.wide) for seed in range(20, NETWORKS)]


def draw_tile(program, seed):
    r = Random(seed)
    return [r.randint(max(1, size // 4), size) for size in program.shapes[program.outputs[0]][2:]]


@pytest.mark.parametrize("seed", range(40))
def test_tiles_compute_what_the_whole_computes_in_exact_arithmetic(seed):
    program = draw_net(seed)
    x = draw_image(program, seed)
    plan = plan_tiles(program, x.shape, tile=draw_tile(program, seed))
    want = run_program(program, {"x": x})[program.outputs[0]]
    got = np.full(want.shape, np.nan)
    for tile in plan:
        (box,) = tile.outputs.values()
        part = plan.whole.part(box)
        inside = (slice(None), slice(None), *(slice(*span) for span in tile.reads["x"]))
        where = (slice(None), slice(None), *(slice(*span) for span in box))
        assert plan.whole.reads(part) == (tile.reads["x"],)
        got[where] = run_program(part.program, {"x": x[inside]})[part.program.outputs[0]]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", [*range(3), *WIDE])
def test_pieces_that_are_not_cut_are_those_that_would_be(seed, monkeypatch):
    """Of a longer image, on the grid: what is told from the two ends against cutting every piece."""
    program = draw_net(seed)
    whole = Whole(keep_axes(program, program.outputs), program.outputs, ("x",))
    for axis, found in enumerate(tiling(program).axes):
        told = cut_line(whole, axis, found.grid, found.grid)
        monkeypatch.setattr("omniconv.tiles.lines._LOOKS", 0)
        assert [(one.outputs, one.reads) for one in told] == [
            (one.outputs, one.reads) for one in cut_line(whole, axis, found.grid, found.grid)
        ]
        every = cut_line(whole, axis, found.grid, found.grid)
        assert len({(a.kind, b.kind) for a, b in zip(told, every, strict=True)}) == len({a.kind for a in every})
        monkeypatch.undo()


def test_few_pieces_of_a_long_line_are_cut(monkeypatch):
    layers = (
        oc.Conv.of(1, 2, 5, padding=2, stride=2),
        oc.Resize(2, "linear"),
        oc.Conv.of(2, 1, 3, padding=2, dilation=2),
    )
    cut = []
    part = Whole.part
    monkeypatch.setattr(Whole, "part", lambda self, spans: cut.append(spans) or part(self, spans))
    plan = plan_tiles(oc.Chain(layers), (1, 1, 64, 40000), "200K")
    assert plan.tiles > 200
    assert plan.kinds <= 9
    assert len(cut) < 80


@pytest.mark.parametrize("seed", [*range(2), *WIDE])
def test_tiles_are_the_whole_bit_for_bit(seed):
    program = draw_net(seed)
    x = draw_image(program, seed)
    whole = Executable.of(program, select_target(None), Options(exact=True))(x)
    got = tiled(program, x, tile=draw_tile(program, seed), exact=True, progress=False)
    assert np.array_equal(got, whole)


@pytest.mark.parametrize("seed", [*range(12), *WIDE])
def test_what_is_refused_reads_all_positions(seed):
    """By brute force: NaN in one row or column of the input after the other reaches all positions of what the step
    makes, or none.
    """
    program, name, axes = draw_global(seed)
    x = draw_image(program, seed)
    with pytest.raises(UnsupportedError, match=r"(mean|max|min) over all positions 'squeeze'|softmax"):
        plan_tiles(program, x.shape)
    assert tiling(program).axes == ()
    program.outputs = (name,)
    for axis in axes:
        reached = 0
        for n in range(x.shape[axis]):
            marked = x.copy()
            marked[(*(slice(None),) * axis, n)] = np.nan
            read = np.isnan(run_program(program, {"x": marked})[name])
            assert np.array_equal(read.all(axes), read.any(axes))
            reached += read.any()
        assert reached > 1
