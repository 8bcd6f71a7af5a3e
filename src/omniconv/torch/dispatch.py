"""`call`: one of the operators, by name, also inside the transforms of `torch.func`."""

from __future__ import annotations

from typing import Any, Final

import torch

FUNCTIONS: Final[dict[str, type[torch.autograd.Function]]] = {}
"""Name of an operator -> the function that transforms see; filled where the operators are registered."""


def call(name: str, *arguments: Any) -> Any:
    """An operator on its arguments.

    PyTorch's transforms (`torch.func.grad`, `vmap` ...) take gradients of functions that keep nothing but what a
    separate method saves, which gradients that are registered with `torch.library` do not. So they get such functions,
    and each layer of transforms calls this again, until none is left.
    """
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():  # noqa: SLF001
        return FUNCTIONS[name].apply(*arguments)
    return call_operator(name, *arguments)


def call_operator(name: str, *arguments: Any) -> Any:
    """An operator on its arguments, in no more transforms than PyTorch's dispatcher knows of."""
    return getattr(torch.ops.omniconv, name)(*arguments)
