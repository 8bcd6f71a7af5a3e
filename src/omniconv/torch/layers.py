"""`to_torch` and `from_torch`: a layer or a chain as a PyTorch module, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from omniconv.choices import as_parts, check_instance
from omniconv.errors import DataError, SpecError, UnsupportedError
from omniconv.integers import as_integers
from omniconv.reference import Weights, check_weights
from omniconv.spec import Chain, ChainStep, Conv, PixelShuffle, Resize, Shuffle, Spec, Split
from omniconv.spec.chain import check_spec
from omniconv.torch.activations import MODULES
from omniconv.torch.nn.drop_in import DROP_INS, Sequential
from omniconv.torch.nn.layers import ChainNd, ConvNd
from omniconv.torch.steps import LINEAR, module_of_step

Array: TypeAlias = npt.NDArray[np.float32]
Pair: TypeAlias = tuple[Array, Array | None]

CONVS: Final = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: Final = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_PADS: Final = {
    "zeros": {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d},
    "reflect": {1: nn.ReflectionPad1d, 2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d},
    "replicate": {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d},
    "circular": {1: nn.CircularPad1d, 2: nn.CircularPad2d, 3: nn.CircularPad3d},
}
_CONSTANT_PADS: Final = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
_NOTHING: Final = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Modules that do nothing in inference."""


