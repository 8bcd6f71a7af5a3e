"""The layers: every kind in every number of axes, judged by the float64 oracle, PyTorch's stacks and `gradcheck`."""

from __future__ import annotations

import copy
import inspect
import io
import pickle

import numpy as np
import pytest

from omniconv.errors import SpecError
from omniconv.kinds import kinds
from omniconv.reference import error_bound, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Shuffle

torch = pytest.importorskip("torch")
nn = torch.nn

import omniconv.torch.nn as onn  # noqa: E402
from omniconv.torch import from_torch, to_torch  # noqa: E402
from omniconv.torch.layouts import is_channels_last  # noqa: E402
from omniconv.torch.nn.derive import class_name, dims_of  # noqa: E402

PAIRS = [(kind, dims) for kind in kinds().values() for dims in dims_of(kind)]
SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]
FIRST = [(kind, next(s for s in kind.samples if len(s.shape) == dims + 2)) for kind, dims in PAIRS]
DROP_INS = [
    (name, arguments)
    for axes in (1, 2, 3)
    for name, arguments in [
        (f"Conv{axes}d", {"kernel_size": 3}),
        (f"Conv{axes}d", {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2, "bias": False}),
        (f"Conv{axes}d", {"kernel_size": 2, "padding": "same", "dilation": 2}),
        (f"Conv{axes}d", {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}),
        (f"Conv{axes}d", {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "stride": 2}),
        (f"Conv{axes}d", {"kernel_size": 3, "padding": "same", "padding_mode": "replicate"}),
        (f"ConvTranspose{axes}d", {"kernel_size": 3}),
        (f"ConvTranspose{axes}d", {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
        (f"ConvTranspose{axes}d", {"kernel_size": 2, "stride": 3, "dilation": 2, "bias": False}),
    ]
]


def make(kind, sample, **own):
    """The module of a sample, and the spec that it should have."""
    dims = len(sample.shape) - 2
    arguments = {key: value for key, value in sample.arguments.items() if key != "dims"}
    return getattr(onn, class_name(kind, dims))(**arguments, **own), kind.build(sample)


def pairs_of(layer):
    """Weights of a module as the reference takes them."""
    parts = [layer] if isinstance(layer, onn.ConvNd) else list(layer.layers())
    read = lambda tensor: None if tensor is None else tensor.detach().numpy()
    return tuple((read(part.weight), read(part.bias)) for part in parts)


def names(pairs):
    return [f"{kind.name}-{sample.shape}" for kind, sample in pairs]


def check_sample(kind, sample, *, last=False) -> None:
    layer, spec = make(kind, sample)
    assert layer.spec == spec
    x = torch.randn(sample.shape)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    y = layer(x)
    pairs = pairs_of(layer)
    bound = error_bound(spec, x.numpy(), pairs)
    assert (np.abs(y.detach().numpy() - reference(spec, x.numpy(), pairs)) <= bound).all(), spec.text(sample.shape)
    if isinstance(spec, Conv):
        assert is_channels_last(y) is is_channels_last(x)


def in_both_layouts(pairs):
    """Every sample, channels first and last; wide but for one layout of each of ``pairs``."""
    quick = {id(sample) for _, sample in pairs}
    for kind, sample in SAMPLES:
        for last in (False, True):
            marks = [] if id(sample) in quick and last == (len(sample.shape) != 3) else [pytest.mark.wide]
            name = f"{kind.name}-{sample.shape}-{'last' if last else 'first'}"
            yield pytest.param(kind, sample, last, marks=marks, id=name)


@pytest.mark.parametrize(("kind", "sample", "last"), list(in_both_layouts(FIRST)))
def test_every_sample_agrees_with_the_oracle(kind, sample, last) -> None:
    check_sample(kind, sample, last=last)


def check_gradients(kind, sample, last) -> None:
    layer, _ = make(kind, sample, dtype=torch.float64)
    x = torch.randn(sample.shape, dtype=torch.float64)
    x = (x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x).requires_grad_()
    parameters = dict(layer.named_parameters())
    call = lambda x, *values: torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))
    assert torch.autograd.gradcheck(call, (x, *parameters.values()), fast_mode=True)


