"""Batch norms in PyTorch with the activation behind them: values, gradients, statistics, and where they are fused."""

from __future__ import annotations

import pytest

from omniconv.errors import DataError, ShapeError, UnsupportedError

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

import omniconv.torch.nn as onn  # noqa: E402
from omniconv.program.steps.normalise import DIFFERENTIABLE  # noqa: E402
from omniconv.spec import Activation  # noqa: E402
from omniconv.torch import convert, reports  # noqa: E402
from omniconv.torch.activations import apply, pull_back  # noqa: E402
from omniconv.torch.backend import backend  # noqa: E402
from omniconv.torch.layouts import is_channels_last  # noqa: E402
from omniconv.torch.nn import drop_in  # noqa: E402
from omniconv.torch.normalise import batch_norm  # noqa: E402

OPERATORS = torch.ops.omniconv


def sweep(some, all_of_them):
    """Some at every run, all of them where tests are wide."""
    return [each if each in some else pytest.param(each, marks=pytest.mark.wide) for each in all_of_them]


LAYOUTS = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
SHAPES = sweep(
    [(70, 19), (2, 17, 4, 4)],
    [(5, 3), (70, 19), (3, 5, 7), (2, 17, 4, 4), (3, 40, 9, 11), (2, 5, 3, 4, 5), (4, 1, 3, 3), (2, 9, 1, 1)],
)


def act(name: str) -> Activation:
    """Clipped where values are."""
    return Activation.of(name, lo=-0.7, hi=0.8) if name == "clip" else Activation.of(name)


def draw(shape, dtype, *, last=False):
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=dtype) * 2 + 3
    x = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x
    c = shape[1]
    numbers = [torch.randn(c, dtype=dtype) for _ in range(3)]
    return x, numbers[0], torch.rand(c, dtype=dtype) + 0.5, numbers[1], numbers[2]


def results(function, x, mean, variance, w, b, *rest, **named):
    """Values, gradients and statistics."""
    given = [each.detach().clone().requires_grad_() for each in (x, w, b)]
    mean, variance = mean.clone(), variance.clone()
    y = function(given[0], mean, variance, given[1], given[2], *rest, **named)
    dy = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, given, dy), mean, variance]


def by_torch(x, mean, variance, w, b, *rest, activation=None):
    return apply(activation, F.batch_norm(x, mean, variance, w, b, *rest))


@TRAINING
@LAYOUTS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_statistics_agree_with_torch(shape, last, training) -> None:
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        tensors = draw(shape, dtype, last=last)
        options = (training, 0.3, 1e-3)
        got = results(batch_norm, *tensors, *options, activation=act("relu6"))
        want = results(by_torch, *(t.double() for t in tensors), *options, activation=act("relu6"))
        for mine, other in zip(got, want, strict=True):
            assert mine.dtype == dtype
            torch.testing.assert_close(mine.double(), other, rtol=0, atol=bound * (1 + other.abs().max().item()))
        assert is_channels_last(got[0]) is is_channels_last(got[1]) is is_channels_last(tensors[0])


