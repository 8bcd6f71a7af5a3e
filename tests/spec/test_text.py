"""The problem line: round trips, messages, and no other error whatever is put in."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.strategies import problems

from omniconv.errors import SpecError
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split, parse
from omniconv.spec.activation import FORMULAS

FAST = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@FAST
@given(problems())
def test_round_trip(problem):
    line = problem.spec.text(problem.shape)
    assert parse(line) == (problem.spec, problem.shape)
    assert parse(problem.spec.text()) == (problem.spec, None)
    assert "\n" not in line


@pytest.mark.parametrize("name", list(FORMULAS))
def test_activations_round_trip(name):
    chain = Chain((Conv.of(1, 1, 1), Activation.of(name)))
    assert parse(chain.text())[0] == chain


def test_every_step_in_one_line():
    chain = Chain(
        (
            PixelShuffle(2),
            Conv.of(1, 4, 3, stride=2, padding="same_lower"),
            Activation.of("clip", lo=-0.1, hi=1e-30),
            Shuffle(2),
            Split((Conv.of(1, 1, 1), Conv.of(3, 3, 3, padding=1, groups=3, padding_mode="reflect"))),
            Resize(2, "linear"),
        )
    )
    line = chain.text((1, 4, 5, 5))
    assert line.startswith(
        "chain n1 ih5 iw5 > pixel_shuffle f2 > convolution ic1 oc4 kh3 kw3 sh2 sw2 dh1 dw1 same_lower g1"
    )
    assert "> clip lo=-0.1 hi=1e-30 > shuffle g2 > split pointwise " in line
    assert parse(line) == (chain, (1, 4, 5, 5))


def test_defaults_when_read():
    spec, shape = parse("  grouped ic4 oc6 kh3 kw3 g2   # from a paper ")
    assert spec == Conv.of(4, 6, 3, groups=2)
    assert shape is None
    assert parse("pointwise ic4 oc6 kw1 iw9")[1] == (1, 4, 9)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("", r"problem line begins with 'nothing'; need one of convolution"),
        ("conv ic1 oc1 kw1", r"problem line begins with 'conv'"),
        ("pointwise ic1 oc1", r"kernel sizes are missing; need kw, or kh kw, or kd kh kw \| pointwise ic1 oc1"),
        ("pointwise ic1 oc1 kd1 kw1", r"kernel sizes are missing"),
        ("pointwise ic1 kw1", r"oc missing; need ic and oc"),
        ("pointwise ic1 ic2 oc1 kw1", r"key 'ic' is given twice"),
        ("pointwise ic1 oc1 kw1 kh", r"word 'kh' is not part of the grammar"),
        ("pointwise ic1 oc1 kw1 zz3", r"unknown keys zz"),
        ("pointwise ic1 oc1 kw1 ih3", r"unknown keys ih"),
        ("pointwise ic1 oc1 kh1 kw1 ih3", r"only ih given; need ih iw, or none of them"),
        ("pointwise ic1 oc1 kw1 same_upper same_lower", r"contradicting words same_lower and same_upper"),
        ("pointwise ic1 oc1 kw1 reflect circular", r"contradicting words circular and reflect"),
        ("pointwise ic1 oc1 kw3", r"label 'pointwise' does not describe the layer; need 'convolution'"),
        ("grouped ic3 oc4 kw3 g3", r"groups=3 does not divide out_channels=4; .* \| grouped ic3 oc4 kw3 g3"),
        ("pointwise ic0 oc1 kw1", r"in_channels=0 is out of range"),
        ("pointwise ic-1 oc1 kw1", r"in_channels=-1 is out of range"),
        ("pointwise ic1 oc1 kw1 n0 iw4", r"n=0 is out of range"),
        (f"pointwise ic{'9' * 5000} oc1 kw1", r"word 'ic9999.* is not part of the grammar"),
        ("chain", r"a chain without a convolution"),
        ("chain > relu", r"a chain without a convolution"),
        ("chain > split", r"problem line begins with 'nothing'"),
        ("chain > split pointwise ic1 oc1 kw1 + ", r"word '\+' is not part"),
        ("chain > ", r"problem line begins with 'nothing'"),
        ("chain n1 n2 > pointwise ic1 oc1 kw1", r"key 'n' is given twice"),
        ("chain zz3 iw4 > pointwise ic1 oc1 kw1", r"unknown keys zz"),
        ("chain ih4 > pointwise ic1 oc1 kw1", r"unknown keys ih"),
        ("chain q > pointwise ic1 oc1 kw1", r"word 'q' is not part of the grammar"),
        ("chain > pointwise ic1 oc1 kw1 > relu x", r"step 'relu x' is not readable"),
        ("chain > pointwise ic1 oc1 kw1 > relu name=3", r"step 'relu name=3' is not readable; need no parameters"),
        ("chain > pointwise ic1 oc1 kw1 > clip lo=1 lo=2", r"need some of \('lo', 'hi'\), each once"),
        ("chain > pointwise ic1 oc1 kw1 > shuffle g0", r"groups=0 is out of range"),
        ("chain > pointwise ic1 oc1 kw1 > pixel_shuffle f2", r"factor=2 does not divide channels=1"),
        ("chain > pointwise ic1 oc1 kw1 > resize f2 cubic", r"problem line begins with 'resize'"),
        ("chain > pointwise ic1 oc1 iw4 kw1", r"iw inside a chain; need sizes after the word chain"),
    ],
)
def test_refused(line, match):
    with pytest.raises(SpecError, match=match):
        parse(line)


WORDS = st.sampled_from(
    """
    chain > # + split shuffle pixel_shuffle resize relu clip lo=1 hi=inf alpha=x name=1 nearest linear f2 g2 g0 f0
    pointwise convolution depthwise transposed grouped n1 ic1 oc1 ic2 oc2 kh1 kw1 kd1 kw3 sw2 dw2 iw4 ih4 id4
    pl1 pr1 pt1 pf1 aw1 flip same_upper reflect -1 ic-1 kw0 ic99999999999 \x00 é ١
    """.split()
)


@FAST
@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=40))
def test_whatever_is_put_in_the_error_is_ours(line):
    try:
        spec, shape = parse(line)
    except SpecError:
        return
    assert parse(spec.text(shape)) == (spec, shape)
