"""What is said of a network before it streams: axes, hops, delays and obstacles."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.streams.models import build_denoiser, build_global, build_recurrent

import omniconv as oc
from omniconv.analysis import streaming
from omniconv.analysis.subject import as_program
from omniconv.graph import to_program


def along(spec, *shape):
    return {each.axis: each for each in streaming(as_program(spec, shape))}


def test_each_axis_by_itself():
    found = along(oc.Conv.of(2, 3, (3, 5), dims=2, stride=(1, 4), padding=(1, 2)), 1, 2, 40, 60)
    assert [(each.hop, each.delay, each.obstacle) for each in found.values()] == [(1, 1, ""), (4, 0, "")]
    up = along(oc.Conv.of(2, 3, 5, dims=1, stride=3, padding=1, transposed=True), 1, 2, 60)[2]
    assert (up.hop, up.delay) == (1, Fraction(1, 3))


@pytest.mark.parametrize(
    ("model", "hop", "words"),
    [
        (build_denoiser(), 1, ""),
        (build_recurrent(), 2, ""),
        (build_recurrent(direction="bidirectional"), 0, "bidirectional LSTM begins at the end"),
        (build_global(), 0, "mean over all positions"),
    ],
)
def test_networks_as_their_streams(model, hop, words):
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    (found,) = streaming(to_program(model, shapes={"x": (1, channels, 400)}))
    assert (found.axis, found.hop) == (2, hop)
    assert words in found.obstacle
    if hop:
        assert found.delay == oc.compile(model).stream(2, hop).latency.exact


def test_a_program_that_is_too_short_says_so():
    short = along(oc.Conv.of(1, 1, 31, dims=1, padding=15), 1, 1, 20)[2]
    assert short.obstacle == "20 positions are too few to see all that is read"
