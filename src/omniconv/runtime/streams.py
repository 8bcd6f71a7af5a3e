"""`open_stream`: a stream of a compiled network; the plan is made for the first one and shared by all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from omniconv.choices import check_instance
from omniconv.compiler.planning.options import Options, channels_to_first
from omniconv.errors import ShapeError, UnsupportedError
from omniconv.integers import as_integer, as_shape
from omniconv.program.element import FLOAT32
from omniconv.runtime.compiled import Compiled
from omniconv.runtime.stream import Stream
from omniconv.runtime.stream_plan import Lower, StreamPlan

MOST_CHUNK: Final = 2**20
"""Positions of a chunk, at most."""


def open_stream(
    net: Compiled,
    lower: Lower,
    name: str,
    sizes: Sequence[int | str | None],
    options: Options,
    axis: int,
    chunk: int,
    shape: Sequence[int] | None,
    output: str | None,
) -> Stream:
    """A stream along an axis.

    Args:
        net: which keeps the plan.
        lower: the program for any number of positions.
        name, sizes: of the input, channels first; what is no integer is open.
        options: of the network.
        axis: of the caller's array.
        chunk: positions that pushes usually have.
        shape: sizes of the input in the caller's order; that along the axis means nothing.
        output: the name of one of the outputs.

    Raises:
        ShapeError, SpecError: arguments that do not fit.
        UnsupportedError: what stands in the way, by operator and node.
    """
    rank, at = len(sizes), repr(net)
    if options.precision != FLOAT32.name:
        raise UnsupportedError(f"a stream of a network in {options.precision}", need="one in float32", at=at)
    chunk = as_integer("chunk", chunk, 1, MOST_CHUNK)
    last = net.is_channels_last(name, rank)
    axis = as_integer("axis", axis, -rank, rank - 1) % rank
    inner = channels_to_first(range(rank)).index(axis) if last else axis
    if shape is not None:
        given = as_shape(shape, at=at)
        if len(given) != rank:
            raise ShapeError(f"shape={tuple(shape)} for an input of sizes {tuple(sizes)}", need=f"{rank} sizes", at=at)
        given = channels_to_first(given) if last else given
    else:
        given = tuple(size if isinstance(size, int) else 1 if n in (0, inner) else 0 for n, size in enumerate(sizes))
    wrong = [n for n, size in enumerate(sizes) if isinstance(size, int) and n != inner and size != given[n]]
    if wrong or 0 in (size for n, size in enumerate(given) if n != inner):
        raise ShapeError(
            f"an input of sizes {tuple(sizes)}", need="all of them but that along the axis", fix="shape=(...)", at=at
        )
    if output is not None:
        check_instance("output", output, str, need="the name of an output")
    given = tuple(1 if n == inner else size for n, size in enumerate(given))
    plan = _find_plan(net, lower, given, inner, output, options, at)
    return Stream(plan, chunk, last=last)


_plans: WeakKeyDictionary[Compiled, dict[Hashable, StreamPlan]] = WeakKeyDictionary()
"""Plans hold no network: they go with it."""


def _find_plan(
    net: Compiled, lower: Lower, shape: tuple[int, ...], axis: int, output: str | None, options: Options, at: str
) -> StreamPlan:
    key = shape, axis, output
    plans = _plans.setdefault(net, {})
    found = plans.get(key)
    if found is None:
        found = plans.setdefault(key, StreamPlan(lower, shape, axis, output, options, net.target, at))
    return found
