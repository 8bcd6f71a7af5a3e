"""Columns as channels: the wider layer gives the same numbers, where it is chosen, and why elsewhere not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from tests.machines import MACHINES, NEON, V2, V3, V4
from tests.registry.compiled import channels_from, channels_to, strictly

import omniconv as oc
from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.panel.columns import FAMILY, list_columns, list_widths, reject_columns, widen_posts
from omniconv.compiler.planning.choice import choose, list_choices
from omniconv.compiler.planning.options import Options
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.program.from_spec import program_of
from omniconv.program.steps import PostOp
from omniconv.reference import random_weights
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv
from omniconv.target.select import select_target

SIDE = Facts(columns=True)


def transposed(inputs: int, outputs: int, kernel: int, stride: int, dims: int = 2, **options) -> Conv:
    return Conv.of(inputs, outputs, kernel, stride=stride, transposed=True, dims=dims, **options)


def problem_of(spec: Conv, *size: int) -> Problem:
    return Problem.of(spec.resolve((1, spec.in_channels, *size)), (1, spec.in_channels, *size))


FSRCNN = problem_of(transposed(56, 1, 9, 2, padding=4, output_padding=1), 128, 128)
DCGAN = problem_of(transposed(64, 3, 4, 2, padding=1), 32, 32)
STYLE = problem_of(Conv.of(64, 3, 9, padding=4), 64, 64)
NARROW = problem_of(Conv.of(3, 1, 5, padding=2), 64, 64)

CASES = [
    (transposed(5, 1, 9, 2, padding=4, output_padding=1), (1, 5, 4, 8)),
    (transposed(9, 3, 4, 2, padding=1, flip=True), (2, 9, 5, 6)),
    (transposed(4, 2, 5, 2, padding=1, output_padding=1, dilation=3), (1, 4, 3, 7)),
    (transposed(3, 3, 2, 3, output_padding=1), (1, 3, 3, 4)),  # one phase has no tap
    (transposed(4, 1, 3, 2, dims=3, padding=1, output_padding=1), (1, 4, 2, 3, 4)),
    (Conv.of(6, 3, 5, padding=2, flip=True), (1, 6, 6, 12)),
    (Conv.of(300, 2, 3, stride=2, padding=1), (1, 300, 3, 16)),
    (Conv.of(7, 3, 4, dilation=2, padding=3, dims=1), (2, 7, 24)),
    (Conv.of(3, 4, 3, padding=1), (2, 3, 3, 33)),  # from here on with columns left over
    (Conv.of(2, 2, 5, stride=2, padding=3, flip=True), (1, 2, 5, 95)),
    (transposed(3, 1, 5, 3, padding=2, dims=1), (2, 3, 34)),
]


def whole_numbers(spec: Conv, shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    w, b, x = (rng.integers(-4, 5, size).astype(np.float32) for size in (spec.weight_shape, spec.out_channels, shape))
    return w, b, x


def compile_columns(spec: Conv, shape: tuple[int, ...], w, b, columns: int, *, layout: str = "NHWC", post=()):
    """The layer with so many columns as channels, whatever is expected to be the fastest."""
    machine = select_target("native")
    problem = replace(Problem.of(spec.resolve(shape), shape), columns=True)
    tile = min((each for each in list_columns(problem, machine) if each.tile.columns == columns), key=lambda e: e.cost)
    program = program_of(spec, shape, [(w, b)])
    program = replace(program, steps=(replace(program.steps[0], post=post),))
    tuning = Tuning(machine, {problem.text(): tile.tile.text()})
    f = Executable.of(program, machine, Options(layout=layout, tuning=tuning))
    ways = [f"{columns} columns as channels", *["columns that are left over"] * (problem.axes[2].output % columns > 0)]
    assert [call.how for call in f.plan.calls if call.what == "panel"] == ways
    return f


def run(f, x, layout: str = "NHWC"):
    (y,) = strictly(f, {"x": channels_to(layout, x)}).values()
    return channels_from(layout, y)


@pytest.mark.parametrize(("spec", "shape"), CASES, ids=[f"{number}" for number in range(len(CASES))])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_number_of_columns_gives_the_numbers_of_the_reference(layout, spec, shape) -> None:
    """Where the result lies densely in the caller's array, and where it is moved afterwards."""
    w, b, x = whole_numbers(spec, shape)
    problem, machine = Problem.of(spec.resolve(shape), shape), select_target("native")
    usable = {each.tile.columns for each in list_columns(problem, machine)}
    assert usable <= set(list_widths(problem, machine))
    for columns in {min(usable), max(usable)}:
        y = run(compile_columns(spec, shape, w, b, columns, layout=layout), x, layout)
        assert np.array_equal(y, oc.reference(spec, x, [(w, b)]))


def test_sums_have_the_order_of_single_columns() -> None:
    spec, shape = transposed(20, 3, 5, 2, padding=2, output_padding=1), (1, 20, 6, 8)
    rng = np.random.default_rng(0)
    [(w, b)], x = random_weights(spec, rng), rng.standard_normal(shape).astype(np.float32)
    alone = oc.compile(spec, shape, [(w, b)], layout="NHWC", exact=True)
    assert np.array_equal(run(compile_columns(spec, shape, w, b, 2), x), run(alone, x))