class Branches(nn.Module):  # type: ignore[misc] # untyped for a checker without PyTorch
    """Parallel modules on consecutive slices of the channels, their outputs concatenated: a `Split`.

    Args:
        branches: one module for each slice.
        channels: channels of each slice.
    """

    def __init__(self, branches: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        parts = as_parts("branches", branches, (nn.Module,), need="a PyTorch module", fix="[nn.Conv2d(4, 8, 3)]")
        self.channels = as_integers("channels", channels)
        if len(parts) != len(self.channels):
            raise SpecError(
                f"{len(parts)} branches and {len(self.channels)} numbers of channels", need="as many of each"
            )
        self.branches = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All branches, each on its slice."""
        parts = torch.split(x, self.channels, dim=1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1)


# Out


def to_torch(spec: Spec, weights: Weights | None = None) -> nn.Module:
    """A PyTorch module that computes a layer or a chain.

    Padding that differs before and after becomes a padding module in front (behind a transposed layer, one that crops).
    PyTorch has no true convolution: the kernel of one with ``flip=True`` is stored reversed.

    Example:
        >>> from omniconv.spec import Conv
        >>> to_torch(Conv.of(4, 8, 3, stride=2, padding=1))
        Conv2d(4, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))

    Args:
        spec: a `Conv` or a `Chain`.
        weights: as for :func:`omniconv.reference`; default: what PyTorch draws, every layer with a bias.

    Raises:
        UnsupportedError: PyTorch has no module for a step, or ``"same"`` padding depends on the input's size.
        ShapeError, DataError: weights that do not fit.
    """
    check_spec(spec)
    pairs = None if weights is None else iter(check_weights(spec, weights))
    steps = (spec,) if isinstance(spec, Conv) else spec.steps
    modules = [module for step in steps for module in _modules(step, spec, pairs)]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _modules(step: ChainStep, spec: Spec, pairs: Iterator[Pair] | None) -> list[nn.Module]:
    """The modules of one step."""
    match step:
        case Conv():
            return _conv_modules(step, None if pairs is None else next(pairs))
        case Split():
            branches = [_conv_modules(branch, None if pairs is None else next(pairs)) for branch in step.branches]
            inner = [found[0] if len(found) == 1 else nn.Sequential(*found) for found in branches]
            return [Branches(inner, [branch.in_channels for branch in step.branches])]
        case _:
            return [module_of_step(step, spec.dims, at=spec.text())]


def _conv_modules(conv: Conv, pair: Pair | None) -> list[nn.Module]:
    if isinstance(conv.padding, str):
        raise UnsupportedError(
            f"padding={conv.padding!r} with stride={conv.stride} depends on the input size",
            need="explicit padding",
            fix="spec.resolve(shape)",
            at=conv.text(),
        )
    modules = _transposed_modules(conv, pair) if conv.transposed else _plain_modules(conv, pair)
    layer = next(module for module in modules if hasattr(module, "weight"))
    if pair is not None:
        w, b = pair
        flipped = w[(slice(None), slice(None), *(slice(None, None, -1),) * conv.dims)] if conv.flip else w
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(flipped, np.float32)))
            if b is not None:
                layer.bias.copy_(torch.from_numpy(np.array(b, np.float32)))
    return modules


def _shared(conv: Conv, pair: Pair | None) -> dict[str, Any]:
    bias = pair is None or pair[1] is not None
    return {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups, "bias": bias}


def _plain_modules(conv: Conv, pair: Pair | None) -> list[nn.Module]:
    assert not isinstance(conv.padding, str)
    shared = _shared(conv, pair)
    make = CONVS[conv.dims]
    if all(before == after for before, after in conv.padding):
        padding = tuple(before for before, _ in conv.padding)
        mode = conv.padding_mode
        return [
            make(conv.in_channels, conv.out_channels, conv.kernel_size, padding=padding, padding_mode=mode, **shared)
        ]
    sides = tuple(side for pair in conv.padding[::-1] for side in pair)
    pad = _PADS[conv.padding_mode][conv.dims](sides)
    return [pad, make(conv.in_channels, conv.out_channels, conv.kernel_size, **shared)]


def _transposed_modules(conv: Conv, pair: Pair | None) -> list[nn.Module]:
    """PyTorch crops both ends alike and may extend the far one; what is left is cropped afterwards."""
    padding, extra, crops = [], [], []
    for axis in conv.axes():
        before = axis.padding[0]
        end = axis.padding[1] - axis.output_padding  # cropped there, or added where negative
        both = before if 0 <= before - end < max(axis.stride, axis.dilation) else min(before, max(end, 0))
        added = max(both - end, 0)
        padding.append(both)
        extra.append(added)
        crops.append((both - before, both - added - end))
    layer = TRANSPOSED[conv.dims](
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        padding=tuple(padding),
        output_padding=tuple(extra),
        **_shared(conv, pair),
    )
    if not any(map(any, crops)):
        return [layer]
    return [layer, _CONSTANT_PADS[conv.dims](tuple(side for pair in crops[::-1] for side in pair), 0.0)]


# In


def from_torch(module: nn.Module) -> tuple[Spec, tuple[Pair, ...]]:
    """The layer or the chain that a PyTorch module computes, with its weights as float32 copies.

    Known are convolutions and transposed convolutions over 1 to 3 axes, padding in front of one, `Sequential`,
    activations, `ChannelShuffle`, `PixelShuffle`, `Upsample` by a whole factor, `Branches`, the layers of
    :mod:`omniconv.torch.nn`, and what does nothing in inference (`Identity`, dropout). Other
    models: :func:`omniconv.torch.compile`.

    Example:
        >>> spec, weights = from_torch(
        ...     nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(4, 8, 1))
        ... )
        >>> [step if isinstance(step, str) else type(step).__name__ for step in spec.steps], len(weights)
        (['Conv', 'Activation', 'Conv'], 2)

    Raises:
        UnsupportedError: a module that no step describes; the message names it.
    """
    check_instance("module", module, nn.Module, need="a PyTorch module", fix="nn.Conv2d(4, 8, 3)")
    steps: list[ChainStep] = []
    weights: list[Pair] = []
    pending: tuple[str, tuple[tuple[int, int], ...]] | None = None
    for name, item in _flatten(module, ""):
        where = f"module {name or type(module).__name__!r}: {item}"
        pad = _padding_of(item)
        if pad is not None:
            last = steps[-1] if steps else None
            if (
                isinstance(last, Conv)
                and last.transposed
                and pad[0] == "zeros"
                and all(s <= 0 for p in pad[1] for s in p)
            ):
                steps[-1] = _crop(last, pad[1])
            elif pending is not None or any(side < 0 for pair in pad[1] for side in pair):
                raise UnsupportedError(
                    "padding that no convolution follows", need="one padding module before each", at=where
                )
            else:
                pending = pad
            continue
        found, pairs = _steps_of(item, where)
        if pending is not None:
            found[0], pending = _with_padding(found[0], pending, where), None
        steps += found
        weights += pairs
    if pending is not None:
        raise UnsupportedError("padding that no convolution follows", need="a convolution after it", at=str(module))
    if not weights:
        raise UnsupportedError("a module without a convolution", need="at least one", at=str(module))
    only = steps[0]
    return (only if len(steps) == 1 and isinstance(only, Conv) else Chain(tuple(steps))), tuple(weights)


def _flatten(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested `Sequential` in order, without those that do nothing."""
    if type(module) in (nn.Sequential, Sequential):
        for key, child in module.named_children():
            yield from _flatten(child, f"{name}.{key}" if name else key)
    elif not isinstance(module, _NOTHING):
        yield name, module


