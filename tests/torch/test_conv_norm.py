"""A convolution and the batch norm behind it as one call: its values, gradients and statistics, and when it is none."""

from __future__ import annotations

import copy

import pytest

from omniconv.errors import DataError, ShapeError

torch = pytest.importorskip("torch")
nn = torch.nn
from torch.utils.checkpoint import checkpoint  # noqa: E402

from omniconv.torch import convert  # noqa: E402
from omniconv.torch.layouts import is_channels_last  # noqa: E402

LAYERS = {
    "pointwise": lambda: nn.Conv2d(5, 19, 1, bias=False),
    "bias, stride": lambda: nn.Conv2d(5, 8, 3, stride=2, padding=1),
    "depthwise": lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False),
    "circular": lambda: nn.Conv2d(5, 6, 3, padding=1, padding_mode="circular"),
    "series": lambda: nn.Conv1d(5, 8, 3, dilation=2),
}
WIDE = {"depthwise", "circular", "series"}


def pair(layer, activation=nn.ReLU6, **options):
    """A model of ours and PyTorch's, in float64."""
    torch.manual_seed(0)
    conv = layer()
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[len(conv.kernel_size)](conv.out_channels, **options)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    other = nn.Sequential(conv, norm, *([] if activation is None else [activation()])).double()
    mine = copy.deepcopy(other)
    convert(mine)
    return mine, other


def draw(model, *, last: bool = False):
    x = torch.randn(3, 5, *(9, 7)[: len(model[0].kernel_size)], dtype=torch.float64) + 1
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def is_one(y) -> bool:
    return type(y.grad_fn).__name__.startswith("ConvNorms")


def gradients(model, x, *, inner: bool = True):
    """Values, gradients of all that has some, and statistics."""
    x = x.detach().requires_grad_(inner)
    y = model(x)
    dy = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    wanted = [each for each in (x, *model.parameters()) if each.requires_grad]
    return y, [y.detach(), *torch.autograd.grad(y, wanted, dy), *model.buffers()]


def assert_close(got, want) -> None:
    for mine, other in zip(got, want, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.wide) if each in WIDE else each for each in LAYERS]
)
def test_values_gradients_and_statistics_are_torchs(name, last) -> None:
    mine, other = pair(LAYERS[name])
    for step in range(2):
        x = draw(mine, last=last)
        y, got = gradients(mine, x, inner=step == 0)
        assert is_one(y)
        assert is_channels_last(y) is last
        assert_close(got, gradients(other, x, inner=step == 0)[1])
    again = mine(x.requires_grad_())
    with torch.autograd.profiler.profile():  # which is to see the operators of both layers
        seen = torch.autograd.grad(again, [x, *mine.parameters()], y.detach())
    plain = other(x)
    assert_close(seen, torch.autograd.grad(plain, [x, *other.parameters()], y.detach()))


@pytest.mark.wide
def test_gradients_have_gradients() -> None:
    mine, other = pair(LAYERS["bias, stride"], nn.SiLU)
    found = []
    for model in (mine, other):
        x = draw(model) if not found else found[0][0].detach()
        x.requires_grad_()
        (dx,) = torch.autograd.grad((model(x) ** 2).sum(), x, create_graph=True)
        found.append([x, *torch.autograd.grad((dx**2).sum(), [x, *model.parameters()])])
    # The bias has no gradient but rounding.
    keep = [place for place in range(len(found[0])) if place != 3]
    assert_close([found[0][place] for place in keep], [found[1][place] for place in keep])


