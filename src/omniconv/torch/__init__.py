"""PyTorch in and out: layers as modules, modules as layers, and whole models compiled. Needs the extra ``torch``."""

from omniconv.torch.compile import compile  # noqa: A004
from omniconv.torch.layers import Branches, from_torch, to_torch

__all__ = ["Branches", "compile", "from_torch", "to_torch"]
