"""`Executable`: what it takes and refuses, what passes through it, and callers that come at once."""

from __future__ import annotations

import os
import re
import signal
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from tests.registry.compiled import TARGETS, run_compiled
from tests.strategies import Problem

import omniconv as oc
from omniconv import processors
from omniconv.compiler.planning import sharing
from omniconv.errors import DataError, LimitError, ShapeError, SpecError, UnsupportedError
from omniconv.reference import random_weights, reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Chain, Conv

SPEC = Conv.of(5, 6, 3, padding=1)
SHAPE = (2, 5, 9, 8)


def make(spec=SPEC, shape=SHAPE, **options) -> tuple[Executable, np.ndarray, np.ndarray]:
    """A compiled layer, an input of whole numbers, and the exact result."""
    x, weights = Problem(spec, shape).draw(0)
    return oc.compile(spec, shape, weights, **options), x, reference(spec, x, weights)


def says(caught: pytest.ExceptionInfo[oc.OmniconvError], *words: str, at: bool = True) -> None:
    """A message has a problem with its values, a rule, and where it was found."""
    error = caught.value
    assert error.problem
    assert error.need or error.fix, str(error)
    assert error.at or not at, str(error)
    for word in words:
        assert word in str(error), (word, str(error))


# Arrays


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layouts(dims: int, layout: str) -> None:
    spec = Conv.of(5, 7, 3, dims=dims, padding=1, stride=2)
    shape = (2, 5, *(7, 6, 5)[:dims])
    f, x, want = make(spec, shape, layout=layout)
    last = layout == "NHWC"
    assert f.inputs == {"x": (2, *shape[2:], 5) if last else shape}
    assert next(iter(f.outputs.values())) == ((2, *want.shape[2:], 7) if last else want.shape)
    y = f(np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x)
    assert y.dtype == np.float32
    assert y.flags.c_contiguous
    assert np.array_equal(np.moveaxis(y, -1, 1) if last else y, want)


def test_any_order_in_memory_and_read_only() -> None:
    f, x, want = make()
    spread = np.full((2, 10, 9, 16), np.nan, np.float32)
    spread[:, ::2, :, ::2] = x
    reversed_ = np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1]
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(SHAPE)
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (spread[:, ::2, :, ::2], reversed_, last, np.asfortranarray(x), unaligned, frozen):
        assert np.array_equal(f(other), want)


def test_results_are_the_callers_own() -> None:
    f, x, want = make()
    first = f(x)
    second = f(np.zeros_like(x))
    assert np.array_equal(first, want)
    assert not np.shares_memory(first, second)
    first[...] = 1
    assert np.array_equal(f(x), want)


def test_torch_tensors_arrive_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    f, x, want = make()
    assert np.array_equal(f(torch.from_numpy(x)), want)
    assert np.array_equal(f(torch.from_numpy(x).contiguous(memory_format=torch.channels_last)), want)
    assert np.array_equal(torch.from_dlpack(f(x)).numpy(), want)
    with pytest.raises(DataError) as caught:
        f(torch.from_numpy(x).requires_grad_())
    says(caught, "input 'x'")
    with pytest.raises(DataError, match="float64"):
        f(torch.from_numpy(x).double())