@TRAINING
@pytest.mark.parametrize("name", sweep(["silu"], DIFFERENTIABLE))
def test_gradients_of_every_activation(name, training) -> None:
    x, mean, variance, w, b = draw((3, 2, 5), torch.float64)
    given = [each.requires_grad_() for each in (x - 3, w, b)]
    call = lambda x, w, b: batch_norm(
        x, mean.clone(), variance.clone(), w, b, training, 0.1, 1e-3, activation=act(name)
    )
    torch.testing.assert_close(
        call(*given), by_torch(given[0], mean, variance, *given[1:], training, 0.1, 1e-3, activation=act(name))
    )
    given[0] = given[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


@LAYOUTS
def test_moments_are_within_their_bound(last) -> None:
    """A mean a thousand times the deviation: the error of a sum is that of its longest chain, of what is small."""
    x = (torch.randn(8, 5, 40, 40) + 1000.0).to(memory_format=torch.channels_last if last else torch.contiguous_format)
    _, moments = OPERATORS.normalise(x, None, None, None, None, 1e-5, "", [])
    exact, n = x.double(), x.numel() // x.shape[1]
    axes = (0, 2, 3)
    unit, chain = torch.finfo(torch.float32).eps / 2, 2 * n**0.5 + 24
    mean, variance = exact.mean(axes), exact.var(axes, correction=0)
    shift = 4 * unit * mean.abs()  # of the means of blocks, and of these added up
    assert ((moments[0] - mean).abs() <= shift + chain * unit * variance.sqrt()).all()
    assert ((moments[1] - variance).abs() <= (chain + 3) * unit * variance + 4 * shift**2 + 4 * unit * shift).all()
    torch.testing.assert_close(moments[2], moments[1] * n / (n - 1))


@LAYOUTS
def test_a_constant_becomes_nothing(last) -> None:
    """Also where its sum has roundings."""
    x = torch.full((3, 2, 128, 128), 1000.1).to(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert not batch_norm(x, None, None, training=True).any()


def test_statistics_that_are_infinite_stay_so() -> None:
    found = []
    for layer in (onn.BatchNorm1d(1), nn.BatchNorm1d(1)):
        layer(torch.tensor([[1.0], [float("inf")]]))
        layer(torch.tensor([[1.0], [2.0]]))
        found.append(layer.running_mean.item())
    assert found == [float("inf")] * 2


def test_part_of_a_tensor_lies_as_that_does() -> None:
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)[:, :3]
    assert is_channels_last(batch_norm(x, None, None, training=True))
    assert not is_channels_last(batch_norm(x.contiguous()[:, :2], None, None, training=True))


def test_training_between_inference_and_its_gradient() -> None:
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    layer = onn.BatchNorm1d(3).double().eval()
    want = torch.autograd.grad(layer(x.requires_grad_()).pow(2).sum(), x)[0]
    y = layer(x)
    layer.train()(x.detach())
    torch.testing.assert_close(torch.autograd.grad(y.pow(2).sum(), x)[0], want)


@pytest.mark.parametrize("name", sweep(["hard_sigmoid", "hard_swish", "gelu_tanh"], DIFFERENTIABLE))
def test_slopes_where_activations_bend(name) -> None:
    points = [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, float("inf"), float("-inf")]
    if name in ("hard_sigmoid", "relu", "leaky_relu", "silu"):  # what others do with NaN differs with the vector
        points.append(float("nan"))
    z = torch.tensor([points], dtype=torch.float64)
    chosen, flat = act(name), torch.zeros(z.shape[1], dtype=torch.float64)
    found = []
    for function in (batch_norm, by_torch):
        given = z.clone().requires_grad_()
        y = function(given, flat, flat + 1, None, None, False, 0.1, 0.0, activation=chosen)
        found += torch.autograd.grad(y, given, torch.ones_like(y))
    found.append(pull_back(chosen, z, torch.ones_like(z)))
    torch.testing.assert_close(found[0], found[1], equal_nan=True, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(found[2], found[1], equal_nan=True, atol=1e-7, rtol=1e-6)


def test_convert_takes_gaps_and_names_what_has_no_weights_yet() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.LazyBatchNorm1d())
    model.register_module("gap", None)
    report = convert(model)
    assert report.fused == {"0": "1"}
    assert report.left == {"2": "LazyBatchNorm1d has no weights yet"}


@LAYOUTS
@pytest.mark.parametrize("bad", sweep([float("inf")], [float("inf"), float("-inf"), float("nan")]))
def test_special_values_are_torchs(bad, last) -> None:
    tensors = draw((2, 6, 3, 3), torch.float32, last=last)
    tensors[0][0, 1, 1, 1] = bad
    for name in ("relu", "leaky_relu", "silu"):  # what clamps give back for NaN differs in PyTorch with the vector
        for training in (True, False):
            got = results(batch_norm, *tensors, training, activation=act(name))
            want = results(by_torch, *tensors, training, activation=act(name))
            for mine, other in zip(got, want, strict=True):
                torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("last", [False, pytest.param(True, marks=pytest.mark.wide)])
def test_opcheck(last) -> None:
    x, mean, variance, w, b = draw((3, 5, 4, 4), torch.float32, last=last)
    given = [each.requires_grad_() for each in (x, w, b)]
    rest = (1e-5, "relu6", [])
    calls = [
        (OPERATORS.normalise.default, (*given, None, None, *rest)),
        (OPERATORS.normalise.default, (*given, mean, variance, *rest)),
    ]
    plain = [each.detach() for each in given]
    dy = torch.randn_like(plain[0])
    calls += [
        (OPERATORS.normalise_gradient.default, (dy, *plain, mean, variance, *rest, some)) for some in (True, False)
    ]
    few = {} if last else {"test_utils": ("test_schema", "test_autograd_registration", "test_faketensor")}
    for operator, arguments in calls:
        torch.library.opcheck(operator, arguments, rtol=0.01, atol=0.01, **few)


@TRAINING
def test_plain_operators_compute_the_same(training) -> None:
    """What other types take, judged where both can be: in float64."""
    x, mean, variance, w, b = draw((3, 5, 4), torch.float64)
    from omniconv.torch import normalise

    moments = (None, None) if training else (mean, variance)
    rest = (1e-3, act("silu"))
    y, found = OPERATORS.normalise(x, w, b, *moments, 1e-3, "silu", [])
    mine, other = normalise._plain(x, w, b, *moments, *rest, last=False)
    torch.testing.assert_close(mine, y)
    torch.testing.assert_close(other, found)
    mean, variance = (found[0], found[1]) if training else (mean, variance)
    dx, sums = OPERATORS.normalise_gradient(y, x, w, b, mean, variance, 1e-3, "silu", [], not training)
    mine, other = normalise.plain_gradient(y, x, w, b, mean, variance, *rest, given=not training)
    torch.testing.assert_close(mine, dx)
    torch.testing.assert_close(other, sums)


def test_modules_are_torchs() -> None:
    """Running statistics, counts, momentum, missing factors and the way to inference."""
    for options in ({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"momentum": 0.5}):
        mine, other = onn.BatchNorm2d(6, **options).double(), nn.BatchNorm2d(6, **options).double()
        assert list(mine.state_dict()) == list(other.state_dict())
        for step in range(4):
            x = torch.randn(3, 6, 4, 5, dtype=torch.float64) + step
            mine.train(step < 3), other.train(step < 3)
            torch.testing.assert_close(mine(x), other(x))
            for one, two in zip(mine.state_dict().values(), other.state_dict().values(), strict=True):
                torch.testing.assert_close(one, two)
    half = torch.randn(2, 6, 3, 3, dtype=torch.bfloat16)
    assert torch.equal(onn.BatchNorm2d(6)(half), nn.BatchNorm2d(6)(half))


def stack() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8)),
        nn.SiLU(),
        nn.BatchNorm2d(8),
        nn.Softmax2d(),
    )


