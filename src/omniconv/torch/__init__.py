"""PyTorch in and out: layers for every kind, models that train and infer with compiled code, modules to specs and back.

:mod:`omniconv.torch.nn` has the layers, `convert` puts them into a model, ``torch.compile(model, backend="omniconv")``
uses them under PyTorch's compiler, and `compile` freezes a whole network. Needs the extra ``torch``.
"""

from omniconv.torch import nn
from omniconv.torch.backend import reports
from omniconv.torch.compile import compile  # noqa: A004
from omniconv.torch.convert import convert
from omniconv.torch.layers import Branches, from_torch, to_torch

__all__ = ["Branches", "compile", "convert", "from_torch", "nn", "reports", "to_torch"]