ONE_EACH = [[pair for pair in FIRST if pair[0] is kind] for kind in kinds().values()]
ONE_EACH = [pairs[index % len(pairs)] for index, pairs in enumerate(ONE_EACH)]
"""A sample of every kind, of one, two or three axes in turn."""


@pytest.mark.parametrize(("kind", "sample", "last"), list(in_both_layouts(ONE_EACH)))
def test_gradients_of_every_sample(kind, sample, last) -> None:
    check_gradients(kind, sample, last)


@pytest.mark.parametrize(("kind", "sample"), FIRST, ids=names(FIRST))
def test_empty_batches(kind, sample) -> None:
    """Of no images there is an empty result of the usual shape, and no parameter has a gradient but zero."""
    layer, spec = make(kind, sample)
    x = torch.empty(0, *sample.shape[1:], requires_grad=True)
    y = layer(x)
    assert y.shape == (0, *spec.output_shape(sample.shape)[1:])
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not any(parameter.grad.any() for parameter in layer.parameters())
    with torch.no_grad():
        assert layer.eval()(x).shape == y.shape


@pytest.mark.parametrize(("kind", "dims"), PAIRS, ids=[class_name(*pair) for pair in PAIRS])
def test_modules_follow_the_conventions(kind, dims) -> None:
    made = getattr(onn, class_name(kind, dims))
    assert class_name(kind, dims) in onn.__all__
    parameters = inspect.signature(made).parameters.values()
    placed = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    torch_order = list(inspect.signature(nn.ConvTranspose2d if kind.name == "transposed" else nn.Conv2d).parameters)
    assert [name for name in placed if name in torch_order] == [name for name in torch_order if name in placed]
    assert placed[-2:] == ["device", "dtype"]
    own = set(inspect.signature(kind.constructor).parameters) - {"dims"}
    assert {each.name for each in parameters} == own | {"bias", "device", "dtype"}
    sample = next(s for s in kind.samples if len(s.shape) == dims + 2)
    layer, spec = make(kind, sample, device="meta", dtype=torch.float16)
    convs = (spec,) if isinstance(spec, Conv) else spec.convs
    assert [tuple(value.shape) for value in layer.parameters()] == [
        shape for conv in convs for shape in (conv.weight_shape, (conv.out_channels,))
    ]
    assert all(value.is_meta and value.dtype == torch.float16 for value in layer.parameters())
    assert layer(torch.empty(sample.shape, device="meta", dtype=torch.float16)).shape == spec.output_shape(sample.shape)
    bare, _ = make(kind, sample, bias=False, device="meta")
    assert all(name.endswith("weight") for name, _ in bare.named_parameters())
    assert repr(layer).startswith(class_name(kind, dims))
    assert kind.summary in made.__doc__


def test_keys_say_what_they_are() -> None:
    keys = lambda layer: [key.removesuffix(".weight") for key in layer.state_dict() if key.endswith("weight")]
    assert keys(onn.DepthwiseSeparable2d(4, 8, 3)) == ["depthwise", "pointwise"]
    assert keys(onn.Mixed2d(9)) == ["depthwise_3x3", "depthwise_5x5", "depthwise_7x7"]
    assert keys(onn.Mixed1d(4, (3, 3))) == ["depthwise_3_1", "depthwise_3_2"]
    assert keys(onn.ShuffledGrouped2d(4, 8, 3, groups=2)) == ["reduce", "depthwise", "expand"]
    assert keys(onn.ShuffledGrouped2d(8, 8, 3, groups=2, form="layers")) == ["grouped", "pointwise"]
    assert keys(onn.BlueprintSeparable2d(8, 8, 3)) == ["pointwise", "depthwise"]
    assert keys(onn.BlueprintSeparable2d(8, 8, 3, mid_channels=2)) == ["pointwise", "expand", "depthwise"]
    assert keys(onn.Flattened3d(8, 8, 3)) == ["lateral", "depth", "height", "width"]
    assert keys(onn.Factorised3d(8, 8, 3)) == ["spatial", "temporal"]
    assert keys(onn.Asymmetric2d(4, 8, 7)) == ["height", "width"]
    assert keys(onn.SubPixel1d(4, 1, 3)) == ["convolution"]
    assert keys(onn.Depthwise3d(4, 3)) == ["weight"]


