"""Hypothesis strategies: random convolutions and chains, always legal, with an input shape.

Sizes are drawn first and geometry is fitted to them, so nothing is filtered and a spec takes about a millisecond.
Channels come from n * 2^k +- 1; the work of every spec is bounded (:data:`BUDGET`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import seed
from hypothesis import strategies as st

from omniconv.spec import Activation, Chain, ChainStep, Conv, PixelShuffle, Resize, Shape, Shuffle, Spec, Split
from omniconv.spec.activation import FORMULAS
from omniconv.spec.conv import PADDING_MODES

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40)
WIDEST = {1: 48, 2: 14, 3: 7}
LARGEST_KERNEL = {1: 7, 2: 7, 3: 4}
BUDGET = 400_000
"""Multiply-accumulates of one convolution [MAC], batch included."""
HALVES = pytest.mark.parametrize(
    "half", [pytest.param(lambda test: test, id="half"), pytest.param(seed(1), id="other", marks=pytest.mark.wide)]
)
"""A test that draws, in two halves: ``half`` decorates the function that Hypothesis calls."""

CHANNEL_STYLES = ("dense", "dense", "depthwise", "multiplier", "grouped", "grouped")
SMOOTH = ("relu", "relu6", "clip", "leaky_relu", "elu", "sigmoid", "silu", "hard_sigmoid", "hard_swish", "tanh", "gelu")


@dataclass(frozen=True)
class Problem:
    """A spec and an input shape that it takes."""

    spec: Spec
    shape: Shape

    def __str__(self) -> str:
        return self.spec.text(self.shape)

    def draw(self, seed: int, *, integer: bool = True, bias: bool = True):
        """An input and weights, the same for the same seed."""
        from omniconv.reference import random_weights

        rng = np.random.default_rng(seed)
        x = rng.integers(-4, 5, self.shape) if integer else rng.standard_normal(self.shape)
        return x.astype(np.float32), random_weights(self.spec, rng, integer=integer, bias=bias)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def _geometry(draw, sizes: Shape, *, transposed: bool, modes: tuple[str, ...] = PADDING_MODES) -> dict:
    """Keyword arguments of `Conv.of` that fit inputs of ``sizes``."""
    dims = len(sizes)
    mode = "zeros" if transposed else draw(st.sampled_from(("zeros", "zeros", *modes)))
    flip = draw(st.sampled_from((False, False, False, True)))
    name = draw(st.sampled_from((None, None, None, None, "same", "same_lower", "causal", "valid")))
    kernel, stride, dilation, extra = [], [], [], []
    pairs: list[tuple[int, int]] = []
    for size in sizes:
        k = draw(st.integers(1, LARGEST_KERNEL[dims]))
        s = draw(st.sampled_from((1, 1, 1, 2, 2, 3, 4)))
        d = draw(st.sampled_from((1, 1, 1, 2, 3, 4)))
        room = {"reflect": size - 1, "circular": size}.get(mode, 2**20)
        extent = d * (k - 1) + 1
        if name not in (None, "valid") and extent - 1 > room:
            k, d, extent = 1, 1, 1
        wide = min(extent + 1, room)
        before, after = draw(st.integers(0, wide)), draw(st.integers(0, wide))
        if draw(st.booleans()):  # often equal, often half of the kernel
            before = after = min(extent // 2, room)
        a = 0
        if transposed:
            a = draw(st.integers(0, max(s, d) - 1)) if draw(st.booleans()) else 0
            spare = (size - 1) * s + extent + a - 1  # what padding may crop
            before = min(before, spare)
            after = min(after, spare - before)
        else:
            padded = size if name == "valid" else size + before + after
            if name in (None, "valid") and extent > padded:
                k, d = min(k, padded), 1
        kernel.append(k)
        stride.append(s)
        dilation.append(d)
        extra.append(a)
        pairs.append((before, after))
    padding = name or pairs
    if transposed and name:
        extra = [0] * dims
        if name == "causal" and any(
            s > 1 and d * (k - 1) + 1 < s for k, s, d in zip(kernel, stride, dilation, strict=True)
        ):
            padding = "same"
    return {
        "dims": dims,
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "transposed": transposed,
        "output_padding": extra,
        "flip": flip,
        "padding_mode": mode,
    }


@st.composite
def _fitted(draw, batch: int, sizes: Shape, in_channels: int | None, *, transposed: bool) -> Conv:
    """A convolution of inputs with ``sizes`` (and ``in_channels``, if given), within the budget."""
    arguments = draw(_geometry(sizes, transposed=transposed))
    free = Conv.of(1, 1, **arguments)
    positions = math.prod(sizes if transposed else free.output_shape((1, 1, *sizes))[2:])
    allowed = max(1, BUDGET // (batch * positions * math.prod(free.kernel_size)))  # in / groups * out
    style = draw(st.sampled_from(CHANNEL_STYLES))
    if in_channels is None and style == "grouped":
        groups = draw(st.sampled_from((2, 3, 4, 5, 8, 11)))
        wide = draw(st.sampled_from((1, 2, 3, 4, 5, 8)))
        wide = min(wide, max(1, 40 // groups), max(1, allowed // groups))
        limit = max(1, min(40 // groups, allowed // (wide * groups)))
        return Conv.of(groups * wide, groups * draw(st.integers(1, limit)), groups=groups, **arguments)
    channels = in_channels or draw(st.sampled_from([c for c in CHANNELS if c <= max(1, allowed)]))
    if style in ("depthwise", "multiplier"):
        limit = max(1, min(4, 40 // channels, allowed // channels))
        multiplier = draw(st.integers(1, limit)) if style == "multiplier" else 1
        return Conv.of(channels, channels * multiplier, groups=channels, **arguments)
    groups = draw(st.sampled_from(_divisors(channels))) if style == "grouped" else 1
    wide = channels // groups
    limit = max(1, min(40 // groups, allowed // (wide * groups)))
    if groups == 1:
        return Conv.of(channels, draw(st.sampled_from([c for c in CHANNELS if c <= limit])), **arguments)
    return Conv.of(channels, groups * draw(st.integers(1, limit)), groups=groups, **arguments)


def _shapes(dims: int | None) -> st.SearchStrategy[tuple[int, Shape]]:
    axes = st.integers(1, 3) if dims is None else st.just(dims)
    size = axes.flatmap(lambda n: st.tuples(*[st.integers(1, WIDEST[n])] * n))
    return st.tuples(st.sampled_from((1, 1, 1, 2, 3)), size)


@st.composite
def convs(draw, *, dims: int | None = None, transposed: bool | None = None) -> Problem:
    """One convolution over 1 to 3 axes with any combination of options, and an input shape.

    Args:
        draw: given by Hypothesis.
        dims: fixes the number of axes.
        transposed: fixes whether it is transposed; default one in four.
    """
    batch, sizes = draw(_shapes(dims))
    if transposed is None:
        transposed = draw(st.sampled_from((False, False, False, True)))
    conv = draw(_fitted(batch, sizes, None, transposed=transposed))
    return Problem(conv, (batch, conv.in_channels, *sizes))


@st.composite
def activations(draw, names: tuple[str, ...] = tuple(FORMULAS)) -> Activation:
    """An activation, with its default parameters or others."""
    name = draw(st.sampled_from(names))
    number = st.sampled_from((0.0, 0.1, 0.25, 0.5, 1.0, 2.0))
    parameters = {key: draw(number) for key in FORMULAS[name][1]} if draw(st.booleans()) else {}
    if name == "clip":
        parameters = {key: value for key, value in parameters.items() if key != "lo"}
    return Activation.of(name, **parameters)


@st.composite
def _split(draw, batch: int, sizes: Shape, channels: int) -> Split:
    """Branches with kernels of different sizes and equal output sizes."""
    parts = draw(st.integers(1, min(3, channels)))
    inner = st.lists(st.integers(1, max(1, channels - 1)), min_size=parts - 1, max_size=parts - 1, unique=True)
    cuts = sorted(draw(inner))
    stride = draw(st.sampled_from((1, 1, 2)))
    padding = draw(st.sampled_from(("same", "same_lower")))
    branches = []
    for low, high in zip([0, *cuts], [*cuts, channels], strict=True):
        width = high - low
        kernel = draw(st.integers(1, LARGEST_KERNEL[len(sizes)]))
        groups = width if draw(st.booleans()) else 1
        positions = batch * math.prod(sizes) * kernel ** len(sizes)
        limit = max(1, min(4, BUDGET // (positions * width)))
        out = width if groups > 1 else draw(st.integers(1, limit))
        branches.append(Conv.of(width, out, kernel, dims=len(sizes), stride=stride, padding=padding, groups=groups))
    return Split(tuple(branches))


@st.composite
def chains(draw, *, dims: int | None = None, names: tuple[str, ...] = SMOOTH, longest: int = 5) -> Problem:
    """A chain of up to ``longest`` steps of every sort, and an input shape. Activations come from ``names``."""
    batch, sizes = draw(_shapes(dims))
    first: list[ChainStep] = []
    shape: Shape = (batch, 1, *sizes)
    if max(sizes) <= 6 and draw(st.sampled_from((False, False, False, True))):
        first.append(Resize(draw(st.integers(1, 3)), draw(st.sampled_from(("nearest", "linear")))))
        sizes = first[0].output_shape(shape)[2:]
    conv = draw(_fitted(batch, sizes, None, transposed=False))
    steps: list[ChainStep] = [*first, conv]
    current = conv.output_shape((batch, conv.in_channels, *sizes))
    for _ in range(draw(st.integers(0, longest - 1))):
        step = draw(_next_step(current, names))
        if step is not None:
            steps.append(step)
            current = current if isinstance(step, Activation) else step.output_shape(current)
    return Problem(Chain(tuple(steps)), (batch, conv.in_channels, *shape[2:]))


@st.composite
def _next_step(draw, shape: Shape, names: tuple[str, ...]) -> ChainStep | None:
    batch, channels, *rest = shape
    sizes, dims = tuple(rest), len(rest)
    sort = draw(st.sampled_from(("conv", "conv", "activation", "shuffle", "pixels", "resize", "split", "transposed")))
    values = batch * channels * math.prod(sizes)
    match sort:
        case "activation":
            return draw(activations(names))
        case "shuffle":
            return Shuffle(draw(st.sampled_from(_divisors(channels))))
        case "pixels":
            factors = [f for f in (1, 2, 3) if channels % f**dims == 0]
            return PixelShuffle(draw(st.sampled_from(factors)))
        case "resize" if values * 2**dims <= 4096:
            return Resize(2, draw(st.sampled_from(("nearest", "linear"))))
        case "split" if values <= 8192:
            return draw(_split(batch, sizes, channels))
        case "transposed" if values <= 1024 and max(sizes) <= WIDEST[dims]:
            return draw(_fitted(batch, sizes, channels, transposed=True))
        case "conv" if values <= 8192 and max(sizes) <= 2 * WIDEST[dims]:
            return draw(_fitted(batch, sizes, channels, transposed=False))
    return None


def problems() -> st.SearchStrategy[Problem]:
    """Convolutions and chains."""
    return st.one_of(convs(), convs(), chains())
