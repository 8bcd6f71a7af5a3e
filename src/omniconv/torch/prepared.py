"""`PreparedCall`: a program on tensors of certain shapes and strides, with all decided that can be beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from omniconv.compiler.planning.options import channels_to_first, channels_to_last
from omniconv.errors import DataError, ShapeError
from omniconv.runtime.executable import Executable
from omniconv.torch.layouts import DTYPES, find_move, strides_of

Find: TypeAlias = Callable[[], Executable]
"""Gives a program."""
Given: TypeAlias = tuple[torch.Tensor, bool]
"""A tensor, and whether its channels are to lie last."""
Returned: TypeAlias = tuple[Sequence[int], bool]
"""A shape, and whether its channels are to lie last."""


class PreparedCall:
    """A call of a program: how its inputs have to lie, and how its results will.

    Args:
        find: gives the program.
        inputs: tensors like those of the calls, by the program's names and in its order.
        results: what it gives, likewise. Those that it does not write, which are empty, come last.
        over: inputs over which it writes what else it gives, in the order of its outputs, which these are the last of.

    Raises:
        ShapeError, DataError: tensors that the program is not for.
    """

    __slots__ = ("_dtype", "_find", "_misaligned", "_moves", "_over", "_places", "_written")

    def __init__(
        self, find: Find, inputs: Mapping[str, Given], results: Mapping[str, Returned], over: Sequence[str] = ()
    ) -> None:
        program = find()
        self._find, self._written = find, len(program.outputs) - len(over)
        self._over = [list(inputs).index(name) for name in over]
        _check(program, inputs, results)
        moves = [(place, find_move(x, channels_last=last)) for place, (x, last) in enumerate(inputs.values())]
        self._moves = [(place, strides) for place, strides in moves if strides is not None]
        self._places = [(list(shape), strides_of(shape, channels_last=last)) for shape, last in results.values()]
        self._dtype = next(iter(inputs.values()))[0].dtype
        self._misaligned = self._dtype.itemsize - 1

    def run(self, tensors: Sequence[torch.Tensor]) -> Any:
        """The result, or a tuple of all, in memory of PyTorch's. Tensors that lie otherwise than is read are copied."""
        program = self._find()
        given = list(tensors)
        for place, strides in self._moves:
            x = given[place]
            given[place] = torch.empty_strided(x.shape, strides, dtype=x.dtype).copy_(x)
        results = [torch.empty_strided(shape, strides, dtype=self._dtype) for shape, strides in self._places]
        addresses = [x.data_ptr() for x in given]
        for place, address in enumerate(addresses):
            if address & self._misaligned:
                given[place] = given[place].clone()
                addresses[place] = given[place].data_ptr()
        addresses += [y.data_ptr() for y in results[: self._written]]
        addresses += [addresses[place] for place in self._over]
        program.run_at(addresses)
        for place in self._over:
            if given[place] is not tensors[place]:
                tensors[place].copy_(given[place])
        return results[0] if len(results) == 1 else tuple(results)


def _check(program: Executable, inputs: Mapping[str, Given], results: Mapping[str, Returned]) -> None:
    """Refuse what the program is not for: it reads and writes at addresses, without looking again."""
    for (name, shape), (given, (x, last)) in zip(program.inputs.items(), inputs.items(), strict=True):
        assert name == given
        if _turn(x.shape, last) != shape:
            raise ShapeError(
                f"{name} of shape {tuple(x.shape)}", need=f"{_turn_back(shape, last)}, by the other tensors"
            )
        if DTYPES[x.dtype] != program.dtype:
            raise DataError(f"{name} of {x.dtype}", need=f"{program.dtype}, the type of the others", fix="x.to(dtype)")
    for (name, shape), (given, (size, last)) in zip(program.outputs.items(), results.items(), strict=False):
        assert name == given
        assert _turn(size, last) == shape, (name, size, shape)


def _turn(shape: Sequence[int], last: bool) -> tuple[int, ...]:
    """A shape in the order of memory."""
    return channels_to_last(shape) if last else tuple(shape)


def _turn_back(shape: Sequence[int], last: bool) -> tuple[int, ...]:
    return channels_to_first(shape) if last else tuple(shape)
