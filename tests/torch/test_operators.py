"""The operators: against the float64 oracle's rules through PyTorch, and in all of PyTorch's machinery."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from omniconv.errors import DataError, LimitError, RecompileWarning, ShapeError, SpecError

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

import omniconv.torch.nn as onn  # noqa: E402
from omniconv.torch import plain  # noqa: E402
from omniconv.torch.layouts import is_channels_last  # noqa: E402
from omniconv.torch.operators import convolve  # noqa: E402
from omniconv.torch.programs import MOST_LAYERS, PROGRAMS, Programs  # noqa: E402

OPERATORS = torch.ops.omniconv


def numbers(*, stride, padding, dilation=None, transposed=False, extra=None, groups=1, flip=False, mode="zeros"):
    """The numbers of a layer as the operators take them."""
    nothing = [0] * len(stride)
    one = [1] * len(stride)
    return [list(stride), list(padding), dilation or one, transposed, extra or nothing, groups, flip, mode]


# name -> shape of x, shape of w, bias, numbers
CASES = {
    "1d": ((2, 3, 9), (4, 3, 3), True, numbers(stride=[1], padding=[1, 1])),
    "1d causal": ((2, 4, 9), (4, 1, 3), True, numbers(stride=[1], padding=[4, 0], dilation=[2], groups=4)),
    "2d": ((2, 4, 5, 6), (6, 4, 3, 3), True, numbers(stride=[2, 1], padding=[1, 0, 2, 1])),
    "2d grouped": ((1, 4, 5, 6), (6, 2, 3, 2), False, numbers(stride=[1, 2], padding=[0, 1, 1, 0], groups=2)),
    "2d depthwise": ((2, 5, 6, 5), (5, 1, 3, 3), True, numbers(stride=[1, 1], padding=[1, 1, 1, 1], groups=5)),
    "2d multiplier": ((1, 3, 6, 5), (6, 1, 3, 3), True, numbers(stride=[2, 2], padding=[1, 1, 1, 1], groups=3)),
    "2d flipped": ((1, 2, 5, 5), (3, 2, 2, 3), True, numbers(stride=[1, 1], padding=[1, 1, 1, 1], flip=True)),
    "2d reflect": ((1, 2, 5, 4), (3, 2, 3, 3), True, numbers(stride=[1, 1], padding=[2, 1, 1, 2], mode="reflect")),
    "2d circular": ((1, 2, 5, 4), (3, 2, 3, 3), True, numbers(stride=[2, 1], padding=[1, 1, 2, 1], mode="circular")),
    "2d replicate": ((1, 2, 5, 4), (3, 2, 3, 3), False, numbers(stride=[1, 2], padding=[3, 1, 1, 1], mode="replicate")),
    "2d transposed": (
        (2, 4, 3, 4), (4, 3, 4, 3), True, numbers(stride=[2, 3], padding=[1, 1, 0, 2], transposed=True),
    ),
    "2d transposed depthwise": (
        (1, 4, 3, 4), (4, 1, 3, 3), True,
        numbers(stride=[2, 2], padding=[1, 1, 1, 1], transposed=True, extra=[1, 0], groups=4),
    ),
    "2d transposed dilated": (
        (1, 4, 3, 4), (4, 2, 2, 2), False,
        numbers(stride=[1, 2], padding=[1, 0, 1, 1], dilation=[4, 1], transposed=True, extra=[3, 1], groups=2),
    ),
    "3d": ((1, 2, 3, 4, 4), (3, 2, 2, 3, 3), True, numbers(stride=[1, 2, 1], padding=[1, 0, 1, 1, 1, 1])),
    "3d transposed": (
        (1, 2, 2, 3, 2), (2, 2, 2, 3, 2), True, numbers(stride=[2, 1, 2], padding=[0, 0, 1, 1, 0, 1], transposed=True),
    ),
}  # fmt: skip


def draw(case, dtype, *, last=False, grad=True):
    """Tensors of a case, drawn in float64."""
    shape, w_shape, bias, layer = CASES[case]
    generator = torch.Generator().manual_seed(len(case))
    make = lambda size: torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
    out = w_shape[1] * layer[5] if layer[3] else w_shape[0]
    x, w, b = make(shape), make(w_shape), make((out,)) if bias else None
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    tensors = [x, w, b]
    for tensor in tensors:
        if tensor is not None and grad:
            tensor.requires_grad_()
    return tensors, layer


def by_torch(x, w, b, layer):
    """The layer from PyTorch's public functions, which know nothing of asymmetric padding."""
    stride, padding, dilation, transposed, extra, groups, flip, mode = layer
    axes = len(stride)
    pairs = list(zip(padding[::2], padding[1::2]))
    if flip:
        w = w.flip(list(range(2, axes + 2)))
    if not transposed:
        sides = [side for pair in reversed(pairs) for side in pair]
        x = F.pad(x, sides, mode="constant" if mode == "zeros" else mode)
        return [F.conv1d, F.conv2d, F.conv3d][axes - 1](x, w, b, stride, 0, dilation, groups)
    function = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][axes - 1]
    y = function(x, w, None, stride, 0, 0, groups, dilation)
    ends = [(-before, more - after) for (before, after), more in zip(pairs, extra)]
    y = F.pad(y, [side for pair in reversed(ends) for side in pair])
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def results(function, tensors, layer):
    """The result and all gradients for one that is drawn."""
    y = function(*tensors, layer)
    generator = torch.Generator().manual_seed(7)
    dy = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
    given = [tensor for tensor in tensors if tensor is not None]
    return [y, *torch.autograd.grad(y, given, dy)]


