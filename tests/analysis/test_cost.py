"""Costs against counted loops, and the conventions of published tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from tests.analysis.dags import many, programs
from tests.strategies import chains, convs

import omniconv as oc
from omniconv.analysis import Machine, cost, count_executed
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, DenseStep
from omniconv.spec import Chain, Conv


def loop_pairs(conv, shape):
    """(output, tap) pairs that read an input, counted one by one over all axes together; and all there are."""
    conv = conv.resolve(shape)
    sizes, outputs = shape[2:], conv.output_shape(shape)[2:]
    per_axis = []
    for n, (size, count) in enumerate(zip(sizes, outputs, strict=True)):
        s, d, p, k = conv.stride[n], conv.dilation[n], conv.padding[n][0], conv.kernel_size[n]
        inside = 0
        if conv.transposed:
            for i, t in itertools.product(range(size), range(k)):
                inside += 0 <= i * s + t * d - p < count
        else:
            for o, t in itertools.product(range(count), range(k)):
                inside += conv.padding_mode != "zeros" or 0 <= o * s + t * d - p < size
        per_axis.append(inside)
    each = shape[0] * conv.out_channels * conv.in_channels // conv.groups
    return each * math.prod(per_axis)


@many
@given(convs())
def test_executed_macs_are_those_of_a_loop(problem):
    conv, shape = problem.spec, problem.shape
    found = cost(conv, shape)
    assert found.executed_macs == loop_pairs(conv, shape) == count_executed(conv, shape)
    taps = math.prod(conv.kernel_size) * shape[0] * conv.out_channels * conv.in_channels // conv.groups
    outputs = math.prod(conv.output_shape(shape)[2:])
    assert found.count_macs("output") == taps * outputs
    assert found.count_macs("input") == taps * math.prod(shape[2:])
    assert found.macs == found.count_macs("nominal") == conv.count_macs(shape)
    assert found.executed_macs <= found.macs


@many
@given(chains())
def test_chains_are_the_sum_of_their_layers(problem):
    spec, shape = problem.spec, problem.shape
    found = cost(spec, shape)
    assert found.weights == sum(math.prod(size) for size in spec.weight_shapes)
    assert found.macs == sum(layer.macs for layer in found.layers)
    executed, current = 0, shape
    for step in spec.steps:
        for branch in getattr(step, "branches", (step,) if isinstance(step, Conv) else ()):
            executed += loop_pairs(branch, (current[0], branch.in_channels, *current[2:]))
        current = current if isinstance(step, oc.Activation) else step.output_shape(current)
    assert found.executed_macs == executed


@many
@given(programs())
def test_networks_count_every_tensor_once_for_each_step(program):
    found = cost(program)
    expected = 0
    for step, layer in zip(program.steps, found.layers, strict=True):
        arrays = {name: np.empty(program.shapes[name], np.float32) for name in set(step.reads)}
        size = sum(array.nbytes for array in arrays.values()) + 4 * math.prod(program.shapes[step.y])
        if isinstance(step, ConvStep):
            size += step.w.nbytes + (0 if step.b is None else step.b.nbytes)
        assert layer.bytes == size
        expected += size
    assert found.bytes == expected


def test_three_counters_that_disagree_have_names():
    """One grouped transposed layer on which the common counters report different figures."""
    conv = Conv.of(8, 8, 3, stride=2, padding=1, output_padding=1, groups=4, transposed=True)
    found = cost(conv, (1, 8, 4, 4))
    assert [found.count_macs(name) for name in ("nominal", "input", "output", "executed")] == [2304, 2304, 9216, 1936]
    assert found.executed_macs == loop_pairs(conv, (1, 8, 4, 4))


def test_roofline():
    machine = Machine(flops=100e9, bandwidth=10e9)
    found = cost(Conv.of(64, 64, 1), (1, 64, 56, 56))
    (layer,) = found.layers
    assert layer.bytes == 4 * (2 * 64 * 56 * 56 + 64 * 64)
    assert layer.intensity == pytest.approx(2 * 64 * 64 * 56 * 56 / layer.bytes)
    assert layer.bound(machine) == "compute"
    assert found.roofline_seconds(machine) == pytest.approx(2 * layer.macs / 100e9)
    narrow = cost(Conv.of(64, 64, 3, groups=64, padding=1), (1, 64, 56, 56))
    assert narrow.layers[0].bound(machine) == "memory"
    assert narrow.roofline_seconds(machine) == pytest.approx(narrow.bytes / 10e9)
    assert found.flops == 2 * found.macs


def test_steps_without_macs_move_bytes():
    found = cost(oc.resize_conv(4, 4, 3, factor=2, padding=1), (1, 4, 8, 8))
    resize, conv = found.layers
    assert resize.kind == "resize"
    assert resize.macs == 0
    assert resize.bytes == 4 * (4 * 64 + 4 * 256)
    assert conv.macs == 256 * 9 * 16
    assert found.activations == 4 * 256


def test_shared_weights_count_once():
    w = np.ones((3, 3, 1, 1), np.float32)
    b = np.ones(3, np.float32)
    program = Program(("x",), shapes={"x": (1, 3, 4, 4)})
    for source, name in (("x", "a"), ("a", "y")):
        program.add(ConvStep(source, name, Conv.of(3, 3, 1), w, b), (1, 3, 4, 4))
    program.outputs = ("y",)
    found = cost(program)
    assert found.parameters == 12
    assert found.macs == 2 * 9 * 16
    assert found.count_parameters("batch_norm") == 9 + 2 * 3 + 2 * 3
    assert found.count_parameters("none") == 9


def test_dense_layers():
    program = Program(("x",), shapes={"x": (2, 7, 5)})
    program.add(DenseStep("x", "y", np.ones((3, 5), np.float32), np.ones(3, np.float32)), (2, 7, 3))
    program.outputs = ("y",)
    found = cost(program)
    assert found.macs == found.executed_macs == 2 * 7 * 3 * 5
    assert found.parameters == 18


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: cost(Conv.of(1, 1, 3)), oc.ShapeError, r"a spec is analysed for a shape; need \(N, C, \*spatial\)"),
        (lambda: cost(Conv.of(1, 1, 3), (1, 1, 2, 2)), oc.ShapeError, "would have output size"),
        (lambda: cost("x"), oc.DataError, "cannot analyse str"),
        (lambda: cost(Conv.of(1, 1, 1), (1, 1, 2, 2)).count_macs("all"), oc.SpecError, "convention='all' is unknown"),
        (lambda: cost(Conv.of(1, 1, 1), (1, 1, 2, 2)).count_parameters("x"), oc.SpecError, "bias='x' is unknown"),
        (lambda: Machine(0, 1), oc.SpecError, "need positive rates"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_records_become_json():
    import json

    found = cost(Chain((Conv.of(2, 2, 3, padding=1),)), (1, 2, 4, 4)).to_dict()
    assert json.loads(json.dumps(found))["layers"][0]["macs"] == 576