@pytest.mark.parametrize(("kind", "dims"), PAIRS, ids=[class_name(*pair) for pair in PAIRS])
def test_keys_do_not_depend_on_numbers(kind, dims) -> None:
    """A layer of one channel, or one that is dilated or of kernel size 1, has the keys of any other."""
    made = getattr(onn, class_name(kind, dims))
    one = {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "kernel_sizes": (1,), "groups": 1}
    eight = {**one, "in_channels": 8, "out_channels": 8, "kernel_size": 3, "dilation": 2, "groups": 2}
    parameters = inspect.signature(made).parameters
    small, large = (
        made(**{name: value for name, value in each.items() if name in parameters}) for each in (one, eight)
    )
    assert list(small.state_dict()) == list(large.state_dict())


def test_positions_are_those_of_torch() -> None:
    layer = onn.CrossCorrelation2d(4, 8, 3, 2, 1, 1, 2, False, "circular")
    assert layer.spec == Conv.of(4, 8, 3, stride=2, padding=1, groups=2, padding_mode="circular")
    assert layer.bias is None
    assert onn.Transposed2d(4, 8, 3, 2, 1, 1, 2).spec == Conv.of(
        4, 8, 3, stride=2, padding=1, output_padding=1, groups=2, transposed=True
    )
    assert str(layer) == (
        "CrossCorrelation2d(4, 8, kernel_size=3, stride=2, padding=1, groups=2, bias=False, padding_mode='circular')"
    )


@pytest.mark.parametrize(
    ("name", "arguments"), DROP_INS, ids=[f"{name}-{i % 9}" for i, (name, _) in enumerate(DROP_INS)]
)
def test_drop_ins(name, arguments) -> None:
    torch.manual_seed(1)
    mine = getattr(onn, name)(4, 6, **arguments, dtype=torch.float64)
    torch.manual_seed(1)
    other = getattr(nn, name)(4, 6, **arguments, dtype=torch.float64)
    assert isinstance(mine, type(other))
    assert str(mine) == str(other)
    for (key, value), (other_key, other_value) in zip(
        mine.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(value, other_value)
    assert from_torch(mine)[0] == from_torch(other)[0]
    x = torch.randn(2, 4, *(5, 6, 4)[: int(name[-2])], dtype=torch.float64, requires_grad=True)
    got, want = mine(x), other(x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    dy = torch.randn_like(want)
    first = torch.autograd.grad(got, [x, *mine.parameters()], dy)
    second = torch.autograd.grad(want, [x, *other.parameters()], dy)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_output_size_of_transposed_layers() -> None:
    mine, other = onn.ConvTranspose2d(3, 4, 3, 2), nn.ConvTranspose2d(3, 4, 3, 2)
    other.load_state_dict(mine.state_dict())
    x = torch.randn(1, 3, 4, 5)
    torch.testing.assert_close(mine(x, output_size=[10, 11]), other(x, output_size=[10, 11]))
    with pytest.raises(ValueError, match="output size"):
        mine(x, output_size=[99, 99])


@pytest.mark.parametrize(("kind", "sample"), FIRST, ids=names(FIRST))
def test_weights_of_the_equivalent_stack(kind, sample) -> None:
    """The first values are those of PyTorch's modules, and its weights load in order."""
    layer, spec = make(kind, sample)
    resolved = spec.resolve(sample.shape) if isinstance(spec, Conv) else spec
    torch.manual_seed(5)
    layer.reset_parameters()
    plain = [onn.ConvNd(conv) for conv in ((spec,) if isinstance(spec, Conv) else spec.convs)]
    torch.manual_seed(5)
    for part in plain:
        part.reset_parameters()
    if not (isinstance(spec, Chain) and any(isinstance(step, PixelShuffle) for step in spec.steps)):
        values = [value for part in plain for value in part.state_dict().values()]
        assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), values, strict=True))
    found, pairs = from_torch(layer)
    assert found == (spec if isinstance(spec, Conv) or len(spec.steps) > 1 or len(spec.convs) > 1 else spec.steps[0])
    for (w, b), (own_w, own_b) in zip(pairs, pairs_of(layer), strict=True):
        assert np.array_equal(w, own_w)
        assert np.array_equal(b, own_b)
    assert resolved.output_shape(sample.shape) == tuple(layer(torch.zeros(sample.shape)).shape)


