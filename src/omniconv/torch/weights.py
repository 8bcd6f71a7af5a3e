"""`CompiledPart`: a part of a graph with weights as constants, and whether they are still what they were then."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Sequence
from itertools import compress
from typing import Final

import torch

from omniconv.torch.compile import CompiledModule

_STATE: Final = (
    torch.Tensor.data_ptr,
    operator.attrgetter("_version"),
    operator.attrgetter("shape"),
    torch.Tensor.stride,
)
"""What changes when a tensor gets other memory, or is changed in a way that PyTorch counts."""


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
        self._states = states_of(weights, uncounted)

    def holds(self, weights: list[torch.Tensor]) -> bool:
        """Whether it is compiled with these weights as they are."""
        return (
            len(weights) == len(self._weights)
            and all(map(operator.is_, weights, self._weights))
            and states_of(weights, self._uncounted) == self._states
        )

    @property
    def arena_bytes(self) -> int:
        """Working memory [bytes]."""
        return int(self.module.network.arena_bytes)

    @property
    def constant_bytes(self) -> int:
        """Weights [bytes]."""
        return int(self.module.network.constant_bytes)


def states_of(weights: Sequence[torch.Tensor], uncounted: Sequence[bool]) -> Hashable:
    """What changes when weights do: :data:`_STATE` of all, and values of those whose changes PyTorch does not count.

    Hundreds of weights are looked at in every call, so that as little as can be is done in Python for each of them.
    """
    counted = tuple(tuple(map(look, weights)) for look in _STATE)
    statistics = [x for x in compress(weights, uncounted) if x.is_cpu]
    return counted, torch.cat(statistics).view(torch.uint8).numpy().tobytes() if statistics else b""