class Broken:
    """Says that it can be exchanged, and cannot."""

    def __dlpack__(self, **options: object) -> object:
        raise KeyError("out of order")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x: x.astype(np.float64), DataError, ("'x'", "float64", "float32", "astype")),
        (lambda x: x.astype(np.float16), DataError, ("float16",)),
        (lambda x: x.astype(np.int32), DataError, ("int32",)),
        (lambda x: x.astype(np.dtype("f4").newbyteorder()), DataError, ("f4",)),
        (lambda x: x.astype(object), DataError, ("object",)),
        (lambda x: x > 0, DataError, ("bool",)),
        (lambda x: x.tolist(), DataError, ("list",)),
        (lambda x: None, DataError, ("NoneType",)),
        (lambda x: 3.0, DataError, ("float",)),
        (lambda x: x[0], ShapeError, ("(5, 9, 8)", "(2, 5, 9, 8)")),
        (lambda x: x[:1], ShapeError, ("(1, 5, 9, 8)",)),
        (lambda x: x[:, :4], ShapeError, ("(2, 4, 9, 8)",)),
        (lambda x: np.moveaxis(x, 1, -1), ShapeError, ("(2, 9, 8, 5)", "NCHW")),
        (lambda x: x[:0], ShapeError, ("(0, 5, 9, 8)",)),
        (lambda x: x[..., :0], ShapeError, ("(2, 5, 9, 0)",)),
        (
            lambda x: np.broadcast_to(x[:, :, :, None, :1], (2, 5, 9, 2**42, 1))[:, :, :, :, 0],
            ShapeError,
            ("4398046511104",),
        ),
        (lambda x: Broken(), DataError, ("'x'", "out of order")),
        (lambda x: np.float32(1), (DataError, ShapeError), ()),
        (lambda x: x[..., None], ShapeError, ()),
    ],
)
def test_inputs_that_do_not_fit(change, error, words) -> None:
    f, x, want = make()
    with pytest.raises(error) as caught:
        f(change(x))
    says(caught, *words)
    assert np.array_equal(f(x), want)


def test_names() -> None:
    f, x, want = make()
    assert np.array_equal(next(iter(f.run({"x": x}).values())), want)
    for names in ({}, {"y": x}, {"x": x, "z": x}):
        with pytest.raises(ShapeError) as caught:
            f.run(names)
        says(caught, "x", "exactly")
    with pytest.raises(DataError) as caught_data:
        f.run(x)  # type: ignore[arg-type]
    says(caught_data, "ndarray")


