"""`Conv`: what it accepts, what it refuses, shapes, adjoints."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.strategies import convs

from omniconv.errors import OmniconvError, ShapeError, SpecError, UnsupportedError
from omniconv.spec import Conv

FAST = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (1, ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([(1, 2), (3, 4)], ((1, 2), (3, 4))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 2), (1, 1))),
        ("same_upper", ((1, 2), (1, 1))),
        ("same_lower", ((2, 1), (1, 1))),
        ("causal", ((3, 0), (2, 0))),
    ],
)
def test_padding_is_normalised(padding, expected):
    assert Conv.of(1, 1, (4, 2), dilation=(1, 2), padding=padding).padding == expected


@pytest.mark.parametrize(
    ("padding", "pads", "extra"),
    [
        ("same", ((0, 1), (0, 0)), (0, 2)),
        ("same_lower", ((1, 0), (0, 0)), (0, 2)),
        ("causal", ((0, 1), (0, 0)), (0, 2)),
    ],
)
def test_named_padding_of_a_transposed_convolution(padding, pads, extra):
    spec = Conv.of(1, 1, (3, 1), stride=(2, 3), transposed=True, padding=padding)
    assert (spec.padding, spec.output_padding) == (pads, extra)
    assert spec.output_shape((1, 1, 5, 5)) == (1, 1, 10, 15)


def test_same_with_a_stride_waits_for_the_size():
    spec = Conv.of(1, 1, 3, stride=2, padding="same")
    assert spec.padding == "same_upper"
    assert spec.resolve((1, 1, 7, 8)).padding == ((1, 1), (0, 1))
    assert spec.output_shape((1, 1, 7, 8)) == (1, 1, 4, 4)
    with pytest.raises(SpecError, match=r"depends on the input size; need a shape, e.g. spec.resolve"):
        spec.axes()


def test_dims_come_from_the_tuples():
    assert Conv.of(1, 1, 3).dims == 2
    assert Conv.of(1, 1, (3,)).dims == 1
    assert Conv.of(1, 1, 3, stride=(1, 2, 3)).dims == 3
    assert Conv.of(1, 1, 3, padding=((1, 0),)).dims == 1
    assert Conv.of(1, 1, 3, dims=1).dims == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"dims": 0}, r"dims=0 is out of range"),
        ({"dims": 4}, r"dims=4 is out of range"),
        ({"dims": True}, r"dims=True is not an integer; need an integer from 1 to 3"),
        ({"in_channels": 0}, r"in_channels=0 is out of range; need an integer from 1 to 2147483647"),
        ({"in_channels": 2.0}, r"in_channels=2.0 is not an integer"),
        ({"in_channels": 2**31}, r"in_channels=2147483648 is out of range"),
        ({"out_channels": "4"}, r"out_channels='4' is not an integer"),
        ({"kernel_size": (3, 3, 3), "dims": 2}, r"kernel_size=\(3, 3, 3\) has 3 values"),
        ({"kernel_size": ()}, r"kernel_size=\(\) has 0 values|dims=0"),
        ({"kernel_size": 10**400}, r"is out of range"),
        ({"stride": 0}, r"stride=0 is out of range"),
        ({"stride": None}, r"stride=None is not an integer"),
        ({"dilation": -1}, r"dilation=-1 is out of range"),
        ({"padding": -1}, r"padding=-1 is out of range"),
        ({"padding": "SAME"}, r"padding='SAME' is unknown"),
        ({"padding": ((1, 1),), "dims": 2}, r"padding=\(\(1, 1\),\) has 1 pairs; need one pair for each of 2 axes"),
        ({"padding": ((1, 1), (1,))}, r"padding=.* has 1 values on an axis"),
        ({"padding": (1, (1, 2))}, r"padding=\(1, \(1, 2\)\) mixes integers and pairs"),
        ({"padding": 1.5}, r"padding=1.5 is not an integer"),
        ({"groups": 0}, r"groups=0 is out of range"),
        ({"groups": 3}, r"groups=3 does not divide in_channels=4; need in_channels % groups == 0, e.g. groups=2 or gr"),
        ({"output_padding": 1}, r"output_padding=\(1, 1\) on a convolution that is not transposed"),
        ({"output_padding": 2, "transposed": True, "stride": 2}, r"output_padding=2 is not below stride=2"),
        ({"padding_mode": "wrap"}, r"padding_mode='wrap' is unknown; need one of zeros, reflect, replicate, circular"),
        ({"padding_mode": "reflect", "transposed": True}, r"has no meaning: its padding crops the output"),
    ],
)
def test_refused(arguments, match):
    with pytest.raises(SpecError, match=match):
        Conv.of(**{"in_channels": 4, "out_channels": 8, "kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 4, 8), r"rank 3; need \(N, C, \*spatial\) of rank 4, e.g. \(1, 4, 32, 32\) \|"),
        ((1, 3, 8, 8), r"3 channels; need in_channels=4 on axis 1"),
        ((0, 4, 8, 8), r"empty, negative or absurd"),
        ((1, 4, -8, 8), r"empty, negative or absurd"),
        ((1, 4, 2**31, 8), r"absurd"),
        ((1, 4, 2, 8), r"spatial axis 0 would have output size 0: kernel extent 3, padded input size 2"),
        ((1, 4, 8.0, 8), r"not made of integers"),
        (None, r"shape=None is not a sequence of integers; need \(N, C, \*spatial\), e.g. \(1, 4, 32, 32\)"),
    ],
)
def test_inputs_refused(shape, match):
    with pytest.raises(ShapeError, match=match):
        Conv.of(4, 8, 3).output_shape(shape)


def test_numpy_integers_are_accepted_and_stored_as_ints():
    spec = Conv.of(np.int64(4), np.int32(8), np.int64(3), stride=np.array([1, 2]), padding=np.uint8(1))
    assert spec == Conv.of(4, 8, 3, stride=(1, 2), padding=1)
    assert all(type(value) is int for value in (spec.in_channels, *spec.kernel_size, *spec.stride, *spec.padding[0]))


def test_equal_specs_are_equal_keys():
    first, second = Conv.of(4, 8, 3, padding="valid"), Conv.of(4, 8, (3, 3), padding=((0, 0), (0, 0)))
    assert first == second
    assert len({first, second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))}) == 1
    with pytest.raises(AttributeError):
        first.groups = 2


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ({}, "convolution"),
        ({"dilation": 2}, "dilated"),
        ({"dilation": 2, "kernel_size": 1}, "pointwise"),
        ({"groups": 2}, "grouped"),
        ({"groups": 2, "kernel_size": 1}, "pointwise_grouped"),
        ({"groups": 4}, "depthwise"),
        ({"groups": 4, "transposed": True}, "depthwise_transposed"),
        ({"transposed": True}, "transposed"),
    ],
)
def test_label(arguments, label):
    spec = Conv.of(**{"in_channels": 4, "out_channels": 8, "kernel_size": 3, **arguments})
    assert spec.label == label
    assert str(spec).startswith(label + " ic4 oc8 ")


@FAST
@given(convs())
def test_resolved_is_the_same_layer(problem):
    spec, shape = problem.spec, problem.shape
    resolved = spec.resolve(shape)
    assert resolved.output_shape(shape) == spec.output_shape(shape)
    assert resolved.resolve(shape) is resolved
    counts = [sum(phase.count for phase in phases) for phases in spec.phases(shape)]
    assert (shape[0], spec.out_channels, *counts) == spec.output_shape(shape)


@FAST
@given(convs())
def test_adjoint_maps_back(problem):
    spec, shape = problem.spec.resolve(problem.shape), problem.shape
    surplus = [a >= s and a > p for a, s, (_, p) in zip(spec.output_padding, spec.stride, spec.padding, strict=True)]
    if spec.padding_mode != "zeros" or any(surplus):
        with pytest.raises(UnsupportedError, match=r"adjoint of (padding_mode|output_padding)=") as caught:
            spec.adjoint(shape)
        assert spec.text(shape) in str(caught.value)
        return
    back = spec.adjoint(shape)
    assert back.transposed != spec.transposed
    assert back.weight_shape == spec.weight_shape
    assert back.output_shape(spec.output_shape(shape)) == shape


@FAST
@given(convs())
def test_messages_name_the_layer(problem):
    shape = (problem.shape[0], problem.shape[1] + 1, *problem.shape[2:])
    with pytest.raises(OmniconvError, match=r"; need .* \| ") as caught:
        problem.spec.output_shape(shape)
    assert problem.spec.text(shape) in str(caught.value)
