"""What a convolution is: immutable descriptions and the integer geometry behind them. Standard library only."""

from omniconv.spec.activation import Activation
from omniconv.spec.arguments import Shape
from omniconv.spec.chain import Chain, ChainStep, Spec, Split
from omniconv.spec.conv import Conv
from omniconv.spec.geometry import Axis, Phase
from omniconv.spec.rearrange import PixelShuffle, Resize, Shuffle
from omniconv.spec.text import parse

__all__ = [
    "Activation",
    "Axis",
    "Chain",
    "ChainStep",
    "Conv",
    "Phase",
    "PixelShuffle",
    "Resize",
    "Shape",
    "Shuffle",
    "Spec",
    "Split",
    "parse",
]
