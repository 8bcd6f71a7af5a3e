"""Streams of compiled networks: latency, states, many at once, recurrent layers, and what does not fit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.graph.small_models import Graph
from tests.streams.models import build_denoiser, build_global, build_recurrent

import omniconv as oc

RNG = np.random.default_rng(0)


def whole_numbers(shape):
    return RNG.integers(-2, 3, shape).astype(np.float32)


def compile_layer(kind=oc.cross_correlation, **options):
    spec = kind(**{"in_channels": 2, "out_channels": 3, "kernel_size": 3, "dims": 1, **options})
    return oc.compile(spec, (1, 2, 60), (whole_numbers(spec.weight_shape), whole_numbers(3)), exact=True)


def run(stream, x, size, axis=2):
    parts = [stream.push(x[(*(slice(None),) * axis, slice(at, at + size))]) for at in range(0, x.shape[axis], size)]
    return np.concatenate([*parts, stream.flush()], axis)


@pytest.fixture(scope="module")
def denoiser():
    return oc.compile(build_denoiser(), exact=True)


@pytest.fixture(scope="module")
def lstm():
    return oc.compile(build_recurrent())


@pytest.mark.parametrize(
    ("options", "chunk", "hop", "samples", "exact"),
    [
        ({"padding": 1}, 10, 1, 1, 1),
        ({"padding": 1, "dilation": 1}, 1, 1, 1, 1),
        ({"kind": oc.causal, "dilation": 8}, 10, 1, 0, 0),
        ({"padding": 0}, 10, 1, 2, 2),  # output o reads o to o + 2
        ({"stride": 2, "padding": 1}, 10, 2, 0, 0),
        ({"stride": 4, "padding": 1}, 10, 4, 3, 0),  # a push of 10 may leave 3 that wait
        ({"kind": oc.transposed, "kernel_size": 5, "stride": 3, "padding": 1}, 7, 1, 1, 1 / 3),
    ],
)
def test_latency(options, chunk, hop, samples, exact):
    stream = compile_layer(**options).stream(2, chunk)
    assert (stream.hop, stream.latency.samples, float(stream.latency.exact)) == (hop, samples, pytest.approx(exact))


def test_results_come_as_soon_as_they_are_ready(denoiser):
    x = whole_numbers((1, 1, 40))
    stream, want, given = denoiser.stream(2, 1), denoiser(x), 0
    assert stream.latency.samples == 2
    for n in range(40):
        y = stream.push(x[..., n : n + 1])
        assert np.array_equal(y, want[..., given : given + y.shape[2]])
        given += y.shape[2]
        assert given == max(n + 1 - 2, 0) == stream.given
    assert np.array_equal(stream.flush(), want[..., given:])


@pytest.mark.parametrize("pad", [2, 5])
def test_where_padding_reflects_the_first_position_waits_longest(pad):
    g = Graph()
    y = g.node("Pad", g.input("x", 1, 1, None), g.const([0, 0, pad, 0, 0, 1], np.int64), mode="reflect", name="y")
    net = oc.compile(g.model(y))
    x = whole_numbers((1, 1, 12))
    stream, want = net.stream(2, 1), net(x)
    parts = [stream.push(x[..., n : n + 1]) for n in range(12)]
    assert [part.shape[2] for part in parts[: pad + 2]] == [0] * pad + [2 * pad + 1, 1]
    assert np.array_equal(np.concatenate([*parts, stream.flush()], 2), want)


def test_the_beginning_takes_few_programs_however_it_comes():
    layers = tuple(oc.Conv.of(1, 1, 3, dims=1, dilation=2**n, padding=2**n) for n in range(3))
    net = oc.compile(oc.Chain(layers), (1, 1, 64), [(whole_numbers(each.weight_shape), None) for each in layers])
    x = whole_numbers((1, 1, 64))
    for sizes in ([1], [3, 0, 2], [5], [2, 4]):
        stream, at, parts = net.stream(2, 4), 0, []
        for size in sizes * 64:
            parts.append(stream.push(x[..., at : at + size]))
            at += size
        assert stream.given == 64 - 7
        assert np.array_equal(np.concatenate([*parts, stream.flush()], 2), net(x))
    assert len(stream.plan._made) <= 5  # the first, the last, and from then on 1, 2, 4
    state = net.stream(2, 4)
    state.push(x[..., :6])
    other = net.stream(2, 1)
    other.restore(state.state())
    assert np.array_equal(np.concatenate([other.push(x[..., 6:]), other.flush()], 2), net(x))


@pytest.mark.parametrize(("op", "layers"), [("LSTM", 2), ("GRU", 1), ("RNN", 1)])
def test_recurrent_layers_carry_their_state(op, layers):
    net = oc.compile(build_recurrent(op, layers=layers, start=layers == 2))
    x = RNG.standard_normal((1, 1, 203)).astype(np.float32)
    assert np.array_equal(run(net.stream(2, 20), x, 17), net(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: build_recurrent(direction="bidirectional"), "bidirectional LSTM begins at the end.*forward"),
        (lambda: build_recurrent("GRU", direction="reverse"), "reversed GRU begins at the end"),
        (build_global, "mean over all positions.*n0"),
    ],
)
def test_what_is_global_is_refused_by_name(make, words):
    net = oc.compile(make())
    with pytest.raises(oc.UnsupportedError, match=words):
        net.stream(2, 10)
    channels = net.signature["x"][1]
    base = RNG.uniform(0.5, 1.0, (1, channels, 40)).astype(np.float32)
    moved = base.copy()
    moved[..., -1] += 1
    assert net(base)[0, 0, 0] != net(moved)[0, 0, 0]  # the last sample reaches the first result


def test_a_state_goes_on_elsewhere(lstm):
    x = RNG.standard_normal((1, 1, 120)).astype(np.float32)
    first = lstm.stream(2, 10)
    head = [first.push(x[..., :33]), first.push(x[..., 33:50])]
    state = first.state()
    other = lstm.stream(2, 24)
    other.restore(state)
    got = np.concatenate([*head, run(other, x[..., 50:], 7)], 2)
    assert np.array_equal(got, lstm(x))
    assert np.array_equal(np.concatenate([*head, run(first, x[..., 50:], 10)], 2), got)  # the state is a copy
    first.restore(other.state())
    with pytest.raises(oc.StreamError, match="flushed"):
        first.push(x)
    first.reset()
    assert np.array_equal(run(first, x, 10), got)


def test_a_state_is_checked(lstm, denoiser):
    stream = lstm.stream(2, 10)
    stream.push(np.zeros((1, 1, 33), np.float32))
    state = stream.state()
    kept = next(name for name in state if name.startswith("kept/"))
    broken = {
        "no state": (oc.DataError, []),
        "version": (oc.DataError, state | {"version": np.array([2])}),
        "another network": (oc.ShapeError, denoiser.stream(2, 10).state()),
        "arrays": (oc.DataError, state | {kept: state[kept].tolist()}),
        "missing or too many": (oc.ShapeError, {name: x for name, x in state.items() if name != kept}),
        "kept/": (oc.ShapeError, state | {kept: state[kept][..., :-1]}),
        "float64": (oc.ShapeError, state | {"queue": state["queue"].astype(np.float64)}),
        "counts": (oc.ShapeError, state | {"counts": np.array([1, 2, 3, 0])}),
        "fit": (oc.ShapeError, state | {"counts": np.array([32, 33, -1, 0])}),
    }
    before = stream.state()
    for words, (error, wrong) in broken.items():
        with pytest.raises(error, match=words):
            stream.restore(wrong)
    assert all(np.array_equal(before[name], array) for name, array in stream.state().items())


def test_many_streams_share_one_plan(denoiser):
    x = whole_numbers((8, 1, 1, 95))
    streams = [denoiser.stream(2, 10) for _ in range(8)]
    assert all(stream.plan is streams[0].plan for stream in streams)
    run(denoiser.stream(2, 10), x[0], 10)
    found, compiled = [None] * 8, len(streams[0].plan._made)

    def work(number):
        found[number] = run(streams[number], x[number], 10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(y, denoiser(each)) for y, each in zip(found, x, strict=True))
    assert len(streams[0].plan._made) == compiled


def test_a_not_a_number_reaches_what_reads_it(denoiser):
    x = whole_numbers((1, 1, 80))
    x[..., 40], x[..., 70] = np.nan, np.inf
    got, want = run(denoiser.stream(2, 8), x, 8), denoiser(x)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.isfinite(got[..., :30]).all()


def test_channels_last():
    spec = oc.cross_correlation(in_channels=2, out_channels=3, kernel_size=3, dims=1, padding=1, stride=2)
    net = oc.compile(spec, (1, 2, 60), (whole_numbers(spec.weight_shape), None), layout="NHWC", exact=True)
    x = whole_numbers((1, 60, 2))
    assert np.array_equal(run(net.stream(1, 8), x, 7, axis=1), net(x))


def test_float64_and_several_outputs():
    g = Graph()
    y = g.node("Conv", g.input("x", 1, 1, None), g.random(1, 1, 3), pads=[1, 1], name="y")
    net = oc.compile(g.model(y, g.node("Relu", y, name="z")), dtype="float64")
    x = RNG.standard_normal((1, 1, 40))
    assert np.array_equal(run(net.stream(2, 8, output="z"), x, 9), net.run({"x": x})["z"])
    with pytest.raises(oc.ShapeError, match="no output is named"):
        net.stream(2, 8)


def test_short_inputs():
    net = compile_layer(padding=0)
    stream = net.stream(2, 10)
    assert stream.flush().shape == (1, 3, 0)
    stream.reset()
    stream.push(whole_numbers((1, 2, 1)))
    with pytest.raises(oc.ShapeError):  # as the whole: no window fits
        stream.flush()
    assert stream.push(whole_numbers((1, 2, 2))).shape == (1, 3, 1)
    assert stream.flush().shape == (1, 3, 0)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((1, 3, 10), np.float32), oc.ShapeError, r"need \(1, 2, any\)"),
        (np.zeros((2, 10), np.float32), oc.ShapeError, r"need \(1, 2, any\)"),
        (np.zeros((1, 2, 10)), oc.DataError, "float64"),
        ([[1.0]], oc.DataError, "list"),
    ],
)
def test_a_push_that_does_not_fit_changes_nothing(x, error, words):
    net = compile_layer(padding=1)
    stream, good = net.stream(2, 10), whole_numbers((1, 2, 60))
    first = stream.push(good[..., :10])
    with pytest.raises(error, match=words):
        stream.push(x)
    assert np.array_equal(np.concatenate([first, run(stream, good[..., 10:], 10)], 2), net(good))


def test_arguments_that_do_not_fit(denoiser):
    for options, words in (
        ({"axis": 3, "chunk": 10}, "axis"),
        ({"axis": 2, "chunk": 0}, "chunk"),
        ({"axis": 2, "chunk": 1, "shape": (1, 1)}, "3 sizes"),
        ({"axis": 2, "chunk": 1, "shape": (1, 2, 1)}, "input of sizes"),
        ({"axis": 2, "chunk": 1, "output": "z"}, "output='z'"),
    ):
        with pytest.raises(oc.OmniconvError, match=words):
            denoiser.stream(**options)
    fixed = oc.compile(build_denoiser(), shapes={"x": (1, 1, 50)})
    with pytest.raises(oc.UnsupportedError, match="compiled for one size"):
        fixed.stream(2, 10)
    g = Graph()
    with pytest.warns(oc.HostWarning):
        host = oc.compile(g.model(g.node("NonZero", g.input("x", 1, 2, 8), name="y"), shapes=[None], y=7))
    with pytest.raises(oc.UnsupportedError, match="on the host"):
        host.stream(2, 10)


def test_what_depends_on_the_length_is_refused():
    g = Graph()
    x = g.input("x", 1, 1, "T")
    size = g.node("Cast", g.node("Shape", x, start=2, end=3), to=1)
    net = oc.compile(g.model(g.node("Div", x, size)))
    with pytest.raises(oc.UnsupportedError, match="for another number of them"):
        net.stream(2, 10)
