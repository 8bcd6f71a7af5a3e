"""Modules of all samples of all kinds compute what the reference computes, with weights that were not compiled in."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.strategies import Problem
from tests.web.engine import Instance, run_module

import omniconv as oc
from omniconv.compiler.code.wasm import STACK
from omniconv.compiler.memory.storage import Buffer
from omniconv.errors import DataError, LimitError, ShapeError, UnsupportedError
from omniconv.kinds import kinds
from omniconv.reference import error_bound
from omniconv.spec.activation import FORMULAS
from omniconv.web import compile_web
from omniconv.web.module import _MemoryMap, _place_constants
from omniconv.web.packing import find_index, flatten_weights, make_labels, split_weights

SAMPLES = [
    pytest.param(kind, number, marks=[] if number < 2 else pytest.mark.wide, id=f"{kind.name}-{number}")
    for kind in kinds().values()
    for number in range(len(kind.samples))
]


def draw(spec, shape, seed=0):
    """Weights and an input of small integers, whose sums are exact unless an activation rounds."""
    x, weights = Problem(spec, shape).draw(seed)
    return weights, x


def is_linear(spec):
    steps = (spec,) if isinstance(spec, oc.Conv) else spec.steps
    return not any(isinstance(step, oc.Activation | oc.Resize) for step in steps)


@pytest.mark.parametrize(("kind", "number"), SAMPLES)
def test_every_sample_is_what_the_reference_says(kind, number, tally):
    sample = kind.samples[number]
    spec = kind.build(sample)
    module = compile_web(spec, sample.shape)
    weights, x = draw(spec, sample.shape)
    expected = oc.reference(spec, x, weights)
    for code in (module.simd, module.relaxed):
        y = run_module(module, weights, x, code)
        if is_linear(spec):
            assert np.array_equal(y, expected)
        else:
            assert (np.abs(y - expected) <= error_bound(spec, x, weights)).all()
        tally("samples in WebAssembly")


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"sqrt"}))  # whose slope is unbounded
def test_every_activation_is_within_its_error(name):
    spec, shape = oc.Chain((oc.Conv.of(1, 1, 1, dims=1), oc.Activation.of(name))), (1, 1, 4003)
    x = np.linspace(-30, 30, 4003, dtype=np.float32).reshape(shape)
    weights = [(np.ones((1, 1, 1), np.float32), np.zeros(1, np.float32))]
    module = compile_web(spec, shape)
    expected = oc.reference(spec, x, weights)
    for code in (module.simd, module.relaxed):
        y = run_module(module, weights, x, code)
        assert (np.abs(y - expected) <= error_bound(spec, x, weights)).all()


def test_weights_are_changed_in_place_and_runs_repeat():
    spec, shape = oc.depthwise_separable(3, 17, 3, padding=1, activation="relu"), (2, 3, 6, 5)
    module = compile_web(spec, shape)
    instance = Instance(module.simd)
    for seed in range(3):
        weights, x = draw(spec, shape, seed)
        module.pack(weights, instance.floats(module.weights_offset, module.index.size))
        instance.floats(module.input_offset, x.size)[:] = x.ravel()
        instance.call("run")
        y = instance.floats(module.output_offset, int(np.prod(module.output))).reshape(module.output)
        assert np.array_equal(y, oc.reference(spec, x, weights))


def test_no_bias_is_a_bias_of_zeros():
    spec, shape = oc.Conv.of(2, 5, 3), (1, 2, 5, 7)
    ((w, _),), x = draw(spec, shape)
    module = compile_web(spec, shape)
    assert np.array_equal(run_module(module, [(w, None)], x), oc.reference(spec, x, [(w, None)]))


def test_every_weight_has_a_place_and_the_json_says_which():
    spec, shape = oc.grouped(6, 12, 3, groups=3), (1, 6, 8, 8)
    module = compile_web(spec, shape)
    found = module.to_json()
    assert found["weights"]["count"] == 12 * 2 * 9 + 12
    assert set(module.index[module.index >= 0]) == set(range(found["weights"]["count"]))
    assert found["text"] == spec.text(shape)
    assert found["output"] == {"offset": module.output_offset, "shape": (1, 12, 6, 6)}
    assert all(offset % 64 == 0 and offset >= STACK for offset in (module.input_offset, module.weights_offset))


def test_flat_weights_are_split_where_they_were_joined():
    spec = oc.depthwise_separable(3, 5, 3)
    flat = np.arange(3 * 9 + 3 + 15 + 5, dtype=np.float32)
    assert np.array_equal(flatten_weights(spec, split_weights(spec, flat)), flat)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w[1:] + w[:-1],
        lambda w: 2 * w,
        lambda w: -w,
        lambda w: w + np.float32(1),
        lambda w: np.float32(0.5) * w,
        lambda w: np.where(np.isnan(w), w, np.float32(3)),
        lambda w: (w * np.float32(8)).astype(np.int64),
    ],
)
def test_packing_that_computes_is_refused(change):
    spec = oc.Conv.of(2, 3, 3)
    numbers, marks = (labels[0][0].ravel() for labels in make_labels(spec))
    assert np.array_equal(find_index(numbers[::-1].copy(), marks[::-1].copy(), ""), np.arange(54)[::-1])
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(UnsupportedError, match=r"need packing that copies .* \| at"),
    ):
        find_index(change(numbers), change(marks), "at")


def test_what_is_the_same_for_all_weights_stays():
    fixed = np.array([0.0, -1.5, np.inf], np.float32)
    assert np.array_equal(find_index(fixed, fixed.copy(), ""), [-1, -1, -1])
    table = np.arange(3, dtype=np.int64)
    assert np.array_equal(find_index(table, table, ""), [-1, -1, -1])


@pytest.mark.parametrize(
    ("spec", "shape", "error", "message"),
    [
        (oc.Conv.of(1, 1, 3), (1, 1, 2, 2), ShapeError, "kernel extent 3"),
        (oc.Conv.of(1, 1, 3), None, ShapeError, "shape"),
        ("depthwise", (1, 1, 2, 2), DataError, "spec is str; need a Conv or a Chain"),
        (
            oc.Conv.of(2048, 2048, 1),
            (1, 2048, 1, 1),
            LimitError,
            "has 4196352 weights; need at most 4194303",
        ),
        (
            oc.Conv.of(1, 1, 1),
            (1, 1, 2**14, 2**14),
            LimitError,
            "of memory; need at most 1.0 GiB, e.g. a",
        ),
        (oc.Conv.of(1, 1, 1), (2**20, 1, 2**20, 2**20), LimitError, "need at most"),
    ],
)
def test_what_a_page_cannot_have_is_refused(spec, shape, error, message):
    with pytest.raises(error, match=message):
        compile_web(spec, shape)


def test_what_stands_among_weights_and_is_none_is_in_memory_from_the_start():
    ((numbers, _),), ((marks, _),) = make_labels(oc.Conv.of(1, 2, 1, dims=1))
    fixed, table = np.float32([1.5, 0, -2]), np.arange(4, dtype=np.int64)
    plans = [
        SimpleNamespace(
            buffers=[
                Buffer("constant", 20, make=lambda w=w: np.concatenate([fixed[:1], w.ravel(), fixed[1:]])),
                Buffer("constant", 32, make=lambda: table),
                Buffer("arena", 8),
                Buffer("constant", 8, make=lambda w=w: w.ravel()[::-1]),
            ]
        )
        for w in (numbers, marks)
    ]
    room = _MemoryMap()
    first, index = _place_constants(room, *plans, "at")
    data = dict(room.data)
    assert data == {room.places[0]: np.float32([1.5, 0, 0, 0, -2]).tobytes(), room.places[1]: table.tobytes()}
    assert room.places[0] == first
    places = np.flatnonzero(index >= 0)
    assert (first + 4 * places).tolist() == [first + 4, first + 8, room.places[3], room.places[3] + 4]
    assert index[places].tolist() == [0, 1, 1, 0]
    assert 4 * index.size == room.size - first
