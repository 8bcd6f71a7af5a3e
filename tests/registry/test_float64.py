"""float64: every property on every kind, any numbers within the bound of float64, and what is refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tests.machines import NEON, V4
from tests.registry.compiled import TARGETS, run_compiled, strictly
from tests.registry.properties import DOUBLE, PROPERTIES, Case, Engine
from tests.registry.test_compiled import agree

import omniconv as oc
from omniconv.compiler.code.build import compile_object
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.errors import DataError, SpecError
from omniconv.kinds import kinds
from omniconv.program.element import FLOAT64
from omniconv.program.from_spec import program_of
from omniconv.reference import error_bound, random_weights, reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Chain, Conv
from omniconv.target.select import select_target

ENGINES = [
    Engine(f"float64-{target}", partial(run_compiled, target=target, threads=2, dtype="float64"), DOUBLE)
    for target in TARGETS
]
FEWER = 2
"""Samples of each kind on other levels than the machine's own: vectors of 2 and 4 lanes."""


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
@pytest.mark.parametrize("engine", ENGINES, ids=[engine.name for engine in ENGINES])
def test_properties(engine, kind, tally):
    for sample in kind.samples if engine is ENGINES[0] else kind.samples[:FEWER]:
        case = Case(kind.build(sample), sample.shape, engine)
        for prop in PROPERTIES.values():
            if prop.computes and prop.applies(case):
                prop(case)
                tally(f"sample x property, {engine.name}")


