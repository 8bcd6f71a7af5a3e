"""Segmentation networks whose tiles are measured: thin ones of the shapes that people use, from PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


def _conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation), nn.ReLU())


class UNet(nn.Module):  # type: ignore[misc]
    """Two convolutions a level, pooling down, transposed convolutions up, skips between."""

    def __init__(self, width: int = 4, levels: int = 3, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**n for n in range(levels)]
        inputs = [3, *widths[:-1]]
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in widths[-2::-1])
        self.join = nn.ModuleList(nn.Sequential(_conv(2 * n, n), _conv(n, n)) for n in widths[-2::-1])
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the classes, as large as the image."""
        x = x / 127.5 - 1
        skips = []
        for n, level in enumerate(self.down):
            x = level(x if n == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat((up(x), skip), 1))
        return self.last(x)


class DeepLab(nn.Module):  # type: ignore[misc]
    """A quarter of the size, dilated layers, a pyramid of dilations, and bilinear enlargement.

    Args:
        pooled: with a branch for the mean of the whole image, as version 3 has.
    """

    def __init__(self, width: int = 8, classes: int = 2, *, pooled: bool = False) -> None:
        super().__init__()
        wide = 2 * width
        self.stem = nn.Sequential(_conv(3, width, stride=2), _conv(width, wide, stride=2))
        self.body = nn.Sequential(_conv(wide, wide, dilation=2), _conv(wide, wide, dilation=4))
        self.pyramid = nn.ModuleList(_conv(wide, width, dilation=n) for n in (1, 6, 12, 18))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, width, 1), nn.ReLU()) if pooled else None
        self.last = nn.Conv2d(width * (4 + pooled), classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the classes, as large as an image whose sizes are multiples of 4."""
        x = self.body(self.stem(x / 127.5 - 1))
        parts = [branch(x) for branch in self.pyramid]
        if self.pool is not None:
            parts.append(self.pool(x).expand_as(parts[0]))
        scores = self.last(torch.cat(parts, 1))
        return nn.functional.interpolate(scores, scale_factor=4, mode="bilinear", align_corners=False)


NETS: dict[str, Any] = {
    "unet": UNet,
    "unet-wide": lambda: UNet(16),
    "deeplab": DeepLab,
    "deeplab-pooled": lambda: DeepLab(pooled=True),
}


def make_net(name: str) -> nn.Module:
    """A network with weights that are the same every time."""
    torch.manual_seed(0)
    net: nn.Module = NETS[name]().eval()
    return net


def export_net(name: str, path: Path) -> None:
    """Write it as ONNX, sizes open."""
    sizes = {2: "height", 3: "width"}
    torch.onnx.export(
        make_net(name),
        (torch.zeros(1, 3, 64, 64),),
        str(path),
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": sizes, "y": sizes},
        opset_version=17,
        dynamo=False,
    )