# Numbers that are not finite


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (Conv.of(16, 32, 3, padding=1), (1, 16, 9, 9)),
        (Conv.of(20, 20, 3, padding=2, dilation=2, groups=20), (1, 20, 9, 9)),
        (Conv.of(8, 16, 3, padding=1, stride=2, groups=4), (1, 8, 9, 9)),
        (Conv.of(4, 4, 4, stride=2, padding=1, transposed=True, groups=4), (1, 4, 5, 5)),
        (Conv.of(33, 17, 1, dims=1), (2, 33, 12)),
        (Chain((Conv.of(5, 7, 3, padding=1, padding_mode="reflect"), Activation("relu"))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 3, padding=1), Activation.of("clip", lo=-3.0, hi=3.0))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 1), Activation("hard_swish"))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 1), Activation("sigmoid"))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 1), Activation("tanh"))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 1), Activation("silu"))), (1, 5, 6, 6)),
        (Chain((Conv.of(5, 7, 1), Activation("gelu"))), (1, 5, 6, 6)),
    ],
    ids=str,
)
def test_non_finite_numbers_propagate(spec, shape, value, target) -> None:
    """A direct sum puts them exactly where IEEE 754 does."""
    x, weights = Problem(spec, shape).draw(0)
    x[0, 1, *[s // 2 for s in shape[2:]]] = value
    x[-1, 0, *[0 for _ in shape[2:]]] = -value
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = reference(spec, x, weights)
    got = run_compiled(spec, x, weights, target=target)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(got[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(got[np.isfinite(want)]).all()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_winograd_keeps_non_finite_numbers_near() -> None:
    """Filtered blocks: every output that IEEE reaches is not finite, and nothing beyond the blocks it is in."""
    spec = Conv.of(32, 32, 3, padding=1)
    f, x, _ = make(spec, (1, 32, 24, 24))
    x[0, 3, 11, 12] = np.nan
    y = f(x)
    assert np.isnan(y[:, :, 10:13, 11:14]).all()
    assert np.isfinite(y[:, :, :6]).all()
    assert np.isfinite(y[:, :, 18:]).all()


def test_explain_shows_choices_and_no_bare_numbers() -> None:
    """Kernels of convolutions say their tile as `omniconv tune` writes it; those without a choice say their units."""
    for spec in (
        oc.depthwise_separable(8, 8, 3, padding="same"),
        oc.cross_correlation(4, 4, 3, padding=1, padding_mode="reflect"),
        oc.resize_conv(4, 4, 3, factor=2),
    ):
        text = oc.compile(spec, (1, spec.in_channels, 9, 9), oc.random_weights(spec, 0), layout="NHWC").explain()
        kernels = re.findall(r"^    (\w+) kernel, (\d+) units(.*)$", text, re.MULTILINE)
        assert kernels
        for word, _, choice in kernels:
            assert re.fullmatch(r"(,( \w+( \w+=\S+)+)+)?", choice), choice
            assert (choice == "") == (word in {"pad", "resize", "copy", "map"})


def test_explain_says_why_a_layer_is_filtered_or_not() -> None:
    spec = Conv.of(32, 32, 3, padding=1)
    weights = random_weights(spec, np.random.default_rng(0))
    filtered = oc.compile(spec, (1, 32, 24, 24), weights, target="x86-64-v3").explain()
    assert "winograd m=4 slab=" in filtered
    assert "rejected direct sum: " in filtered
    assert "rejected winograd F(2x2, 3x3): " in filtered
    exact = oc.compile(spec, (1, 32, 24, 24), weights, exact=True, target="x86-64-v3").explain()
    assert "rejected winograd: exact=True" in exact


# Arguments of compile


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"threads": 0}, SpecError, ("threads=0", "from 1 to")),
        ({"threads": -1}, SpecError, ("threads=-1",)),
        ({"threads": 1.0}, SpecError, ("threads=1.0",)),
        ({"threads": True}, SpecError, ("threads=True",)),
        ({"threads": 10**9}, SpecError, ("threads=1000000000",)),
        ({"layout": "NWHC"}, SpecError, ("'NWHC'", "NCHW, NHWC")),
        ({"layout": None}, SpecError, ("None",)),
        ({"target": "z80"}, UnsupportedError, ("'z80'", "native")),
        ({"target": ""}, UnsupportedError, ("''",)),
        ({"shapes": {"x": SHAPE}}, SpecError, ("shapes=",)),
        ({"constants": {"x": 1}}, SpecError, ("constants=",)),
        ({"memory_limit": 0}, SpecError, ("0",)),
        ({"memory_limit": -5}, SpecError, ("-5",)),
        ({"memory_limit": "4G"}, SpecError, ("4G",)),
    ],
)
def test_options_that_do_not_fit(options, error, words) -> None:
    with pytest.raises(error) as caught:
        make(**options)
    says(caught, *words, at=False)