@pytest.mark.parametrize("turn", [0, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_any_numbers(kind, turn, tally):
    """Within the bound of float64, which is 2^29 times closer than that of float32; the same bits on any threads.

    The reference rounds as well, in another order.
    """
    for number, sample in enumerate(kind.samples):
        spec, rng = kind.build(sample), np.random.default_rng(4)
        x, weights = rng.standard_normal(sample.shape), random_weights(spec, rng, dtype=np.float64)
        bound = 2 * error_bound(spec, x, weights, DOUBLE)
        layout = ("NCHW", "NHWC")[(number + turn) % 2]
        one, two = (run_compiled(spec, x, weights, layout=layout, threads=t, dtype="float64") for t in (1, 2))
        agree(one, reference(spec, x, weights), bound, f"{spec.text(sample.shape)} {layout}")
        assert np.array_equal(one.view(np.uint64), two.view(np.uint64)), spec.text(sample.shape)
        tally("sample in float64, any numbers")


LAYERS = [
    (Conv.of(64, 96, 1), (1, 64, 14, 14)),
    (Conv.of(16, 16, 3, padding=1), (1, 16, 40, 41)),
    (Conv.of(24, 24, 3, padding=1, groups=24), (1, 24, 40, 40)),
    (Conv.of(32, 32, 5, padding=2, groups=8), (1, 32, 19, 17)),
    (Conv.of(128, 128, 3, padding=1, groups=128), (1, 128, 33, 31)),
    (Conv.of(9, 20, 4, stride=2, padding=1, transposed=True), (2, 9, 11, 12)),
]
"""Large enough for whole vectors, several units of work and padded copies."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("spec", "shape"), LAYERS, ids=[spec.text() for spec, _ in LAYERS])
def test_larger_layers(spec, shape, target):
    rng = np.random.default_rng(5)
    x, weights = rng.standard_normal(shape), random_weights(spec, rng, dtype=np.float64)
    bound = 2 * error_bound(spec, x, weights, DOUBLE)
    for layout in ("NCHW", "NHWC"):
        got = run_compiled(spec, x, weights, target=target, layout=layout, threads=2, exact=False, dtype="float64")
        agree(got, reference(spec, x, weights), bound, layout)


def test_fused_layers_have_the_same_bits():
    """Bands of one row wherever they can be, in buffers whose sizes and places count in elements of 8 bytes."""
    chain = Chain(
        (Conv.of(12, 24, 1), Conv.of(24, 24, 3, padding=1, groups=24), Activation("silu"), Conv.of(24, 20, 1))
    )
    rng = np.random.default_rng(6)
    x, weights = rng.standard_normal((2, 15, 14, 12)), random_weights(chain, rng, dtype=np.float64)
    program = program_of(chain, (2, 12, 15, 14), weights, FLOAT64)
    results = []
    for threads, cache in ((1, None), (1, 0), (2, 0)):
        planned = plan(program, select_target(), Options(layout="NHWC", threads=threads, cache=cache))
        assert any("fused" in call.how for call in planned.calls) == (cache == 0)
        (y,) = strictly(Executable(planned, threads=threads, layout="NHWC"), {"x": x}).values()
        results.append(y)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("target", [V4, NEON], ids=str)
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_code_for_other_vectors_is_assembled(kind, target):
    """Also where nothing can run it."""
    sample = kind.samples[0]
    spec = kind.build(sample)
    program = program_of(spec, sample.shape, random_weights(spec, np.random.default_rng(0)), FLOAT64)
    for recipe in {repr(call.recipe): call.recipe for call in plan(program, target).calls}.values():
        machine = target.of(FLOAT64)
        assert compile_object(recipe.emit("kernel", machine), machine).startswith(b"\x7fELF")


SPEC = Conv.of(16, 16, 3, padding=1)
SHAPE = (1, 16, 12, 12)
WEIGHTS = random_weights(SPEC, np.random.default_rng(0))


def test_filtering_is_rejected_with_a_reason():
    assert "rejected winograd: float64" in oc.compile(SPEC, SHAPE, WEIGHTS, dtype="float64").explain()


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype(np.float64), float], ids=str)
def test_names_of_the_type(dtype):
    f = oc.compile(SPEC, SHAPE, WEIGHTS, dtype=dtype)
    y = f(np.zeros(SHAPE))
    assert f.dtype == y.dtype == np.float64
    assert f.target.lanes * 2 == oc.compile(SPEC, SHAPE, WEIGHTS).target.lanes


@pytest.mark.parametrize(
    "dtype", ["float16", "int8", np.int64, None, 3, "no type", np.dtype(">f8"), [1], "complex128"], ids=str
)
def test_other_types_are_refused(dtype):
    with pytest.raises(SpecError, match=r"dtype=.* is not supported; need one of float32, float64") as caught:
        oc.compile(SPEC, SHAPE, WEIGHTS, dtype=dtype)
    assert "e.g. 'float32'" in str(caught.value)


@pytest.mark.parametrize(("dtype", "other"), [("float64", "float32"), ("float32", "float64")])
def test_arrays_of_the_other_type_are_refused(dtype, other):
    f = oc.compile(SPEC, SHAPE, WEIGHTS, dtype=dtype)
    with pytest.raises(DataError, match=rf"dtype {other}; need {dtype}, e.g. x.astype\(numpy.{dtype}\)"):
        f(np.zeros(SHAPE, other))


def test_tensors_are_taken():
    torch = pytest.importorskip("torch")
    f = oc.compile(SPEC, SHAPE, WEIGHTS, dtype="float64")
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(f(x), f(x.numpy()))
    with pytest.raises(DataError, match="need float64"):
        f(x.float())


def test_code_and_choices_are_apart():
    """One process holds both; neither is taken for the other."""
    single, double = (oc.compile(SPEC, SHAPE, WEIGHTS, dtype=dtype, exact=True) for dtype in ("float32", "float64"))
    assert not {k.digest for k in single._code} & {k.digest for k in double._code}
    x = np.random.default_rng(1).integers(-4, 5, SHAPE)
    assert single(x.astype(np.float32)).dtype == np.float32
    assert double(x.astype(np.float64)).dtype == np.float64


def test_costs_in_bytes_of_the_type():
    narrow, wide = (oc.cost(SPEC, SHAPE, dtype=dtype) for dtype in ("float32", "float64"))
    assert wide.bytes == 2 * narrow.bytes
    assert wide.macs == narrow.macs
    f = oc.compile(SPEC, SHAPE, WEIGHTS, dtype="float64")
    assert oc.cost(f).bytes == wide.bytes + 8 * SPEC.out_channels
