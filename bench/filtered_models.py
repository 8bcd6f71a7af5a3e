"""Networks whose layers can be filtered, of more kinds than 3x3: from torchvision, and from plain PyTorch modules.

Weights are random and well scaled: variance 1 / fan-in of a layer, and norms whose statistics are those of the input
itself, so that values keep their scale through any depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn

from networks import build, draw_weights


def _join(*layers: nn.Module, norm: type[nn.Module] = nn.BatchNorm2d, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, norm(width), nn.ReLU())


class Dcgan(nn.Sequential):  # type: ignore[misc]
    """A generator of images, 64x64, from 100 numbers: five transposed layers of 4x4.

    Source: Radford, Metz and Chintala, Unsupervised representation learning with deep convolutional generative
    adversarial networks, 2016. Half as wide, as the example of PyTorch is.
    """

    def __init__(self, width: int = 64) -> None:
        widths = [8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = [_join(nn.ConvTranspose2d(100, widths[0], 4, bias=False), width=widths[0])]
        for before, after in pairwise(widths):
            layers.append(_join(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), width=after))
        super().__init__(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


class UNet(nn.Module):  # type: ignore[misc]
    """Two convolutions of 3 taps an axis at each level, pooling down, transposed layers up, skips between.

    Sources: Ronneberger, Fischer and Brox, U-Net, 2015; Çiçek and others, 3D U-Net, 2016.

    Args:
        dims: axes of the image, 2 or 3.
        inputs, outputs: channels.
        width: channels of the first level; each level has twice those of the one above.
        levels: number of them.
        taps: of the transposed layers, along each axis.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, width: int, levels: int, taps: int) -> None:
        super().__init__()
        conv, transposed = ((nn.Conv2d, nn.ConvTranspose2d), (nn.Conv3d, nn.ConvTranspose3d))[dims - 2]
        norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
        self.pool = (nn.MaxPool2d, nn.MaxPool3d)[dims - 2](2)

        def pair(before: int, after: int) -> nn.Sequential:
            sizes = ((before, after), (after, after))
            return nn.Sequential(*(_join(conv(*each, 3, padding=1), norm=norm, width=each[1]) for each in sizes))

        widths = [width << level for level in range(levels)]
        self.down = nn.ModuleList(map(pair, [inputs, *widths[:-1]], widths))
        self.up = nn.ModuleList(transposed(2 * n, n, taps, 2, taps // 2 - 1) for n in widths[-2::-1])
        self.join = nn.ModuleList(pair(2 * n, n) for n in widths[-2::-1])
        self.last = conv(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, as large as the image."""
        skips: list[Tensor] = []
        for level in self.down:
            x = level(self.pool(x) if skips else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat((up(x), skip), 1))
        scores: Tensor = self.last(x)
        return scores


class _Shrink(nn.Module):  # type: ignore[misc]
    """A convolution with stride 2 beside pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, 2, 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Half the size."""
        joined = torch.cat([self.conv(x), nn.functional.max_pool2d(x, 2)], 1)
        return nn.functional.relu(self.norm(joined))


class _Flat(nn.Module):  # type: ignore[misc]
    """3x1, 1x3, and the same dilated, around which the input goes."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in (1, dilation):
            layers += [nn.Conv2d(width, width, (3, 1), padding=(step, 0), dilation=(step, 1)), nn.ReLU()]
            layers += [nn.Conv2d(width, width, (1, 3), padding=(0, step), dilation=(1, step))]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """The same size."""
        return nn.functional.relu(self.layers(x) + x)


class ErfNet(nn.Sequential):  # type: ignore[misc]
    """Segmentation of streets by layers of 3x1 and 1x3.

    Source: Romera and others, ERFNet, 2018.
    """

    def __init__(self, classes: int = 20) -> None:
        layers: list[nn.Module] = [_Shrink(3, 16), _Shrink(16, 64), *(_Flat(64) for _ in range(5)), _Shrink(64, 128)]
        layers += [_Flat(128, dilation) for _ in range(2) for dilation in (2, 4, 8, 16)]
        for before, after in ((128, 64), (64, 16)):
            layers.append(_join(nn.ConvTranspose2d(before, after, 3, 2, 1, 1), width=after))
            layers += [_Flat(after), _Flat(after)]
        super().__init__(*layers, nn.ConvTranspose2d(16, classes, 2, 2))


class Fsrcnn(nn.Sequential):  # type: ignore[misc]
    """Enlargement of the brightness of an image to twice its size.

    Source: Dong, Loy and Tang, Accelerating the super-resolution convolutional neural network, 2016.
    """

    def __init__(self, wide: int = 56, narrow: int = 12) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, wide, 5, padding=2), nn.PReLU(wide)]
        layers += [nn.Conv2d(wide, narrow, 1), nn.PReLU(narrow)]
        for _ in range(4):
            layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)]
        layers += [nn.Conv2d(narrow, wide, 1), nn.PReLU(wide)]
        super().__init__(*layers, nn.ConvTranspose2d(wide, 1, 9, 2, 4, 1))


@dataclass(frozen=True, slots=True)
class Subject:
    """A network, and the shape of its input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def draw(self) -> tuple[nn.Module, Tensor]:
        """The network at inference and its input, the same on every machine."""
        model: Any = self.make()
        draw_weights(model)
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(1))
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - what all norms of batches are
                part.reset_running_stats()
                part.momentum = None
                part.train()
        with torch.no_grad():
            model(x)
        return model.eval(), x


def _from_torchvision(module: str, name: str) -> Callable[[], nn.Module]:
    return lambda: build(f"torchvision.{module}", name)


SUBJECTS: Final = {
    "ResNet-50": Subject(_from_torchvision("resnet", "resnet50"), (1, 3, 224, 224)),
    "Inception v3": Subject(_from_torchvision("inception", "inception_v3"), (1, 3, 299, 299)),
    "DCGAN": Subject(Dcgan, (1, 100, 1, 1)),
    "U-Net": Subject(lambda: UNet(2, 3, 2, 32, 5, 2), (1, 3, 256, 256)),
    "U-Net, 4x4 up": Subject(lambda: UNet(2, 3, 2, 32, 5, 4), (1, 3, 256, 256)),
    "R3D-18": Subject(_from_torchvision("video.resnet", "r3d_18"), (1, 3, 16, 112, 112)),
    "3-D U-Net": Subject(lambda: UNet(3, 1, 3, 32, 4, 2), (1, 1, 64, 64, 64)),
    "ERFNet": Subject(ErfNet, (1, 3, 256, 512)),
    "FSRCNN": Subject(Fsrcnn, (1, 1, 128, 128)),
}
"""By name."""
