"""Decoders that make images from a few numbers, one for each way of enlarging, in one and two dimensions.

.. code-block:: text

    16 principal components > linear > 16 channels of size / s, ReLU > enlarged by s > image

Images are brought to 18 x 18 pixels, which strides of 2 and 3 both divide, in grey; in one dimension their rows come
one after another, every second one backwards, so that neighbours stay neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from omniconv.analysis import overlap
from omniconv.kinds import resize_conv, sub_pixel, transposed
from omniconv.records import dataclass
from omniconv.spec import PixelShuffle, Spec
from omniconv.study.grid import Float64, crop, find_energies, find_share
from omniconv.study.images import Pixels
from omniconv.study.training import one_thread
from omniconv.torch.layers import to_torch
from omniconv.torch.steps import PixelShuffleNd

SIDE: Final = 18
CODE: Final = 16
CHANNELS: Final = 16
BATCH: Final = 64
RATE: Final = 3e-3
MOST: Final = 2000
"""Images that decoders learn from."""
GENERATED: Final = 256
"""Images that are generated and measured."""
DRAWS: Final = 100
"""First weights that are drawn for the untrained layers, each with :data:`OUTPUTS` output channels."""
OUTPUTS: Final = 64
DIMS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class Enlarging:
    """One way of enlarging.

    Attributes:
        name: as in tables.
        factor: s.
        build: the layer, from so many channels to so many over so many axes.
        alike: whether the channels that become one patch begin alike (ICNR).
    """

    name: str
    factor: int
    build: Callable[..., Spec]
    alike: bool = False

    def spec(self, dims: int, outputs: int = 1) -> Spec:
        """The layer at the end of the decoder."""
        return self.build(CHANNELS, outputs, dims=dims)

    def predict(self, dims: int) -> list[float]:
        """What `omniconv.overlap` counts for each phase, row by row, over one period of the stride."""
        counts = overlap(self.spec(dims)).counts
        return [float(value) for value in np.broadcast_to(counts, (self.factor,) * dims).reshape(-1)]

    def layer(self, dims: int, outputs: int = 1) -> nn.Module:
        """The layer as PyTorch begins it, without a bias at first."""
        spec = self.spec(dims, outputs)
        made = to_torch(spec) if dims == 2 or not self.name.startswith("sub_pixel") else _shuffle_on_one_axis(spec)
        for part in made.modules():
            if isinstance(part, nn.modules.conv._ConvNd):  # noqa: SLF001 - the common base of PyTorch's convolutions
                nn.init.zeros_(part.bias)
                if self.alike:
                    block = self.factor**dims
                    with torch.no_grad():
                        part.weight.copy_(part.weight[::block].repeat_interleave(block, 0))
        return made


def _shuffle_on_one_axis(spec: Spec) -> nn.Module:
    """A sub-pixel layer on one axis, for which PyTorch has no shuffle."""
    steps: Any = getattr(spec, "steps", ())
    return nn.Sequential(
        *(PixelShuffleNd(step.factor) if isinstance(step, PixelShuffle) else to_torch(step) for step in steps)
    )


_LISTED: Final = (
    Enlarging("transposed k3 s2", 2, partial(transposed, kernel_size=3, stride=2, padding=1, output_padding=1)),
    Enlarging("transposed k4 s2", 2, partial(transposed, kernel_size=4, stride=2, padding=1)),
    Enlarging("transposed k5 s3", 3, partial(transposed, kernel_size=5, stride=3, padding=1)),
    Enlarging("resize", 2, partial(resize_conv, kernel_size=3, factor=2, padding=1)),
    Enlarging("sub_pixel", 2, partial(sub_pixel, kernel_size=3, factor=2, padding=1)),
    Enlarging("sub_pixel ICNR", 2, partial(sub_pixel, kernel_size=3, factor=2, padding=1), alike=True),
)
ENLARGINGS: Final[Mapping[str, Enlarging]] = MappingProxyType({item.name: item for item in _LISTED})


@dataclass(frozen=True, eq=False)
class Scenes:
    """What decoders learn.

    Attributes:
        codes: a few numbers for each image.
        images: ``(n, SIDE, SIDE)``.
    """

    codes: Pixels
    images: Pixels

    def targets(self, dims: int) -> Pixels:
        """What a decoder is to make: images, or their rows one after another."""
        if dims == 2:
            return self.images
        snake = self.images.copy()
        snake[:, 1::2] = snake[:, 1::2, ::-1]
        return snake.reshape(len(snake), -1)


def make_scenes(x: Pixels) -> Scenes:
    """Grey images of one size from ``(n, channels, size, size)``, with their principal components of variance 1."""
    with one_thread():
        grey = torch.from_numpy(x[:MOST].mean(axis=1, keepdims=True))
        scaled = nn.functional.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        images = np.ascontiguousarray(scaled[:, 0].numpy())
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    codes = flat @ vectors[:, ::-1][:, :CODE]
    codes /= np.maximum(codes.std(axis=0), 1e-6)
    return Scenes(codes.astype(np.float32), images)


class Decoder(nn.Module):  # type: ignore[misc] # untyped for a checker without PyTorch
    """From a code to an image.

    Args:
        enlarging: its last layer.
        dims: axes of what it makes.
        outputs: so many images at once, which only what is not trained makes.
    """

    def __init__(self, enlarging: Enlarging, dims: int, outputs: int = 1) -> None:
        super().__init__()
        side = SIDE if dims == 2 else SIDE**2
        self.shape = (CHANNELS, *[side // enlarging.factor] * dims)
        self.linear = nn.Linear(CODE, int(np.prod(self.shape)))
        self.enlarge = enlarging.layer(dims, outputs)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Images ``(n, outputs, *spatial)``."""
        return self.enlarge(torch.relu(self.linear(codes)).reshape(-1, *self.shape))


