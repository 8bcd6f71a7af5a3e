"""Connectivity against masks multiplied out, and against networks whose channels are changed one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import ALL, many, programs, rebatch
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.analysis import connectivity, least_layers
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, MapStep, PostOp
from omniconv.spec import Chain, Conv, PixelShuffle, Shuffle, Split


def divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def stacks(draw):
    channels = draw(st.sampled_from((2, 4, 6, 8, 12, 16)))
    first, steps = channels, []
    for _ in range(draw(st.integers(1, 5))):
        sort = draw(st.sampled_from(("conv", "conv", "shuffle", "transposed", "split")))
        if sort == "shuffle":
            steps.append(Shuffle(draw(st.sampled_from(divisors(channels)))))
            continue
        if sort == "split" and channels > 1:
            half = channels // 2
            steps.append(Split((Conv.of(half, half, 1, groups=half), Conv.of(channels - half, 2, 1))))
            channels = half + 2
            continue
        groups = draw(st.sampled_from(divisors(channels)))
        out = groups * draw(st.integers(1, max(1, 16 // groups)))
        steps.append(Conv.of(channels, out, 1, groups=groups, transposed=sort == "transposed"))
        channels = out
    if not any(isinstance(step, Conv | Split) for step in steps):
        steps.append(Conv.of(channels, channels, 1))
    return Chain(tuple(steps)), first


def mask_of(step, channels):
    """Outputs x inputs of one step, entry by entry."""
    if isinstance(step, Shuffle):
        source = step.source(channels)
        return [[int(source[o] == i) for i in range(channels)] for o in range(channels)]
    if isinstance(step, Split):
        rows, first = [], 0
        for branch in step.branches:
            masks = mask_of(branch, branch.in_channels)
            rows += [[0] * first + row + [0] * (channels - first - len(row)) for row in masks]
            first += branch.in_channels
        return rows
    wide, narrow = step.in_channels // step.groups, step.out_channels // step.groups
    return [[int(o // narrow == i // wide) for i in range(step.in_channels)] for o in range(step.out_channels)]


@many
@given(stacks())
def test_paths_are_products_of_masks(problem):
    chain, channels = problem
    product = np.eye(channels, dtype=object)
    current = channels
    for step in chain.steps:
        mask = np.array(mask_of(step, current), dtype=object)
        product = mask @ product
        current = mask.shape[0]
    found = connectivity(chain)
    assert found.paths.tolist() == product.tolist()
    assert np.array_equal(found.matrix, product != 0)
    assert found.full == (product != 0).all()
    for repair in found.repairs:
        again = connectivity(repair.spec)
        assert again.fraction == repair.fraction > found.fraction


@many
@given(programs(ops=ALL, dims=1, sizes=(6, 14)))
def test_networks_by_changing_channels(program):
    """An output channel is joined to an input channel iff changing it changes something of that output."""
    count, size = program.shapes["x"][1:]
    x = np.broadcast_to(np.random.default_rng(1).uniform(0.5, 1, (1, count, size)), (count + 1, count, size)).copy()
    for channel in range(count):
        x[channel, channel] += 1000.0
    y = run_program(rebatch(program, count + 1), {"x": x})[program.outputs[0]]
    changed = (np.abs(y[:count] - y[count:]) > 1e-11 * np.abs(y[count:])).reshape(count, y.shape[1], -1).any(axis=2)
    matrix = connectivity(program).matrix
    assert (matrix >= changed.T).all()
    if all(type(step).__name__ not in ("PoolStep", "ConvStep", "SliceStep", "RearrangeStep") for step in program.steps):
        assert np.array_equal(matrix, changed.T)


def test_large_numbers_of_paths_stay_exact():
    chain = Chain((Conv.of(64, 64, 1),) * 12)
    assert connectivity(chain).paths[0, 0] == 64**11


def test_shuffle_repairs_groups():
    stack = Chain((Conv.of(8, 8, 3, padding=1, groups=2), Conv.of(8, 8, 3, padding=1, groups=2)))
    found = connectivity(stack)
    assert not found.full
    assert found.fraction == 0.5
    assert found.blocks == ((4, 4), (4, 4))
    best = found.repairs[0]
    assert (best.after, best.fraction) == ((0,), 1.0)
    assert best.spec.steps[1] == Shuffle(2)
    assert connectivity(best.spec).full


def test_depthwise_blocks():
    found = connectivity(oc.depthwise(3, 3, channel_multiplier=2))
    assert found.blocks == ((2, 1),) * 3
    assert found.fraction == pytest.approx(1 / 3)


def test_pixel_shuffle_moves_channels():
    found = connectivity(Chain((Conv.of(8, 8, 1, groups=8), PixelShuffle(2))))
    assert found.matrix.tolist() == [[True] * 4 + [False] * 4, [False] * 4 + [True] * 4]


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (16, 4), (64, 8), (27, 9), (16, 2), (24, 4), (64, 16)])
def test_least_layers(channels, groups):
    steps = [Conv.of(channels, channels, 1, groups=groups)]
    for count in range(1, 10):
        if connectivity(Chain(tuple(steps))).full:
            assert least_layers(channels, groups) == count
            return
        steps += [Shuffle(groups), Conv.of(channels, channels, 1, groups=groups)]
    raise AssertionError("never full")


def test_gates_join_channels():
    program = Program(("x",), shapes={"x": (1, 4, 2, 2)})
    spec = Conv.of(4, 4, 1, groups=4)
    program.add(ConvStep("x", "a", spec, np.ones(spec.weight_shape, np.float32)), (1, 4, 2, 2))
    program.add(MapStep("a", "y", (PostOp("add", "x"),)), (1, 4, 2, 2))
    program.outputs = ("y",)
    found = connectivity(program)
    assert found.paths.tolist() == (2 * np.eye(4, dtype=int)).tolist()
    assert math.isclose(found.fraction, 0.25)
