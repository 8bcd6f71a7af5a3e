"""Separability against approximations that are really made and measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import few, many

import omniconv as oc
from omniconv.analysis import factorise, flatten, separability
from omniconv.analysis.separability import FORMS, split_groups, unfold
from omniconv.spec import Conv


@st.composite
def layers(draw, *, dims=2):
    groups = draw(st.sampled_from((1, 1, 2)))
    out, wide = groups * draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = tuple(draw(st.integers(1, 5)) for _ in range(dims))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    w = rng.standard_normal((out, wide, *kernel))
    if draw(st.booleans()):  # some structure, so that ranks differ
        w[: out // 2] = w[:1]
    return w, groups


def squared(array):
    return float((array**2).sum())


@many
@given(st.integers(1, 3).flatmap(lambda dims: layers(dims=dims)))
def test_errors_are_those_of_truncated_matrices(problem):
    w, groups = problem
    found = separability(w, groups=groups)
    grouped = split_groups(w, groups)
    for form in FORMS:
        matrices = unfold(grouped, form)
        assert squared(matrices) == pytest.approx(squared(w))
        u, s, v = np.linalg.svd(matrices, full_matrices=False)
        errors = found.forms[form].errors
        assert errors.size == s.shape[1] + 1 == len(found.forms[form].parameters)
        for rank in range(s.shape[1] + 1):
            close = (u[:, :, :rank] * s[:, None, :rank]) @ v[:, :rank]
            assert errors[rank] == pytest.approx(squared(matrices - close) / squared(w), abs=1e-12)
    assert found.singular_values.shape[:2] == w.shape[:2]


@many
@given(layers(), st.integers(0, 20))
def test_no_other_matrix_of_that_rank_is_closer(problem, seed):
    w, groups = problem
    found = separability(w, groups=groups)
    rng = np.random.default_rng(seed)
    for form in FORMS:
        matrices = unfold(split_groups(w, groups), form)
        right = rng.standard_normal((matrices.shape[0], 1, matrices.shape[2]))
        left = matrices @ right.swapaxes(1, 2) / (right**2).sum(axis=2, keepdims=True)
        assert found.forms[form].errors[1] <= squared(matrices - left @ right) / squared(w) + 1e-12


@few
@given(layers(), st.sampled_from(("spatial", "depthwise", "bottleneck")), st.data())
def test_chains_do_what_their_error_says(problem, form, data):
    w, _ = problem
    out, wide, kh, kw = w.shape
    conv = Conv.of(
        wide,
        out,
        (kh, kw),
        padding=((1, 0), (0, 2)),
        stride=data.draw(st.integers(1, 2)),
        dilation=data.draw(st.integers(1, 2)),
        flip=data.draw(st.booleans()),
    )
    spectrum = separability(w).forms[form]
    rank = data.draw(st.integers(1, spectrum.errors.size - 1))
    found = factorise(conv, w, form=form, rank=rank)
    assert found.error == pytest.approx(spectrum.errors[rank], abs=1e-12)
    assert found.parameters == spectrum.parameters[rank]
    close = kernel_of(found.spec, found.weights, conv)
    assert squared(close - w) / squared(w) == pytest.approx(found.error, abs=1e-9)
    shape = (2, wide, 14, 13)
    x = np.random.default_rng(0).standard_normal(shape)
    ours, theirs = oc.reference(found.spec, x, found.weights), oc.reference(conv, x, (close, None))
    assert ours.shape == conv.output_shape(shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def kernel_of(chain, weights, conv):
    """The kernel of a chain, by its response to one input value at a time."""
    from dataclasses import replace

    changes = {"stride": (1, 1), "dilation": (1, 1), "flip": False}
    steps = (replace(step, padding=tuple((k - 1, k - 1) for k in step.kernel_size), **changes) for step in chain.steps)
    free = oc.Chain(tuple(steps))
    kh, kw = conv.kernel_size
    kernel = np.zeros(conv.weight_shape)
    for channel in range(conv.in_channels):
        x = np.zeros((1, conv.in_channels, 1, 1))
        x[0, channel] = 1.0
        y = oc.reference(free, x, weights)[0]
        kernel[:, channel] = y[:, ::-1, ::-1][:, :kh, :kw]
    return kernel


def test_products_have_rank_one():
    vertical, horizontal = np.array([1.0, 2.0, 1.0]), np.array([1.0, 0.0, -1.0])
    found = separability(np.multiply.outer(vertical, horizontal))
    assert found.rank == 1
    assert found.errors[1] == pytest.approx(0, abs=1e-15)
    assert found.energy[1] == pytest.approx(1)
    blur = separability(np.eye(3))
    assert blur.rank == 3
    assert blur.errors == pytest.approx([1, 2 / 3, 1 / 3, 0])


def test_depthwise_separable_layers_are_found():
    rng = np.random.default_rng(0)
    w = np.einsum("oi,ihw->oihw", rng.standard_normal((8, 4)), rng.standard_normal((4, 3, 3)))
    found = separability(w)
    assert found.forms["depthwise"].rank() == 1
    assert found.forms["depthwise"].parameters[1] == 4 * 9 + 4 * 8
    assert found.forms["spatial"].rank() > 1
    assert found.kernel_errors.shape == (8, 4)


def test_transposed_weights():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 3, 2))
    found = separability(w, groups=2, transposed=True)
    flipped = w.reshape(2, 2, 3, 3, 2).swapaxes(1, 2).reshape(6, 2, 3, 2)
    expected = separability(flipped, groups=2)
    for form in FORMS:
        assert found.forms[form].errors == pytest.approx(expected.forms[form].errors)
        assert found.forms[form].parameters == expected.forms[form].parameters


def test_flattened_by_tensorly():
    pytest.importorskip("tensorly")
    rng = np.random.default_rng(1)
    vectors = [rng.standard_normal((size, 2)) for size in (5, 4, 3, 3)]
    w = np.einsum("ar,br,cr,dr->abcd", *vectors)
    one, two = flatten(w, 1), flatten(w, 2)
    assert two.error < 1e-8 < one.error
    assert one.error == pytest.approx(squared(one.weights() - w) / squared(w))
    assert two.parameters == 2 * (5 + 4 + 3 + 3)
    conv = Conv.of(4, 5, 3, padding=1, stride=2)
    chain, weights = two.chain(conv)
    x = rng.standard_normal((1, 4, 9, 8))
    np.testing.assert_allclose(oc.reference(chain, x, weights), oc.reference(conv, x, (two.weights(), None)), atol=1e-9)
    cube = flatten(rng.standard_normal((3, 2, 2, 3, 2)), 3)
    assert 0 < cube.error < 1


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: separability(np.ones(3)), oc.ShapeError, r"w has shape \(3,\); need \(kh, kw\)"),
        (lambda: separability(np.array([["a"]])), oc.DataError, "w has dtype <U1"),
        (lambda: separability(np.array([[np.nan]])), oc.DataError, "not finite"),
        (lambda: separability(np.ones((3, 1, 2, 2)), groups=2), oc.ShapeError, "groups=2 does not divide"),
        (lambda: factorise(Conv.of(1, 1, 3), np.ones((1, 1, 3, 3)), form="cp", rank=1), oc.SpecError, "form='cp'"),
        (lambda: factorise(Conv.of(1, 1, 3), np.ones((1, 1, 3, 3)), form="spatial", rank=9), oc.SpecError, "1 to 3"),
        (lambda: factorise(Conv.of(1, 1, 3), np.ones((1, 1, 3, 2)), form="spatial", rank=1), oc.ShapeError, "w has"),
        (
            lambda: factorise(Conv.of(2, 2, 3, groups=2), np.ones((2, 1, 3, 3)), form="spatial", rank=1),
            oc.UnsupportedError,
            "factorise of this layer",
        ),
        (lambda: flatten(np.ones((2, 2)), 0), oc.SpecError, "rank=0"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_zero_kernels_have_no_error():
    found = separability(np.zeros((2, 2, 3, 3)))
    assert found.errors.tolist() == [0, 0, 0, 0]
    assert found.rank == 0
