"""`Chain`, `Split` and the steps without weights."""

import pytest
from hypothesis import HealthCheck, given, settings
from tests.strategies import chains

from omniconv.errors import ShapeError, SpecError
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split
from omniconv.spec.activation import FORMULAS

RELU = Activation("relu")


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(chains())
def test_shapes_run_through(problem):
    chain, shape = problem.spec, problem.shape
    shapes = chain.shapes(shape)
    assert len(shapes) == len(chain.steps) + 1
    assert shapes[0] == shape
    assert shapes[0][1] == chain.in_channels
    assert shapes[-1][1] == chain.out_channels
    assert shapes[-1] == chain.output_shape(shape)
    assert len(chain.weight_shapes) == len(chain.convs)


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ((), "a chain without a convolution"),
        ((RELU, Shuffle(2)), "a chain without a convolution"),
        (
            (Conv.of(1, 2, 1), Conv.of(3, 1, 1)),
            r"step 1 takes 3 channels and receives 2; need in_channels=2 \| chain > ",
        ),
        ((Conv.of(1, 3, 1), Shuffle(2)), r"shuffle groups=2 does not divide channels=3"),
        ((Conv.of(1, 2, 1), Conv.of(2, 1, 1, dims=1)), "differ in their number of axes"),
    ],
)
def test_refused(steps, match):
    with pytest.raises(SpecError, match=match):
        Chain(steps)


def test_pixel_shuffle_of_too_few_channels_is_refused():
    with pytest.raises((SpecError, ShapeError), match=r"factor=2 does not divide channels=6; need channels % 4 == 0"):
        Chain((Conv.of(1, 6, 1), PixelShuffle(2)))


@pytest.mark.parametrize("shape", [(1, 2, 5), (1, 3, 5, 5), (1, 2, 5, 2)])
def test_inputs_refused(shape):
    with pytest.raises(ShapeError):
        Chain((Conv.of(2, 2, 3), RELU)).output_shape(shape)


def test_rearrangements_in_front():
    chain = Chain((PixelShuffle(2), RELU, Conv.of(3, 4, 3, padding=1), Resize(3), Shuffle(2)))
    assert (chain.in_channels, chain.out_channels, chain.dims) == (12, 4, 2)
    assert chain.output_shape((1, 12, 5, 4)) == (1, 4, 30, 24)


def test_split_slices_channels():
    split = Split((Conv.of(2, 3, 3, padding=1), Conv.of(4, 4, 5, padding=2, groups=4)))
    assert [(i, o) for _, i, o in split.slices()] == [(slice(0, 2), slice(0, 3)), (slice(2, 6), slice(3, 7))]
    assert split.output_shape((1, 6, 5, 5)) == (1, 7, 5, 5)
    with pytest.raises(ShapeError, match="5 channels; need 6"):
        split.output_shape((1, 5, 5, 5))
    with pytest.raises(ShapeError, match=r"different sizes \[\(5, 5\), \(3, 3\)\]"):
        Split((Conv.of(1, 1, 1), Conv.of(1, 1, 3))).output_shape((1, 2, 5, 5))
    with pytest.raises(SpecError, match="without branches"):
        Split(())
    with pytest.raises(SpecError, match="number of axes"):
        Split((Conv.of(1, 1, 1), Conv.of(1, 1, 1, dims=1)))


@pytest.mark.parametrize(("groups", "channels"), [(1, 7), (7, 7), (2, 6), (3, 12), (4, 12)])
def test_shuffle_is_a_permutation_that_its_counterpart_undoes(groups, channels):
    there, back = Shuffle(groups).source(channels), Shuffle(channels // groups).source(channels)
    assert sorted(there) == list(range(channels))
    assert [there[c] for c in back] == list(range(channels))


@pytest.mark.parametrize("step", [Shuffle, PixelShuffle, Resize])
def test_factors_below_one_are_refused(step):
    with pytest.raises(SpecError, match="=0"):
        step(0)


def test_unknown_resize_mode():
    with pytest.raises(SpecError, match=r"resize mode='cubic' is unknown; need one of nearest, linear"):
        Resize(2, "cubic")


@pytest.mark.parametrize("name", list(FORMULAS))
def test_activation_defaults(name):
    activation = Activation.of(name)
    assert dict(activation.parameters) == FORMULAS[name][1]
    for key, value in activation.parameters:
        assert activation[key] == value


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Activation("tanhh"), "activation='tanhh' is unknown; need one of relu, relu6"),
        (lambda: Activation.of("tanhh"), "activation='tanhh' is unknown"),
        (lambda: Activation("clip"), r"activation clip got parameters=\(\); need pairs of exactly \('lo', 'hi'\)"),
        (lambda: Activation.of("relu", alpha=1.0), r"activation relu has no parameter alpha"),
    ],
)
def test_activation_refused(make, match):
    with pytest.raises(SpecError, match=match):
        make()