def chain(last: bool = False):
    """Three layers of ours that are one call, PyTorch's, and an input."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(5, 12, 1, bias=False), nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.Conv2d(12, 4, 1))
    behind = ([nn.ReLU6()], [nn.SiLU()], [])
    rows = [[conv, nn.BatchNorm2d(conv.out_channels), *more] for conv, more in zip(layers, behind, strict=True)]
    other = nn.Sequential(*(module for row in rows for module in row)).double()
    mine = copy.deepcopy(other)
    convert(mine)
    return mine, other, draw(mine, last=last)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_layers_one_after_another_are_one_call(last) -> None:
    mine, other, x = chain(last)
    for step in range(2):
        y, got = gradients(mine, x, inner=step == 0)
        assert is_one(y)
        assert "ConvNorms" not in str(y.grad_fn.next_functions)
        assert is_channels_last(y) is last
        assert_close(got, gradients(other, x, inner=step == 0)[1])


def test_layers_one_after_another_have_gradients_of_gradients() -> None:
    """Also where somebody is to see the operators on the way back."""
    mine, other, x = chain()
    found = []
    for model in (mine, other):
        wanted = [x.clone().requires_grad_(), *(each for name, each in model.named_parameters() if "bias" not in name)]
        y = model(wanted[0])
        dy = torch.ones_like(y)
        with torch.autograd.profiler.profile():
            once = torch.autograd.grad(y, wanted, dy, retain_graph=True)
        again = torch.autograd.grad((y**2).sum(), wanted, create_graph=True)
        found.append([*once, *torch.autograd.grad(sum(each.sin().sum() for each in again), wanted)])
    assert_close(*found)


def test_layers_one_after_another_run_apart_where_they_have_to() -> None:
    """A frozen first layer, a second one in inference, and one whose weights are of another type."""

    def freeze(model) -> None:
        model[:2].requires_grad_(False)

    def infer(model) -> None:
        model[4].eval()

    for way in (freeze, infer):
        mine, other, x = chain()
        way(mine), way(other)
        y, got = gradients(mine, x)
        assert is_one(y)
        assert_close(got, gradients(other, x)[1])
    with torch.no_grad():
        assert_close([mine(x), *mine.buffers()], [other(x), *other.buffers()])
    mine, _, x = chain()
    mine[3].float()
    with pytest.raises(DataError, match="one type"):
        mine(x)
    assert [int(mine[place].num_batches_tracked) for place in (1, 4, 7)] == [1, 0, 0]


def test_gradients_of_shared_layers_have_gradients() -> None:
    """The input of the second call is made from the very weights of it."""
    mine, other = pair(lambda: nn.Conv2d(5, 5, 1, bias=False), nn.SiLU)
    found, first = [], draw(mine)
    for model in (mine, other):
        twice = type(model)(*model, *model)
        wanted = [first.clone().requires_grad_(), *model.parameters()]
        got = torch.autograd.grad((twice(wanted[0]) ** 2).sum(), wanted, create_graph=True)
        found.append([*(each.detach() for each in got)])
        found[-1] += torch.autograd.grad(sum(each.sin().sum() for each in got), wanted)
        found[-1] += model.buffers()
    assert_close(*found)


@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.wide)], ids=["one", "apart"])
def test_gradients_of_many_directions_within_a_transform(training) -> None:
    mine, other = pair(LAYERS["pointwise"])
    x, found = draw(mine).requires_grad_(), []
    for model in (mine, other):
        y = model.train(training)(x)
        dy = torch.randn(3, *y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
        wanted = [x, *model.parameters()]
        pull = lambda one, y=y, wanted=wanted: torch.autograd.grad(y, wanted, one, retain_graph=True)
        found.append(torch.func.vmap(pull)(dy))
    assert_close(*found)


@pytest.mark.parametrize("first", [0, pytest.param(1, marks=pytest.mark.wide)], ids=["one", "norm alone"])
def test_statistics_take_part_in_both_passes_of_a_checkpoint(first) -> None:
    """Also those of the last layer, which ends the second pass by what it saves."""
    mine, other = pair(LAYERS["pointwise"])
    for reentrant in (False, True):
        x = draw(mine).repeat(1, 4, 1, 1)[:, : 19 if first else 5].requires_grad_()
        for model in (mine, other):
            checkpoint(model[first:], x, use_reentrant=reentrant).sum().backward()
        assert_close(mine.buffers(), other.buffers())


def test_a_trace_does_not_depend_on_whether_gradients_are_wanted() -> None:
    mine, other = pair(LAYERS["pointwise"])
    mine.eval(), other.eval()
    x = draw(mine)
    traced = torch.jit.trace(mine, x)  # which compares its graph with one without gradients
    torch.testing.assert_close(traced(x), other(x))


def test_momentum_and_missing_statistics() -> None:
    for options in ({"momentum": None}, {"track_running_stats": False}):
        mine, other = pair(LAYERS["pointwise"], None, **options)
        for _ in range(2):
            x = draw(mine)
            y, got = gradients(mine, x)
            assert is_one(y)
            assert_close(got, gradients(other, x)[1])


def test_statistics_take_their_part_where_they_lie() -> None:
    """Also in memory with gaps, which no program writes to."""
    mine, other = pair(LAYERS["pointwise"], None, momentum=0.25)
    for model in (mine, other):
        model[1].running_mean = torch.ones(2 * model[1].num_features, dtype=torch.float64)[::2]
    places = [each.data_ptr() for each in mine.buffers()]
    for momentum in (0.25, 1.0):
        mine[1].momentum = other[1].momentum = momentum
        x = draw(mine)
        assert is_one(mine(x))
        other(x)
        assert_close(mine.buffers(), other.buffers())
    assert places == [each.data_ptr() for each in mine.buffers()]
    mine[1].running_var = mine[1].running_var[:-1]
    with pytest.raises(RuntimeError, match="should contain 19"):
        mine(x)


def test_layers_run_one_by_one_where_they_have_to() -> None:
    """Each with the result of PyTorch: inference, a frozen weight, a hook, other types."""

    def freeze(model) -> None:
        model[0].weight.requires_grad_(False)

    def hook(model) -> None:
        model[0].register_forward_hook(lambda _, __, z: 2 * z)

    def cast(model) -> None:
        model.to(torch.bfloat16)

    for way in (lambda model: model.eval(), freeze, hook, cast):
        mine, other = pair(LAYERS["pointwise"])
        way(mine), way(other)
        x = draw(mine).to(mine[0].weight.dtype)
        y, got = gradients(mine, x)
        assert not is_one(y)
        for one, two in zip(got, gradients(other, x)[1], strict=True):
            torch.testing.assert_close(one, two)
    mine, _ = pair(LAYERS["pointwise"])
    with torch.no_grad():
        before = mine[1].running_mean.clone()
        assert mine(draw(mine)).grad_fn is None
    assert not torch.equal(before, mine[1].running_mean)


def test_inputs_that_do_not_fit_are_refused_as_by_the_layers() -> None:
    mine, _ = pair(LAYERS["pointwise"])
    with pytest.raises(ShapeError):
        mine(torch.zeros(2, 4, 3, 3, dtype=torch.float64))
    with pytest.raises(ShapeError, match="more than 1 value"):
        mine(torch.zeros(1, 5, 1, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="4D"):
        mine(torch.zeros(5, 3, 3, dtype=torch.float64))
    assert int(mine[1].num_batches_tracked) <= 1
    padded, _ = pair(lambda: nn.Conv2d(5, 6, 3, padding=3, padding_mode="reflect"))
    with pytest.raises(ShapeError, match="reflect"):
        padded(torch.zeros(2, 5, 3, 3, dtype=torch.float64))
    assert int(padded[1].num_batches_tracked) == 0  # the convolution refuses, before the norm is asked


def test_threads_do_not_change_a_bit() -> None:
    mine, _ = pair(LAYERS["pointwise"])
    mine = mine.float()
    many, found = torch.get_num_threads(), []
    x = torch.randn(4, 5, 40, 40)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append([each.clone() for each in gradients(mine, x)[1][: 1 + 4]])
    finally:
        torch.set_num_threads(many)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
