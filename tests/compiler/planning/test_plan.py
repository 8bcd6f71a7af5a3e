"""What a plan consists of: which calls there are, and that no copy is made that the layouts do not need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.graph.onnx_cases import DATA
from tests.graph.small_models import Graph
from tests.machines import MACHINES

import omniconv as oc
from omniconv.compiler.memory.storage import GUARD
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, plan
from omniconv.graph import to_program
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Shuffle, Split

MACHINE = MACHINES["zen4"]
"""Plans are pure functions of the target: this one need not be here."""


def plan_spec(spec, shape, layout: str = "NHWC", **options) -> Plan:
    weights = random_weights(spec, np.random.default_rng(0))
    return plan(program_of(spec, shape, weights), MACHINE, Options(layout=layout, exact=True, **options))


def words(found: Plan) -> list[str]:
    return [call.what for call in found.calls]


def test_one_layer_is_one_call() -> None:
    for spec in (
        Conv.of(20, 30, 3, padding=1),
        Conv.of(20, 20, 5, padding=2, groups=20),
        Conv.of(32, 32, 3, groups=8, stride=2),
        Conv.of(20, 12, 4, stride=2, padding=1, transposed=True),
        Conv.of(7, 9, 1),
        Conv.of(6, 6, 3, dims=3, groups=6),
    ):
        assert words(plan_spec(spec, (2, spec.in_channels, *(8,) * spec.dims))) in (["panel"], ["lane"])


@pytest.mark.parametrize("name", ["relu", "hard_swish", "gelu", "sigmoid", "clip"])
def test_activations_are_epilogues(name: str) -> None:
    chain = Chain(
        (Conv.of(8, 8, 3, groups=8), Activation.of(name), Conv.of(8, 20, 1), Activation.of(name), Activation("relu"))
    )
    found = plan_spec(chain, (1, 8, 9, 9))
    assert words(found) == ["lane", "panel"]
    assert [len(call.recipe.posts) for call in found.calls] == [1, 2]


def test_few_channels_first_are_read_in_place() -> None:
    stem = Conv.of(3, 32, 3, stride=2, padding=1)
    assert words(plan_spec(Chain((stem, Conv.of(32, 32, 3, groups=32))), (1, 3, 32, 32), "NCHW")) == [
        "panel",
        "lane",
        "copy",
    ]
    found = plan_spec(stem, (1, 3, 32, 32), "NCHW")
    assert found.buffers[found.calls[0].args[0].buffer].kind == "input"


def test_boundaries_cost_one_copy_each_at_most() -> None:
    deep = Conv.of(64, 64, 3, padding=1)
    assert words(plan_spec(deep, (1, 64, 8, 8), "NCHW")) == ["copy", "panel", "copy"]
    assert words(plan_spec(deep, (1, 64, 8, 8), "NHWC")) == ["panel"]
    # Without spatial extent both layouts are one.
    assert words(plan_spec(deep, (1, 64, 1, 1), "NCHW")) == ["panel"]


def test_a_shuffle_before_a_panel_is_an_order_of_the_reduction() -> None:
    unit = oc.shuffled_grouped(in_channels=240, out_channels=240, groups=3, padding=1)
    assert not {"copy", "gather"} & set(words(plan_spec(unit, (1, 240, 14, 14))))
    within = Chain((Conv.of(24, 48, 1), Shuffle(4), Conv.of(48, 20, 3, padding=1)))
    found = plan_spec(within, (1, 24, 6, 6))
    assert words(found) == ["panel", "panel"]
    assert not found.calls[1].recipe.mapped, "inside one group the weights are permuted and the walk is plain"


def test_a_shuffle_before_a_depthwise_layer_permutes_its_weights() -> None:
    chain = Chain(
        (Conv.of(24, 48, 1), Shuffle(4), Conv.of(48, 48, 3, padding=1, groups=48), Conv.of(48, 48, 1, groups=2))
    )
    assert words(plan_spec(chain, (1, 24, 6, 6))) == ["panel", "lane", "panel"]


def test_a_shuffle_at_the_end_is_one_transpose() -> None:
    assert words(plan_spec(Chain((Conv.of(24, 48, 1), Shuffle(4))), (1, 24, 6, 6))) == ["panel", "copy"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_pixel_shuffle_is_one_copy(layout: str) -> None:
    chain = Chain((Conv.of(3, 12, 3, padding=1), PixelShuffle(2)))
    assert words(plan_spec(chain, (1, 3, 8, 8), layout)) == ["panel", "copy"]


def test_branches_are_read_and_written_in_place() -> None:
    split = Split((Conv.of(16, 16, 3, padding=1, groups=16), Conv.of(16, 32, 5, padding=2), Conv.of(8, 16, 1)))
    found = plan_spec(Chain((split, Conv.of(64, 8, 1))), (1, 40, 8, 8))
    assert words(found) == ["lane", "panel", "panel", "panel"]
    places = {call.args[3].buffer for call in found.calls[:3]}
    assert len(places) == 1, "all three write into the concatenated value"
    assert sorted(call.args[3].offset for call in found.calls[:3]) == [0, 16, 48]


def test_nested_concatenations_are_in_place() -> None:
    """As in a DenseNet: each value is part of all that follow."""
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", 1, 3, 8, 8), 16, 3))
    for channels in (16, 32, 48):
        x = g.node("Concat", x, g.conv(x, 16, channels), axis=1)
    model = g.model(g.conv(x, 8, 64, 1))
    found = plan(to_program(model), MACHINE, Options(layout="NHWC"))
    assert not {"copy", "gather"} & set(words(found))


def test_a_value_that_is_joined_twice_is_copied_once() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 4, 6, 6), 16, 4)
    model = g.model(g.node("Concat", x, g.conv(x, 16, 16), x, axis=1))
    assert Counter(words(plan(to_program(model), MACHINE, Options(layout="NHWC"))))["copy"] == 1


def test_residuals_are_epilogues() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 4, 6, 6), 16, 4)
    model = g.model(g.node("Relu", g.node("Add", g.conv(x, 16, 16), x)))
    found = plan(to_program(model), MACHINE, Options(layout="NHWC", exact=True))
    assert words(found) == ["panel", "panel"]
    assert [post.op for post in found.calls[1].recipe.posts] == ["add", "act"]


COPIES = {
    "light_bvlc_alexnet": 1, "light_densenet121": 0, "light_inception_v1": 0, "light_inception_v2": 0,
    "light_resnet50": 0, "light_shufflenet": 0, "light_squeezenet": 0, "light_vgg19": 1, "light_zfnet512": 1,
}  # fmt: skip
"""Copies in trained networks: one where a map with spatial extent is flattened for a dense layer."""


@pytest.mark.parametrize("name", COPIES)
def test_networks(name: str) -> None:
    found = plan(to_program(DATA / "light" / f"{name}.onnx"), MACHINE)
    counts = Counter(words(found))
    assert counts["copy"] + counts["gather"] == COPIES[name], counts
    check_arena(found)
    arena = [buffer.size for buffer in found.buffers if buffer.kind == "arena"]
    assert found.arena_bytes < 0.6 * sum(arena), "values that do not live at once share memory"


def check_arena(found: Plan) -> None:
    """No two values that live at once overlap, with room behind each for a vector that is read past its end."""
    placed = [
        (offset, offset + buffer.size + GUARD, buffer)
        for offset, buffer in zip(found.offsets, found.buffers, strict=True)
        if buffer.kind == "arena" and buffer.first >= 0
    ]
    for index, (start, stop, buffer) in enumerate(placed):
        assert start >= 0
        assert stop <= found.arena_bytes
        for other_start, other_stop, other in placed[:index]:
            if buffer.first <= other.last and other.first <= buffer.last:
                assert stop <= other_start or other_stop <= start


def test_the_arena_of_a_long_chain_is_two_values() -> None:
    chain = Chain(tuple(Conv.of(16, 16, 3, padding=1) for _ in range(10)))
    found = plan_spec(chain, (1, 16, 32, 32))
    check_arena(found)
    assert found.arena_bytes < 2.1 * 4 * 16 * 32 * 32