def test_a_sequential_fuses_what_nobody_sees(monkeypatch) -> None:
    mine, other = stack().double(), stack().double()
    report = convert(mine)
    assert report.fused == {"0": "1", "1": "2", "3.0": "3.1"}
    assert "with 2" in str(report)
    asked = []
    alone, together = onn.BatchNorm2d.normalise, drop_in.run_links

    def normalise(self, x, activation):
        asked.append(activation)
        return alone(self, x, activation)

    def run_links(x, links):
        found = together(x, links)
        asked.extend(link.activation for link in links if found is not None)
        return found

    monkeypatch.setattr(onn.BatchNorm2d, "normalise", normalise)
    monkeypatch.setattr(drop_in, "run_links", run_links)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(mine(x), other(x))
    assert asked == [Activation("relu6"), None, None]
    seen = []
    handle = mine[1].register_forward_hook(lambda _, __, y: seen.append(y.min().item()))
    torch.testing.assert_close(mine(x), other(x))
    assert seen[0] < 0, "what the hook sees is not clipped yet"
    assert asked[3:] == [None] * 3
    handle.remove()
    torch.testing.assert_close(mine[:2](x), other[:2](x))
    mine[2].forward = lambda x: -x
    torch.testing.assert_close(mine[:3](x), -other[:2](x))
    assert asked[-1] is None