def operator(x, w, b, layer):
    return OPERATORS.conv(x, w, b, *layer)


@pytest.mark.sampled
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_agree_with_torch(case, last) -> None:
    tensors, layer = draw(case, torch.float64, last=last)
    got, want = results(operator, tensors, layer), results(by_torch, tensors, layer)
    for mine, other in zip(got, want, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert is_channels_last(got[0]) is is_channels_last(got[1]) is is_channels_last(tensors[0]) is last


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_gradients(case) -> None:
    tensors, layer = draw(case, torch.float64)
    given = [tensor for tensor in tensors if tensor is not None]
    call = lambda *some: OPERATORS.conv(*some, *[None] * (3 - len(some)), *layer)
    assert torch.autograd.gradcheck(call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("case", ["1d causal", "2d", "2d flipped", "2d reflect", "2d transposed dilated", "3d"])
def test_every_type_gives_the_same(case, dtype) -> None:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    tensors, layer = draw(case, dtype)
    exact = [tensor if tensor is None else tensor.detach().to(wide).requires_grad_() for tensor in tensors]
    eps = 16 * torch.finfo(dtype).eps
    for mine, other in zip(results(operator, tensors, layer), results(by_torch, exact, layer), strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.to(wide), other, rtol=eps, atol=eps * other.abs().max().item())


@pytest.mark.parametrize("case", CASES)
def test_plain_operators_compute_the_same(case) -> None:
    """What runs on other devices, judged where it can be: in host memory."""
    tensors, layer = draw(case, torch.float64, grad=False)
    x, w, b = tensors
    geometry = plain.Geometry(*layer)
    y = OPERATORS.conv(x, w, b, *layer)
    torch.testing.assert_close(plain.conv(x, w, b, geometry), y)
    dx = OPERATORS.conv_input_gradient(y, w, list(x.shape), *layer, False)
    torch.testing.assert_close(plain.input_gradient(y, w, list(x.shape), geometry), dx)
    dw, _ = OPERATORS.conv_weight_gradient(x, y, list(w.shape), *layer, False)
    torch.testing.assert_close(plain.weight_gradient(x, y, list(w.shape), geometry), dw)


OPCHECKED = [
    pytest.param(case, last, dtype, id=f"{case}-{'last' if last else 'first'}-{dtype}", marks=marks)
    for case in ("2d", "1d causal", "2d reflect", "2d transposed", "3d")
    for last in (False, True)
    for dtype in (torch.float32, torch.bfloat16)
    for marks in ([] if (case, last, dtype) == ("2d", True, torch.float32) else [pytest.mark.wide],)
]


@pytest.mark.parametrize(("case", "last", "dtype"), OPCHECKED)
def test_opcheck(case, last, dtype) -> None:
    (x, w, b), layer = draw(case, dtype, last=last)
    torch.library.opcheck(OPERATORS.conv.default, (x, w, b, *layer), rtol=0.1, atol=0.1)
    dy = OPERATORS.conv(x, w, b, *layer).detach().requires_grad_()
    given = (dy, w, list(x.shape), *layer, last)
    torch.library.opcheck(OPERATORS.conv_input_gradient.default, given, rtol=0.1, atol=0.1)
    given = (x, dy, list(w.shape), *layer, b is not None)
    torch.library.opcheck(OPERATORS.conv_weight_gradient.default, given, rtol=0.1, atol=0.1)


def test_layouts_are_told_apart() -> None:
    for shape in [(2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (2, 3, 1, 4), (2, 3, 4, 1), (1, 1, 2, 3)]:
        x = torch.empty(shape)
        assert not is_channels_last(x), shape
        assert is_channels_last(x.to(memory_format=torch.channels_last)), shape
    assert not is_channels_last(torch.empty(2, 3, 4, 5)[:, ::2])
    assert not is_channels_last(torch.empty(3, 4))


def test_one_channel_keeps_its_layout() -> None:
    layer = onn.Conv2d(1, 6, 3, padding=1)
    x = torch.randn(2, 1, 5, 4)
    assert not is_channels_last(layer(x))
    assert is_channels_last(layer(x.to(memory_format=torch.channels_last)))


@pytest.mark.parametrize("how", ["strided", "expanded", "turned", "shifted"])
def test_tensors_that_lie_otherwise(how) -> None:
    x = torch.randn(3, 4, 6, 8)
    w = torch.randn(5, 4, 3, 3).to(memory_format=torch.channels_last)
    x = {
        "strided": x[:, :, ::2, 1::2],
        "expanded": x[:1].expand(3, 4, 6, 8),
        "turned": x.transpose(2, 3),
        "shifted": torch.randn(3 * 4 * 6 * 8 + 1)[1:].view(3, 4, 6, 8),
    }[how]
    layer = numbers(stride=[1, 1], padding=[1, 1, 1, 1])
    torch.testing.assert_close(OPERATORS.conv(x, w, None, *layer), F.conv2d(x, w, padding=1), rtol=1e-5, atol=1e-5)


def test_results_are_torch_memory_of_their_own() -> None:
    (x, w, b), layer = draw("2d", torch.float32, grad=False)
    first, second = OPERATORS.conv(x, w, b, *layer), OPERATORS.conv(2 * x, w, b, *layer)
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()
    assert first.untyped_storage().resizable()
    torch.testing.assert_close(first, by_torch(x, w, b, layer), rtol=1e-5, atol=1e-5)


def test_without_a_batch() -> None:
    layer = onn.Conv1d(3, 4, 3)
    x = torch.randn(3, 9)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_special_values_follow_the_arithmetic() -> None:
    """An infinity or NaN in dy reaches what its taps touch, as in PyTorch, and nothing else."""
    for value in (float("nan"), float("inf")):
        x = torch.randn(1, 3, 6, 6, requires_grad=True)
        mine, other = onn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        other.load_state_dict(mine.state_dict())
        dy = torch.randn(1, 3, 6, 6)
        dy[0, 1, 2, 3] = value
        for layer in (mine, other):
            given = [x, layer.weight, layer.bias]
            layer.found = torch.autograd.grad(layer(x), given, dy)
        for got, want in zip(mine.found, other.found, strict=True):
            assert torch.equal(got.isfinite(), want.isfinite())


# PyTorch's machinery


def small_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        onn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        onn.DepthwiseSeparable2d(8, 12, 3, stride=2, padding="same", activation="relu6"),
        onn.Mixed2d(12),
        onn.SubPixel2d(12, 3, 3, padding=1),
    )


def train(model, x):
    loss = model(x).square().mean()
    loss.backward()
    found = [loss.detach(), *(parameter.grad for parameter in model.parameters())]
    model.zero_grad()
    return found


@pytest.mark.wide
def test_compile_in_one_graph() -> None:
    model = small_model()
    want = train(model, torch.ones(2, 3, 13, 12))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for got, other in zip(train(compiled, torch.ones(2, 3, 13, 12)), want, strict=True):
        torch.testing.assert_close(got, other)


@pytest.mark.wide
def test_compile_in_one_graph_with_open_sizes() -> None:
    model = small_model().eval()
    dynamic = torch.compile(small_model().eval(), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (9, 14):
        x = torch.randn(3, 3, size, size)
        torch.testing.assert_close(dynamic(x), model(x))


def test_export() -> None:
    model = small_model().eval()
    x = torch.randn(2, 3, 12, 12)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    assert any("omniconv.conv" in str(node.target) for node in program.graph.nodes)
    y = torch.randn(5, 3, 12, 12)
    torch.testing.assert_close(program.module()(y), model(y))


def test_vmap_by_folding() -> None:
    for case in ("1d", "2d grouped", "2d transposed", "2d depthwise"):
        (x, w, b), layer = draw(case, torch.float64, grad=False)
        many = 3
        call = lambda x, w, b, layer=layer: OPERATORS.conv(x, w, b, *layer)
        wide = [None if t is None else torch.randn(many, *t.shape, dtype=t.dtype) for t in (x, w, b)]
        for shared in (("w", "b"), ("b",), (), ("x", "b"), ("x",)):
            given = [t if name in shared or t is None else big for name, t, big in zip("xwb", (x, w, b), wide)]
            dims = tuple(None if name in shared or t is None else 0 for name, t in zip("xwb", (x, w, b)))
            pick = lambda t, dim, i: t if dim is None or t is None else t[i]
            want = torch.stack([call(*(pick(t, d, i) for t, d in zip(given, dims))) for i in range(many)])
            torch.testing.assert_close(torch.vmap(call, dims)(*given), want)


@pytest.mark.parametrize("case", ["1d", "2d grouped", "2d transposed"])
@pytest.mark.parametrize("shared", ["w", "x", ""], ids=["inputs", "weights", "both"])
def test_vmap_over_none(case, shared) -> None:
    """Shapes are those of PyTorch's operator, and gradients reach what is shared."""
    (x, w, _), layer = draw(case, torch.float64)
    given = [
        t if name == shared else torch.empty(0, *t.shape, dtype=t.dtype, requires_grad=True)
        for name, t in zip("xw", (x, w))
    ]
    dims = tuple(None if name == shared else 0 for name in "xw")
    y = torch.vmap(lambda x, w: OPERATORS.conv(x, w, None, *layer), dims)(*given)
    assert y.shape == (0, *OPERATORS.conv(x, w, None, *layer).shape)
    for t, gradient in zip(given, torch.autograd.grad(y.sum(), given), strict=True):
        assert gradient.shape == t.shape
        assert not gradient.any()


def test_gradients_for_each_of_no_samples() -> None:
    layer = onn.Depthwise2d(4, 3, padding=1)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    loss = lambda parameters, one: torch.func.functional_call(layer, parameters, (one[None],)).square().sum()
    each = torch.vmap(torch.func.grad(loss), (None, 0))(weights, torch.empty(0, 4, 6, 6))
    assert {name: value.shape for name, value in each.items()} == {n: (0, *v.shape) for n, v in weights.items()}


def test_gradients_for_each_sample() -> None:
    layer = onn.Depthwise2d(4, 3, padding=1, dtype=torch.float64)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64)

    def loss(parameters, one):
        return torch.func.functional_call(layer, parameters, (one[None],)).square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for index in range(5):
        layer.zero_grad()
        loss(dict(layer.named_parameters()), x[index]).backward()
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(each[name][index], parameter.grad)


def test_checkpointing() -> None:
    model, x = small_model(), torch.ones(2, 3, 13, 12, requires_grad=True)
    want = train(model, x)
    again = lambda x: torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
    loss = again(x).square().mean()
    loss.backward()
    for parameter, other in zip(model.parameters(), want[1:], strict=True):
        torch.testing.assert_close(parameter.grad, other)


def test_autocast_follows_torch() -> None:
    mine, other = onn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    other.load_state_dict(mine.state_dict())
    x = torch.randn(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = mine(x), other(x)
        assert mine.double()(x.double()).dtype == torch.float64
    assert got.dtype == want.dtype == torch.bfloat16
    assert torch.equal(got, want)
    mine.float()
    with torch.autocast("cpu", torch.bfloat16):
        mine(x).float().sum().backward()
    assert mine.weight.grad.dtype == torch.float32


# Bad input


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (torch.ones(2, 3), ShapeError, r"rank 2; need \(N, C, \*spatial\).*\(1, 4, 32, 32\)"),
        (torch.ones(2, 5, 6, 6), ShapeError, r"5 channels; need 4"),
        (torch.ones(2, 4, 2, 6), ShapeError, r"spatial axis 0 would have output size"),
        (torch.ones(2, 4, 6, 6, dtype=torch.float64), DataError, r"torch.float32 and an input of torch.float64"),
        (torch.ones(2, 4, 6, 6, dtype=torch.int64), DataError, r"an input of torch.int64"),
        (torch.ones(2, 4, 6, 6, device="meta"), DataError, r"weights on cpu and an input on meta"),
    ],
    ids=["rank", "channels", "size", "float64", "integers", "device"],
)
def test_tensors_that_are_refused(x, error, match) -> None:
    with pytest.raises(error, match=match):
        onn.Conv2d(4, 6, 3)(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_padding_modes_that_are_refused(dtype) -> None:
    x, w = torch.ones(1, 2, 5, dtype=dtype), torch.ones(2, 2, 3, dtype=dtype)
    unknown = numbers(stride=[1], padding=[1, 1], mode="mirror")
    calls = [lambda layer: OPERATORS.conv(x, w, None, *layer)]
    calls.append(lambda layer: OPERATORS.conv_input_gradient(x, w, [1, 2, 5], *layer, False))
    for call in calls:
        with pytest.raises(SpecError, match=r"padding_mode='mirror' is unknown; need one of zeros, reflect"):
            call(unknown)
    with pytest.raises(SpecError, match="transposed=True"):
        calls[0](numbers(stride=[1], padding=[1, 1], mode="reflect", transposed=True))


@pytest.mark.parametrize("name", ["to_sparse", "to_mkldnn"])
def test_tensors_that_are_not_strided(name) -> None:
    x, w, layer = torch.ones(1, 2, 5), torch.ones(2, 2, 3), numbers(stride=[1], padding=[1, 1])
    other = lambda t: getattr(t, name)()
    for call in (
        lambda: OPERATORS.conv(other(x), w, None, *layer),
        lambda: OPERATORS.conv(x, other(w), None, *layer),
        lambda: OPERATORS.conv_input_gradient(other(x), w, [1, 2, 5], *layer, False),
        lambda: OPERATORS.conv_weight_gradient(x, other(x), [2, 2, 3], *layer, False),
        lambda: onn.Conv1d(2, 2, 3)(other(x)),
    ):
        with pytest.raises(
            DataError, match=r"of layout torch\._?(sparse_coo|mkldnn); need torch\.strided, e\.g\. x\.to_dense"
        ):
            call()


def test_more_memory_than_allowed_is_refused_before_it_is_taken(monkeypatch) -> None:
    monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "1M")
    with pytest.raises(LimitError, match=r"above the limit of 1\.0 MiB"):
        onn.Depthwise2d(64, 3)(torch.ones(1, 64, 64, 64))


def test_shapes_that_change_every_call_give_a_hint() -> None:
    layer = onn.Pointwise1d(2, 3, bias=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecompileWarning)
        for size in range(1, 11):
            layer(torch.ones(1, 2, size))
    with pytest.warns(RecompileWarning, match="compiled for 11 shapes.*pointwise"):
        layer(torch.ones(1, 2, 11))


def test_a_warning_is_told_at_the_line_that_calls_the_model() -> None:
    """PyTorch's lines lie between, and so does code that it generates."""

    class Around(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    for wrap in (
        lambda layer: layer,
        torch.nn.Sequential,
        lambda layer: torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU(), layer)),
        lambda layer: torch.fx.GraphModule(Around(layer), _call_inner()),
    ):
        model = wrap(onn.Pointwise1d(2, 3, bias=False))
        PROGRAMS.clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for size in range(1, 12):
                model(torch.ones(1, 2, size))
        assert [(item.category, item.filename) for item in seen] == [(RecompileWarning, __file__)]


