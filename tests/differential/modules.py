"""Calls of PyTorch, drawn at random and exported to ONNX as users do."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch

F = torch.nn.functional
torch.set_num_threads(1)
Function = Callable[[torch.Tensor], torch.Tensor]
FACTORS = (0.3, 0.5, 0.6, 0.7, 0.9, 1.1, 1.5, 1.7, 2.0, 2.0, 3.0, 3.3)


class Call(torch.nn.Module):
    """A function with its parameters."""

    def __init__(self, function: Callable[..., torch.Tensor], *parameters: torch.Tensor | None) -> None:
        super().__init__()
        self.function, self.count = function, len(parameters)
        for index, parameter in enumerate(parameters):
            self.register_buffer(f"p{index}", parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *(getattr(self, f"p{index}") for index in range(self.count)))


def some(r: random.Random, share: float = 0.5) -> bool:
    return r.random() < share


def spatial(r: random.Random, dims: int, low: int = 1) -> tuple[int, ...]:
    widest = {1: 30, 2: 14, 3: 6}[dims]
    return (r.choice((1, 1, 2)), r.choice((1, 2, 3, 4, 6, 8)), *(r.randint(low, max(widest, low)) for _ in range(dims)))


def interpolate(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    dims = r.choice((1, 2, 2, 2, 3))
    shape = spatial(r, dims)
    linear = ("linear", "bilinear", "trilinear")[dims - 1]
    modes = ["nearest", "nearest", "nearest-exact", linear, linear, "area"]
    mode = r.choice([*modes, "bicubic", "bicubic"] if dims == 2 else modes)
    given: dict[str, Any] = {"mode": mode}
    if mode in (linear, "bicubic"):
        given["align_corners"] = r.choice((None, False, True))
    if mode in ("bilinear", "bicubic") and some(r, 0.15):
        given["antialias"] = True
    if some(r):
        given["size"] = [max(1, round(n * r.choice(FACTORS))) for n in shape[2:]]
    else:
        scale = [r.choice(FACTORS) for _ in shape[2:]]
        given["scale_factor"] = scale[0] if some(r) else scale
        given["recompute_scale_factor"] = r.choice((None, None, True, False))
    return Call(lambda x: F.interpolate(x, **given)), shape


def pool(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    dims = r.choice((1, 2, 2, 3))
    shape = spatial(r, dims, 2)
    kernel = [r.randint(1, min(4, n)) for n in shape[2:]]
    stride = r.choice((None, [r.randint(1, 4) for _ in kernel]))
    padding = [r.randint(0, k // 2) for k in kernel]
    ceil = some(r)
    sort = r.choice(("max", "max", "avg", "avg", "lp", "adaptive avg", "adaptive max", "max module"))
    call: Function
    match sort:
        case "max" | "max module":
            dilation = [r.randint(1, max(1, (n - 1) // max(k - 1, 1))) for n, k in zip(shape[2:], kernel)]
            dilation = [min(d, 3) for d in dilation]
            function = getattr(F, f"max_pool{dims}d")
            call = lambda x: function(x, kernel, stride, padding, dilation, ceil)
        case "avg":
            function = getattr(F, f"avg_pool{dims}d")
            include = some(r)
            call = lambda x: function(x, kernel, stride, padding, ceil, include)
        case "lp" if dims < 3:
            function, norm = getattr(F, f"lp_pool{dims}d"), r.choice((1.0, 2.0, 3.0))
            size = kernel[0] if dims == 1 else kernel
            step = None if stride is None else stride[0] if dims == 1 else stride
            call = lambda x: function(x, norm, size, step, ceil)
        case "adaptive max":
            function = getattr(F, f"adaptive_max_pool{dims}d")
            sizes = [r.choice([1, n, *(d for d in range(1, n + 1) if n % d == 0)]) for n in shape[2:]]
            call = lambda x: function(x, sizes)
        case _:
            function = getattr(F, f"adaptive_avg_pool{dims}d")
            sizes = [r.choice([1, n, *(d for d in range(1, n + 1) if n % d == 0)]) for n in shape[2:]]
            call = lambda x: function(x, sizes)
    return Call(call), shape


def pad(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    dims = r.choice((1, 2, 2, 3))
    shape = spatial(r, dims, 2)
    mode = r.choice(("constant", "constant", "reflect", "replicate", "circular"))
    sides: list[int] = []
    for n in reversed(shape[2:]):
        room = {"reflect": n - 1, "circular": n, "replicate": 4, "constant": 4}[mode]
        low = -((n - 1) // 2) if mode == "constant" else 0
        sides += [r.randint(low, room) if some(r, 0.7) else 0 for _ in range(2)]
    if mode == "constant" and some(r):
        value = r.choice((0.0, 1.0, -2.5))
        return Call(lambda x: F.pad(x, sides, mode, value)), shape
    return Call(lambda x: F.pad(x, sides, mode)), shape


def views(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    """Up to four changes of shape in turn; positions that ask for a size are drawn when it is known."""
    shape = r.choice((spatial(r, 1), spatial(r, 2), spatial(r, 2), spatial(r, 3), (4, 6), (7,)))
    probe, calls = torch.zeros(shape), []
    for _ in range(r.randint(1, 4)):
        call = _view(r, tuple(probe.shape))
        if call is not None:
            probe = call(probe)
            calls.append(call)

    def function(x: torch.Tensor) -> torch.Tensor:
        for call in calls:
            x = call(x)
        return x + 1.0 if not calls else x

    return Call(function), shape


def _view(r: random.Random, shape: tuple[int, ...]) -> Function | None:
    rank = len(shape)
    axis = r.randrange(rank) if rank else 0
    match r.choice(
        (
            "flatten",
            "unflatten",
            "permute",
            "reshape",
            "shuffle",
            "unshuffle",
            "squeeze",
            "unsqueeze",
            "flip",
            "roll",
            "split",
            "channels",
        )
    ):
        case "flatten" if rank > 1:
            start = r.randrange(rank - 1)
            end = r.randrange(start, rank)
            return lambda x: x.flatten(start, end)
        case "unflatten" if rank and rank < 6:
            d = r.choice([d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0])
            sizes = r.choice(((d, -1), (d, shape[axis] // d)))
            return lambda x: x.unflatten(axis, sizes)
        case "permute" if rank:
            order = r.sample(range(rank), rank)
            return lambda x: x.permute(order)
        case "reshape" if rank:
            number = int(np.prod(shape))
            d = r.choice([d for d in range(1, number + 1) if number % d == 0])
            target = r.choice(((d, -1), (-1, d), (1, d, -1), (-1,)))
            return lambda x: x.reshape(target)
        case "shuffle" if rank == 4:
            f = r.choice([f for f in (1, 2, 3) if shape[1] % (f * f) == 0])
            return lambda x: F.pixel_shuffle(x, f)
        case "unshuffle" if rank == 4:
            f = r.choice([f for f in (1, 2, 3) if shape[2] % f == 0 and shape[3] % f == 0])
            return lambda x: F.pixel_unshuffle(x, f)
        case "channels" if rank >= 3:
            g = r.choice([d for d in range(1, shape[1] + 1) if shape[1] % d == 0])
            return lambda x: x.reshape(x.shape[0], g, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        case "squeeze":
            return lambda x: x.squeeze()
        case "unsqueeze" if rank < 6:
            at = r.randint(-rank - 1, rank)
            return lambda x: x.unsqueeze(at)
        case "flip" if rank:
            return lambda x: torch.flip(x, [axis])
        case "roll" if rank:
            by = r.randint(-3, 3)
            return lambda x: torch.roll(x, by, axis)
        case "split" if rank and shape[axis] > 1:
            at = r.randrange(1, shape[axis])
            return lambda x: torch.cat(torch.split(x, [at, shape[axis] - at], axis)[::-1], axis)
    return None


def norm(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    dims = r.choice((1, 2, 2, 3))
    shape = spatial(r, dims, 2)
    c = shape[1]
    t = torch.Generator().manual_seed(r.getrandbits(31))

    def drawn(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=t)

    eps = r.choice((1e-5, 1e-3, 0.1))
    weight, bias = (drawn(c), drawn(c)) if some(r, 0.7) else (None, None)
    match r.choice(("batch", "instance", "group", "layer", "local", "softmax", "std")):
        case "batch":
            parameters = (drawn(c), drawn(c).abs() + 0.1, weight, bias)
            return Call(lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b, False, 0.1, eps), *parameters), shape
        case "instance":
            return Call(lambda x, w, b: F.instance_norm(x, None, None, w, b, eps=eps), weight, bias), shape
        case "group":
            groups = r.choice([d for d in range(1, c + 1) if c % d == 0])
            return Call(lambda x, w, b: F.group_norm(x, groups, w, b, eps), weight, bias), shape
        case "local":
            size = r.randint(1, 5)
            return Call(lambda x: F.local_response_norm(x, size, 0.1, 0.75, 1.0)), shape
        case "softmax":
            axis, function = r.randrange(len(shape)), r.choice((F.softmax, F.log_softmax))
            return Call(lambda x: function(x, axis)), shape
        case "std":
            axes, keep = tuple(range(2, len(shape))), some(r)
            return Call(lambda x: x.mean(axes, keepdim=keep)), shape
    last = shape[-r.randint(1, len(shape) - 1) :]
    scale = (drawn(*last), drawn(*last)) if some(r, 0.7) else (None, None)
    return Call(lambda x, w, b: F.layer_norm(x, last, w, b, eps), *scale), shape


def layer(r: random.Random) -> tuple[Any, tuple[int, ...]]:
    """A convolution of PyTorch's own geometry, sometimes with an activation."""
    dims = r.choice((1, 2, 2, 3))
    shape = spatial(r, dims, 3)
    groups = r.choice([1, shape[1]])
    kernel = [r.randint(1, 3) for _ in range(dims)]
    given: dict[str, Any] = {
        "stride": [r.randint(1, 3) for _ in kernel], "dilation": [r.choice((1, 1, 2)) for _ in kernel],
        "groups": groups, "padding": [r.randint(0, 3) for _ in kernel],
    }  # fmt: skip
    module: torch.nn.Module
    torch.manual_seed(r.getrandbits(31))
    if some(r, 0.4):
        given["output_padding"] = [r.randint(0, max(s, d) - 1) for s, d in zip(given["stride"], given["dilation"])]
        given["padding"] = [min(p, d * (k - 1)) for p, d, k in zip(given["padding"], given["dilation"], kernel)]
        module = getattr(torch.nn, f"ConvTranspose{dims}d")(shape[1], 4 * groups, kernel, **given)
    else:
        if some(r, 0.3):
            given["padding_mode"] = r.choice(("reflect", "replicate", "circular"))
            given["padding"] = [min(p, n - 1) for p, n in zip(given["padding"], shape[2:])]
        elif some(r, 0.2):
            given["padding"], given["stride"] = r.choice(("same", "valid")), 1
        module = getattr(torch.nn, f"Conv{dims}d")(shape[1], 4 * groups, kernel, **given)
    after = r.choice(
        (
            F.relu,
            F.silu,
            F.gelu,
            F.hardswish,
            F.hardsigmoid,
            F.relu6,
            F.elu,
            F.selu,
            F.celu,
            F.mish,
            F.leaky_relu,
            torch.tanh,
            torch.sigmoid,
            F.hardtanh,
            F.softplus,
            F.logsigmoid,
            F.softsign,
        )
    )
    return (torch.nn.Sequential(module, Call(after)) if some(r) else module), shape


FAMILIES = (interpolate, interpolate, pool, pad, views, norm, layer)


def draw(r: random.Random) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray, bool] | None:
    """An exported model, an input, PyTorch's result in float64, and whether it must be equal to the bit.

    None where PyTorch or its exporter refuses the call.
    """
    family = r.choice(FAMILIES)
    opset = r.choice((9, 11, 12, 13, 16, 17, 18, 20))
    module, shape = family(r)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(r.getrandbits(31)))
    data = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            module.eval()
            y32 = module(x)
            torch.onnx.export(module, (x,), data, dynamo=False, opset_version=opset)
            y64 = module.double()(x.double())
    except Exception:  # noqa: BLE001 - calls that PyTorch cannot make or write
        return None
    moves = torch.equal(y32.double(), y64) or family in (pad, views) or y32.shape != y64.shape
    # Positions of "nearest" are computed in the type of the tensor; float32 is what is asked for.
    nearest = family is interpolate and bool(torch.isin(y32, x).all())
    y = y32.double() if nearest else y64
    if y.numel() == 0 or y.numel() > 60_000:
        return None
    return onnx.load_from_string(data.getvalue()), x.numpy(), y.numpy(), moves or nearest