def _padding_of(module: nn.Module) -> tuple[str, tuple[tuple[int, int], ...]] | None:
    """Mode and pairs of a padding module, first axis first."""
    for mode, classes in _PADS.items():
        for dims, kind in classes.items():
            if type(module) is kind or (mode == "zeros" and type(module) is _CONSTANT_PADS[dims] and not module.value):
                sides: Any = module.padding
                return mode, tuple((int(sides[i]), int(sides[i + 1])) for i in range(2 * dims - 2, -1, -2))
    return None


def _crop(conv: Conv, sides: tuple[tuple[int, int], ...]) -> Conv:
    assert not isinstance(conv.padding, str)
    pairs = tuple((p - a, q - b) for (p, q), (a, b) in zip(conv.padding, sides, strict=True))
    return replace(conv, padding=pairs)


def _with_padding(step: ChainStep, pad: tuple[str, tuple[tuple[int, int], ...]], where: str) -> ChainStep:
    mode, pairs = pad
    if not isinstance(step, Conv) or step.transposed or step.dims != len(pairs):
        raise UnsupportedError("padding in front of something else than a convolution", need="a convolution", at=where)
    assert not isinstance(step.padding, str)
    if any(map(any, step.padding)):
        if mode != "zeros" or step.padding_mode != "zeros":
            raise UnsupportedError("padding in two places in two ways", need="one padding mode, in one place", at=where)
        pairs = tuple((p + a, q + b) for (p, q), (a, b) in zip(step.padding, pairs, strict=True))
    return replace(step, padding=pairs, padding_mode=mode)


def _steps_of(module: Any, where: str) -> tuple[list[ChainStep], list[Pair]]:
    """The steps of a module that is no `Sequential`, with their weights."""
    if isinstance(module, ConvNd | ChainNd):
        pairs = [_pair_of(layer) for layer in module.layers()]
        return list(module.spec.steps) if isinstance(module, ChainNd) else [module.spec], pairs
    step, pairs = _step_of(module, where)
    return [step], pairs


def _step_of(module: Any, where: str) -> tuple[ChainStep, list[Pair]]:
    kind = type(module)
    if kind in {*DROP_INS, *DROP_INS.values()}:
        return _conv_of(module, where)
    if kind in MODULES:
        return MODULES[kind](module), []
    if kind is nn.ChannelShuffle:
        return Shuffle(int(module.groups)), []
    if kind is nn.PixelShuffle:
        return PixelShuffle(int(module.upscale_factor)), []
    if isinstance(module, nn.Upsample):
        return _resize_of(module, where), []
    if kind is Branches:
        found = [from_torch(branch) for branch in module.branches]
        if all(isinstance(spec, Conv) for spec, _ in found):
            specs = tuple(spec for spec, _ in found if isinstance(spec, Conv))
            return Split(specs), [pair for _, pairs in found for pair in pairs]
    raise UnsupportedError(
        f"no step describes the module {kind.__name__}",
        need="convolutions, activations, shuffles, Upsample and Sequential",
        fix="omniconv.torch.compile(module, example_inputs) for any other model",
        at=where,
    )


def _resize_of(module: nn.Upsample, where: str) -> Resize:
    factors = module.scale_factor if isinstance(module.scale_factor, tuple) else (module.scale_factor,)
    factor = factors[0]
    if factor is None or factor != int(factor) or len(set(factors)) > 1:
        raise UnsupportedError(
            "Upsample by other than one whole factor", need="a whole scale_factor, no size", at=where
        )
    if module.mode == "nearest":
        return Resize(int(factor))
    if module.mode in LINEAR.values() and not module.align_corners:
        return Resize(int(factor), "linear")
    raise UnsupportedError(
        f"Upsample in mode {module.mode!r}", need="nearest, or linear without align_corners", at=where
    )


def _conv_of(module: Any, where: str) -> tuple[Conv, list[Pair]]:
    if isinstance(module.weight, nn.parameter.UninitializedParameter):
        raise DataError("a lazy module has no weights yet", need="one forward pass", at=where)
    padding: Any = module.padding
    if isinstance(padding, str):
        padding = {"valid": "valid", "same": "same_upper"}[padding]
    conv = Conv.of(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        dims=len(module.kernel_size),
        stride=module.stride,
        dilation=module.dilation,
        padding=padding,
        groups=module.groups,
        transposed=bool(module.transposed),
        output_padding=module.output_padding,
        padding_mode="zeros" if module.transposed else module.padding_mode,
    )
    return conv, [_pair_of(module)]


def _pair_of(module: Any) -> Pair:
    return _copy(module.weight), None if module.bias is None else _copy(module.bias)


def _copy(tensor: torch.Tensor) -> Array:
    return np.array(tensor.detach().cpu().to(torch.float32).numpy())
