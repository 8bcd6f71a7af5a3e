"""Fields against brute force: what an output depends on is found by changing the input, position by position."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import ALL, LINEAR, LOCAL, REGULAR, dependence, many, programs, responses, with_nan_borders
from tests.program_oracle import run_program
from tests.strategies import chains, convs

import omniconv as oc
from omniconv.analysis import effective_field, find_support, measured_field, receptive_field
from omniconv.analysis.subject import as_program
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, MapStep, PadStep, PostOp, ResizeStep, SliceStep
from omniconv.spec import Chain, Conv


def positions_of(shape, data, most=6):
    everything = list(itertools.product(*map(range, shape)))
    if len(everything) <= most:
        return everything
    drawn = data.draw(st.lists(st.sampled_from(everything), min_size=most - 2, max_size=most - 2))
    return [*drawn, everything[0], everything[-1]]


def check_support(program, data):
    seen = dependence(program)
    sizes = program.shapes[program.outputs[0]][2:]
    rank = len(program.shapes["x"]) - 2
    for place in positions_of(sizes, data):
        found = find_support(program, program.outputs[0], "x", place)
        assert np.array_equal(found, seen[(slice(None),) * rank + tuple(place)]), place


@many
@given(programs(), st.data())
def test_support_is_what_the_output_depends_on(program, data):
    check_support(program, data)


@many
@given(programs(ops=ALL), st.data())
def test_support_with_gates(program, data):
    check_support(program, data)


@many
@given(st.one_of(convs(), chains(names=("relu", "leaky_relu"))), st.data())
def test_support_of_specs(problem, data):
    """Ones as weights: the reference of a one-hot input differs from zero exactly on the support."""
    spec, shape = problem.spec, problem.shape
    if isinstance(spec, Chain):
        spec = Chain(tuple(step for step in spec.steps if not isinstance(step, oc.Activation)))
    sizes = shape[2:]
    places = positions_of(spec.output_shape(shape)[2:], data, 3)
    ones = [(np.ones(size, np.float32), None) for size in spec.weight_shapes]
    x = np.zeros((math.prod(sizes), shape[1], *sizes), np.float32)
    for number, place in enumerate(np.ndindex(*sizes)):
        x[(number, slice(None), *place)] = 1.0
    y = oc.reference(spec, x, ones).any(axis=1)
    for place in places:
        found = receptive_field(spec, shape=shape, position=place)
        assert np.array_equal(found.support.ravel(), y[(slice(None), *place)] != 0)


@many
@given(programs(ops=ALL))
def test_border_is_where_nan_arrives(program):
    y = run_program(with_nan_borders(program), {"x": np.ones(program.shapes["x"])})[program.outputs[0]]
    found = receptive_field(program)
    seen = np.isnan(y).any(axis=(0, 1))
    assert np.array_equal(found.border, seen)
    for axis, (first, last) in enumerate(found.interior):
        free = [o for o in range(seen.shape[axis]) if not np.take(seen, o, axis).all()]
        assert (first, last) == ((free[0], free[-1] + 1) if free else (0, 0))


@many
@given(programs(ops=("conv", "pool", "resize", "concat", "add", "act", "slice", "rearrange", "shuffle")))
def test_hull_holds_every_support(program):
    check_hull(program, exact=False)


@many
@given(programs(ops=REGULAR, dims=1, sizes=(40, 60), longest=4))
def test_hull_is_tight_inside(program):
    check_hull(program, exact=True)


def check_hull(program, *, exact):
    seen = dependence(program)
    found = receptive_field(program)
    rank = len(program.shapes["x"]) - 2
    sizes = program.shapes[program.outputs[0]][2:]
    for place in itertools.product(*map(range, sizes)):
        support = seen[(slice(None),) * rank + place]
        for axis, field in enumerate(found.axes):
            along = np.flatnonzero(support.any(axis=tuple(n for n in range(rank) if n != axis)))
            if not along.size or field.output_axis is None or not field.aligned or field.whole:
                continue
            o = place[field.output_axis - 2]
            phase = field.phases[o % field.period]
            low = phase.low + (o - o % field.period) * field.stride
            high = low + phase.size - 1
            if not clamped(program):
                assert low <= along[0] <= along[-1] <= high, (place, field)
            if exact and not found.border[place] and low >= 0 and high < support.size and not clamped(program):
                assert (low, high) == (along[0], along[-1]), (place, field)


STACK = ("conv", "conv", "transposed", "transposed", "pool", "resize")
GRAPH = (*STACK, "concat", "add", "post", "shuffle", "rearrange", "pad")


@many
@given(
    st.one_of(
        programs(ops=STACK, dims=1, sizes=(30, 60), longest=4, widest=180),
        programs(ops=STACK, dims=2, sizes=(9, 12), longest=3),
        programs(ops=GRAPH, dims=1, sizes=(30, 60), longest=6, widest=180),
        programs(ops=GRAPH, dims=2, sizes=(9, 12), longest=4),
        programs(ops=GRAPH, dims=3, sizes=(5, 8), longest=4),
    )
)
def test_fields_are_exact(program):
    """Size, centre and stride are those of the support, wherever no border is near."""
    for number, step in enumerate(program.steps):  # padding that repeats values moves what is read
        if isinstance(step, ConvStep):
            program.steps[number] = replace(step, spec=replace(step.spec, padding_mode="zeros"))
        elif isinstance(step, PadStep):
            program.steps[number] = replace(step, mode="constant")
    check_exact(program)


def sees_clamped_edge(program, place):
    """Whether an output reads the end of a value that is resized, which may stand for several neighbours."""
    resized = [step.x for step in program.steps if isinstance(step, ResizeStep)]
    shown = replace(program, outputs=(program.outputs[0], *resized))  # demands of outputs are kept
    seen = [find_support(shown, program.outputs[0], name, place) for name in resized]
    return any(mask.take([0, -1], axis).any() for mask in seen for axis in range(mask.ndim))


def check_exact(program):
    """Compares every axis with the supports of all outputs that see no border; returns how many were compared."""
    found = receptive_field(program)
    places = [tuple(int(o) for o in place) for place in np.argwhere(~found.border)]
    inner = {
        place: find_support(program, program.outputs[0], "x", place)
        for place in places
        if not sees_clamped_edge(program, place)
    }
    period = math.lcm(*(field.period for field in found.axes))
    compared = 0
    for axis, field in enumerate(found.axes):
        if field.whole or field.output_axis is None or not field.exact:
            continue
        own = field.output_axis - 2
        centres = {}
        for o in sorted({place[own] for place in inner}):
            places = [place for place in inner if place[own] == o]
            rest = [n for n in range(len(found.axes)) if n != own]
            if any(len({place[n] % period for place in places}) < period for n in rest):
                continue  # a phase of the other axes is missing
            seen = np.any([inner[place] for place in places], axis=0)
            along = np.flatnonzero(seen.any(axis=tuple(n for n in range(seen.ndim) if n != axis)))
            phase = field.phases[o % field.period]
            low = phase.low + (o - o % field.period) * field.stride
            if phase.size and (low < 0 or low + phase.size > seen.shape[axis]):
                continue
            compared += 1
            assert along.size == 0 if not phase.size else (along[0], along[-1]) == (low, low + phase.size - 1), o
            if phase.size:
                centres[o % field.period] = Fraction(int(along[0] + along[-1]), 2) - o * field.stride
        if len(centres) == sum(phase.size > 0 for phase in field.phases):
            assert field.offset == sum(centres.values(), Fraction(0)) / len(centres)
    return compared


@pytest.mark.parametrize(
    ("layers", "size", "places"),
    [
        # outputs of the transposed layer at odd places are holes, and one of the last layer's two taps falls there
        (
            [
                {"stride": 3},
                {"stride": 2, "dilation": 3, "transposed": True},
                {"kernel_size": 2, "stride": 2, "dilation": 3},
            ],
            1,
            [27],
        ),
        ([{"kernel_size": 2, "stride": 2, "transposed": True}, {"stride": 4}], 1, [30]),
        ([{"stride": 2, "transposed": True}, {"kernel_size": 3, "padding": 1}, {"stride": 2}], 1, [30]),
    ],
)
def test_holes_are_not_read(layers, size, places):
    chain = Chain(tuple(Conv.of(1, 1, **{"kernel_size": 1, "dims": 1, **layer}) for layer in layers))
    found = receptive_field(chain, shape=(1, 1, 60))
    assert found.size == (size,)
    assert found.exact
    assert found.support.nonzero()[0].tolist() == places
    assert check_exact(as_program(chain, (1, 1, 60))) > 5


def test_what_is_only_a_bound_says_so():
    """Branches that advance at different speeds have no field of one size."""
    program = Program(("x",), shapes={"x": (1, 1, 40)})
    spec = Conv.of(1, 1, 1, dims=1, stride=2)
    program.add(ConvStep("x", "a", spec, np.ones((1, 1, 1), np.float32)), (1, 1, 20))
    program.add(SliceStep("x", "b", (0, 0, 0), (1, 1, 1)), (1, 1, 20))
    program.add(MapStep("a", "y", (PostOp("add", "b"),)), (1, 1, 20))
    program.outputs = ("y",)
    found = receptive_field(program)
    assert not found.exact
    assert not found.aligned


def clamped(program):
    """Whether a pad repeats values from elsewhere, or a resize or slice clamps or turns round."""
    for step in program.steps:
        if isinstance(step, ConvStep) and step.spec.padding_mode != "zeros":
            return True
        if isinstance(step, SliceStep) and min(step.steps) < 0:
            return True
    return False


def enumerate_paths(program):
    """Stride and centre of every path from the input to the output, along axis 2, by walking all of them."""
    found = {"x": {(Fraction(1), Fraction(0))}}
    for step in program.steps:
        sources = list(step.xs) if hasattr(step, "xs") else [step.x]
        names = sources + [post.operand for post in getattr(step, "post", ()) if isinstance(post.operand, str)]
        paths = set()
        for name in names:
            for stride, centre in found[name]:
                if name in sources and isinstance(step, ConvStep):
                    axis = step.spec.axes()[0]
                    middle = Fraction(axis.extent - 1, 2) - axis.padding[0]
                    if axis.transposed:
                        stride, centre = stride / axis.stride, centre - stride * middle / axis.stride
                    else:
                        stride, centre = stride * axis.stride, centre + stride * middle
                elif name in sources and hasattr(step, "kernel"):
                    extent = step.dilation[0] * (step.kernel[0] - 1) + 1
                    middle = Fraction(extent - 1, 2) - step.padding[0][0]
                    stride, centre = stride * step.stride[0], centre + stride * middle
                paths.add((stride, centre))
        found[step.y] = paths
    return found[program.outputs[0]]


@many
@given(programs(ops=("conv", "conv", "pool", "add", "concat", "act"), dims=1, sizes=(8, 40), longest=5))
def test_alignment_is_that_of_all_paths(program):
    paths = enumerate_paths(program)
    field = receptive_field(program).axes[0]
    assert field.aligned == (len(paths) == 1)
    if field.aligned:
        ((stride, centre),) = paths
        assert field.stride == stride
        assert field.offset == centre


@many
@given(programs(ops=LINEAR, linear=True), st.data())
def test_effective_field_is_the_gradient_of_the_linear_part(program, data):
    shape = program.shapes[program.outputs[0]]
    place = tuple(data.draw(st.integers(0, size - 1)) for size in shape[2:])
    _, y = responses(program, np.zeros((1, *program.shapes["x"][1:])), 1.0)
    expected = y[(slice(None), slice(None), *place)].sum(axis=1).reshape(program.shapes["x"][2:])
    total = expected.sum()
    found = effective_field(program, position=place)
    np.testing.assert_allclose(found.influence, expected / total if total else expected, rtol=1e-9, atol=1e-12)
    if total:
        assert found.influence.sum() == pytest.approx(1.0)


def test_measured_field_agrees_with_weights():
    rng = np.random.default_rng(3)
    spec = Chain((Conv.of(2, 3, 3, padding=1), Conv.of(3, 1, 3, padding=2, dilation=2)))
    weights = tuple((np.abs(w), b) for w, b in oc.random_weights(spec, rng))
    x = rng.uniform(size=(1, 2, 9, 8))
    program = program_with(spec, x.shape, weights)
    exact = effective_field(program)
    measured = measured_field(lambda x: oc.reference(spec, x, weights), x)
    np.testing.assert_allclose(measured.influence, exact.influence, atol=1e-9)
    assert measured.half == exact.half
    assert measured.deviation == pytest.approx(exact.deviation)


def program_with(spec, shape, weights):
    from omniconv.program.from_spec import program_of

    return program_of(spec, shape, weights)


def test_global_operators_are_named(gated):
    found = receptive_field(gated)
    assert found.whole == ("mean over all positions 'squeeze'",)
    assert found.size == (9, 9)
    assert found.support.all()
    local = receptive_field(gated, gates=False)
    assert local.whole == ()
    assert local.size == (3, 3)
    assert local.support.sum() == 9


@pytest.fixture
def gated():
    from omniconv.program.steps import ReduceStep

    program = Program(("x",), shapes={"x": (1, 2, 9, 9)})
    spec = Conv.of(2, 2, 3, padding=1)
    program.add(ConvStep("x", "a", spec, np.ones(spec.weight_shape, np.float32)), (1, 2, 9, 9), "conv")
    program.add(ReduceStep("a", "g", "mean"), (1, 2, 1, 1), "squeeze")
    program.add(MapStep("a", "y", (PostOp("mul", "g"),)), (1, 2, 9, 9), "scale")
    program.outputs = ("y",)
    return program


def test_flattening_is_named_and_exact():
    from omniconv.program.steps import DenseStep, RearrangeStep

    program = Program(("x",), shapes={"x": (1, 2, 3, 4)})
    program.add(RearrangeStep("x", "f", (1, 2, 3, 4), (0, 1, 2, 3)), (1, 24), "flatten")
    program.add(DenseStep("f", "y", np.ones((5, 24), np.float32)), (1, 5), "fc")
    program.outputs = ("y",)
    found = receptive_field(program)
    assert found.size == (3, 4)
    assert found.whole == ("dense layer 'fc'",)
    assert found.support.all()


def test_rows_see_rows_through_a_reshape():
    """Reshape (3, 4) to (4, 3) mixes the axes: the hull says so, the support stays exact."""
    from omniconv.program.steps import RearrangeStep

    program = Program(("x",), shapes={"x": (1, 1, 3, 4)})
    program.add(RearrangeStep("x", "y", (1, 1, 4, 3), (0, 1, 2, 3)), (1, 1, 4, 3), "reshape")
    program.outputs = ("y",)
    found = receptive_field(program, position=(1, 1))
    assert found.whole == ("reshape that mixes axes",)
    assert np.argwhere(found.support).tolist() == [[1, 0]]


def test_phases_of_a_transposed_layer():
    found = receptive_field(oc.transposed(1, 1, 3, stride=2, padding=1, dims=1))
    (axis,) = found.axes
    assert axis.stride == Fraction(1, 2)
    assert [phase.size for phase in axis.phases] == [1, 2]


def test_resizes_have_the_stride_of_their_factor():
    for mode, size in (("nearest", 2), ("linear", 3)):
        found = receptive_field(oc.resize_conv(1, 1, 3, factor=2, padding=1, mode=mode, dims=1))
        assert found.axes[0].stride == Fraction(1, 2)
        assert found.axes[0].offset == Fraction(-1, 4)
        assert found.axes[0].period == 2
        assert found.size == (size,)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tensor": "nothing"}, "tensor='nothing' is not in the program"),
        ({"source": "w"}, "source='w' is not an input; need one of x"),
        ({"position": (50, 0)}, r"position=\(50, 0\) is outside a value of shape"),
    ],
)
def test_bad_arguments(gated, arguments, match):
    with pytest.raises(oc.SpecError, match=match):
        receptive_field(gated, **arguments)


def test_bad_subjects():
    with pytest.raises(oc.DataError, match="cannot analyse str; need a Conv, a Chain or a Program"):
        receptive_field("model.onnx")
    with pytest.raises(oc.ShapeError, match="has 2 channels"):
        receptive_field(Conv.of(3, 3, 3), shape=(1, 2, 9, 9))


def test_records_become_json():
    import json

    found = receptive_field(Conv.of(1, 1, 3, dims=1), effective=True).to_dict()
    assert json.loads(json.dumps(found))["axes"][0]["size"] == 3
    assert set(LOCAL) > set(LINEAR)


def test_phases_of_a_u_net():
    """Down by 4 and up by 4, with a skip: stride 1, but the field repeats after 4 outputs only."""
    program = Program(("x",), shapes={"x": (1, 1, 64)})

    def conv(x, y, **arguments):
        spec = Conv.of(1, 1, dims=1, **arguments)
        w = np.ones(spec.weight_shape, np.float32)
        program.add(ConvStep(x, y, spec, w), spec.output_shape(program.shapes[x]), y)

    conv("x", "a", kernel_size=3, padding=1)
    conv("a", "down", kernel_size=4, stride=4)
    conv("down", "middle", kernel_size=3, padding=1)
    conv("middle", "up", kernel_size=4, stride=4, transposed=True)
    program.add(MapStep("up", "y", (PostOp("add", "a"),)), (1, 1, 64), "join")
    program.outputs = ("y",)
    (axis,) = receptive_field(program).axes
    assert (axis.stride, axis.period, axis.size) == (1, 4, 14)
    assert [phase.low for phase in axis.phases] == [-5, -5, -5, -5]
    assert axis.aligned
    for o in range(24, 40):
        support = np.flatnonzero(find_support(program, "y", "x", (o,)))
        low = axis.phases[o % 4].low + o - o % 4
        assert (support[0], support[-1]) == (low, low + axis.phases[o % 4].size - 1)


def test_all_of_a_value_without_axes_is_demanded():
    """x times the mean over everything, whose shape is (): every output sees every position."""
    from omniconv.graph import to_program

    nodes = [
        onnx.helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        onnx.helper.make_node("Mul", ["x", "m"], ["y"], name="scale"),
    ]
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1, 1, 6, 7]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "g", [x], [y])
    found = receptive_field(to_program(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])))
    assert found.size == (6, 7)
    assert found.support.all()


@pytest.mark.parametrize("name", ["forward", "reverse", "bidirectional"])
def test_every_value_of_recurrent_layers_has_a_field(name):
    """One direction holds half of the states only, and no part of the other's is looked for behind it."""
    from omniconv.analysis.axis_field import find_axes
    from omniconv.graph import to_program

    directions = 2 if name == "bidirectional" else 1
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((directions, 4, size), np.float32), key)
        for key, size in (("w", 3), ("r", 4))
    ]
    nodes = [
        onnx.helper.make_node("RNN", ["x", "w", "r"], ["h"], hidden_size=4, direction=name),
        onnx.helper.make_node("Transpose", ["h"], ["y"], perm=[2, 1, 0, 3]),
    ]
    x = onnx.helper.make_tensor_value_info("x", 1, [5, 1, 3])
    y = onnx.helper.make_tensor_value_info("y", 1, [1, directions, 5, 4])
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], weights)
    program = to_program(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    for step in program.steps:
        assert all(axis.size <= 5 for axis in find_axes(program, step.y, "x", gates=False))