def test_a_stack_of_torch_loads_in_order() -> None:
    spec = onn.DepthwiseSeparable2d(4, 8, 3, padding=1, activation="relu").spec
    torch.manual_seed(2)
    stack = to_torch(spec)
    torch.manual_seed(2)
    layer = onn.DepthwiseSeparable2d(4, 8, 3, padding=1, activation="relu")
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), stack.state_dict().values(), strict=True))
    stack = to_torch(spec)
    layer.load_state_dict(dict(zip(layer.state_dict(), stack.state_dict().values(), strict=True)))
    x = torch.randn(2, 4, 7, 6)
    torch.testing.assert_close(layer(x), stack(x))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_sub_pixel_layers_begin_without_a_checkerboard(dims) -> None:
    layer = getattr(onn, f"SubPixel{dims}d")(3, 2, 3, factor=2, padding=1)
    small = layer.convolution(x := torch.randn(1, 3, *(4,) * dims))
    enlarged = nn.functional.interpolate(small[:, :: 2**dims], scale_factor=2)
    assert torch.equal(layer(x), enlarged)


def test_copies_and_files() -> None:
    layer = onn.ShuffledGrouped2d(4, 8, 3, groups=2, padding=1, activation="relu")
    x = torch.randn(1, 4, 5, 5)
    want = layer(x)
    torch.testing.assert_close(copy.deepcopy(layer)(x), want, rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), want, rtol=0, atol=0)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), want, rtol=0, atol=0)


def test_any_spec() -> None:
    activation = Activation("abs")
    steps = (Conv.of(4, 8, 3, padding=1, dims=1), activation, Shuffle(2), activation, Conv.of(8, 4, 1, dims=1))
    stack = onn.ChainNd(Chain(steps))
    assert [name for name, _ in stack.named_children()] == ["convolution", "abs", "shuffle", "abs_2", "pointwise"]
    x = torch.randn(1, 4, 9)
    want = reference(stack.spec, x.numpy(), pairs_of(stack))
    np.testing.assert_allclose(stack(x).detach().numpy(), want, rtol=0, atol=1e-5)
    torch.testing.assert_close(stack(x[0]), stack(x)[0])


@pytest.mark.parametrize("name", ["exp", "sqrt", "abs", "neg", "hard_sigmoid", "gelu_tanh", "leaky_relu"])
def test_activations_between_steps(name) -> None:
    given = Activation.of(name, alpha=0.3, beta=0.4) if name == "hard_sigmoid" else Activation.of(name)
    layer = onn.DepthwiseSeparable1d(2, 3, 3, activation=given)
    x = torch.rand(1, 2, 8)
    with torch.no_grad():
        layer.depthwise.weight.abs_()
        layer.depthwise.bias.fill_(0.1)
    got = layer(x).detach().numpy()
    np.testing.assert_allclose(got, reference(layer.spec, x.numpy(), pairs_of(layer)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: onn.Grouped2d(4, 6, 3, groups=3), SpecError, "groups=3 does not divide in_channels=4"),
        (lambda: onn.Depthwise2d(4), TypeError, "kernel_size"),
        (lambda: onn.Depthwise2d(4, 3, groups=2), TypeError, "groups"),
        (lambda: onn.Depthwise2d(4, (3, 3, 3)), SpecError, "3 values"),
        (lambda: onn.Depthwise2d(4, 3, padding_mode="mirror"), SpecError, "padding_mode='mirror' is unknown"),
        (lambda: onn.Conv2d(4, 6, 3, groups=3), ValueError, "divisible by groups"),
    ],
    ids=range(6),
)
def test_arguments_that_are_refused(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