@pytest.mark.parametrize(
    ("spec", "shape", "error", "words"),
    [
        (SPEC, (1, 4, 9, 9), ShapeError, ("4", "in_channels=5")),
        (SPEC, (1, 5, 9), ShapeError, ("rank",)),
        (SPEC, (1, 5, 9, 9, 9), ShapeError, ("rank",)),
        (SPEC, (0, 5, 9, 9), ShapeError, ("0",)),
        (SPEC, (1, 5, 0, 9), ShapeError, ("0",)),
        (SPEC, (1, 5, -9, 9), ShapeError, ("-9",)),
        (SPEC, (1, 5, 9.5, 9), ShapeError, ("9.5",)),
        (SPEC, (1, 5, "9", 9), ShapeError, ("9",)),
        (SPEC, (1, 5, 2**40, 9), ShapeError, (str(2**40),)),
        (SPEC, 7, ShapeError, ("7",)),
        (Conv.of(5, 6, 12, padding=1), (1, 5, 9, 9), ShapeError, ("kernel", "12", "9")),
        (Conv.of(5, 6, 3, dilation=6), (1, 5, 9, 9), ShapeError, ("9",)),
        (Conv.of(5, 6, 3, padding=9, padding_mode="reflect"), (1, 5, 9, 9), ShapeError, ("9",)),
        (SPEC, (1, 5, 2**20, 2**20), LimitError, ("limit",)),
        (Conv.of(5, 6, 1, stride=2**20, transposed=True), (1, 5, 2**10, 2**10), LimitError, ("limit",)),
        (Conv.of(5, 6, 1, padding=2**29), (1, 5, 9, 9), LimitError, ("limit",)),
        (Conv.of(5, 6, 1, padding=2**30), (1, 5, 9, 9), ShapeError, ("at most",)),
        (Chain((SPEC, Activation("relu"))), 7, ShapeError, ("7",)),
        (Chain((SPEC, Activation("relu"))), (1, 5, 9), ShapeError, ("rank",)),
        (Chain((Activation("relu"), SPEC)), (1, 5, -9, 9), ShapeError, ("-9",)),
    ],
)
def test_shapes_that_do_not_fit(spec, shape, error, words) -> None:
    weights = random_weights(spec, np.random.default_rng(0))
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            oc.compile(spec, shape, weights)
        assert tracemalloc.get_traced_memory()[1] < 2**24, "allocated before it refused"
    finally:
        tracemalloc.stop()
    says(caught, *words)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda w, b: (w[:, :4], b), ShapeError, ("(6, 4, 3, 3)", "(6, 5, 3, 3)")),
        (lambda w, b: (w, b[:5]), ShapeError, ("(5,)", "(6,)")),
        (lambda w, b: ((w.tolist(), b),), DataError, ("weights", "(w, None)")),
        (lambda w, b: w, DataError, ("ndarray",)),
        (lambda w, b: [(w, b), (w, b)], ShapeError, ("2 items",)),
        (lambda w, b: (w.astype(complex), b), DataError, ("complex128",)),
        (lambda w, b: (w.astype(str), b), DataError, ()),
        (lambda w, b: (w, b, b), (DataError, ShapeError), ()),
        (lambda w, b: 5, DataError, ("int",)),
    ],
)
def test_weights_that_do_not_fit(change, error, words) -> None:
    [(w, b)] = random_weights(SPEC, np.random.default_rng(0))
    with pytest.raises(error) as caught:
        oc.compile(SPEC, SHAPE, change(w, b))
    says(caught, *words)


def test_missing_arguments() -> None:
    for given in ((), (SHAPE,)):
        with pytest.raises(ShapeError) as caught:
            oc.compile(SPEC, *given)
        says(caught, "compile(spec, shape, weights)")
    with pytest.raises(SpecError) as wrong:
        oc.compile(b"", SHAPE)
    says(wrong, "shapes", at=False)
    for other in (3, None, [SPEC], np.zeros(3)):
        with pytest.raises(oc.ModelError) as unknown:
            oc.compile(other)  # type: ignore[arg-type]
        says(unknown, at=False)


def test_nothing_is_allocated_above_the_limit(monkeypatch) -> None:
    """Whatever the limit, the arena, the constants and the arrays of the result stay below it, or it is an error."""
    spec, shape = Conv.of(64, 64, 3, padding=1), (1, 64, 56, 56)
    weights = random_weights(spec, np.random.default_rng(0))
    f = oc.compile(spec, shape, weights)
    needed = f.arena_bytes + f.constant_bytes + 4 * 64 * 56 * 56
    oc.compile(spec, shape, weights, memory_limit=needed)
    for limit in (needed - 1, 2**20, 1):
        with pytest.raises(LimitError) as caught:
            oc.compile(spec, shape, weights, memory_limit=limit)
        says(caught, "limit", "OMNICONV_MEMORY_LIMIT", "ih56")
    monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "1M")
    with pytest.raises(LimitError):
        oc.compile(spec, shape, weights)


