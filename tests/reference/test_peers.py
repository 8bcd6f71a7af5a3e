"""The oracle against PyTorch's convolutions in float64. A peer, not a reference."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.strategies import Problem, chains, convs

from omniconv.kinds import kinds
from omniconv.reference import error_bound, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split

torch = pytest.importorskip("torch")
F = torch.nn.functional

SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]
ACTIVATIONS = {
    "relu": lambda x, _: F.relu(x),
    "relu6": lambda x, _: F.relu6(x),
    "clip": lambda x, f: torch.clamp(x, f["lo"], f["hi"]),
    "leaky_relu": lambda x, f: F.leaky_relu(x, f["alpha"]),
    "elu": lambda x, f: F.elu(x, f["alpha"]),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "silu": lambda x, _: F.silu(x),
    "hard_sigmoid": lambda x, f: torch.clamp(f["alpha"] * x + f["beta"], 0, 1),
    "hard_swish": lambda x, _: F.hardswish(x),
    "tanh": lambda x, _: torch.tanh(x),
    "gelu": lambda x, _: F.gelu(x),
    "gelu_tanh": lambda x, _: F.gelu(x, approximate="tanh"),
}


def run_torch(spec, x, weights):
    rest, y = list(weights), torch.from_numpy(np.asarray(x, np.float64))
    for step in (spec,) if isinstance(spec, Conv) else spec.steps:
        match step:
            case Conv():
                y = conv_torch(step, y, *rest.pop(0))
            case Split():
                parts = torch.split(y, [conv.in_channels for conv in step.branches], dim=1)
                y = torch.cat(
                    [conv_torch(c, part, *rest.pop(0)) for c, part in zip(step.branches, parts, strict=True)], 1
                )
            case Activation():
                y = ACTIVATIONS[step.name](y, step)
            case Shuffle():
                y = y.unflatten(1, (step.groups, -1)).transpose(1, 2).flatten(1, 2)
            case PixelShuffle() if y.ndim == 4:
                y = F.pixel_shuffle(y, step.factor)
            case PixelShuffle():
                y = shuffle_pixels(y, step.factor)
            case Resize(mode="nearest"):
                y = F.interpolate(y, scale_factor=step.factor, mode="nearest")
            case Resize():
                mode = ("linear", "bilinear", "trilinear")[y.ndim - 3]
                y = F.interpolate(y, scale_factor=step.factor, mode=mode, align_corners=False)
    return y.numpy()


def shuffle_pixels(y, factor):
    dims = y.ndim - 2
    y = y.unflatten(1, (-1, *(factor,) * dims))
    order = [0, 1] + [
        axis for pair in zip(range(2 + dims, 2 + 2 * dims), range(2, 2 + dims), strict=True) for axis in pair
    ]
    y = y.permute(order)
    for axis in range(dims):
        y = y.flatten(2 + axis, 3 + axis)
    return y


def conv_torch(conv, x, w, b):
    conv = conv.resolve(tuple(x.shape))
    w = torch.from_numpy(np.asarray(w, np.float64))
    w = w.flip(tuple(range(2, w.ndim))) if conv.flip else w
    b = None if b is None else torch.from_numpy(np.asarray(b, np.float64))
    shared = {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups}
    if conv.transposed:
        # Without padding, then cropped or extended: PyTorch knows symmetric padding only.
        y = getattr(F, f"conv_transpose{conv.dims}d")(x, w, None, **shared)
        sides = [
            s for (p, q), a in zip(conv.padding[::-1], conv.output_padding[::-1], strict=True) for s in (-p, a - q)
        ]
        y = F.pad(y, sides)
        return y if b is None else y + b.reshape(-1, *(1,) * conv.dims)
    sides = [side for pair in conv.padding[::-1] for side in pair]
    x = F.pad(x, sides, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode)
    return getattr(F, f"conv{conv.dims}d")(x, w, b, **shared)


def compare(problem, seed=0):
    x, weights = problem.draw(seed, integer=False)
    expected = reference(problem.spec, x, weights)
    tolerance = 2 * error_bound(problem.spec, x, weights, 2.0**-53)
    assert (np.abs(run_torch(problem.spec, x, weights) - expected) <= tolerance).all(), str(problem)


@pytest.mark.parametrize(("kind", "sample"), SAMPLES, ids=[f"{k.name}-{k.samples.index(s)}" for k, s in SAMPLES])
def test_sample(kind, sample):
    compare(Problem(kind.build(sample), sample.shape))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=convs())
def test_random_conv(problem):
    compare(problem)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=chains(names=tuple(ACTIVATIONS)))
def test_random_chain(problem):
    compare(problem)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=convs(transposed=True))
def test_transposed_with_torchs_own_padding(problem):
    """Where padding is symmetric, PyTorch's own padding and output_padding mean the same."""
    conv = problem.spec
    pads = tuple(min(pair) for pair in conv.padding)
    spec = Conv.of(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        dilation=conv.dilation,
        padding=pads,
        output_padding=conv.output_padding,
        groups=conv.groups,
        transposed=True,
    )
    x, [(w, b)] = Problem(spec, problem.shape).draw(0)
    y = getattr(F, f"conv_transpose{spec.dims}d")(
        torch.from_numpy(x).double(),
        torch.from_numpy(w).double(),
        torch.from_numpy(b).double(),
        stride=spec.stride,
        padding=pads,
        output_padding=spec.output_padding,
        groups=spec.groups,
        dilation=spec.dilation,
    )
    assert tuple(y.shape) == spec.output_shape(problem.shape)
    assert np.array_equal(y.numpy(), reference(spec, x, (w, b)))


def test_torch_tensors_are_accepted():
    spec = Conv.of(2, 3, 3)
    x, [(w, b)] = Problem(spec, (1, 2, 4, 4)).draw(0)
    y = reference(Chain((spec,)), torch.from_numpy(x), [(torch.from_numpy(w), torch.from_numpy(b))])
    assert np.array_equal(y, reference(spec, x, (w, b)))
