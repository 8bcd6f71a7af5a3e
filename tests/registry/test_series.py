"""Depthwise layers on channels-first arrays, computed as they lie: properties, random layers, epilogues, reasons."""

from __future__ import annotations

import os
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.machines import MACHINES
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, run_compiled, strictly
from tests.registry.properties import PROPERTIES, SINGLE, Case, Engine
from tests.registry.test_compiled import check
from tests.strategies import Problem

import omniconv as oc
from omniconv.compiler.kernels.series import tiles as series_schedule
from omniconv.compiler.planning.plan import plan
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, PostOp
from omniconv.reference import random_weights
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Conv
from omniconv.target.select import detect_host, resolve_target, select_target

RANDOM = int(os.environ.get("OMNICONV_RANDOM", "0"))


CONVERTED = series_schedule._converted


@pytest.fixture(autouse=True)
def preferred():
    """The series kernel wherever it can be, however long it takes, in blocks so small that small layers have some."""
    sizes = {"COLUMNS": 96, "WINDOW_BYTES": 3072, "BLOCK_BYTES": 1536}
    with mock.patch.multiple(series_schedule, _converted=lambda *_: float("inf"), **sizes):
        yield


def depthwise(channels, kernel, *, multiplier=1, **options):
    return Conv.of(channels, channels * multiplier, kernel, groups=channels, **options)


def transposed(channels, kernel, **options):
    return depthwise(channels, kernel, transposed=True, **options)


LAYERS = [
    (depthwise(3, 31, dims=1, padding=15), (2, 3, 150)),
    (depthwise(2, 512, dims=1, padding="causal"), (1, 2, 130)),
    (depthwise(2, 3, dims=1, padding=1), (1, 2, 500)),
    (depthwise(4, 9, dims=1, padding=((0, 20),), dilation=2, stride=2, flip=True), (1, 4, 77)),
    (depthwise(3, 5, dims=1, padding=((12, 6),), dilation=4), (1, 3, 3)),
    (depthwise(7, 3, padding=1, multiplier=2), (2, 7, 13, 19)),
    (depthwise(3, 3, padding=1, stride=2), (1, 3, 30, 33)),
    (depthwise(3, (3, 5), padding=((2, 0), (1, 4)), stride=(3, 2), flip=True), (1, 3, 17, 12)),
    (depthwise(2, 3, padding=8, dilation=8), (1, 2, 33, 33)),
    (depthwise(1, 7, padding=3), (1, 1, 40, 31)),
    (depthwise(1, 31, padding=15), (1, 1, 12, 11)),
    (depthwise(2, (9, 1), padding=((5, 4), (0, 0))), (1, 2, 90, 10)),
    (depthwise(3, 3, padding=1), (2, 3, 1, 7)),
    (Conv.of(1, 3, 3, padding=1), (1, 1, 20, 25)),
    (depthwise(3, 3, dims=3, padding=1, multiplier=2), (1, 3, 5, 9, 11)),
    (depthwise(2, (3, 1, 3), dims=3, padding=((2, 2), (0, 0), (1, 1)), dilation=(2, 1, 1)), (1, 2, 4, 6, 20)),
    (depthwise(2, (1, 3, 3), dims=3, padding=((1, 0), (1, 1), (1, 1)), stride=(2, 1, 1)), (1, 2, 5, 8, 17)),
    (transposed(3, 4, padding=1, stride=2), (2, 3, 5, 28)),
    (transposed(2, 3, padding=1, stride=2, multiplier=2), (1, 2, 9, 10)),
    (transposed(2, (1, 5), padding=(0, 2), stride=(2, 3), dilation=(1, 2), output_padding=1, flip=True), (1, 2, 3, 3)),
    (transposed(2, 7, dims=1, padding=2, stride=5, output_padding=4), (1, 2, 230)),
    (transposed(2, 3, padding=(1, 3)), (1, 2, 6, 11)),
    (transposed(2, (1, 4, 3), dims=3, padding=(0, 1, 1), stride=(2, 2, 1)), (1, 2, 2, 3, 9)),
    (transposed(2, 3, dims=3, padding=1, stride=2, output_padding=1), (1, 2, 3, 4, 9)),
]
ENGINES = [
    Engine(
        f"series-{target}-{threads}",
        lambda spec, x, weights, target=target, threads=threads: run_compiled(
            spec, x, weights, target=target, threads=threads
        ),
        SINGLE,
    )
    for target in TARGETS
    for threads in (1, 2)
]


def calls(spec, shape, machine):
    """What a layer is computed by on a machine, which need not be this one."""
    found = plan(program_of(spec, shape, random_weights(spec, np.random.default_rng(0))), machine)
    return [call.what for call in found.calls]


@pytest.mark.parametrize("engine", ENGINES, ids=[engine.name for engine in ENGINES])
@pytest.mark.parametrize("prop", [p for p in PROPERTIES.values() if p.computes], ids=lambda p: p.name)
@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
def test_properties(prop, engine, part, tally):
    for spec, shape in LAYERS[part::2]:
        case = Case(spec, shape, engine)
        if prop.applies(case):
            prop(case)
            tally(f"sample x property, {engine.name}")


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_the_layers_are_computed_as_they_lie(machine):
    for spec, shape in LAYERS:
        assert calls(spec, shape, machine) == ["series"], spec.text(shape)


