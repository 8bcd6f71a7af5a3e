"""The registry, the error samples, and what the composed kinds are equal to."""

import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import omniconv
from omniconv.errors import SpecError
from omniconv.kinds import (
    asymmetric,
    blueprint_separable,
    causal,
    convolution,
    cross_correlation,
    depthwise,
    depthwise_separable,
    factorised,
    flattened,
    kinds,
    mixed,
    shuffled_grouped,
    spatially_separable,
    sub_pixel,
    transposed,
)
from omniconv.kinds.registry import TRAITS
from omniconv.reference import random_weights, reference
from omniconv.spec import Activation

EACH = pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
ERRORS = [(kind, sample) for kind in kinds().values() for sample in kind.errors]


def test_every_kind_is_there():
    names = """
        convolution cross_correlation pointwise dilated transposed depthwise depthwise_separable spatially_separable
        flattened grouped pointwise_grouped shuffled_grouped causal blueprint_separable asymmetric factorised sub_pixel
        resize_conv mixed
    """
    assert set(kinds()) >= set(names.split())
    assert list(kinds()) == sorted(kinds())
    assert kinds() is kinds()
    with pytest.raises(TypeError):
        kinds()["other"] = None


@EACH
def test_kind_is_whole(kind):
    module = inspect.getmodule(kind.constructor)
    assert module.__name__ == f"omniconv.kinds.{kind.name}"
    assert kind.constructor.__name__ == kind.name
    assert getattr(sys.modules["omniconv.kinds"], kind.name) is kind.constructor
    assert kind.traits <= set(TRAITS)
    assert {"single", "chain"} & kind.traits
    for section in ("Formula", "Use", "Legality", "Cost", "Example", "Args", "Returns", "Raises", "Sources"):
        assert f"\n{section}:\n" in kind.doc, section
    for parameter in inspect.signature(kind.constructor).parameters:
        assert f"\n    {parameter}: " in kind.doc, parameter
    assert kind.errors


@EACH
def test_kind_takes_two_dimensions_by_default(kind):
    dims = inspect.signature(kind.constructor).parameters["dims"]
    assert dims.default is None
    arguments = {key: value for key, value in kind.samples[0].arguments.items() if key != "dims"}
    arguments = {
        key: 2 if isinstance(value, tuple) and key != "kernel_sizes" else value for key, value in arguments.items()
    }
    assert kind.constructor(**arguments).dims == (3 if kind.name == "factorised" else 2)


@pytest.mark.parametrize(("kind", "sample"), ERRORS, ids=[f"{k.name}-{k.errors.index(s)}" for k, s in ERRORS])
def test_error_sample(kind, sample):
    if sample.shape is None:
        with pytest.raises(sample.error, match=sample.match):
            kind.build(sample)
    else:
        spec = kind.build(sample)
        with pytest.raises(sample.error, match=sample.match) as caught:
            spec.output_shape(sample.shape)
        assert spec.text() in str(caught.value) or " | " in str(caught.value) or "channels" in str(caught.value)


@EACH
@pytest.mark.parametrize("junk", [None, "3", 2.5, -1, 0, True, [], (1, 2, 3, 4), float("nan"), 2**31], ids=repr)
def test_junk_is_refused_with_a_spec_error(kind, junk):
    """Whatever is put in place of one argument, the constructor returns a spec or raises SpecError."""
    for name, parameter in inspect.signature(kind.constructor).parameters.items():
        arguments = {**kind.samples[0].arguments, name: junk}
        if junk is None and parameter.default is None:
            continue
        try:
            kind.constructor(**arguments)
        except SpecError:
            continue


def test_numpy_integers_are_integers():
    three = np.int64(3)
    assert cross_correlation(three, np.int32(5), three, padding=np.int8(1)) == cross_correlation(3, 5, 3, padding=1)


