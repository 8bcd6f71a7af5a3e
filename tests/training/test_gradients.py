"""Forward passes and gradients of single layers with weights that come in, against float64, bit by bit over threads."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gradient_oracle import gradients
from tests.registry.compiled import TARGETS, channels_from, channels_to, strictly
from tests.strategies import HALVES, convs

from omniconv.gradients import compile_forward, compile_input_gradient, compile_weight_gradient
from omniconv.kinds import kinds
from omniconv.reference.bounds import gamma
from omniconv.spec import Chain, Conv, Split, parse

RANDOM = int(os.environ.get("OMNICONV_RANDOM", "0"))
"""Layers of each random test; 0 for the few of a default run."""
ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}


def layers_of(spec, shape):
    """The single layers of a spec with the shapes of their inputs."""
    if isinstance(spec, Conv):
        yield spec, shape
        return
    for step, at in zip(spec.steps, Chain(spec.steps).shapes(shape), strict=False):
        if isinstance(step, Conv):
            yield step, at
        elif isinstance(step, Split):
            for branch, inputs, _ in step.slices():
                yield branch, (at[0], inputs.stop - inputs.start, *at[2:])


SAMPLES = sorted(
    {
        (spec.text(shape), spec, tuple(shape))
        for kind in kinds().values()
        for sample in kind.samples
        for spec, shape in layers_of(kind.build(sample), sample.shape)
    },
    key=lambda item: item[0],
)
"""Every layer of the samples of all kinds."""


def draw(spec, shape, seed, *, integer):
    rng = np.random.default_rng(seed)
    sizes = (shape, spec.weight_shape, (spec.out_channels,), spec.output_shape(shape))
    return [rng.integers(-4, 5, s).astype(float) if integer else rng.standard_normal(s) for s in sizes]


def run(spec, shape, x, w, b, dy, *, layout="NCHW", **options):
    """All results of machine code by name, channels first."""
    options["layout"] = layout
    dtype = np.dtype(options.get("dtype", "float32"))
    x, w, b, dy = (None if value is None else value.astype(dtype) for value in (x, w, b, dy))
    own = {"x": channels_to(layout, x), "dy": channels_to(layout, dy)}
    given = {"w": w} if b is None else {"w": w, "b": b}
    bias = b is not None
    found = strictly(compile_forward(spec, shape, bias=bias, **options), {"x": own["x"], **given})
    found |= strictly(compile_input_gradient(spec, shape, **options), {"dy": own["dy"], "w": w})
    found |= strictly(compile_weight_gradient(spec, shape, bias=bias, **options), own)
    return {name: channels_from(layout, value) if name in ("y", "dx") else value for name, value in found.items()}


def bounds(spec, shape, x, w, b, dy, roundoff):
    """How far each result may be off: products of each sum, and one rounding for each of them."""
    resolved, result = spec.resolve(shape), dy.shape
    size = gradients(resolved, *(None if value is None else np.abs(value) for value in (x, w, b, dy)))
    positions = result[0] * math.prod((shape if spec.transposed else result)[2:])
    taps = math.prod(spec.kernel_size)
    copies = (
        max((1 + max(pair) for pair in resolved.padding), default=1) ** spec.dims if spec.padding_mode != "zeros" else 1
    )
    terms = {
        "y": spec.in_channels // spec.groups * taps + 1,
        "dx": spec.out_channels // spec.groups * taps + 1 + copies,
        "dw": positions + 1,
        "db": result[0] * math.prod(result[2:]) + 1,
    }
    return {name: gamma(terms[name], roundoff) * getattr(size, name) for name in terms}


def check(spec, shape, seed, *, integer, bias=True, **options):
    x, w, b, dy = draw(spec, shape, seed, integer=integer)
    b = b if bias else None
    dtype = options.get("dtype", "float32")
    x, w, b, dy = (None if value is None else value.astype(dtype).astype(float) for value in (x, w, b, dy))
    want = gradients(spec.resolve(shape), x, w, b, dy)
    off = bounds(spec, shape, x, w, b, dy, ROUNDOFF[dtype])
    got = run(spec, shape, x, w, b, dy, **options)
    assert set(got) == ({"y", "dx", "dw", "db"} if bias else {"y", "dx", "dw"})
    for name, value in got.items():
        expected = getattr(want, name)
        assert value.shape == expected.shape, name
        limit = 0.0 if integer else off[name]
        bad = ~(np.abs(value - expected) <= limit)
        assert not bad.any(), f"{name}: {bad.sum()} of {bad.size} | {spec.text(shape)} {options} seed={seed}"


PARTS = [pytest.param(part, marks=[pytest.mark.wide] if part else []) for part in range(16)]
"""Every sixteenth layer, from each of the first sixteen on; one part by default."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("target", TARGETS)
def test_whole_numbers_are_exact(target, part, tally):
    for number, (_, spec, shape) in list(enumerate(SAMPLES))[part :: len(PARTS)]:
        check(spec, shape, 1, integer=True, target=target, layout=("NCHW", "NHWC")[number % 2], bias=number % 3 > 0)
        tally(f"layer with gradients, {target}")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_float64(layout, part, tally):
    for _, spec, shape in SAMPLES[part + (layout == "NHWC") * len(PARTS) :: 2 * len(PARTS)]:
        check(spec, shape, 2, integer=False, dtype="float64", layout=layout)
        tally("layer with gradients in float64")


