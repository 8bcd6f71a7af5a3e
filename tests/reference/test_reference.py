"""The oracle against hand-made results, its checks, and its bounds."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.registry.naive import SCALAR, naive, naive_conv
from tests.strategies import SMOOTH, chains, convs, problems

from omniconv.errors import DataError, LimitError, ShapeError, UnsupportedError
from omniconv.reference import accumulate_bound, check_weights, error_bound, random_weights, reference
from omniconv.reference.activation import EVALUATE, evaluate_activation
from omniconv.reference.bounds import SLOPES
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split
from omniconv.spec.activation import FORMULAS

FAST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@FAST
@given(problem=problems())
def test_integers_are_exact(problem):
    x, weights = problem.draw(1)
    y = reference(problem.spec, x, weights)
    expected, _ = naive(problem.spec, x, weights)
    assert y.dtype == np.float64
    assert y.shape == problem.spec.output_shape(problem.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    if isinstance(problem.spec, Conv):
        assert np.array_equal(y, expected)


def test_a_transposed_convolution_by_hand():
    spec = Conv.of(1, 1, 3, dims=1, stride=2, transposed=True, padding=1, output_padding=1)
    y = reference(spec, np.array([[[1, 10, 100]]]), (np.array([[[1, 2, 3]]]), np.array([1000])))
    assert (y - 1000).astype(int).ravel().tolist() == [2, 13, 20, 130, 200, 300]


def test_kernel_smaller_than_stride_leaves_the_bias():
    spec = Conv.of(1, 1, 1, dims=1, stride=3, transposed=True, output_padding=2)
    y = reference(spec, np.array([[[1, 2]]]), (np.array([[[5]]]), np.array([7])))
    assert y.ravel().tolist() == [12, 7, 7, 17, 7, 7]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 0, 0]),
        ("reflect", [3, 2, 1, 2, 3, 2, 1]),
        ("replicate", [1, 1, 1, 2, 3, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1, 2]),
    ],
)
def test_padding_modes(mode, expected):
    spec = Conv.of(1, 1, 1, dims=1, padding=2, padding_mode=mode)
    y = reference(spec, np.array([[[1, 2, 3]]]), (np.array([[[1]]]), None))
    assert y.ravel().tolist() == expected


def test_rearrangements_by_hand():
    identity = (np.eye(4)[:, :, None], None)
    keep = Conv.of(4, 4, 1, dims=1)
    x = np.arange(8).reshape(1, 4, 2)
    assert reference(Chain((keep, Shuffle(2))), x, [identity])[0, :, 0].tolist() == [0, 4, 2, 6]
    assert reference(Chain((keep, PixelShuffle(2))), x, [identity])[0].tolist() == [[0, 2, 1, 3], [4, 6, 5, 7]]
    assert reference(Chain((keep, Resize(2))), x, [identity])[0, 0].tolist() == [0, 0, 1, 1]
    assert reference(Chain((keep, Resize(2, "linear"))), x, [identity])[0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_every_activation_has_a_formula():
    assert set(EVALUATE) == set(FORMULAS) == set(SCALAR)
    assert set(SLOPES) <= set(FORMULAS)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_activation(name):
    x = np.concatenate([np.linspace(-8, 8, 97), [-0.0, 1e-30, -1e-30, 50.0, -50.0]])
    x = np.abs(x) if name == "sqrt" else x
    activation = Activation.of(name)
    expected = [SCALAR[name](float(v), **dict(activation.parameters)) for v in x]
    np.testing.assert_allclose(evaluate_activation(activation, x), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", list(FORMULAS))
def test_activation_of_extremes(name):
    y = evaluate_activation(Activation.of(name), np.array([np.nan, np.inf, 1e6, -1e6]))
    assert np.isnan(y[0])
    assert not np.isnan(y[2])
    assert name == "sqrt" or not np.isnan(y[3])


def test_activation_parameters_count():
    x = np.array([-2.0, 0.5, 3.0])
    assert evaluate_activation(Activation.of("leaky_relu", alpha=0.5), x).tolist() == [-1, 0.5, 3]
    assert evaluate_activation(Activation.of("clip", lo=-1, hi=2), x).tolist() == [-1, 0.5, 2]
    assert evaluate_activation(Activation.of("hard_sigmoid", alpha=0.25, beta=0.25), x).tolist() == [0, 0.375, 1]
    assert evaluate_activation(Activation.of("elu", alpha=2), x)[0] == pytest.approx(2 * math.expm1(-2))


CONV = Conv.of(4, 6, 3, groups=2)
W, B = np.ones((6, 2, 3, 3), np.float32), np.ones(6, np.float32)
PAIR = Chain((CONV, Conv.of(6, 2, 1)))


class TestWeights:
    def test_pairs_are_passed_through(self):
        [(w, b)] = check_weights(CONV, (W, B))
        assert w is W
        assert b is B
        assert check_weights(CONV, [(W, None)])[0][1] is None
        assert check_weights(CONV, [W, B])[0][0] is W
        assert check_weights(Chain((CONV,)), (W, B))[0][0] is W
        assert check_weights(PAIR, [(W, B), (np.ones((2, 6, 1, 1)), None)])[1][0].shape == (2, 6, 1, 1)

    def test_integers_and_doubles_stay(self):
        assert check_weights(CONV, (W.astype(np.int8), B.astype(np.float64)))[0][0].dtype == np.int8

    @pytest.mark.parametrize(
        ("spec", "weights", "error", "match"),
        [
            (CONV, (W[:, :1], B), ShapeError, r"w has shape \(6, 1, 3, 3\); need \(6, 2, 3, 3\), \(out, in / groups"),
            (CONV, (W, B[:5]), ShapeError, r"b has shape \(5,\); need \(6,\)"),
            (CONV, W, DataError, r"weights is ndarray; need \(w, b\), or a sequence of them, e.g. \(w, None\)"),
            (CONV, None, DataError, r"weights is NoneType"),
            (CONV, {"w": W}, DataError, r"weights is dict"),
            (CONV, (W,), DataError, r"weights is ndarray; need \(w, b\) or"),
            (
                CONV,
                (W.tolist(), None),
                ShapeError,
                r"weights has 2 items; need one \(w, b\) for each of 1 convolution ",
            ),
            (CONV, ("w", None), DataError, r"w is str; need an array of numbers"),
            (CONV, (W > 0, None), DataError, r"w has dtype bool; need integers or floats"),
            (CONV, (W * 1j, None), DataError, r"w has dtype complex"),
            (CONV, (W, np.array(["x"] * 6)), DataError, r"b has dtype <U1"),
            (PAIR, (W, B), ShapeError, r"w\[1\]|weights\[0\]|weights\[1\]|weights has"),
            (PAIR, [(W, B)], ShapeError, r"weights has 1 items; need one \(w, b\) for each of 2 convolutions"),
            (PAIR, [(W, B), (W, B)], ShapeError, r"w\[1\] has shape \(6, 2, 3, 3\); need \(2, 6, 1, 1\)"),
            (PAIR, [(W, B), W], DataError, r"weights\[1\] is ndarray"),
            (
                Conv.of(4, 6, 3, transposed=True),
                (np.ones((6, 4, 3, 3)), None),
                ShapeError,
                r"need \(4, 6, 3, 3\), \(in, out / groups, \*kernel\)",
            ),
        ],
    )
    def test_refused(self, spec, weights, error, match):
        if spec is PAIR and isinstance(weights, tuple):
            error = (ShapeError, DataError)
        with pytest.raises(error, match=match) as caught:
            check_weights(spec, weights)
        assert " | " in str(caught.value)
        with pytest.raises(error, match=match):
            reference(spec, np.ones((1, spec.in_channels, 5, 5)), weights)

    def test_random_weights(self):
        for problem in (CONV, PAIR):
            for integer in (True, False):
                drawn = random_weights(problem, np.random.default_rng(0), integer=integer)
                checked = check_weights(problem, drawn)
                assert all(w.dtype == b.dtype == np.float32 for w, b in checked)
                if integer:
                    assert all(np.abs(w).max() <= 4 and np.array_equal(w, np.rint(w)) for w, _ in checked)
            assert random_weights(problem, np.random.default_rng(0), bias=False)[0][1] is None


class TestInput:
    @pytest.mark.parametrize(
        ("x", "error", "match"),
        [
            ([[1.0]], DataError, "x is list; need an array of numbers, e.g. numpy.asarray"),
            (np.ones((1, 4, 5, 5), bool), DataError, "x has dtype bool"),
            (np.ones((1, 4, 5, 5), object), DataError, "x has dtype object"),
            (np.ones((1, 4, 5)), ShapeError, "rank 3"),
            (np.ones((1, 3, 5, 5)), ShapeError, "3 channels"),
            (np.ones((0, 4, 5, 5)), ShapeError, "empty, negative or absurd"),
            (np.ones((1, 4, 2, 5)), ShapeError, "output size 0"),
        ],
    )
    def test_refused(self, x, error, match):
        with pytest.raises(error, match=match):
            reference(CONV, x, (W, B))

    def test_too_large_a_result_is_refused_before_it_is_allocated(self, monkeypatch):
        monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "1G")
        for spec in (
            Conv.of(1, 1, 1, dims=1, padding=2**30 - 8),
            Conv.of(1, 1, 1, dims=1, padding=2**30 - 8, stride=2**30, padding_mode="replicate"),
            Conv.of(1, 1, 1, dims=2, padding=2**20),
            Chain((Resize(2**27), Conv.of(1, 1, 1, dims=1, stride=2**20))),
        ):
            shape = (1, 1, *(4,) * spec.dims)
            with pytest.raises(LimitError, match="of the reference needs"):
                reference(spec, np.ones(shape), [(np.ones(spec.weight_shapes[0]), None)])

    def test_nothing_is_read_outside(self):
        x = np.full((1, 1, 5), np.nan)
        x[0, 0, 2] = 1
        y = reference(Conv.of(1, 1, 1, dims=1, padding=2), x, (np.ones((1, 1, 1)), None))
        assert y[0, 0, [0, 1, 4, 7, 8]].tolist() == [0, 0, 1, 0, 0]


class TestBounds:
    @FAST
    @given(problem=convs())
    def test_single_precision_stays_within_the_bound(self, problem):
        x, weights = problem.draw(2, integer=False)
        exact = reference(problem.spec, x, weights)
        rounded = _run_rounded(problem.spec, x, weights[0])
        assert (np.abs(rounded - exact) <= error_bound(problem.spec, x, weights)).all()
        scale = accumulate_bound(problem.spec, x, weights)
        assert (scale >= np.abs(exact) * (1 - 1e-12)).all()

    @FAST
    @given(problem=chains(names=SMOOTH))
    def test_rounding_every_step_of_a_chain_stays_within_the_bound(self, problem):
        x, weights = problem.draw(3, integer=False)
        exact = reference(problem.spec, x, weights)
        rest, y = list(weights), x
        for step in problem.spec.steps:
            if isinstance(step, Conv):
                y = _run_rounded(step, y, rest.pop(0))
            elif isinstance(step, Split):
                y = np.concatenate([_run_rounded(conv, y[:, s], rest.pop(0)) for conv, s, _ in step.slices()], axis=1)
            else:
                near = Conv.of(y.shape[1], y.shape[1], 1, dims=y.ndim - 2, groups=y.shape[1])
                ones = (np.ones(near.weight_shape), None)
                y = reference(Chain((near, step)), y, [ones]).astype(np.float32)
        assert (np.abs(y - exact) <= error_bound(problem.spec, x, weights)).all()

    def test_the_bound_is_of_use(self):
        """A wrong tap, and even half a unit in the fourth digit, is far outside."""
        spec = Conv.of(16, 16, 3, padding=1)
        rng = np.random.default_rng(0)
        x, weights = rng.standard_normal((1, 16, 8, 8)).astype(np.float32), random_weights(spec, rng)
        assert error_bound(spec, x, weights).max() < 1e-3
        assert np.abs(reference(spec, x, weights)).max() > 1

    def test_unbounded_slopes_are_named(self):
        spec = Chain((Conv.of(1, 1, 1), Activation.of("sqrt")))
        with pytest.raises(UnsupportedError, match="activation sqrt"):
            error_bound(spec, np.ones((1, 1, 1, 1)), (np.ones((1, 1, 1, 1)), None))

    def test_exp(self):
        spec = Chain((Conv.of(1, 1, 1), Activation.of("exp")))
        x, w = np.full((1, 1, 1, 1), 3.0), np.full((1, 1, 1, 1), np.float32(0.1))
        bound = error_bound(spec, x, (w, None))
        y = reference(spec, x, (w, None))
        assert abs(np.exp(np.float32(3) * w) - y) <= bound < 1e-4 * y


def _run_rounded(spec, x, pair):
    """The convolution in float32, one tap after another."""
    return naive_conv(spec, x, *pair, dtype=np.float32)[0]
