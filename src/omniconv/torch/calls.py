"""The operators ``torch.ops.omniconv`` as such: how each is registered, and how its values come from a program.

What an operator computes is in :data:`GENERAL`; a call of it that has been prepared is remembered by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final

import torch

from omniconv.torch.dispatch import DIFFERENTIABLE, VALUES, find_key
from omniconv.torch.prepared import Find, Given, PreparedCall, Returned
from omniconv.torch.programs import DTYPES, PROGRAMS

LIBRARY: Final = torch.library.Library("omniconv", "DEF")
GENERAL: Final[dict[str, Callable[..., Any]]] = {}
"""Name of an operator -> its values, from the key of the call and its arguments; prepared and remembered there."""


def compiles(*tensors: torch.Tensor | None) -> bool:
    """Whether code is compiled for such tensors."""
    given = [tensor for tensor in tensors if tensor is not None]
    return all(tensor.dtype in DTYPES and tensor.device.type == "cpu" and tensor.numel() for tensor in given)


def run_program(key: Hashable, find: Find, inputs: dict[str, Given], results: dict[str, Returned]) -> Any:
    """Prepare a call, remember it where it has a key, and run it."""
    prepared = PreparedCall(find, inputs, results)
    if key is not None:
        PROGRAMS.remember(key, prepared)
    return prepared.run([x for x, _ in inputs.values()])


def define(
    name: str,
    schema: str,
    values: Callable[..., Any],
    shapes: Callable[..., Any],
    save: Callable[..., None],
    backward: Callable[..., Any],
) -> None:
    """Register an operator.

    Args:
        name, schema: of the operator.
        values: what it computes, see :data:`GENERAL`.
        shapes: its results without data.
        save, backward: its gradients, as `torch.library.register_autograd` takes them.
    """
    GENERAL[name] = values
    LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, partial(_dispatched, name), "CompositeExplicitAutograd")
    full = f"omniconv::{name}"
    torch.library.register_fake(full, shapes, lib=LIBRARY)
    torch.library.register_autograd(full, backward, setup_context=save, lib=LIBRARY)
    VALUES[name], DIFFERENTIABLE[name] = partial(_value, name), _direct(name, save, backward)


def _value(name: str, key: Hashable, *arguments: Any) -> Any:
    """What an operator gives, by the call that is remembered for a key where there is one."""
    prepared = None if key is None else PROGRAMS.recall(key)
    if prepared is None:
        return GENERAL[name](key, *arguments)
    return prepared.run([x for x in arguments if isinstance(x, torch.Tensor)])


def _dispatched(name: str, *arguments: Any) -> Any:
    """The same, for arguments as PyTorch's dispatcher passes them."""
    given = [tuple(each) if isinstance(each, list) else each for each in arguments]
    return _value(name, find_key(name, *given), *given)


def _direct(name: str, save: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """What is called in the place of an operator where gradients are wanted, and nobody else is to see it."""

    def forward(ctx: Any, *arguments: Any) -> Any:
        *given, then, key = arguments
        found = _value(name, key, *given)
        if then is not None:
            then(found)
        save(ctx, given, found)
        return found

    def back(ctx: Any, *gradients: Any) -> Any:
        return (*backward(ctx, *gradients), None, None)

    body = {"forward": staticmethod(forward), "backward": staticmethod(back)}
    function = type(f"Direct_{name}", (torch.autograd.Function,), body)
    # Without the part that is in Python, which is for transforms and takes as long as all the rest.
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply
    return apply