@HALVES
@pytest.mark.parametrize(("target", "usual"), [(t, 12) for t in TARGETS])
def test_random_layers(target, usual, half, tally):
    count = RANDOM or usual // 2

    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
        print_blob=False,
    )
    @half
    @given(convs(), st.booleans(), st.sampled_from(("NCHW", "NHWC")), st.sampled_from((1, 2, 3)), st.integers(0, 99))
    def draw_one(problem, integer, layout, threads, seed):
        check(problem.spec, problem.shape, seed, integer=integer, target=target, layout=layout, threads=threads)

    draw_one()
    tally(f"random layer with gradients, {target}", count)


LARGER = [
    "depthwise n2 ic24 oc24 ih19 iw23 kh3 kw3 sh1 sw1 dh1 dw1 pt1 pb1 pl1 pr1 g24",
    "depthwise n2 ic24 oc24 ih19 iw23 kh3 kw5 sh2 sw2 dh1 dw1 pt1 pb1 pl2 pr2 g24",
    "grouped n2 ic24 oc24 ih11 iw13 kh3 kw3 sh1 sw1 dh2 dw2 pt2 pb2 pl2 pr2 g6",
    "convolution n2 ic19 oc21 ih11 iw13 kh3 kw3 sh2 sw1 dh1 dw1 pt1 pb1 pl1 pr1 g1",
    "pointwise n3 ic17 oc40 ih9 iw9 kh1 kw1 sh1 sw1 dh1 dw1 pt0 pb0 pl0 pr0 g1",
    "depthwise_transposed n2 ic24 oc24 ih9 iw10 kh4 kw4 sh2 sw2 dh1 dw1 pt1 pb1 pl1 pr1 g24",
    "transposed n2 ic12 oc20 ih7 iw8 kh3 kw3 sh2 sw2 dh1 dw1 pt1 pb0 pl1 pr0 g1",
]
"""With rows and channels enough for several blocks."""
IN_BOTH_LAYOUTS = [
    pytest.param(line, layout, marks=[] if (index + turn) % 2 == 0 else [pytest.mark.wide])
    for index, line in enumerate(LARGER)
    for turn, layout in enumerate(("NCHW", "NHWC"))
]


@pytest.mark.parametrize(("line", "layout"), IN_BOTH_LAYOUTS)
def test_same_bits_on_any_number_of_threads(line, layout):
    spec, shape = parse(line)
    values = draw(spec, shape, 5, integer=False)
    one, *others = (run(spec, shape, *values, threads=threads, layout=layout) for threads in (1, 2, 3, 4))
    for other in others:
        for name, value in one.items():
            assert np.array_equal(value.view(np.uint32), other[name].view(np.uint32)), (name, layout)
    check(spec, shape, 5, integer=False, threads=2, layout=layout)


def test_threads_gather_in_memory_of_their_own():
    """Two threads at once, often enough that they meet: the same bits every time."""
    spec, shape = Conv.of(8, 16, 1), (4, 8, 4, 4)
    one, two = (compile_weight_gradient(spec, shape, bias=False, threads=threads) for threads in (1, 2))
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal(size).astype(np.float32) for name, size in one.inputs.items()}
    want = one.run(inputs)["dw"]
    for _ in range(3000):
        assert np.array_equal(two.run(inputs)["dw"], want)
