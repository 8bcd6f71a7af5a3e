"""Calls that go around the dispatcher of PyTorch: where they do, and that they are the same."""

from __future__ import annotations

import copy

import pytest

from omniconv.errors import DataError, ShapeError

torch = pytest.importorskip("torch")
nn = torch.nn

import omniconv.torch.nn as onn  # noqa: E402
from omniconv.torch import dispatch  # noqa: E402
from omniconv.torch.layouts import is_channels_last  # noqa: E402
from omniconv.torch.programs import PROGRAMS, find_parallel  # noqa: E402

OPERATORS = torch.ops.omniconv
LAYER = ((1, 1), (1, 1, 1, 1), (1, 1), False, (0, 0), 4, False, "zeros")


@pytest.fixture
def seen(monkeypatch):
    """Names of the operators that go through the dispatcher."""
    names, call = [], dispatch.call_operator
    monkeypatch.setattr(dispatch, "call_operator", lambda name, *given: (names.append(name), call(name, *given))[1])
    return names


def draw(*, last=False):
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 4, 6, 5), torch.randn(4, 1, 3, 3), torch.randn(4)
    return x.to(memory_format=torch.channels_last) if last else x, w, b


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_both_ways_give_the_same_bits(last, seen) -> None:
    found = []
    for conv in (lambda *given: dispatch.call("conv", *given), OPERATORS.conv):
        given = [t.requires_grad_() for t in draw(last=last)]
        y = conv(*given, *LAYER)
        first = torch.autograd.grad(y.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(t.square().sum() for t in first), given)
        found.append([y, *first, *second])
        assert is_channels_last(y) is is_channels_last(first[0]) is last
    assert seen == []
    for mine, other in zip(*found, strict=True):
        assert torch.equal(mine, other)
        assert mine.stride() == other.stride()


def test_in_inference_mode(seen) -> None:
    x, w, b = draw()
    want = OPERATORS.conv(x, w, b, *LAYER)
    with torch.inference_mode():
        assert torch.equal(dispatch.call("conv", x + 0, w, b, *LAYER), want)
    assert seen == []


class Sees(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), str(function)]
        return function(*args, **(kwargs or {}))


class SeesFunctions(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), str(function)]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Sees, SeesFunctions])
def test_modes_see_the_operator(mode, seen) -> None:
    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    with mode() as watching:
        layer(x)
    assert any("omniconv.conv" in name for name in watching.names)
    assert seen == ["conv"]


def test_a_profiler_sees_the_operators() -> None:
    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(x).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"omniconv::conv", "omniconv::conv_weight_gradient"} <= names


def test_tracers_see_the_operator() -> None:
    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    traced = torch.jit.trace(layer, (x,))
    other = torch.randn_like(x)
    assert "omniconv::conv" in str(traced.inlined_graph)
    assert torch.equal(traced(other), layer(other))
    graph = torch.fx.experimental.proxy_tensor.make_fx(layer)(x)
    assert any("omniconv.conv" in str(node.target) for node in graph.graph.nodes)


def test_dual_numbers_are_refused_and_not_dropped() -> None:
    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    with torch.autograd.forward_ad.dual_level(), pytest.raises((NotImplementedError, RuntimeError)):
        layer(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))


def test_tensors_of_other_classes_are_dispatched(seen) -> None:
    class Own(torch.Tensor):
        pass

    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    want = layer(x)
    assert seen == []
    got = layer(x.as_subclass(Own))
    assert seen == ["conv"]
    assert type(got) is Own
    assert torch.equal(got.as_subclass(torch.Tensor), want)


def test_tensors_that_stand_for_negatives_are_dispatched(seen) -> None:
    layer, x = onn.Depthwise2d(4, 3, bias=False), draw()[0]
    negative = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert negative.is_neg()
    torch.testing.assert_close(layer(negative), layer(x))
    assert seen == ["conv"]


