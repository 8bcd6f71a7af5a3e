"""Layers of PyTorch for every kind of convolution, in the conventions of `torch.nn`, trained with compiled code.

``Conv1d`` to ``ConvTranspose3d``, ``BatchNorm1d`` to ``BatchNorm3d`` and ``Sequential`` stand in for the modules of
`torch.nn` of these names. Every kind of :func:`omniconv.kinds` has a module for each number of axes, named after it:
``DepthwiseSeparable2d``, ``ShuffledGrouped1d``, ``Causal1d`` ... `ConvNd` and `ChainNd` take any spec.
"""

from typing import Any

from omniconv.kinds import kinds
from omniconv.torch.nn.derive import make_modules
from omniconv.torch.nn.drop_in import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Sequential,
)
from omniconv.torch.nn.layers import ChainNd, ConvNd

_MADE = make_modules(kinds(), __name__)

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "ChainNd",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvNd",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Sequential",
]
__all__ += list(_MADE)

globals().update(_MADE)


def __getattr__(name: str) -> Any:
    """For checkers of types: the modules of the kinds are made when this is imported."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
