"""Overlap against counting: how many taps meet in each place."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import LINEAR, many, programs, responses, with_mean_weights
from tests.program_oracle import run_program
from tests.strategies import convs

import omniconv as oc
from omniconv.analysis import count_image, count_phases, find_remedies, icnr, overlap, overlaps
from omniconv.analysis.overlap import judge
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep
from omniconv.spec import Axis, Chain, Conv

LINEAR_ADD = tuple(name for name in LINEAR if name != "act")


def counted(conv, shape):
    """Taps that meet in each output, one product of loops over inputs and taps."""
    conv = conv.resolve(shape)
    outputs = conv.output_shape(shape)[2:]
    total = np.ones(())
    for n, size in enumerate(shape[2:]):
        line = np.zeros(outputs[n])
        for i, t in itertools.product(range(size), range(conv.kernel_size[n])):
            o = i * conv.stride[n] + t * conv.dilation[n] - conv.padding[n][0]
            if 0 <= o < outputs[n]:
                line[o] += 1
        total = np.multiply.outer(total, line)
    return total


@many
@given(convs(transposed=True))
def test_images_of_layers_are_counted(problem):
    found = overlap(problem.spec, problem.shape)
    assert np.array_equal(found.image, counted(problem.spec, problem.shape))


@many
@given(
    st.integers(1, 3).flatmap(
        lambda dims: st.lists(
            st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)),
            min_size=dims,
            max_size=dims,
        )
    )
)
def test_phases_are_those_of_a_large_image(axes):
    kernel, stride, dilation, crop = (list(values) for values in zip(*axes, strict=True))
    conv = Conv.of(1, 1, kernel, stride=stride, dilation=dilation, padding=crop, transposed=True)
    size = 12 + max(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    line = [
        counted(Conv.of(1, 1, k, stride=s, dilation=d, padding=p, dims=1, transposed=True), (1, 1, size))
        for k, s, d, p in axes
    ]
    block = np.ones(())
    for (_, s, _, _), image in zip(axes, line, strict=True):
        start = image.size // 2 // s * s
        block = np.multiply.outer(block, image[start : start + s])
    found = overlap(conv)
    assert np.array_equal(found.counts, block)
    even = all(k % s == 0 and math.gcd(d, s) == 1 for k, s, d, _ in axes)
    holes = any(k < s or math.gcd(d, s) > 1 for k, s, d, _ in axes)
    assert found.verdict == ("holes" if holes else "even" if even else "uneven")


@many
@given(programs(ops=LINEAR_ADD, linear=True))
def test_images_of_networks_are_responses_to_ones(program):
    mean = with_mean_weights(program)
    y = run_program(mean, {"x": np.ones(program.shapes["x"])})[program.outputs[0]]
    found = count_image(program, "output", program.outputs[0])
    np.testing.assert_allclose(found, y.mean(axis=(0, 1)), rtol=1e-9, atol=1e-12)


@many
@given(programs(ops=("conv", "transposed", "concat", "add", "slice", "shuffle", "rearrange", "pad"), linear=True))
def test_gradient_images_are_sums_of_responses(program):
    _, y = responses(with_mean_weights(program), np.zeros((1, *program.shapes["x"][1:])), 1.0)
    channels = program.shapes[program.outputs[0]][1]
    expected = y.sum(axis=tuple(range(1, y.ndim))).reshape(program.shapes["x"][2:]) / channels
    found = count_image(program, "gradient", program.outputs[0])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@many
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_gradient_of_a_strided_layer_is_the_overlap_of_its_adjoint(kernel, stride, dilation, padding):
    conv = Conv.of(1, 1, kernel, stride=stride, dilation=dilation, padding=padding, dims=1)
    size = 64
    uses = np.zeros(size)
    (outputs,) = conv.output_shape((1, 1, size))[2:]
    for o, t in itertools.product(range(outputs), range(kernel)):
        i = o * stride + t * dilation - padding
        if 0 <= i < size:
            uses[i] += 1
    start = 32 // stride * stride
    found = overlap(conv)
    assert found.direction == "gradient"
    assert np.array_equal(found.counts, uses[start : start + stride])
    assert np.array_equal(overlap(conv, (1, 1, size)).image, uses)


@many
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1)), min_size=1, max_size=3
    ),
    st.booleans(),
)
def test_stacks_propagate_counts(layers, transposed):
    """Counts of a stack away from borders, against the reference with weights of one."""
    steps = tuple(
        Conv.of(1, 1, k, stride=s, dilation=d, padding=min(p, d * (k - 1) // 2), dims=1, transposed=transposed)
        for k, s, d, p in layers
    )
    chain = Chain(steps)
    found = overlap(chain, direction="output" if transposed else "gradient")
    total = math.prod(s for _, s, _, _ in layers)
    ones = [(np.ones(size, np.float32), None) for size in chain.weight_shapes]
    if transposed:
        image = oc.reference(chain, np.ones((1, 1, 60)), ones)[0, 0]
    else:
        image = oc.reference(chain, np.eye(240)[:, None], ones)[:, 0].sum(axis=-1)
    start = image.size // 2 // total * total
    block = image[start : start + total]
    assert np.array_equal(np.tile(found.counts, total // found.counts.size), block)


def test_published_figures():
    def one(kernel, stride, dims=1, dilation=1):
        return overlap(Conv.of(1, 1, kernel, stride=stride, dilation=dilation, dims=dims, transposed=True))

    assert one(3, 2).levels == (1, 2)
    assert one(3, 2, dims=2).levels == (1, 2, 4)
    assert one(3, 2, dims=3).levels == (1, 2, 4, 8)
    assert one(3, 2).ratio == 2
    assert one(3, 2, dims=2).ratio == 4
    assert one(4, 2).verdict == "even"
    holes = one(4, 2, dilation=2)
    assert holes.counts.tolist() == [4, 0]
    assert holes.verdict == "holes"
    assert holes.ratio == math.inf
    assert count_phases(Axis(5, 2, padding=(1, 1))) == (2, 3)
    two = Chain((Conv.of(1, 1, 3, stride=2, dims=1, transposed=True),) * 2)
    assert sorted(overlap(two).counts.tolist()) == [1, 2, 3, 3]
    assert overlap(Chain((Conv.of(1, 1, 4, stride=2, padding=1, dims=1, transposed=True),) * 2)).verdict == "even"


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 4, "stride": 2, "dilation": 2, "padding": 1},
        {"kernel_size": 5, "stride": 3},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": (3, 4), "stride": (2, 3), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 2, "dims": 1},
        {"kernel_size": 3, "stride": 2, "dims": 3},
    ],
    ids=str,
)
def test_remedies_are_even(arguments):
    conv = Conv.of(6, 4, transposed=True, **arguments)
    shape = (1, 6, *(8,) * conv.dims)
    remedies = find_remedies(conv, shape)
    uniform = {"resize", "sub_pixel"} if len(set(conv.stride)) == 1 else set()
    assert {remedy.name for remedy in remedies} == {"kernel", "smoothing"} | uniform
    for remedy in remedies:
        assert overlap(remedy.spec, direction="output").verdict == "even", remedy.name
        scaled = tuple(8 * s for s in conv.stride)
        expected = conv.output_shape(shape)[2:] if remedy.name in ("kernel", "smoothing") else scaled
        assert remedy.spec.output_shape(shape)[1:] == (4, *expected)
        assert remedy.parameters == sum(math.prod(size) for size in remedy.spec.weight_shapes)
    assert [remedy.macs for remedy in remedies] == sorted(remedy.macs for remedy in remedies)
    assert overlap(conv, shape).remedies == remedies


def test_icnr_makes_the_first_output_constant_in_blocks():
    chain = oc.sub_pixel(3, 2, 3, factor=2, padding="same")
    rng = np.random.default_rng(0)
    y = oc.reference(chain, rng.standard_normal((1, 3, 5, 6)), [(icnr(chain, rng), None)])
    blocks = y.reshape(1, 2, 5, 2, 6, 2)
    np.testing.assert_allclose(blocks, blocks[:, :, :, :1, :, :1] + 0 * blocks, rtol=1e-12)


def test_each_layer_of_a_network():
    program = Program(("x",), shapes={"x": (1, 1, 5, 5)})
    for source, name, kernel in (("x", "a", 3), ("a", "y", 4)):
        spec = Conv.of(1, 1, kernel, stride=2, padding=1, transposed=True)
        shape = spec.output_shape(program.shapes[source])
        program.add(ConvStep(source, name, spec, np.ones(spec.weight_shape, np.float32)), shape, f"up_{name}")
    program.outputs = ("y",)
    found = dict(overlaps(program))
    assert {name: item.verdict for name, item in found.items()} == {"up_a": "uneven", "up_y": "even"}
    assert "use a 4x4 kernel" in [remedy.advice for remedy in found["up_a"].remedies]


def test_bad_input():
    with pytest.raises(oc.SpecError, match="direction='up' is unknown; need one of output, gradient"):
        overlap(Conv.of(1, 1, 3), direction="up")
    with pytest.raises(oc.SpecError, match="does not end with a convolution and a pixel shuffle"):
        icnr(Chain((Conv.of(1, 1, 3),)), np.random.default_rng(0))
    assert judge(np.zeros(2)) == "holes"
