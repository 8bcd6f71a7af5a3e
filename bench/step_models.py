"""The models of :mod:`steps`, in plain PyTorch: three networks for images, and one for series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

CLASSES: Final = 100


def _conv_norm(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class _Inverted(nn.Module):  # type: ignore[misc]
    """Wider, depthwise, narrower; the input is added where shapes allow it."""

    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        first = [] if expand == 1 else [*_conv_norm(channels, wide, 1), nn.ReLU6(inplace=True)]
        middle = [*_conv_norm(wide, wide, 3, stride, wide), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*first, *middle, *_conv_norm(wide, out, 1))
        self._adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        y = self.layers(x)
        return x + y if self._adds else y


def mobilenet() -> nn.Module:
    """MobileNetV2 (Sandler et al., 2018)."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    layers = [*_conv_norm(3, 32, 3, 2), nn.ReLU6(inplace=True)]
    channels = 32
    for expand, out, many, stride in rows:
        for index in range(many):
            layers.append(_Inverted(channels, out, stride if index == 0 else 1, expand))
            channels = out
    layers += [*_conv_norm(channels, 1280, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, CLASSES))


class _Shuffled(nn.Module):  # type: ignore[misc]
    """Half of the channels pass by, or, with a stride, both halves are computed; then the halves are shuffled."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self._whole = stride > 1
        first = channels if self._whole else half
        self.short = (
            nn.Sequential(
                *_conv_norm(channels, channels, 3, stride, channels),
                *_conv_norm(channels, half, 1),
                nn.ReLU(inplace=True),
            )
            if self._whole
            else nn.Identity()
        )
        self.long = nn.Sequential(
            *_conv_norm(first, half, 1),
            nn.ReLU(inplace=True),
            *_conv_norm(half, half, 3, stride, half),
            *_conv_norm(half, half, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        first, second = (x, x) if self._whole else x.chunk(2, dim=1)
        y = torch.cat([self.short(first), self.long(second)], dim=1)
        n, channels, height, width = y.shape
        return y.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


def shufflenet() -> nn.Module:
    """ShuffleNetV2 1x (Ma et al., 2018)."""
    layers = [*_conv_norm(3, 24, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 24
    for out, many in ((116, 4), (232, 8), (464, 4)):
        for index in range(many):
            layers.append(_Shuffled(channels, out, 2 if index == 0 else 1))
            channels = out
    layers += [*_conv_norm(channels, 1024, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1024, CLASSES))


class _NormLast(nn.LayerNorm):  # type: ignore[misc]
    """A layer norm over the channels of maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Each position by itself."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Next(nn.Module):  # type: ignore[misc]
    """A depthwise 7x7 layer, a norm and a perceptron at every position, as the authors wrote it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """ConvNeXt-tiny (Liu et al., 2022)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), _NormLast(96, eps=1e-6)]
    channels = 96
    for out, many in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if out != channels:
            layers += [_NormLast(channels, eps=1e-6), nn.Conv2d(channels, out, 2, 2)]
        layers += [_Next(out) for _ in range(many)]
        channels = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels, eps=1e-6)]
    return nn.Sequential(*layers, nn.Linear(channels, CLASSES))


class _Temporal(nn.Module):  # type: ignore[misc]
    """Wider, a causal depthwise layer, narrower, and the input is added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        wide, self._chomp = 2 * channels, 2 * dilation
        depthwise = nn.Conv1d(wide, wide, 3, padding=2 * dilation, dilation=dilation, groups=wide, bias=False)
        self.first = nn.Sequential(nn.Conv1d(channels, wide, 1, bias=False), nn.BatchNorm1d(wide), nn.ReLU(), depthwise)
        self.last = nn.Sequential(nn.BatchNorm1d(wide), nn.ReLU(), nn.Conv1d(wide, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The block; what lies behind the end of the series is cut off."""
        y = self.last(self.first(x)[..., : -self._chomp])
        return x + y


def temporal() -> nn.Module:
    """A temporal convolutional network (Bai et al., 2018) of depthwise separable blocks, as in Conv-TasNet."""
    blocks = [_Temporal(128, 2**level) for _ in range(2) for level in range(6)]
    tail = [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, CLASSES)]
    return nn.Sequential(nn.Conv1d(16, 128, 1), *blocks, *tail)


MODELS: Final[dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[int, ...]]]]] = {
    "MobileNetV2": (mobilenet, lambda size: (3, size, size)),
    "ShuffleNetV2": (shufflenet, lambda size: (3, size, size)),
    "ConvNeXt-tiny": (convnext, lambda size: (3, size, size)),
    "TCN": (temporal, lambda size: (16, 8 * size)),
}
"""Title -> what makes the model, and the shape of one input at a resolution."""