def _call_inner() -> torch.fx.Graph:
    graph = torch.fx.Graph()
    graph.output(graph.call_module("inner", (graph.placeholder("x"),)))
    return graph


def test_the_hint_comes_once_from_many_threads(monkeypatch) -> None:
    """And the count is not lost where shapes are compiled at once."""
    from omniconv.torch import programs

    class Empty:
        arena_bytes = constant_bytes = 0

        def borrow(self, pool, parallel) -> None:
            pass

    monkeypatch.setitem(programs._COMPILE, "forward", lambda *_, **__: Empty())
    many, spec = Programs(), onn.Pointwise1d(2, 3).spec
    find = lambda size: many.reach("forward", spec, (1, 2, size), torch.float32, channels_last=False)()
    with warnings.catch_warnings(record=True) as seen, ThreadPoolExecutor(8) as threads:
        warnings.simplefilter("always")
        list(threads.map(find, range(1, 401)))
    assert many.compiled == 400
    assert [item.category for item in seen] == [RecompileWarning]


def test_memory_is_returned_with_the_programs() -> None:
    mine = Programs()
    program = mine.reach("forward", onn.Pointwise1d(2, 3).spec, (1, 2, 9), torch.float32, channels_last=False)()
    program.run({"x": torch.ones(1, 2, 9).numpy(), "w": torch.ones(3, 2, 1).numpy()})
    assert mine.memory.size
    mine.clear()
    assert mine.memory.size == 0
    blocks = [mine.memory.take(1) for _ in range(20)]
    for block in blocks:
        mine.memory.give(block)
    assert mine.memory.size == 8 * blocks[0].size, "the rest is given back to the system"