def train_decoder(name: str, dims: int, seed: int, steps: int, scenes: Scenes) -> dict[str, Any]:
    """Train one decoder, and measure the grid in what it makes.

    Returns:
        For JSON: ``share``, of the energy at the frequencies of the grid; ``error``, the mean square of what is wrong
        with its images over the variance of theirs; ``share_error``, the share of what is wrong.
    """
    enlarging = ENLARGINGS[name]
    with one_thread():
        torch.manual_seed(seed)
        model = Decoder(enlarging, dims)
        codes, targets = torch.from_numpy(scenes.codes), torch.from_numpy(scenes.targets(dims))
        order = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
        for _ in range(steps):
            chosen = torch.randint(len(codes), (BATCH,), generator=order)
            optimiser.zero_grad()
            nn.functional.mse_loss(model(codes[chosen])[:, 0], targets[chosen]).backward()
            optimiser.step()
        with torch.no_grad():
            made = model(codes[:GENERATED])[:, 0].double().numpy()
    wanted = targets[:GENERATED].double().numpy()
    wrong = made - wanted
    inside = partial(crop, border=enlarging.factor)
    return {
        "share": find_share(inside(made), enlarging.factor),
        "error": float((wrong**2).mean() / wanted.var()),
        "share_error": find_share(inside(wrong), enlarging.factor),
    }


def measure_first(name: str, dims: int, seed: int, scenes: Scenes) -> dict[str, Any]:
    """Measure the grid in what decoders make before they learn anything, over many first weights of the last layer.

    Returns:
        For JSON: ``shares`` of each draw, and ``energies``, of each draw the mean square of each phase.
    """
    enlarging = ENLARGINGS[name]
    codes = torch.from_numpy(scenes.codes[:8])
    shares, energies = [], []
    with one_thread():
        torch.manual_seed(seed)
        for _ in range(DRAWS):
            model = Decoder(enlarging, dims, OUTPUTS)
            with torch.no_grad():
                made = model(codes).double().numpy()
            images = crop(made.reshape(-1, *made.shape[2:]), enlarging.factor)
            shares.append(find_share(images, enlarging.factor))
            energies.append(find_energies(images, enlarging.factor).tolist())
    return {"shares": shares, "energies": energies}


def measure_scenes(dims: int, factor: int, scenes: Scenes) -> float:
    """The share of the images themselves, which have no grid: what the measure finds where there is none."""
    images: Float64 = scenes.targets(dims)[:GENERATED].astype(np.float64)
    return find_share(crop(images, factor), factor)