@st.composite
def layers(draw):
    """Depthwise layers with borders and kernels of any width against that of the input."""
    dims, backwards = draw(st.integers(1, 3)), draw(st.booleans())
    sizes = [draw(st.integers(1, (90, 14, 6)[dims - 1])) for _ in range(dims - 1)]
    sizes.append(draw(st.one_of(st.integers(1, 9), st.integers(10, (400, 50, 20)[dims - 1]))))
    kernel, stride, dilation, padding = [], [], [], []
    for place, size in enumerate(sizes):
        last = place == dims - 1
        k = draw(st.integers(1, (40, 9, 4)[dims - 1]))
        d = draw(st.sampled_from((1, 1, 2, 3, 4, 8)))
        extent = (k - 1) * d + 1
        before, after = draw(st.integers(0, extent)), draw(st.integers(0, extent))
        kernel.append(k)
        stride.append(draw(st.sampled_from((1, 1, 2) if last and not backwards else (1, 2, 3))))
        dilation.append(d)
        if backwards:  # some output is left
            before = min(before, (size - 1) * stride[-1] + extent - 1)
            padding.append((before, min(after, (size - 1) * stride[-1] + extent - 1 - before)))
        else:
            padding.append((before, max(after, extent - size - before)))
    channels, multiplier = draw(st.integers(2, 5)), draw(st.sampled_from((1, 1, 2, 3)))
    spec = depthwise(
        channels,
        kernel,
        multiplier=multiplier,
        dims=dims,
        stride=stride,
        dilation=dilation,
        padding=padding,
        flip=draw(st.booleans()),
        transposed=backwards,
    )
    return Problem(spec, (draw(st.integers(1, 2)), channels, *sizes))


@pytest.mark.parametrize("target", TARGETS)
def test_random_layers(target, tally):
    seen = {"series": 0}

    @settings(
        max_examples=max(RANDOM // 10, 40),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
    )
    @given(layers(), st.integers(0, 99), st.sampled_from((1, 2)), st.booleans())
    def run(problem, seed, threads, integer):
        check(problem, seed, integer=integer, target=target, threads=threads)
        seen["series"] += calls(problem.spec, problem.shape, select_target(target)) == ["series"]

    run()
    assert seen["series"]
    tally(f"random layers as they lie, {target}", seen["series"])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("sizes", "stride"), [((21,), 1), ((5,), 1), ((6, 21), 1), ((6, 5), 1), ((3, 4, 21), 1), ((6, 21), 2), ((3,), 3)]
)
def test_epilogues(sizes, stride, target):
    """Operands of every shape that broadcasts to the result: values and constants, whole and narrow vectors."""
    rng = np.random.default_rng(3)
    dims, channels = len(sizes), 3
    spec = depthwise(channels, 3, dims=dims, padding=1, stride=stride, transposed=stride > 1)
    source = (2, channels, *sizes)
    shape = spec.output_shape(source)
    ones = (1,) * dims
    constants = [
        rng.integers(-3, 4, size).astype(np.float32)
        for size in ((1, channels, *ones), (), shape, (2, 1, *ones), shape[-1:], (1, channels, *ones[1:], shape[-1]))
    ]
    posts = tuple(PostOp("add", operand) for operand in ("r", *constants))
    posts = (PostOp("prelu", constants[0]), *posts, PostOp("act", activation=Activation.of("relu")))
    program = Program(inputs=("x", "r"), shapes={"x": source, "r": shape})
    w = rng.integers(-3, 4, spec.weight_shape).astype(np.float32)
    program.add(ConvStep("x", "y", spec, w, None, posts), shape)
    program.outputs = ("y",)
    values = {name: rng.integers(-4, 5, program.shapes[name]).astype(np.float32) for name in "xr"}
    f = Executable(plan(program, resolve_target(target, detect_host())), threads=2)
    assert [call.what for call in f.plan.calls] == ["series"]
    assert np.array_equal(strictly(f, values)["y"], run_program(program, values)["y"])


def test_explain_says_why():
    spec = depthwise(64, 3, padding=1)
    weights = random_weights(spec, np.random.default_rng(0))
    with mock.patch.object(series_schedule, "_converted", CONVERTED):
        text = oc.compile(spec, (1, 64, 56, 56), weights, target="x86-64-v3").explain()
    assert "series kernel" in text
    assert "rejected changes of layout: expected to take" in text
    assert (
        "series: the input is not channels first"
        in oc.compile(spec, (1, 64, 56, 56), weights, layout="NHWC", target="x86-64-v3").explain()
    )
    for layer, shape, why in (
        (depthwise(64, 3, padding=1, stride=3), (1, 64, 56, 56), "series: stride 3 along the width is longer than 2"),
        (
            transposed(64, 20, stride=20),
            (1, 64, 9, 9),
            "series: transposed with stride 20 along the width, longer than 13",
        ),
        (
            transposed(64, (1, 161)),
            (1, 64, 9, 9),
            "series: transposed with 161 taps along the width, more than 160",
        ),
    ):
        weights = random_weights(layer, np.random.default_rng(0))
        assert why in oc.compile(layer, shape, weights, target="x86-64-v3").explain()


def test_narrow_maps_change_layout():
    """Most lanes would be idle."""
    spec = depthwise(64, 5, padding=2)
    with mock.patch.object(series_schedule, "_converted", CONVERTED):
        for machine in MACHINES.values():
            assert calls(spec, (1, 64, 3, 3), machine) == ["copy", "lane", "copy"]
            assert calls(spec, (1, 64, 56, 56), machine) == ["series"]
