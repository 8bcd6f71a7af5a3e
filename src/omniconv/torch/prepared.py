"""`PreparedCall`: a program on tensors of certain shapes and strides, with all decided that can be beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
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
Joined: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shapes, by name, of arrays in one tensor."""


class PreparedCall:
    """A call of a program: how its inputs have to lie, and how its results will.

    Args:
        find: gives the program.
        inputs: tensors like those of the calls, by the program's names and in its order.
        results: what it gives, likewise. Those that it does not write, which are empty, come last.
        over: inputs over which it writes what else it gives, in the order of its outputs, which these are the last of.
        joined: the last tensor of a call, and the shapes of the program's further inputs, which lie in it one after
            another.
        joining: shapes of its further outputs, which come likewise: before those that are written over inputs.

    Raises:
        ShapeError, DataError: tensors that the program is not for.
    """

    __slots__ = ("_dtype", "_find", "_joined", "_joining", "_misaligned", "_moves", "_over", "_places", "_written")

    def __init__(
        self,
        find: Find,
        inputs: Mapping[str, Given],
        results: Mapping[str, Returned],
        over: Sequence[str] = (),
        *,
        joined: tuple[torch.Tensor, Joined] | None = None,
        joining: Joined | None = None,
    ) -> None:
        program, joining = find(), joining or {}
        rows = {} if joined is None else joined[1]
        given = list(inputs.values()) if joined is None else [*inputs.values(), (joined[0], False)]
        self._find, self._written = find, len(program.outputs) - len(over) - len(joining)
        self._over = [list(inputs).index(name) for name in over]
        _check(program, inputs, results, rows, joining)
        moves = [(place, find_move(x, channels_last=last)) for place, (x, last) in enumerate(given)]
        self._moves = [(place, strides) for place, strides in moves if strides is not None]
        self._places = [(list(shape), strides_of(shape, channels_last=last)) for shape, last in results.values()]
        self._dtype = given[0][0].dtype
        self._misaligned = self._dtype.itemsize - 1
        self._joined, self._joining = _list_offsets(rows, self._dtype), _list_offsets(joining, self._dtype)
        if joining:
            self._places.append(([sum(map(math.prod, joining.values()))], [1]))

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
        over = [addresses[place] for place in self._over]
        if self._joined:
            first = addresses.pop()
            addresses += [first + offset for offset in self._joined]
        addresses += [y.data_ptr() for y in results[: self._written]]
        if self._joining:
            first = results[-1].data_ptr()
            addresses += [first + offset for offset in self._joining]
        program.run_at(addresses + over)
        for place in self._over:
            if given[place] is not tensors[place]:
                tensors[place].copy_(given[place])
        return results[0] if len(results) == 1 else tuple(results)


def _list_offsets(rows: Joined, dtype: torch.dtype) -> list[int]:
    """Where each of some arrays begins that lie one after another [bytes]."""
    sizes = [math.prod(shape) * dtype.itemsize for shape in rows.values()]
    return list(accumulate(sizes, initial=0))[:-1]


def _check(
    program: Executable, inputs: Mapping[str, Given], results: Mapping[str, Returned], joined: Joined, joining: Joined
) -> None:
    """Refuse what the program is not for: it reads and writes at addresses, without looking again."""
    expected = dict(program.inputs)
    for name, (x, last) in inputs.items():
        shape = expected.pop(name)
        if _turn(x.shape, last) != shape:
            raise ShapeError(
                f"{name} of shape {tuple(x.shape)}", need=f"{_turn_back(shape, last)}, by the other tensors"
            )
        if DTYPES[x.dtype] != program.dtype:
            raise DataError(f"{name} of {x.dtype}", need=f"{program.dtype}, the type of the others", fix="x.to(dtype)")
    assert list(program.inputs) == [*inputs, *joined]
    assert expected == dict(joined)
    written = [(name, _turn(size, last)) for name, (size, last) in results.items()]
    outputs = list(program.outputs.items())
    known = [*written[: len(outputs) - len(joining)], *joining.items()] if joining else written
    for (name, shape), (given, size) in zip(outputs, known, strict=False):
        assert (name, shape) == (given, size), (name, shape, given, size)


def _turn(shape: Sequence[int], last: bool) -> tuple[int, ...]:
    """A shape in the order of memory."""
    return channels_to_last(shape) if last else tuple(shape)


def _turn_back(shape: Sequence[int], last: bool) -> tuple[int, ...]:
    return channels_to_first(shape) if last else tuple(shape)