def test_steps_are_torchs_and_compile_nothing_anew() -> None:
    from omniconv.torch.programs import PROGRAMS

    mine, other = stack().double(), stack().double()
    convert(mine)
    optimisers = [torch.optim.SGD(model.parameters(), 0.05) for model in (mine, other)]
    counts = []
    for number in range(3):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        losses = []
        for model, optimiser in zip((mine, other), optimisers, strict=True):
            optimiser.zero_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        counts.append(PROGRAMS.compiled)
    assert counts[0] == counts[-1]


def test_a_network_of_many_norms_keeps_all_of_them(recwarn) -> None:
    from omniconv.torch.programs import PROGRAMS

    counts = []
    for _ in range(2):
        for channels in range(1, 13):
            onn.BatchNorm1d(channels)(torch.randn(2, channels, 4))
        counts.append(PROGRAMS.compiled)
    assert counts[0] == counts[1]
    assert not [each for each in recwarn if "compiled for" in str(each.message)]


def test_threads_do_not_change_results() -> None:
    many = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            drawn = [draw((4, 19, 24, 24), torch.float32, last=last) for last in (False, True)]
            found += [results(batch_norm, *tensors, True) for tensors in drawn]
    finally:
        torch.set_num_threads(many)
    for one, two in zip(found[:2], found[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_compile_and_transforms() -> None:
    mine, other = stack().double(), stack().double()
    convert(mine)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch._dynamo.reset()
    whole = torch.compile(mine, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(whole(x), other(x))
    mine.eval(), other.eval()
    torch.testing.assert_close(torch.vmap(mine)(x[None]), other(x)[None])


def test_the_backend_takes_norms_and_the_activation_that_alone_reads_them() -> None:
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.stack = nn.BatchNorm2d(8), stack()

        def forward(self, x):
            y = self.norm(self.stack(x))
            return y + F.relu(y)

    mine, other = Twice().double(), Twice().double()
    torch._dynamo.reset()
    fast = torch.compile(mine, backend=backend)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(fast(x), other(x))
        for a, b in zip(mine.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b)
    report = reports()[-1]
    assert len(report.operators) == 6
    assert sum("hardtanh" in name for name in report.operators) == 1
    assert report.torch["relu"] == 1


def test_refusals() -> None:
    x, mean, variance, w, b = draw((2, 3, 4), torch.float32)
    with pytest.raises(ShapeError, match="more than 1 value per channel"):
        onn.BatchNorm1d(3)(x[:1, :, :1])
    with pytest.raises(ShapeError, match="a number for each of 3 channels"):
        OPERATORS.normalise(x, w[:2], b[:2], None, None, 1e-5, "", [])
    with pytest.raises(ShapeError, match="both or neither"):
        OPERATORS.normalise(x, w, None, None, None, 1e-5, "", [])
    with pytest.raises(DataError, match=r"torch\.strided"):
        OPERATORS.normalise(x.to_sparse(), w, b, None, None, 1e-5, "", [])
    y, _ = OPERATORS.normalise(x, w, b, mean.requires_grad_(), variance, 1e-5, "", [])
    with pytest.raises(UnsupportedError, match="gradients of given moments"):
        y.sum().backward()
    given = (x.requires_grad_(), x, w, b, mean.detach(), variance, 1e-5, "", [], True)
    with pytest.raises(UnsupportedError, match="normalise_gradient itself"):
        OPERATORS.normalise_gradient(*given)[0].sum().backward()