def test_programs_are_few_and_weights_change_freely() -> None:
    layer = onn.Depthwise2d(6, 3, padding=1)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    x = torch.randn(2, 6, 7, 7)
    counts = []
    for _ in range(5):
        optimiser.zero_grad()
        layer(x).square().mean().backward()
        optimiser.step()
        counts.append(PROGRAMS.compiled)
    assert counts[0] == counts[-1]
    small = Programs()
    find = lambda channels: small.reach(
        "forward", onn.Pointwise1d(channels, 1).spec, (1, channels, 1), torch.float32, channels_last=False
    )()
    assert find(1) is find(1)
    assert MOST_LAYERS >= 64, "a network has many layers"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_workers_that_are_forked() -> None:
    layer = onn.Depthwise2d(4, 3, padding=1)
    data = [torch.randn(4, 6, 6) for _ in range(6)]
    with torch.no_grad():
        want = [layer(x) for x in data]

        class Set(torch.utils.data.Dataset):
            def __len__(self):
                return len(data)

            def __getitem__(self, index):
                with torch.no_grad():
                    return layer(data[index])

        loader = torch.utils.data.DataLoader(Set(), batch_size=3, num_workers=2, multiprocessing_context="fork")
        got = torch.cat(list(loader))
    assert torch.equal(got, torch.stack(want))


def test_threads_do_not_change_results() -> None:
    before = torch.get_num_threads()
    x, layer = torch.randn(3, 16, 24, 24, requires_grad=True), onn.Depthwise2d(16, 5, padding=2)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = layer(x)
            found.append([y, *torch.autograd.grad(y.sin().sum(), [x, layer.weight, layer.bias])])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_one_input_without_a_batch_through_the_function() -> None:
    (x, w, b), layer = draw("2d", torch.float64, grad=False)
    numbers = tuple(tuple(each) if isinstance(each, list) else each for each in layer)
    torch.testing.assert_close(convolve(x[0], w, b, numbers, 2), OPERATORS.conv(x, w, b, *layer)[0])