def test_operands_that_lie_as_the_result_does() -> None:
    """A shortcut from the input, and a factor of all channels."""
    for width in (8, 66):
        spec, shape = Conv.of(3, 3, 5, padding=2), (2, 3, 5, width)
        w, b, x = whole_numbers(spec, shape)
        post = PostOp("add", operand="x"), PostOp("mul", operand=np.float32(2).reshape(1, 1, 1, 1))
        y = run(compile_columns(spec, shape, w, b, 4, post=post), x)
        assert np.array_equal(y, 2 * (oc.reference(spec, x, [(w, b)]) + x))


def test_other_operands_keep_columns_single() -> None:
    def post(*strides: int) -> Post:
        return Post("add", None, PlacedOperand(0, strides, readable=True))

    assert widen_posts([post(60, 1, 0, 30, 3)], 3, 2) == (post(60, 1, 0, 30, 6),)
    assert widen_posts([post(60, 0, 0, 10, 1)], 1, 4) == (post(60, 1, 0, 10, 4),)
    assert widen_posts([post(1, 0, 0, 5, 0)], 3, 2) == (post(1, 0, 0, 5, 0),)
    for strides in ((0, 1, 0, 0, 0), (80, 1, 0, 40, 8), (40, 0, 0, 5, 1)):  # of channels, with gaps, of positions
        assert widen_posts([post(*strides)], 3, 2) is None


def test_what_is_not_finite_reaches_columns_of_the_same_pixel_at_most() -> None:
    spec, shape, columns = Conv.of(4, 3, 3, padding=1), (1, 4, 5, 16), 4
    w, b, x = whole_numbers(spec, shape)
    x[0, 1, 2, 8] = np.nan
    y = run(compile_columns(spec, shape, w, b, columns), x)
    expected = oc.reference(spec, x, [(w, b)])
    near = np.zeros(y.shape, bool)
    near[..., 1:4, 4:12] = True  # the two pixels of four columns that read it
    assert np.array_equal(y[~near], expected[~near])
    assert np.isnan(y[np.isnan(expected)]).all()


@pytest.mark.parametrize("target", [V2, V3, V4, NEON, *MACHINES.values()], ids=str)
def test_a_layer_of_one_output_is_widened(target) -> None:
    """On every machine; the lists that are measured follow what is known of the result."""
    choice = choose(NARROW, target, SIDE)
    assert choice.family.name == "columns"
    assert any(why.startswith("panel: single columns: ") for why in choice.rejected)
    assert choice.problem == replace(NARROW, columns=True)
    assert choice.tile.text() in [text for items in list_choices(choice.problem, target) for text, _ in items]
    assert {text.split()[0] for items in list_choices(NARROW, target) for text, _ in items} == {"panel"}
    assert choose(NARROW, target).family.name == "panel"


@pytest.mark.parametrize(
    ("problem", "columns"), [(DCGAN, 2), (STYLE, 2), (FSRCNN, 8)], ids=["dcgan", "style", "fsrcnn"]
)
def test_columns_that_fill_eight_lanes(problem, columns) -> None:
    """Whether they are taken, or the layer is filtered."""
    tile, _ = FAMILY.prefer(problem, V3)
    assert tile.columns == columns


@pytest.mark.parametrize(
    ("problem", "facts", "reason"),
    [
        (DCGAN, Facts(), "the pixels of the result do not lie side by side"),
        (DCGAN, replace(SIDE, exact=True), "exact=True"),
        (DCGAN, replace(SIDE, computed=True), "the weights are computed"),
        (problem_of(transposed(64, 6, 4, 2, groups=2), 8, 8), SIDE, "several groups"),
        (problem_of(Conv.of(64, 16, 3), 8, 8), SIDE, "16 output channels fill their vectors"),
        (problem_of(Conv.of(64, 3, 1), 8, 8), SIDE, "neighbouring columns share no input"),
        (problem_of(Conv.of(64, 3, 3, padding=1), 8, 13), SIDE, "13 columns are few, and no multiple"),
    ],
)
def test_every_rejection_says_why(problem, facts, reason) -> None:
    assert reject_columns(problem, V3, facts).startswith(reason)


def test_one_output_with_vectors_along_its_inputs_stays_so() -> None:
    choice = choose(problem_of(Conv.of(64, 1, 3, padding=1), 64, 64), V3, SIDE)
    assert choice.family.name == "panel"
    assert any(why.startswith("columns: ") and why.endswith("of single columns expected") for why in choice.rejected)


@pytest.mark.wide
def test_widths_that_stay_open() -> None:
    """A short one that is no multiple of the columns has single ones, a long one at its end; weights of both are packed
    apart.
    """
    spec = Conv.of(16, 3, 3, padding=1)
    w, _, _ = whole_numbers(spec, (1, 16, 4, 8))
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, None, 4, None]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [onnx.numpy_helper.from_array(w, "w")])
    net = oc.compile(onnx.helper.make_model(graph), shapes={"x": (1, 16, 4, None)})
    rng = np.random.default_rng(0)
    for width in (8, 9, 12, 41):
        x = rng.integers(-4, 5, (1, 16, 4, width)).astype(np.float32)
        assert np.array_equal(net(x), oc.reference(spec, x, [(w, None)]))
