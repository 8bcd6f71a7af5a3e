"""`call`: an operator by name, through PyTorch's dispatcher, through a transform, or straight to its program.

For an operator in Python that has gradients the dispatcher takes a tenth of a millisecond, longer than small layers
run. It is needed only where somebody is to see the operator: a tracer, a transform, automatic types, a mode that is
entered, a profiler, or a tensor of another class or device. All else goes straight to the program, and through a plain
`torch.autograd.Function` where gradients are wanted; values and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch
from torch.autograd import forward_ad

from omniconv.torch import plain
from omniconv.torch.layouts import PLAIN_TYPES

# PyTorch has no public names for these.
_keys_of: Final = torch._C._dispatch_keys  # noqa: SLF001
_included: Final = torch._C._dispatch_tls_local_include_set  # noqa: SLF001
_excluded: Final = torch._C._dispatch_tls_local_exclude_set  # noqa: SLF001
_count_modes: Final = torch._C._len_torch_function_stack  # noqa: SLF001
_is_profiled: Final = torch._C._autograd._profiler_enabled  # noqa: SLF001
_is_transformed: Final = torch._C._are_functorch_transforms_active  # noqa: SLF001

FUNCTIONS: Final[dict[str, type[torch.autograd.Function]]] = {}
"""Name of an operator -> the function that transforms see; filled where the operators are registered."""
VALUES: Final[dict[str, Callable[..., Any]]] = {}
"""Name of an operator -> its values, from the key of the call and its arguments."""
DIFFERENTIABLE: Final[dict[str, Callable[..., Any]]] = {}
"""Name of an operator -> its values with gradients, from its arguments, what follows and the key of the call."""


def call(name: str, *arguments: Any, then: Callable[[Any], None] | None = None) -> Any:
    """An operator on its arguments. Sequences among the numbers of a layer are tuples.

    ``then`` is called with the result, and where the call is direct, before anything is saved for the way back: a
    checkpoint ends its second forward pass where that is the last.

    PyTorch's transforms (`torch.func.grad`, `vmap` ...) take gradients of functions that keep nothing but what a
    separate method saves, which gradients that are registered with `torch.library` do not. So they get such functions,
    and each layer of transforms calls this again, until none is left.
    """
    key = find_direct(name, *arguments)
    if key is None:
        transformed = _is_transformed() and not torch.compiler.is_compiling()
        found = FUNCTIONS[name].apply(*arguments) if transformed else _call_visibly(name, *arguments)
    elif torch.is_grad_enabled() and any(isinstance(each, torch.Tensor) and each.requires_grad for each in arguments):
        return DIFFERENTIABLE[name](*arguments, then, key)
    else:
        found = VALUES[name](key, *arguments)
    if then is not None:
        then(found)
    return found


def find_direct(name: str, *arguments: Any) -> Hashable | None:
    """The key of a call that goes straight to its program; none where somebody is to see its operators."""
    if torch.compiler.is_compiling() or _is_transformed() or _is_watched():
        return None
    return find_key(name, *arguments)


def _call_visibly(name: str, *arguments: Any) -> Any:
    """An operator for all to see. An export to ONNX, which has no such operator, sees PyTorch's."""
    if name == "conv" and torch.onnx.is_in_onnx_export():
        x, w, b, *layer = arguments
        return plain.conv(x, w, b, plain.Geometry(*layer))
    return call_operator(name, *arguments)


def call_operator(name: str, *arguments: Any) -> Any:
    """An operator on its arguments, in no more transforms than PyTorch's dispatcher knows of."""
    return getattr(torch.ops.omniconv, name)(*arguments)


def find_key(name: str, *arguments: Any) -> Hashable | None:
    """What calls that run alike have in common; none where a tensor is not plain: strided, in host memory, no more."""
    found: list[Any] = [name, torch.get_num_threads()]
    for each in arguments:
        if type(each) in PLAIN_TYPES:
            if _keys_of(each).raw_repr() not in _PLAIN_KEYS:
                return None
            found += (each.shape, each.stride(), each.dtype)
        elif isinstance(each, torch.Tensor):
            return None
        else:
            found.append(each)
    return tuple(found)


def is_transformed() -> bool:
    """Whether this thread is inside of PyTorch's transforms, or of its dual numbers."""
    return bool(_is_transformed() or forward_ad._current_level >= 0)  # noqa: SLF001


def _is_watched() -> bool:
    """Whether calls of this thread are seen by anything but autograd."""
    return bool(
        (_included().raw_repr(), _excluded().raw_repr()) not in _PLAIN_STATES
        or _count_modes()
        or _is_profiled()
        or forward_ad._current_level >= 0  # noqa: SLF001
    )


def _find_plain() -> tuple[frozenset[tuple[int, int]], frozenset[int]]:
    """States of a thread, and keys of a tensor, that are plain: inside of `torch.inference_mode` and outside."""
    states, keys = set(), set()
    for inference in (False, True):
        with torch.inference_mode(inference):
            states.add((_included().raw_repr(), _excluded().raw_repr()))
            keys.add(_keys_of(torch.empty(0, device="cpu")).raw_repr())
    return frozenset(states), frozenset(keys)


with ThreadPoolExecutor(1) as _fresh:  # a thread of its own has entered nothing
    _PLAIN_STATES, _PLAIN_KEYS = _fresh.submit(_find_plain).result()
