"""Layers of integers: bit for bit what the oracle computes, on every level and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from tests.machines import NEON
from tests.program_oracle import run_program

from omniconv.compiler.code.build import compile_assembly, compile_object
from omniconv.compiler.kernels.quantised.byte_lane import QuantisedByteLane
from omniconv.compiler.kernels.quantised.filtered import QuantisedFilter
from omniconv.compiler.kernels.quantised.lane import QuantisedLane
from omniconv.compiler.kernels.quantised.panel import QuantisedPanel
from omniconv.compiler.kernels.quantised.quads import QuantisedQuads, split_weights
from omniconv.compiler.kernels.quantised.ramp import find_ramp
from omniconv.compiler.kernels.quantised.scaling import QuantisedScaling, find_factors
from omniconv.compiler.kernels.quantised.table import QuantisedTable
from omniconv.compiler.kernels.quantised.turn import QuantisedTurn, find_reciprocal, multiply_add
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.errors import UnsupportedError
from omniconv.program.levels import Levels
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConcatStep,
    PostOp,
    QuantisedConvStep,
    QuantisedDenseStep,
    QuantisedMapStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    ReduceStep,
    SliceStep,
)
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv
from omniconv.target.select import available_targets, detect_host, select_target

LEVELS = Levels(0.05, -128, 127)
INPUT = Levels(0.03125, -100, 155)
LAYERS = {
    "pointwise": ((1, 8, 5, 7), Conv.of(8, 17, 1)),
    "pointwise_strided": ((2, 5, 7, 6), Conv.of(5, 16, 1, stride=2)),
    "dense": ((2, 7, 5, 9), Conv.of(7, 19, 3, padding=1)),
    "filtered": ((2, 35, 9, 14), Conv.of(35, 41, 3, padding=1)),
    "filtered_mirrored": ((1, 32, 12, 8), Conv.of(32, 32, 3, padding=[(0, 2), (1, 0)], flip=True)),
    "mirrored": ((1, 6, 5, 5), Conv.of(6, 8, 3, padding=[(0, 1), (2, 0)], flip=True)),
    "stem": ((1, 3, 13, 17), Conv.of(3, 32, 3, padding=1, stride=2)),
    "grouped": ((1, 24, 6, 7), Conv.of(24, 36, 3, padding=1, groups=3)),
    "groups_of_four": ((1, 12, 5, 9), Conv.of(12, 12, 3, padding=1, groups=3)),
    "groups_of_eight": ((2, 24, 5, 9), Conv.of(24, 24, 3, padding=1, stride=2, groups=3)),
    "groups_of_three": ((1, 21, 5, 9), Conv.of(21, 21, 3, padding=1, groups=7)),
    "groups_that_widen": ((1, 10, 5, 9), Conv.of(10, 35, 3, padding=1, groups=5)),
    "groups_that_narrow": ((1, 24, 5, 9), Conv.of(24, 9, (1, 3), padding=(0, 2), groups=3)),
    "multiplier_4": ((1, 7, 5, 9), Conv.of(7, 28, 5, padding=2, groups=7)),
    "multiplier": ((1, 6, 5, 9), Conv.of(6, 12, 3, padding=1, groups=6)),
    "depthwise": ((2, 20, 7, 11), Conv.of(20, 20, 3, padding=1, groups=20)),
    "depthwise_5": ((1, 33, 9, 14), Conv.of(33, 33, 5, padding=2, stride=2, groups=33)),
    "depthwise_dilated": ((1, 16, 11, 12), Conv.of(16, 16, 3, padding=4, dilation=3, groups=16)),
    "depthwise_1d": ((1, 40, 31), Conv.of(40, 40, 7, dims=1, padding=[(4, 2)], groups=40)),
    "depthwise_3d": ((1, 9, 4, 5, 6), Conv.of(9, 9, 3, dims=3, padding=1, groups=9)),
    "volume": ((1, 5, 3, 4, 7), Conv.of(5, 6, 2, dims=3, padding=[(1, 1), (0, 0), (1, 0)], dilation=(1, 2, 1))),
}


def layer_program(
    shape: tuple[int, ...], spec: Conv, seed: int = 0, bias: int = 3000, spread: float = 1.0, most: int = 127
) -> Program:
    """A float input, quantised; the layer; its result as numbers of scale 1."""
    rng = np.random.default_rng(seed)
    program = Program(("x",), shapes={"x": shape})
    program.add(QuantisedMapStep("x", "q", None, levels=INPUT), shape)
    w = rng.integers(-most, most + 1, spec.weight_shape).astype(np.int16)
    b = rng.integers(-bias, bias + 1, spec.out_channels).astype(np.int32)
    b[0] = bias
    factor = rng.uniform(0.5, 1.5, spec.out_channels) * spread / (60 * np.sqrt(np.prod(spec.weight_shape[1:])))
    program.add(
        QuantisedConvStep("q", "z", w, b, factor.astype(np.float32), INPUT, LEVELS, spec), spec.output_shape(shape)
    )
    program.add(QuantisedMapStep("z", "y", 1.0), spec.output_shape(shape))
    program.outputs = ("y",)
    return program


def table_program(shape: tuple[int, ...], seed: int = 0) -> Program:
    """A float input, quantised; some table; its result as numbers of scale 1."""
    table = np.random.default_rng(seed).integers(LEVELS.low, LEVELS.high + 1, INPUT.high - INPUT.low + 1)
    program = Program(("x",), shapes={"x": shape})
    program.add(QuantisedMapStep("x", "q", None, levels=INPUT), shape)
    program.add(QuantisedTableStep("q", "z", INPUT, table.astype(np.int16), LEVELS), shape)
    program.add(QuantisedMapStep("z", "y", 1.0), shape)
    program.outputs = ("y",)
    return program


def check(program: Program, target: str = "native", threads: int = 1, layout: str = "NCHW") -> None:
    """Equal to the oracle in every bit, for inputs that reach both ends of the levels."""
    run = Executable.of(program, select_target(target), Options(threads=threads, layout=layout))
    rng = np.random.default_rng(1)
    inputs = {name: (3 * rng.standard_normal(program.shapes[name])).astype(np.float32) for name in program.inputs}
    given = {name: np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x for name, x in inputs.items()}
    for name, y in run.run(given).items():
        want = run_program(program, inputs)[name]
        np.testing.assert_array_equal(np.moveaxis(y, -1, 1) if layout == "NHWC" else y, want.astype(np.float32))
        assert len(np.unique(want)) > 1


@pytest.mark.parametrize("channels", [3, 32])
def test_quantising_by_a_reciprocal_is_a_division(channels: int) -> None:
    """Next to all middles between two integers, at the ends, beyond them, and for what is no number."""
    scale = float(np.float32(0.0371))
    levels, shape = Levels(scale, -100, 155), (2, channels, 1440 // channels + 3, 2)
    program = Program(("x",), shapes={"x": shape})
    program.add(QuantisedMapStep("x", "q", None, levels=levels), shape)
    spec = Conv.of(channels, channels, 1)
    w = np.eye(channels, dtype=np.int16)[:, :, None, None]
    none, one = np.zeros(channels, np.int32), np.ones(channels, np.float32)
    program.add(QuantisedConvStep("q", "z", w, none, one, levels, Levels(1.0, -255, 255), spec), shape)
    program.add(QuantisedMapStep("z", "y", 1.0), shape)
    program.outputs = ("y",)
    middles = ((np.arange(-100, 155) + 0.5) * scale).astype(np.float32)
    near = (middles.view(np.int32)[:, None] + np.arange(-5, 6, dtype=np.int32)).view(np.float32).reshape(-1)
    x = np.resize(np.concatenate([near, np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38])]), shape)
    run = Executable.of(program, select_target("native"), Options(threads=1))
    np.testing.assert_array_equal(run.run({"x": x})["y"], run_program(program, {"x": x})["y"].astype(np.float32))
    turned = [call.recipe for call in run.plan.calls if isinstance(call.recipe, QuantisedTurn)]
    assert turned[0].reciprocal == (find_reciprocal(levels) if run.plan.target.fma else None)


@pytest.mark.parametrize("again", ["", "by a step", "by a view"])
def test_tables_take_the_place_of_what_nobody_reads_again(again: str) -> None:
    shape, part = (2, 40, 6, 7), (2, 16, 6, 7)
    program = layer_program(shape, Conv.of(40, 40, 3, padding=1, groups=40))
    if again != "by a step":
        program.steps.pop(), program.labels.pop(), program.shapes.pop("y")
    if again == "by a view":
        program.add(SliceStep("z", "v", (0, 8, 0, 0), (1, 1, 1, 1)), part)
    table = np.random.default_rng(0).integers(LEVELS.low, LEVELS.high + 1, 256).astype(np.int16)
    program.add(QuantisedTableStep("z", "t", LEVELS, table, LEVELS), shape)
    program.add(QuantisedMapStep("t", "u", 1.0), shape)
    if again == "by a view":
        program.add(QuantisedMapStep("v", "y", 1.0), part)
    program.outputs = ("u", "y") if again else ("u",)
    check(program, threads=2)
    (call,) = [call for call in plan(program, select_target("native"), Options()).calls if call.what == "table"]
    assert (call.args[0] == call.args[1]) == (not again)


def test_sums_of_products_are_rounded_once() -> None:
    """In float64 the sum is a middle between two float32 numbers, and a little more or less it is not."""
    x, factor = np.float32([1 + 2**-12, 1 + 2**-12]), np.float32(1 + 2**-12)  # 1 + 2^-11 + 2^-24
    term = np.float32([2.0**-60, -(2.0**-60)])
    np.testing.assert_array_equal(multiply_add(x, factor, term), np.float32([1 + 2**-11 + 2**-23, 1 + 2**-11]))


def test_reciprocals_are_found_for_nearly_all_scales() -> None:
    scales = np.random.default_rng(0).uniform(0.001, 1, 200).astype(np.float32)
    found = [find_reciprocal(Levels(float(scale), -128, 127)) for scale in scales]
    assert sum(each is None for each in found) < 10
    assert find_reciprocal(Levels(2.0**-100, 0, 255)) is None


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exact(name: str) -> None:
    number = list(LAYERS).index(name)
    check(layer_program(*LAYERS[name]), threads=1 + number % 2, layout=("NCHW", "NHWC")[number % 3 == 0])


BYTE_GROUPS = {
    "of eight": ((2, 24, 5, 9), Conv.of(24, 24, 3, padding=1, stride=2, groups=3)),
    "of four": ((1, 20, 9, 7), Conv.of(20, 20, 3, padding=[(3, 0), (1, 4)], dilation=2, groups=5, flip=True)),
    "that narrow": ((1, 24, 5, 9), Conv.of(24, 12, (4, 1), padding=(1, 0), groups=3)),
    "of lines": ((1, 32, 40), Conv.of(32, 32, 5, dims=1, padding=2, groups=8)),
    "of volumes": ((1, 8, 4, 5, 6), Conv.of(8, 8, 3, dims=3, padding=1, groups=2)),
}


@pytest.mark.parametrize("name", BYTE_GROUPS)
def test_groups_of_weights_of_seven_bits_are_exact(name: str) -> None:
    """Their sums are beyond 16 bits unless they are centred; bytes of inputs outside are those of the zero point."""
    shape, spec = BYTE_GROUPS[name]
    program = layer_program(shape, spec, most=63)
    calls = plan(program, select_target("x86-64-v3")).calls
    assert [type(call.recipe) for call in calls if call.what == "lane"] == [QuantisedByteLane]
    check(program, threads=2, layout=("NCHW", "NHWC")[name == "of eight"])


@pytest.mark.parametrize(("sign", "most", "fits"), [(1, 64, True), (-1, 64, True), (1, 65, False)])
def test_groups_are_of_bytes_up_to_the_largest_sum_that_fits(sign: int, most: int, fits: bool) -> None:
    """Four products of 64 and 255 are just below 2**16, and are reached."""
    program = layer_program((1, 16, 4, 6), Conv.of(16, 16, 2, groups=2), spread=0.3)
    (step,) = [step for step in program.steps if isinstance(step, QuantisedConvStep)]
    step.w[...] = sign * most
    (call,) = [call for call in plan(program, select_target("x86-64-v3")).calls if call.what == "lane"]
    assert isinstance(call.recipe, QuantisedByteLane) == fits
    assert ("bytes" if fits else "words") in call.how
    run = Executable.of(program, select_target("native"), Options(threads=1))
    x = np.where(np.arange(24).reshape(4, 6) % 5 == 1, -9, 9) * np.ones((1, 16, 1, 1))
    want = run_program(program, {"x": x.astype(np.float32)})["y"]
    np.testing.assert_array_equal(run.run({"x": x.astype(np.float32)})["y"], want.astype(np.float32))


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=() if name == "x86-64-v2" else pytest.mark.wide)
        for name in ("x86-64-v2", "generic", "x86-64-v3", "x86-64-v4")
    ],
)
def test_every_level_computes_the_same_integers(target: str) -> None:
    if target not in available_targets(detect_host()):
        pytest.skip(f"this machine has no {target}")
    for name in ("dense", "filtered", "depthwise", "groups_of_four", "multiplier_4"):
        check(layer_program(*LAYERS[name]), target, threads=2)
    check(table_program((1, 37, 5, 9)), target, threads=2)
    check(layer_program((1, 59, 5, 7), Conv.of(59, 41, 1), most=64), target, threads=2)


@pytest.mark.parametrize(("inputs", "sign", "filtered"), [(189, 1, True), (189, -1, True), (190, 1, False)])
def test_filtering_is_exact_up_to_the_largest_sum_that_it_knows(inputs: int, sign: int, filtered: bool) -> None:
    """189 channels of 9 taps of 127 times 155 are just below 2**25, and are reached."""
    program = layer_program((1, inputs, 8, 8), Conv.of(inputs, 16, 3, padding=1), bias=0)
    (step,) = [step for step in program.steps if isinstance(step, QuantisedConvStep)]
    step.w[...] = sign * 127
    step.factor[...] = np.linspace(0.5, 1, 16) * 128 / 2**25
    run = Executable.of(program, select_target("native"), Options(threads=1))
    x = np.full((1, inputs, 8, 8), 9.0, np.float32)
    want = run_program(program, {"x": x})["y"].astype(np.float32)
    np.testing.assert_array_equal(run.run({"x": x})["y"], want)
    assert len(np.unique(want)) > 16
    text = run.explain()
    assert ("filtered kernel" in text) == filtered
    assert ("exact in integers modulo 2**32" if filtered else "below 33554432") in text


@pytest.mark.parametrize(
    ("channels", "order"), [(16, ["map", "panel", "map"]), (3, ["map", "panel", "map"]), (12, ["copy", "map", "panel"])]
)
def test_floats_change_their_order_as_they_become_words_or_before(channels: int, order: list[str]) -> None:
    target = select_target("x86-64-v3")
    calls = plan(layer_program((1, channels, 6, 6), Conv.of(channels, 16, 3, padding=1)), target).calls
    assert [call.what for call in calls][:3] == order


@pytest.mark.parametrize(("shape", "layout"), [((2, 41, 9, 7), "NHWC"), ((3, 1031), "NCHW"), ((2, 3, 5, 6, 7), "NCHW")])
def test_tables_are_exact(shape: tuple[int, ...], layout: str) -> None:
    check(table_program(shape), threads=2, layout=layout)


@pytest.mark.parametrize(("scale", "low", "ratio"), [(0.0614, -49, 1.201), (0.1115, -27, 1.102), (0.0234, -128, 1.795)])
def test_hard_swish_is_a_formula_that_gives_its_table(scale: float, low: int, ratio: float) -> None:
    x, y = Levels(float(np.float32(scale)), low, low + 255), Levels(float(np.float32(scale / ratio)), -12, 243)
    numbers = np.arange(x.low, x.high + 1) * x.scale
    table = np.clip(np.rint(numbers * np.clip(numbers / 6 + 0.5, 0, 1) / y.scale), y.low, y.high).astype(np.int16)
    assert find_ramp(x, table, y) is not None
    for other, by in ((table, "ramp"), (np.where(np.arange(256) == 200, table - 1, table).astype(np.int16), "bytes")):
        program = Program(("x",), shapes={"x": (2, 21, 3, 7)})
        program.add(QuantisedMapStep("x", "q", None, levels=x), (2, 21, 3, 7))
        program.add(QuantisedTableStep("q", "z", x, other, y), (2, 21, 3, 7))
        program.add(QuantisedMapStep("z", "y", 1.0), (2, 21, 3, 7))
        program.outputs = ("y",)
        (call,) = [call for call in plan(program, select_target("x86-64-v3")).calls if call.what == "table"]
        assert isinstance(call.recipe, QuantisedTable)
        assert call.recipe.by == by
        given = np.resize(numbers, (2, 21, 3, 7)).astype(np.float32)
        run = Executable.of(program, select_target("native"), Options(threads=2))
        np.testing.assert_array_equal(run.run({"x": given})["y"], run_program(program, {"x": given})["y"])


@pytest.mark.parametrize(("x", "y"), [(0.05, 1e-30), (1e30, 0.05), (1e-40, 1e30), (3e38, 1e-45)])
def test_scales_far_apart_have_no_ramp(x: float, y: float) -> None:
    levels = Levels(x, -128, 127)
    numbers = np.arange(-128, 128) * x
    about = np.clip(np.rint(numbers * np.clip(numbers / 6 + 0.5, 0, 1) / y), -128, 127).astype(np.int16)
    ramp = find_ramp(levels, about, Levels(y, -128, 127))
    assert ramp is None


@pytest.mark.parametrize(
    ("shape", "others"), [((2, 37, 5, 9), (1.0, 1.0)), ((1, 16, 31, 3), (0.8, 1.0)), ((1, 9, 4), (1.0, 0.7))]
)
def test_products_with_a_number_of_each_channel_are_exact(shape: tuple[int, ...], others: tuple[float, float]) -> None:
    """All pairs of integers of both, nearly, read with the scales that they were made with and with others."""
    ones = (*shape[:2], *(1 for _ in shape[2:]))
    program = Program(("x", "f"), shapes={"x": shape, "f": ones})
    gate, levels = Levels(1 / 255, 0, 255), Levels(0.0213, -90, 165)
    program.add(QuantisedMapStep("x", "xq", None, levels=INPUT), shape)
    program.add(QuantisedMapStep("f", "fq", None, levels=gate), ones)
    post = (PostOp("mul", "fq"),)
    read = [each.scale * other for each, other in zip((INPUT, gate), others, strict=True)]
    program.add(QuantisedMapStep("xq", "z", read[0], post, (read[1],), levels), shape)
    w = np.eye(shape[1], dtype=np.int16)[:, :, *(None for _ in shape[2:])]
    one, zero = np.ones(shape[1], np.float32), np.zeros(shape[1], np.int32)
    spec = Conv.of(shape[1], shape[1], 1, dims=len(shape) - 2)
    program.add(QuantisedConvStep("z", "c", w, zero, one, levels, levels, spec), shape)
    program.add(QuantisedMapStep("c", "y", 1.0), shape)
    program.outputs = ("y",)
    (call,) = [call for call in plan(program, select_target("x86-64-v3")).calls if "one factor" in call.how]
    assert isinstance(call.recipe, QuantisedScaling)
    rng = np.random.default_rng(0)
    x, f = (
        rng.permutation(np.resize(np.linspace(*ends, 256), n))
        for ends, n in (((-3.5, 5), np.prod(shape)), ((0, 1), np.prod(ones)))
    )
    inputs = {"x": x.reshape(shape).astype(np.float32), "f": f.reshape(ones).astype(np.float32)}
    for target in ("native", "generic"):
        run = Executable.of(program, select_target(target), Options(threads=2))
        np.testing.assert_array_equal(run.run(inputs)["y"], run_program(program, inputs)["y"].astype(np.float32))


def test_factors_give_what_four_roundings_give() -> None:
    """For all pairs of integers, by another road than `find_factors` takes to find them; and none where none fits."""
    x, y = Levels(0.03, -100, 155), Levels(0.011, -70, 185)
    for gate in (Levels(1 / 255, 0, 255), Levels(0.02, -128, 127)):
        found = find_factors(x, gate, y)
        assert found is not None
        q, f = np.arange(-100, 156), np.arange(gate.low, gate.high + 1)
        product = (q * x.scale).astype(np.float32) * (f * gate.scale).astype(np.float32)[:, None]
        wanted = np.clip(np.rint(product / np.float32(y.scale)), -70, 185)
        raised = (q * 65536).astype(np.float32) * found[:, None]
        np.testing.assert_array_equal(np.clip(np.rint(raised), -70, 185), wanted)
    assert find_factors(x, Levels(1e4, -128, 127), y) is None


@pytest.mark.parametrize("inputs", [11, 45, pytest.param(24, marks=pytest.mark.wide), 67])
def test_pointwise_layers_by_bytes_are_exact(inputs: int) -> None:
    """Last chunks of some numbers of channels; several units."""
    program = layer_program((2, inputs, 13, 31), Conv.of(inputs, 35, 1), most=64)
    (call,) = [call for call in plan(program, select_target("x86-64-v3")).calls if call.what == "panel"]
    assert isinstance(call.recipe, QuantisedQuads)
    check(program, threads=2)


@pytest.mark.parametrize(
    ("usual", "weight", "how"),
    [
        (32, 32, "sums of 4 products in 16 bits"),
        (-32, -32, "sums of 4 products in 16 bits"),
        (32, 33, "sums of 4 products in 16 bits, 6% of them twice"),
        (-32, -128, "sums of 4 products in 16 bits, 12% of them twice"),
        (64, 64, "sums of 2 products in 16 bits"),
        (64, 127, "sums of 2 products in 16 bits, 6% of them twice"),
        (65, 65, "words: most sums of bytes would be beyond 16 bits"),
        (16, 129, "words: integers that are no bytes"),
    ],
)
def test_bytes_are_multiplied_up_to_the_largest_sum_of_16_bits(usual: int, weight: int, how: str) -> None:
    """255 times 128 fits, and is reached; what is beyond it goes into quads of its own."""
    program = layer_program((1, 64, 4, 4), Conv.of(64, 32, 1), bias=0, spread=0.1)
    (step,) = [step for step in program.steps if isinstance(step, QuantisedConvStep)]
    step.w[...] = usual
    step.w[5, 37] = step.w[20, :2, 0, 0] = weight
    x = np.where(np.arange(64)[:, None, None] < np.arange(16).reshape(4, 4) * 4, 9.0, -9.0)[None].astype(np.float32)
    want = run_program(program, {"x": x})["y"].astype(np.float32)
    run = Executable.of(program, select_target("native"), Options(threads=1))
    np.testing.assert_array_equal(run.run({"x": x})["y"], want)
    assert len(np.unique(want)) > 2
    (call,) = [call for call in plan(program, select_target("x86-64-v3")).calls if call.what == "panel"]
    assert how in call.how
    assert ("twice" in call.how) == ("twice" in how)


@pytest.mark.parametrize("depth", [1, 2])
def test_split_weights_add_up_and_no_sum_saturates(depth: int) -> None:
    rng = np.random.default_rng(depth)
    w = (rng.standard_normal((3 * 16, 5 * 4 * depth)) * 60).clip(-128, 127).astype(np.int16)
    levels = Levels(0.1, -30, 225)
    split = split_weights(w, depth, 16, levels)
    assert split is not None
    whole, more = np.split(split.quads, [3 * 5 * depth])
    total = whole.reshape(3, -1, 16, 4).astype(np.int64)
    np.add.at(total, (split.blocks, split.sources), more)
    np.testing.assert_array_equal(total.swapaxes(1, 2).reshape(w.shape), w)
    together = whole.reshape(-1, depth, 16, 2, 2).swapaxes(1, 3).reshape(-1, 2, 16, 2 * depth)
    for group in (together, more.reshape(-1, 16, 2, 2)):
        for sign, most in ((1, 2**15 - 1), (-1, 2**15)):
            assert 255 * np.maximum(sign * group.astype(np.int64), 0).sum(-1).max() <= most
    assert len(more) > 0


@pytest.mark.parametrize(("shape", "outputs"), [((1, 70), 57), ((7, 24), 24), ((3, 2, 5, 33), 8)])
@pytest.mark.parametrize("most", [64, 127])
def test_dense_layers_of_integers_give_floats(shape: tuple[int, ...], outputs: int, most: int) -> None:
    """Sums, rounded to float32, times one factor each."""
    rng = np.random.default_rng(0)
    program = Program(("x",), shapes={"x": shape})
    program.add(QuantisedMapStep("x", "q", None, levels=INPUT), shape)
    w = rng.integers(-most, most + 1, (outputs, shape[-1])).astype(np.int16)
    b, factor = rng.integers(-(2**28), 2**28, outputs).astype(np.int32), rng.uniform(0.5, 1.5, outputs)
    step = QuantisedDenseStep("q", "y", w, b, factor.astype(np.float32), INPUT, None)
    program.add(step, (*shape[:-1], outputs))
    program.outputs = ("y",)
    x = (3 * rng.standard_normal(shape)).astype(np.float32)
    for threads, target in ((2, "native"), (1, "generic")):
        run = Executable.of(program, select_target(target), Options(threads=threads))
        want = run_program(program, {"x": x})["y"]
        np.testing.assert_array_equal(run.run({"x": x})["y"], want.astype(np.float32))


def test_profiles_count_the_products_that_are_left() -> None:
    program = layer_program((1, 32, 8, 8), Conv.of(32, 32, 3, padding=1))
    run = Executable.of(program, select_target("native"), Options(threads=1))
    (layer,) = [step for step in run.profile({"x": np.zeros((1, 32, 8, 8), np.float32)}, 1) if step.macs]
    assert layer.macs == 8 * 8 * 9 * 32 * 32
    assert layer.multiplications == 4 * 36 * 32 * 32


def test_sums_whose_scaled_values_are_beyond_32_bits_are_limited_all_the_same() -> None:
    check(layer_program((1, 64, 3, 3), Conv.of(64, 8, 1), bias=2**31 - 1 - 64 * 127 * 155, spread=1e6))


def test_sums_that_could_be_beyond_32_bits_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"sums up to 214\d+; need at most 2147483647"):
        layer_program((1, 64, 3, 3), Conv.of(64, 8, 1), bias=2**31 - 1)


def test_elementwise_operations_means_and_moves_are_exact() -> None:
    shape = (2, 20, 5, 6)
    program = Program(("x", "z"), shapes={"x": shape, "z": (1, 20, 1, 1)})
    program.add(QuantisedMapStep("x", "xq", None, levels=INPUT), shape)
    program.add(QuantisedMapStep("z", "zq", None, levels=LEVELS), (1, 20, 1, 1))
    post = (PostOp("mul", "zq"), PostOp("add", "x"), PostOp("add", np.float32([[[[0.3]]]])))
    program.add(QuantisedMapStep("xq", "a", INPUT.scale, post, (LEVELS.scale, None), Levels(0.07, -90, 165)), shape)
    program.add(ConcatStep(("a", "xq"), "c", 1), (2, 40, 5, 6))
    program.add(QuantisedMeanStep("c", "m", 1.8, LEVELS), (2, 40, 1, 1))
    program.add(RearrangeStep("m", "r", (2, 40, 1, 1), (0, 1, 2, 3)), (2, 40))
    w = np.random.default_rng(0).integers(-127, 128, (7, 40)).astype(np.int16)
    factor, b = np.full(7, 0.003, np.float32), np.arange(7, dtype=np.int32)
    program.add(QuantisedDenseStep("r", "d", w, b, factor, LEVELS, LEVELS), (2, 7))
    program.add(RearrangeStep("a", "t", shape, (0, 2, 3, 1)), (2, 5, 6, 20))
    program.add(QuantisedDenseStep("t", "u", w[:, :20], b, factor, Levels(0.07, -90, 165), LEVELS), (2, 5, 6, 7))
    for name, of in (("y0", "d"), ("y1", "c"), ("y2", "u")):
        program.add(QuantisedMapStep(of, name, 1.0), program.shapes[of])
    program.outputs = ("y0", "y1", "y2")
    check(program, threads=2)


def test_float_steps_take_no_integers() -> None:
    program = layer_program(*LAYERS["pointwise"])
    with pytest.raises(UnsupportedError, match="global_pool of int16 values; need float32 values"):
        program.add(ReduceStep("q", "w", "mean"), (1, 8, 1, 1))
    with pytest.raises(UnsupportedError, match="int16 and float32 values; need one element"):
        program.add(ConcatStep(("q", "x"), "w", 1), (1, 16, 5, 7))


@pytest.mark.parametrize(
    "name", ["pointwise", *(pytest.param(each, marks=pytest.mark.wide) for each in ("depthwise", "filtered"))]
)
def test_code_for_aarch64_is_made(name: str) -> None:
    for call in plan(layer_program(*LAYERS[name]), NEON).calls:
        if isinstance(call.recipe, QuantisedPanel | QuantisedLane | QuantisedFilter):
            assert compile_object(call.recipe.emit("f", NEON), NEON)[:4] == b"\x7fELF"


def test_products_are_of_pairs_and_none_is_spilled() -> None:
    """The inner loop of AVX2: twelve sums, and nothing else that stays."""
    target = select_target("x86-64-v3")
    (call,) = [
        call for call in plan(layer_program((1, 64, 6, 8), Conv.of(64, 32, 1)), target).calls if call.what == "panel"
    ]
    lines = compile_assembly(call.recipe.emit("f", target), target).splitlines()
    hot = [number for number, line in enumerate(lines) if "vpmaddwd" in line]
    assert len(hot) >= 4 * 12
    body = lines[hot[0] : hot[4 * 12 - 1]]
    spilled = [line for line in body if "vmovdqu" in line and line.rstrip().endswith("(%rsp)")]
    assert len(spilled) <= 2, spilled


@pytest.mark.parametrize(("groups", "kernel"), [(32, 3), (16, 3), (128, 5)])
def test_weights_of_groups_are_operands_from_memory_and_no_sum_is_spilled(groups: int, kernel: int) -> None:
    target = select_target("x86-64-v3")
    spec = Conv.of(128, 128, kernel, padding=kernel // 2, groups=groups)
    (call,) = [call for call in plan(layer_program((1, 128, 9, 20), spec), target).calls if call.what == "lane"]
    lines = compile_assembly(call.recipe.emit("f", target), target).splitlines()
    products = [line for line in lines if "vpmaddwd" in line]
    assert sum("(%" in line for line in products) > 0.9 * len(products)
    spilled = [line for line in lines if "mov" in line and "ymm" in line and line.rstrip().endswith("(%rsp)")]
    assert len(spilled) <= 0.015 * len(products), spilled