def test_kinds_need_no_numpy():
    program = (
        "import sys; sys.modules['numpy'] = None; from omniconv.kinds import kinds; "
        "[k.build(s).output_shape(s.shape) for k in kinds().values() for s in k.samples]"
    )
    source = Path(omniconv.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def _run(spec, x, weights):
    return reference(spec, x, weights)


def _problem(spec, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, shape), random_weights(spec, rng, integer=True)


def test_convolution_is_the_flipped_cross_correlation():
    spec = convolution(3, 4, (2, 3), padding=((1, 0), (2, 1)))
    x, [(w, b)] = _problem(spec, (1, 3, 5, 6))
    other = cross_correlation(3, 4, (2, 3), padding=((1, 0), (2, 1)))
    assert np.array_equal(_run(spec, x, (w, b)), _run(other, x, (w[:, :, ::-1, ::-1], b)))


def test_convolution_is_numpys():
    x, w = np.arange(1.0, 9.0), np.array([1.0, -2.0, 5.0])
    spec = convolution(1, 1, 3, padding=2, dims=1)
    assert np.array_equal(_run(spec, x.reshape(1, 1, -1), (w.reshape(1, 1, -1), None)).ravel(), np.convolve(x, w))


def test_depthwise_separable_is_a_dense_layer_of_low_rank():
    spec = depthwise_separable(4, 5, 3, channel_multiplier=2, stride=2, padding="same")
    x, [(v, _), (w, b)] = _problem(spec, (2, 4, 7, 6))
    dense = np.einsum("cjr,jrhw->cjhw", w.reshape(5, 4, 2), v.reshape(4, 2, 3, 3))
    whole = cross_correlation(4, 5, 3, stride=2, padding="same")
    assert np.array_equal(_run(spec, x, [(v, None), (w, b)]), _run(whole, x, (dense, b)))


def test_blueprint_separable_is_a_dense_layer_with_scaled_blueprints():
    spec = blueprint_separable(4, 5, 3, dilation=2, padding=2)
    x, [(w, _), (v, b)] = _problem(spec, (1, 4, 7, 6))
    dense = w[:, :, 0, 0, None, None] * v
    whole = cross_correlation(4, 5, 3, dilation=2, padding=2)
    assert np.array_equal(_run(spec, x, [(w, None), (v, b)]), _run(whole, x, (dense, b)))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_spatially_separable_is_an_outer_product(mode):
    options = {"stride": (2, 1), "padding": ((1, 2), (0, 3)), "padding_mode": mode}
    spec = spatially_separable(3, kernel_size=(3, 4), **options)
    x, [(u, _), (v, b)] = _problem(spec, (1, 3, 6, 7))
    whole = depthwise(3, (3, 4), **options)
    assert np.array_equal(_run(spec, x, [(u, None), (v, b)]), _run(whole, x, (u * v, b)))


def test_dense_spatially_separable_and_asymmetric_are_one():
    options = {"stride": 2, "padding": "same", "mid_channels": 2}
    assert spatially_separable(3, 5, 3, form="dense", **options) == asymmetric(3, 5, 3, **options)


def test_flattened_has_rank_one():
    spec = flattened(3, 4, 3, padding=1)
    x, [(w, _), (u, _), (v, b)] = _problem(spec, (1, 3, 5, 6))
    dense = w[:, :, 0, 0, None, None] * (u * v)
    whole = cross_correlation(3, 4, 3, padding=1)
    assert np.array_equal(_run(spec, x, [(w, None), (u, None), (v, b)]), _run(whole, x, (dense, b)))


def test_factorised_never_has_more_parameters():
    for channels, out, kernel in itertools.product((1, 3, 64), (1, 5, 128), (1, 3, (3, 5, 7), (5, 3))):
        spec = factorised(channels, out, kernel)
        full = cross_correlation(channels, out, kernel, dims=spec.dims)
        size = sum(np.prod(shape) for shape in spec.weight_shapes)
        mid = spec.convs[0].out_channels
        assert size <= np.prod(full.weight_shape) or mid == 1
        bigger = factorised(channels, out, kernel, mid_channels=mid + 1)
        assert sum(np.prod(shape) for shape in bigger.weight_shapes) > np.prod(full.weight_shape)


def test_sub_pixel_is_a_transposed_convolution():
    """With kernel = stride = f the transposed layer is the pixel shuffle of a pointwise layer."""
    spec = transposed(3, 2, 2, stride=2)
    x, [(w, b)] = _problem(spec, (1, 3, 3, 4))
    pixels = sub_pixel(3, 2, 1, factor=2)
    rows = w.transpose(1, 2, 3, 0).reshape(8, 3, 1, 1)
    assert np.array_equal(_run(spec, x, (w, b)), _run(pixels, x, (rows, np.repeat(b, 4))))


@pytest.mark.parametrize("form", ["unit", "layers"])
def test_shuffled_grouped_connects_exactly_when_the_docs_say_so(form):
    for first, second, mid in itertools.product((1, 2, 3, 4), (1, 2, 3, 4), (12, 24)):
        spec = shuffled_grouped(12, 12, 1, groups=first, second_groups=second, mid_channels=mid, form=form, dims=1)
        ones = [(np.ones(shape), None) for shape in spec.weight_shapes]
        seen = reference(spec, np.eye(12)[:, :, None], ones)[:, :, 0] != 0
        assert seen.all() == (first * second <= mid)


def test_shuffled_grouped_of_few_channels_does_not_connect():
    spec = shuffled_grouped(12, 12, 1, groups=4, mid_channels=12, form="layers", dims=1)
    ones = [(np.ones(shape), None) for shape in spec.weight_shapes]
    assert not (reference(spec, np.eye(12)[:, :, None], ones) != 0).all()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_causal_sees_nothing_that_comes_after(dims):
    spec = causal(2, 3, 3, dilation=2, dims=dims)
    x, weights = _problem(spec, (1, 2, *(5,) * dims))
    before = _run(spec, x, weights)
    for position in range(5):
        changed = x.copy()
        changed[:, :, position:] = 99
        after = _run(spec, changed, weights)
        assert np.array_equal(after[:, :, :position], before[:, :, :position])
        assert not np.array_equal(after[:, :, position], before[:, :, position])


def test_causal_on_one_axis():
    spec = causal(1, 1, 3, axes=(0,), dims=3)
    assert spec.padding == ((2, 0), (1, 1), (1, 1))


def test_mixed_is_its_slices():
    spec = mixed(5, (3, 5), stride=2)
    x, weights = _problem(spec, (1, 5, 7, 6))
    parts = [
        reference(depthwise(width, kernel, stride=2, padding="same"), part, pair)
        for width, kernel, part, pair in zip((3, 2), (3, 5), (x[:, :3], x[:, 3:]), weights, strict=True)
    ]
    assert np.array_equal(reference(spec, x, weights), np.concatenate(parts, axis=1))


def test_activation_by_name_or_as_an_object():
    named = depthwise_separable(2, 2, 3, activation="clip")
    assert named == depthwise_separable(2, 2, 3, activation=Activation.of("clip"))
    assert named.steps[1] == Activation.of("clip")
    assert len(depthwise_separable(2, 2, 3).steps) == 2


def test_the_call_in_the_design():
    spec = depthwise_separable(in_channels=32, out_channels=64, kernel_size=3, stride=2, padding="same")
    assert spec.output_shape((1, 32, 112, 112)) == (1, 64, 56, 56)