def test_weights_of_other_types_become_float32() -> None:
    x, [(w, b)] = Problem(SPEC, SHAPE).draw(0)
    want = reference(SPEC, x, (w, b))
    for dtype in (np.float64, np.int32, np.float16):
        assert np.array_equal(oc.compile(SPEC, SHAPE, (w.astype(dtype), b.astype(dtype)))(x), want)
    f = oc.compile(SPEC, SHAPE, (w, b))
    w[...] = 0
    assert np.array_equal(f(x), want), "weights are copied when a layer is compiled"


# Callers that come at once


@pytest.mark.parametrize("threads", [1, 2, None])
def test_concurrent_callers(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processors.VARIABLE)  # None takes the cores of this machine
    chain = Chain(
        (Conv.of(16, 48, 1), Activation("relu"), Conv.of(48, 48, 3, padding=1, groups=48), Conv.of(48, 16, 1))
    )
    shape = (1, 16, 20, 20)
    rng = np.random.default_rng(0)
    weights = random_weights(chain, rng)
    f = oc.compile(chain, shape, weights, threads=threads)
    inputs = [rng.standard_normal(shape).astype(np.float32) for _ in range(6)]
    assert f.threads == (threads or processors.find_cores().number)
    alone = oc.compile(chain, shape, weights, threads=1)
    wants = [alone(x) for x in inputs]
    wrong: list[int] = []
    start = threading.Barrier(len(inputs))

    def call(index: int) -> None:
        start.wait()
        wrong.extend(index for _ in range(50) if not np.array_equal(f(inputs[index]), wants[index]))

    callers = [threading.Thread(target=call, args=(index,)) for index in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_child_of_a_fork_runs_and_compiles(threads: int) -> None:
    f, x, want = make(threads=threads)
    assert np.array_equal(f(x), want)
    child = os.fork()
    if not child:
        signal.alarm(60)
        good = np.array_equal(f(x), want)
        g, x2, want2 = make(Conv.of(5, 6, 3, stride=2), threads=threads)
        os._exit(0 if good and np.array_equal(g(x2), want2) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert np.array_equal(f(x), want)


def test_little_work_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking a second thread takes longer than a layer of a few microseconds; results are the same."""
    spec = oc.pointwise(in_channels=12, out_channels=9)
    weights = oc.random_weights(spec, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 12, 5, 5)).astype(np.float32)
    shared = oc.compile(spec, x.shape, weights, threads=2)
    monkeypatch.setattr(sharing, "WAKE_US", 4.0)
    alone = oc.compile(spec, x.shape, weights, threads=2)
    assert "there is too little to share" in alone.explain()
    assert "there is too little to share" not in shared.explain()
    assert np.array_equal(alone(x), shared(x))
    large = oc.pointwise(in_channels=256, out_channels=256)
    found = oc.compile(large, (1, 256, 4, 4), oc.random_weights(large, np.random.default_rng(0)), threads=2)
    assert "there is too little to share" not in found.explain()


def test_any_array_is_found() -> None:
    """Arrays that may be written to, those that may not, views, and those of subclasses."""
    spec = oc.pointwise(in_channels=6, out_channels=3)
    f = oc.compile(spec, (1, 6, 2, 2), random_weights(spec, np.random.default_rng(0)))
    x = np.arange(24, dtype=np.float32).reshape(1, 6, 2, 2)
    read_only = np.frombuffer(x.tobytes(), np.float32).reshape(x.shape)
    assert not read_only.flags.writeable
    whole = np.concatenate([np.full_like(x, np.nan), x])
    want = f(x.copy())
    for given in (read_only, whole[1:], x.view(np.recarray), np.asfortranarray(x)):
        assert np.array_equal(f(given), want)
        assert np.array_equal(f.run(dict.fromkeys(f.inputs, given))[next(iter(f.outputs))], want)
