"""`CompiledPart`: a part of a graph with weights as constants, and whether they are still what they were then."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Hashable, Sequence

import torch

from omniconv.torch.compile import CompiledModule


class CompiledPart:
    """A compiled part, with the weights that are in it.

    It holds the tensors and their memory of that time, so that nothing else gets the addresses that it is known by.

    Args:
        module: the part.
        weights: that it was compiled with.
        uncounted: which of them PyTorch changes without counting it.
    """

    def __init__(self, module: CompiledModule, weights: list[torch.Tensor], uncounted: Sequence[bool]) -> None:
        self.module, self._weights, self._uncounted = module, weights, uncounted
        self._memory = [weight.detach() for weight in weights]
        self._states = list(map(state_of, weights, uncounted))

    def holds(self, weights: list[torch.Tensor]) -> bool:
        """Whether it is compiled with these weights as they are."""
        return (
            len(weights) == len(self._weights)
            and all(map(operator.is_, weights, self._weights))
            and list(map(state_of, weights, self._uncounted)) == self._states
        )

    @property
    def arena_bytes(self) -> int:
        """Working memory [bytes]."""
        return int(self.module.network.arena_bytes)

    @property
    def constant_bytes(self) -> int:
        """Weights [bytes]."""
        return int(self.module.network.constant_bytes)


def state_of(weight: torch.Tensor, uncounted: bool) -> Hashable:
    """What changes when a tensor gets other memory, or is changed in a way that PyTorch counts; or all of its values,
    where it counts nothing.
    """
    content = _read(weight) if uncounted and weight.device.type == "cpu" else b""
    return weight.data_ptr(), weight._version, weight.shape, weight.stride(), content  # noqa: SLF001


def _read(x: torch.Tensor) -> bytes:
    x = x.contiguous()
    return ctypes.string_at(x.data_ptr(), x.nbytes)