def test_memory_that_is_not_aligned() -> None:
    layer, x = onn.Depthwise2d(4, 3), draw()[0]
    memory = bytearray(1) + bytearray(x.numpy().tobytes())
    odd = torch.frombuffer(memory, dtype=torch.float32, offset=1, count=x.numel()).view(x.shape)
    assert odd.data_ptr() % 4
    for _ in range(2):
        assert torch.equal(layer(odd), layer(x))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_parts_of_a_tensor_lie_as_it_does(last) -> None:
    """As in PyTorch: half of the channels, what is cropped, one channel, or every second row."""
    x = torch.randn(2, 8, 6, 5)
    x = x.to(memory_format=torch.channels_last) if last else x
    for part in (x[:, :4], x[:, 4:], x[..., 1:-1], x[:1, 2:5], x[:, 3:4], x[:, :, ::2]):
        mine, other = onn.Conv2d(part.shape[1], 5, 1), nn.Conv2d(part.shape[1], 5, 1)
        other.load_state_dict(mine.state_dict())
        y, want = mine(part), other(part)
        assert is_channels_last(part) is is_channels_last(y) is last
        assert y.stride() == want.stride()
        torch.testing.assert_close(y, want)
    assert not is_channels_last(torch.empty(2, 1, 1, 1).expand(2, 3, 4, 5))


def test_gradients_of_shapes_that_do_not_fit_are_refused() -> None:
    """Nothing is read or written behind the end of a tensor."""
    x, w, _ = draw()
    with pytest.raises(ShapeError, match=r"dy of shape \(2, 4, 6, 6\); need \(2, 4, 6, 5\)"):
        OPERATORS.conv_input_gradient(torch.ones(2, 4, 6, 6), w, [2, 4, 6, 5], *LAYER, False)
    with pytest.raises(ShapeError, match=r"dy of shape \(2, 3, 6, 5\); need \(2, 4, 6, 5\)"):
        OPERATORS.conv_weight_gradient(x, torch.ones(2, 3, 6, 5), [4, 1, 3, 3], *LAYER, False)
    with pytest.raises(DataError, match=r"dy of torch\.float64; need float32"):
        OPERATORS.conv_weight_gradient(x, torch.ones(2, 4, 6, 5, dtype=torch.float64), [4, 1, 3, 3], *LAYER, False)


def test_what_is_forgotten_is_made_again() -> None:
    """More shapes than are kept: the calls that are remembered find their programs, or have them compiled anew."""
    layer = onn.Depthwise2d(4, 3)
    inputs = [torch.randn(1, 4, size, 5) for size in range(5, 15)]
    with torch.no_grad():
        want = [layer(x) for x in inputs]
        compiled = PROGRAMS.compiled
        assert torch.equal(layer(inputs[0]), want[0])
        assert PROGRAMS.compiled == compiled + 1, "it was the one not used for longest"
        for _ in range(9):
            layer(inputs[0])
        assert PROGRAMS.compiled == compiled + 1
        PROGRAMS.clear()
        assert all(torch.equal(layer(x), y) for x, y in zip(inputs, want, strict=True))


def test_training_in_place_and_shared(seen) -> None:
    """Steps of an optimiser, activations in place and weights used twice, as PyTorch does them."""
    torch.manual_seed(1)
    conv = onn.Conv2d(4, 4, 3, padding=1)
    mine = nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(4), conv)
    other = copy.deepcopy(mine)
    for layer in (other[0], other[3]):
        layer.__class__ = nn.Conv2d
    losses = []
    for model in (mine, other):
        optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        x, found = torch.randn(3, 4, 7, 7, generator=torch.Generator().manual_seed(2)), []
        for _ in range(5):
            optimiser.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimiser.step()
            found.append(loss.detach())
        losses.append(torch.stack(found))
    torch.testing.assert_close(*losses)
    assert seen == []


@pytest.mark.skipif(not find_parallel(), reason="this PyTorch lends no threads")
def test_programs_run_on_the_threads_of_torch() -> None:
    from omniconv.runtime import threads

    before, idle = torch.get_num_threads(), [*threads._idle.get(5, ())]
    layer, x = onn.Depthwise2d(64, 3), torch.randn(2, 64, 56, 56)
    try:
        torch.set_num_threads(1)
        want = layer(x)
        torch.set_num_threads(5)
        assert torch.equal(layer(x), want)
    finally:
        torch.set_num_threads(before)
    assert threads._lent[find_parallel(), 5]
    assert [*threads._idle.get(5, ())] == idle
