"""Weight gradients: which kernel serves which layer, the written bound, special values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gradient_oracle import gradients
from tests.machines import HASWELL, NEHALEM, ZEN_4
from tests.registry.compiled import channels_to

from omniconv.compiler.kernels.weights.lane import LaneSums, plan_lane_sums
from omniconv.compiler.kernels.weights.lower import serves_lane
from omniconv.compiler.kernels.weights.panel import PanelSums, plan_order, plan_panel_sums
from omniconv.compiler.kernels.weights.staged import StagedSums
from omniconv.compiler.kernels.weights.sums import SumAxis, Sums
from omniconv.errors import DataError, LimitError, ShapeError, SpecError
from omniconv.gradients import compile_forward, compile_input_gradient, compile_weight_gradient
from omniconv.program.steps import WeightGradientStep
from omniconv.reference.bounds import gamma
from omniconv.spec import Conv
from omniconv.target.select import resolve_target

MACHINES = [resolve_target("native", host) for host in (NEHALEM, HASWELL, ZEN_4)]
DEPTHWISE = Conv.of(128, 128, 3, padding=1, groups=128)
LAYERS = {
    "depthwise": (DEPTHWISE, (16, 128, 56, 56), True),
    "multiplier": (Conv.of(32, 96, 5, padding=2, groups=32), (4, 32, 20, 20), True),
    "two a group": (Conv.of(64, 64, 3, padding=1, groups=32), (4, 64, 28, 28), True),
    "transposed": (Conv.of(64, 64, 4, stride=2, padding=1, groups=64, transposed=True), (4, 64, 14, 14), True),
    "dense": (Conv.of(128, 128, 3, padding=1), (16, 128, 56, 56), False),
    "wide groups": (Conv.of(256, 256, 3, padding=1, groups=4), (2, 256, 14, 14), False),
    "one channel": (Conv.of(1, 1, 3, padding=1), (2, 1, 14, 14), False),
}


def sums_of(spec, shape):
    return Sums.of(spec, shape, spec.output_shape(shape))


@pytest.mark.parametrize("target", [pytest.param(t, id=f"native-{t.cpu}") for t in MACHINES])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_kernel_of_a_layer_is_a_function_of_layer_and_machine(layer, target):
    spec, shape, lane = LAYERS[layer]
    sums = sums_of(spec, shape)
    assert serves_lane(sums, target) == lane
    if lane:
        tile, inner = plan_lane_sums(sums, target), min(sums.narrow, sums.wide)
        assert tile.down * tile.across * inner + tile.step + 1 <= target.registers
    else:
        tile = plan_panel_sums(sums, target)
        assert tile.rows * tile.vectors + tile.vectors + 1 <= target.registers


def test_positions_inside_are_those_that_meet_one():
    for size in (1, 2, 5, 9):
        for kernel, stride, dilation, before in ((1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 0), (4, 2, 3, 5), (2, 3, 1, 4)):
            count = (size + 2 * before - (kernel - 1) * dilation - 1) // stride + 1
            if count < 1:
                continue
            axis = SumAxis(count, size, kernel, stride, dilation, before)
            meets = [[q for q in range(count) if 0 <= q * stride + t * dilation - before < size] for t in range(kernel)]
            assert [list(range(*axis.inside(t))) for t in range(kernel)] == meets
            every = sorted(set.intersection(*map(set, meets)))
            assert list(range(*axis.interior)) == every
            assert axis.bordered == (len(every) < count)


def test_channels_first_rows_are_copied_a_vector_of_channels_at_a_time_while_one_row_fits_the_cache():
    for width, kind in ((3136, StagedSums), (100_000, LaneSums)):
        spec = Conv.of(16, 16, 9, dims=1, padding=4, groups=16)
        plan = compile_weight_gradient(spec, (2, 16, width), bias=False, target="x86-64-v3").plan
        assert type(plan.calls[-3].recipe) is kind
        assert plan.target.cache_bytes >= 2 * plan.scratch_bytes * (kind is StagedSums)


def test_channels_last_values_are_copied_where_their_pixels_share_few_sets_of_the_cache():
    for channels, kind in ((256, LaneSums), (512, StagedSums), (520, LaneSums), (1024, StagedSums)):
        spec = Conv.of(channels, channels, 3, padding=1, groups=channels)
        f = compile_weight_gradient(spec, (8, channels, 14, 14), bias=False, layout="NHWC", target="x86-64-v3")
        assert type(f.plan.calls[-3].recipe) is kind, channels


def test_pointwise_layers_hold_the_side_that_is_read_faster():
    target = resolve_target("x86-64-v3", ZEN_4)
    near, far = (8, 6, 6), (8, 48, 48)
    line = target.traits.line_bytes // target.element.bytes
    rows = [(16, 96, far, (True, line)), (96, 16, far, (False, line)), (96, 576, near, (False, 0))]
    for into, out, (n, *sizes), want in [*rows, (576, 96, near, (True, 0)), (4, 4, near, (False, 0))]:
        positions = n * sizes[0] * sizes[1]
        sums = Sums(1, (SumAxis(1, 1), SumAxis(1, 1), SumAxis(positions, positions)), 1, out, into)
        assert plan_order(sums, target) == want, (into, out)


@pytest.mark.parametrize("channels", [(9, 13), (35, 20), (5, 70)], ids=str)
@pytest.mark.parametrize("sizes", [(2, 3, 5), (7, 31, 37)], ids=str)
def test_gradients_of_pointwise_layers_are_exact_on_integers_in_any_order(channels, sizes):
    n, *area = sizes
    spec, shape = Conv.of(*channels, 1), (n, channels[0], *area)
    rng = np.random.default_rng(0)
    x, dy = (rng.integers(-4, 5, each).astype(np.float32) for each in (shape, spec.output_shape(shape)))
    want = np.einsum("nohw,nihw->oi", dy, x).reshape(spec.weight_shape)
    for threads in (1, 2):
        f = compile_weight_gradient(spec, shape, bias=False, layout="NHWC", threads=threads)
        given = {"x": channels_to("NHWC", x), "dy": channels_to("NHWC", dy)}
        np.testing.assert_array_equal(f.run(given)["dw"], want)


def test_rows_that_come_from_afar_are_asked_for_ahead():
    def ahead(layer, shape, layout="NHWC"):
        f = compile_weight_gradient(layer, shape, bias=False, layout=layout, target="x86-64-v3")
        return f.plan.calls[-3].recipe.ahead

    assert ahead(DEPTHWISE, (16, 128, 56, 56)) == 16
    assert ahead(DEPTHWISE, (1, 128, 14, 14)) == 0, "both values stay in the cache"
    assert ahead(Conv.of(128, 128, 9, dims=1, groups=128), (16, 128, 3136)) == 0, "one row is more than the cache holds"
    assert ahead(DEPTHWISE, (16, 128, 56, 56), "NCHW") == 0, "copies are near"


BOUNDED = [
    (Conv.of(16, 16, 3, padding=1, groups=16), (3, 16, 40, 44), "NHWC", LaneSums),
    (Conv.of(16, 16, 3, padding=1, groups=16), (3, 16, 40, 44), "NCHW", StagedSums),
    (Conv.of(512, 512, 3, padding=1, groups=512), (8, 512, 14, 14), "NHWC", StagedSums),
    (Conv.of(9, 11, 3, padding=1), (3, 9, 40, 44), "NHWC", PanelSums),
    (Conv.of(9, 11, 1), (3, 9, 40, 44), "NCHW", PanelSums),
    (Conv.of(9, 40, 1), (3, 9, 40, 44), "NHWC", PanelSums),
]


@pytest.mark.parametrize(("spec", "shape", "layout", "kind"), BOUNDED, ids=lambda value: str(value)[:40])
def test_errors_are_within_the_written_bound(spec, shape, layout, kind):
    """All of one sign, where errors add up; and the bound is far below that of one chain."""
    rng = np.random.default_rng(3)
    x, dy = (rng.uniform(0.5, 1, s).astype(np.float32) for s in (shape, spec.output_shape(shape)))
    f = compile_weight_gradient(spec, shape, bias=False, layout=layout)
    recipe = next(call.recipe for call in f.plan.calls if isinstance(call.recipe, LaneSums | PanelSums))
    assert type(recipe) is kind
    assert recipe.terms < dy[:, 0].size / 3
    got = f.run({"x": channels_to(layout, x), "dy": channels_to(layout, dy)})["dw"]
    want = gradients(spec, x, np.zeros(spec.weight_shape), None, dy).dw
    assert np.all(np.abs(got - want) <= gamma(recipe.terms, 2.0**-24) * want)
    assert not np.array_equal(got, want)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "spec", [Conv.of(11, 11, 3, groups=11), Conv.of(12, 12, 2, groups=3), Conv.of(5, 7, 3)], ids=str
)
def test_what_is_not_finite_reaches_the_weights_that_it_meets(spec, layout):
    shape = (2, spec.in_channels, 6, 11)
    rng = np.random.default_rng(0)
    x, dy = (rng.integers(1, 4, s).astype(np.float32) for s in (shape, spec.output_shape(shape)))
    x[0, 1, 0, 0], x[1, 2, 5, 10], dy[0, 3, 2, 1], dy[1, -1, -1, -1] = np.nan, np.inf, -np.inf, np.nan
    f = compile_weight_gradient(spec, shape, layout=layout)
    got = f.run({"x": channels_to(layout, x), "dy": channels_to(layout, dy)})
    want = gradients(spec, x, np.zeros(spec.weight_shape), np.zeros(spec.out_channels), dy)
    np.testing.assert_array_equal(got["dw"], want.dw)
    np.testing.assert_array_equal(got["db"], want.db)
    assert 0 < np.isfinite(want.dw).sum() < want.dw.size


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_what_is_not_finite_reaches_the_inputs_that_it_meets(mode):
    spec = Conv.of(3, 3, 3, padding=[(2, 1), (0, 2)], groups=3, padding_mode=mode)
    shape = (1, 3, 7, 8)
    dy, w = np.ones(spec.output_shape(shape), np.float32), np.ones(spec.weight_shape, np.float32)
    dy[0, 0, 0, 0], dy[0, 1, 4, 4], dy[0, 2, -1, -1] = np.inf, np.nan, -np.inf
    got = compile_input_gradient(spec, shape).run({"dy": dy, "w": w})["dx"]
    np.testing.assert_array_equal(got, gradients(spec, np.zeros(shape), w, None, dy).dx)
    assert np.isinf(got).any()


def test_what_does_not_fit_is_refused():
    spec = Conv.of(4, 6, 3, padding=1)
    step = WeightGradientStep("x", "dw", "dy", spec)
    with pytest.raises(ShapeError, match=r"a gradient of shape \(1, 6, 5, 4\); need shape \(1, 6, 5, 5\)"):
        step.output_shape({"x": (1, 4, 5, 5), "dy": (1, 6, 5, 4)})
    with pytest.raises(ShapeError, match="padding_mode='reflect'; need an input that is padded already"):
        WeightGradientStep("x", "dw", "dy", Conv.of(4, 6, 3, padding=1, padding_mode="reflect")).output_shape({})
    with pytest.raises(ShapeError, match="has 5 channels"):
        compile_weight_gradient(spec, (1, 5, 8, 8))
    with pytest.raises(SpecError, match="layout="):
        compile_forward(spec, (1, 4, 8, 8), layout="NWC")
    with pytest.raises(SpecError, match="dtype="):
        compile_input_gradient(spec, (1, 4, 8, 8), dtype="int8")
    with pytest.raises(DataError, match="spec is str; need one layer"):
        compile_forward("depthwise", (1, 4, 8, 8))
    with pytest.raises(LimitError, match="input and output together"):
        compile_weight_gradient(spec, (64, 4, 512, 512), memory_limit=2**20)


def test_results_go_where_the_caller_wants_them():
    f = compile_forward(Conv.of(2, 3, 1), (1, 2, 4, 4), bias=False)
    given = {"x": np.ones((1, 2, 4, 4), np.float32), "w": np.ones((3, 2, 1, 1), np.float32)}
    room = np.full((1, 3, 4, 4), np.nan, np.float32)
    assert f.run(given, out={"y": room})["y"] is room
    assert np.all(room == 2)
    with pytest.raises(ShapeError, match=r"outputs \['z'\] were given; need exactly \['y'\]"):
        f.run(given, out={"z": room})
    with pytest.raises(ShapeError, match=r"the array for output 'y' has shape \(3, 4, 4\)"):
        f.run(given, out={"y": room[0]})
    with pytest.raises(DataError, match="output 'y' has dtype float64"):
        f.run(given, out={"y": room.astype(np.float64)})
    with pytest.raises(DataError, match="not contiguous, aligned and writable"):
        f.run(given, out={"y": np.zeros((1, 3, 4, 8), np.float32)[..., ::2]})
    both = np.zeros(80, np.float32)
    given["x"] = both[:32].reshape(1, 2, 4, 4)
    with pytest.raises(DataError, match="shares memory with another one"):
        f.run(given, out={"y": both[16:64].reshape(1, 3, 4, 4)})
