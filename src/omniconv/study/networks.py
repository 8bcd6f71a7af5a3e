"""The one network of the study: a stem, three layers of the kind, each with a batch norm and ReLU, a mean, a decision.

.. code-block:: text

    3x3 c > w | kind w > w | halve | kind w > 2w | kind 2w > 2w | mean over positions | 2w > classes

Images above 8 pixels are halved before the first layer of the kind, as often as that takes. The stem and the decision
are drawn first, so that networks of one seed and width begin with the same ones, whatever the kind.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from omniconv.inspection import cost, receptive_field
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv, Shape, Spec
from omniconv.study.variants import KERNEL, Variant
from omniconv.torch.layers import to_torch

SMALL: Final = 8
"""Pixels on a side that the first layer of the kind sees at most."""


@dataclass(frozen=True, slots=True)
class Design:
    """One network before it has weights.

    Attributes:
        variant: of the layers.
        width: w.
        channels, size: of the images.
        classes: of the labels.
    """

    variant: Variant
    width: int
    channels: int
    size: int
    classes: int

    @property
    def halvings(self) -> int:
        """Before the first layer of the kind."""
        size, found = self.size, 0
        while size > SMALL:
            size, found = size // 2, found + 1
        return found

    @property
    def layers(self) -> tuple[tuple[Spec, Shape], ...]:
        """The layers of the kind, and what each is given."""
        w, size = self.width, self.size >> self.halvings
        half = size // 2
        build = self.variant.build
        return (
            (build(w, w), (1, w, size, size)),
            (build(w, 2 * w), (1, w, half, half)),
            (build(2 * w, 2 * w), (1, 2 * w, half, half)),
        )

    @property
    def stem(self) -> Conv:
        """The first layer, which is the same for every kind."""
        return Conv.of(self.channels, self.width, KERNEL, padding=KERNEL // 2)

    @property
    def parameters(self) -> int:
        """Weights of all convolutions and of the decision, without biases and norms."""
        rest = cost(self.stem, (1, self.channels, self.size, self.size)).parameters + 2 * self.width * self.classes
        return rest + sum(cost(spec, shape).parameters for spec, shape in self.layers)

    @property
    def macs(self) -> int:
        """Of one image [MAC]."""
        rest = cost(self.stem, (1, self.channels, self.size, self.size)).macs + 2 * self.width * self.classes
        return rest + sum(cost(spec, shape).macs for spec, shape in self.layers)

    @property
    def field(self) -> int:
        """Positions on a side that the layers of the kind see, one behind another, without the halving."""
        steps = [step for spec, _ in self.layers for step in (spec.steps if isinstance(spec, Chain) else (spec,))]
        return receptive_field(Chain(tuple(steps))).size[0]

    def build(self, seed: int) -> nn.Module:
        """The network with its first weights."""
        torch.manual_seed(seed)
        stem, decide = to_torch(self.stem), nn.Linear(2 * self.width, self.classes)
        parts = [stem, nn.BatchNorm2d(self.width), nn.ReLU(), *(nn.AvgPool2d(2) for _ in range(self.halvings))]
        for place, (spec, shape) in enumerate(self.layers):
            parts += [to_torch(spec), nn.BatchNorm2d(spec.output_shape(shape)[1]), nn.ReLU()]
            if place == 0:
                parts.append(nn.AvgPool2d(2))
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), decide)
