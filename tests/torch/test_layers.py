"""Layers as PyTorch modules and back: the same numbers on the way out, the same spec on the way in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.strategies import Problem, problems

import omniconv as oc
from omniconv.errors import DataError, SpecError, UnsupportedError
from omniconv.kinds import kinds
from omniconv.reference import error_bound, random_weights, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split

torch = pytest.importorskip("torch")
nn = torch.nn

from omniconv.torch import Branches, from_torch, to_torch  # noqa: E402


def expressible(spec) -> bool:
    """What the documentation of `to_torch` says that PyTorch has a module for."""
    for step in (spec,) if isinstance(spec, Conv) else spec.steps:
        parts = step.branches if isinstance(step, Split) else (step,)
        if any(isinstance(part, Conv) and isinstance(part.padding, str) for part in parts):
            return False
        if isinstance(step, PixelShuffle) and spec.dims != 2:
            return False
        if isinstance(step, Activation) and (
            step.name in ("exp", "sqrt", "abs", "neg")
            or (step.name == "hard_sigmoid" and step != Activation.of("hard_sigmoid"))
        ):
            return False
    return True


def plain(spec):
    """The spec without what PyTorch writes in another way: true convolutions."""
    if isinstance(spec, Conv):
        return replace(spec, flip=False)
    steps = []
    for step in spec.steps:
        if isinstance(step, Split):
            step = Split(tuple(replace(branch, flip=False) for branch in step.branches))
        steps.append(replace(step, flip=False) if isinstance(step, Conv) else step)
    return Chain(tuple(steps))


def same_function(a, b) -> bool:
    """The same steps; what a transposed layer crops may be written as output padding."""
    first = (a,) if isinstance(a, Conv) else a.steps
    second = (b,) if isinstance(b, Conv) else b.steps
    return len(first) == len(second) and all(type(x) is type(y) for x, y in zip(first, second, strict=True))


def round_trip(problem, tally=None) -> None:
    spec, shape = problem.spec, problem.shape
    x, weights = problem.draw(0, integer=False)
    module = to_torch(spec, weights)
    want = reference(spec, x, weights)
    bound = error_bound(spec, x, weights)
    with torch.no_grad():
        got = module(torch.from_numpy(x)).numpy()
    assert got.shape == want.shape, problem
    assert (np.abs(got - want) <= bound).all(), problem
    back, pairs = from_torch(module)
    assert same_function(plain(spec), back), problem
    assert np.array_equal(reference(back, x, pairs), want), problem
    y = oc.compile(back, shape, pairs, exact=True)(torch.from_numpy(x))
    assert (np.abs(y - got) <= 2 * bound).all(), problem
    if tally is not None:
        tally("samples out to PyTorch, back, and compiled")


SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES, ids=[f"{k.name}-{k.samples.index(s)}" for k, s in SAMPLES])
def test_samples(kind, sample, tally) -> None:
    spec = kind.build(sample)
    if isinstance(spec, Conv):
        spec = spec.resolve(sample.shape)
    if expressible(spec):
        round_trip(Problem(spec, sample.shape), tally)
    else:
        with pytest.raises(UnsupportedError):
            to_torch(spec, random_weights(spec, np.random.default_rng(0)))


@pytest.mark.parametrize("count", [30, pytest.param(100, marks=pytest.mark.wide)])
def test_random(count: int) -> None:
    settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))(given(problems())(_check))()


def _check(problem) -> None:
    spec = problem.spec.resolve(problem.shape) if isinstance(problem.spec, Conv) else problem.spec
    if expressible(spec):
        round_trip(Problem(spec, problem.shape))
    else:
        with pytest.raises(UnsupportedError):
            to_torch(spec)


def test_modules_are_plain_where_they_can_be() -> None:
    assert str(to_torch(Conv.of(4, 8, (3, 5), stride=2, padding=(1, 2), groups=4))) == (
        "Conv2d(4, 8, kernel_size=(3, 5), stride=(2, 2), padding=(1, 2), groups=4)"
    )
    up = Conv.of(4, 6, 3, dims=1, stride=2, padding=1, output_padding=1, transposed=True)
    text = "ConvTranspose1d(4, 6, kernel_size=(3,), stride=(2,), padding=(1,), output_padding=(1,))"
    assert str(to_torch(up)) == text
    assert from_torch(to_torch(up))[0] == up
    same = Conv.of(4, 4, 4, stride=2, padding="same", transposed=True)
    assert from_torch(to_torch(same))[0] == same


def test_without_weights_torch_draws_them() -> None:
    spec = oc.depthwise_separable(in_channels=4, out_channels=6, kernel_size=3, padding=1)
    back, pairs = from_torch(to_torch(spec))
    assert back == spec
    assert all(b is not None for _, b in pairs)


def test_nested_modules() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.Hardswish()),
        nn.Identity(),
        nn.Dropout(0.5),
        nn.ChannelShuffle(4),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular"),
        nn.PixelShuffle(2),
        nn.Upsample(scale_factor=(2, 2), mode="bilinear"),
        nn.LeakyReLU(0.3),
        Branches([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 3, padding=1)], [1, 1]),
    ).eval()
    spec, weights = from_torch(model)
    assert spec.steps[0] == Conv.of(4, 8, 3, padding=((1, 2), (2, 3)))
    assert [type(step) for step in spec.steps] == [
        Conv,
        Activation,
        Shuffle,
        Conv,
        PixelShuffle,
        Resize,
        Activation,
        Split,
    ]
    x = np.random.default_rng(0).standard_normal((1, 4, 7, 6)).astype(np.float32)
    with torch.no_grad():
        want = model(torch.from_numpy(x)).numpy()
    f = oc.compile(spec, x.shape, weights, exact=True)
    assert (np.abs(f(x) - want) <= 2 * error_bound(spec, x, weights)).all()


def test_weights_are_copies() -> None:
    layer = nn.Conv1d(2, 2, 1)
    _, [(w, _)] = from_torch(layer)
    w[...] = 7
    assert not (layer.weight == 7).any()


@pytest.mark.parametrize(
    ("module", "error", "match"),
    [
        (nn.Linear(3, 4), UnsupportedError, "Linear.*omniconv.torch.compile"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), UnsupportedError, "BatchNorm2d.*module '1'"),
        (nn.ReLU(), UnsupportedError, "without a convolution"),
        (nn.Sequential(), UnsupportedError, "without a convolution"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.ZeroPad2d(1)), UnsupportedError, "no convolution follows"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.ReLU(), nn.Conv2d(1, 1, 1)), UnsupportedError, "something else"),
        (nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 1, padding=1)), UnsupportedError, "two places"),
        (nn.Sequential(nn.ConstantPad2d(1, 2.0), nn.Conv2d(1, 1, 1)), UnsupportedError, "ConstantPad2d"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=1.5)), UnsupportedError, "whole factor"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(size=9)), UnsupportedError, "whole factor"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=2, mode="bicubic")), UnsupportedError, "bicubic"),
        (nn.LazyConv2d(3, 1), (DataError, UnsupportedError), "lazy|Lazy"),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(3, 1, 1)), SpecError, "receives 2"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_modules_that_are_refused(module, error, match) -> None:
    with pytest.raises(error, match=match):
        from_torch(module)
