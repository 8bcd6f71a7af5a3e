"""Pass: what is known of the sizes of the inputs. Every other shape follows, node by node, while lowering.

Sizes come from the declarations, from ``shapes``, and through symbolic sizes from other inputs and bound constants.

It must not fire on: declared sizes (a given shape may not change one), declared shapes of inner values (never read).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.nodes import Dims, Graph, ValueInfo, shorten
from omniconv.graph.tensors import DTYPES, find_dtype, name_dtype, number_of
from omniconv.integers import LIMIT, read_integer, read_sequence, state
from omniconv.program.element import ELEMENTS, FLOAT32, Element
from omniconv.spec import Shape


def show(dims: Dims | None) -> str:
    """Declared sizes as a user reads them."""
    if dims is None:
        return "(of unknown rank)"
    return shorten("(" + ", ".join("?" if dim is None else str(dim) for dim in dims) + ")")


def is_fixed(dims: Dims | None) -> TypeGuard[Shape]:
    """Whether all sizes are known."""
    return dims is not None and all(isinstance(size, int) for size in dims)


def narrow_inputs(
    graph: Graph, shapes: Mapping[str, Sequence[int | None]] | None, bound: Iterable[tuple[ValueInfo, Shape]] = ()
) -> Graph:
    """The graph with everything that is known of the sizes of its inputs written into their declarations.

    Args:
        graph: the graph.
        shapes: for inputs by name one size an axis, ``None`` for those that stay as declared.
        bound: inputs that are constants now, with their shapes: their symbolic sizes are known.

    Raises:
        ShapeError: sizes that contradict the declaration or each other, or a name that is no input.
    """
    given = _check_names(shapes, [info.name for info in graph.inputs])
    symbols: dict[str, int] = {}
    for info, shape in bound:
        _learn(symbols, info, shape)
    merged = {info.name: _merge(info, given[info.name]) for info in graph.inputs if info.name in given}
    for info in graph.inputs:
        if info.name in merged:
            _learn(symbols, info, merged[info.name])
    narrowed = []
    for info in graph.inputs:
        dims = merged.get(info.name, info.dims)
        if dims is not None:
            dims = tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in dims)
            if any(isinstance(dim, int) and not 0 <= dim <= LIMIT for dim in dims):
                problem = f"shape {show(dims)} has a negative or absurd axis"
                raise ShapeError(problem, need=f"sizes from 0 to {LIMIT}", at=_place(info))
        narrowed.append(replace(info, dims=dims))
    return replace(graph, inputs=tuple(narrowed))


def fix_shapes(graph: Graph, given: Element | None = FLOAT32) -> dict[str, Shape]:
    """The shape of every input.

    Args:
        graph: the graph.
        given: the type of the model's floats, for a program; ``None`` where inputs may be of any type, and empty.

    Raises:
        ShapeError: sizes that are not known, or an empty axis in a program.
        UnsupportedError: an input that is not of the type ``given``.
    """
    if given is not None:
        check_types(graph, given)
    found: dict[str, Shape] = {}
    for info in graph.inputs:
        if not is_fixed(info.dims):
            open_dims = [dim for dim in info.dims or () if not isinstance(dim, int)]
            example = tuple(dim if isinstance(dim, int) else 1 for dim in info.dims or (1, 3, 224, 224))
            names = ", ".join(dim or "?" for dim in open_dims) or "all"
            raise ShapeError(
                f"sizes of input {shorten(info.name)!r} are not known: {names}",
                need="a shape for this input",
                fix=f"shapes={{{shorten(info.name)!r}: {example}}}",
                at=_place(info),
            )
        if given is not None and 0 in info.dims:
            problem = f"shape {show(info.dims)} has an empty axis"
            raise ShapeError(problem, need=f"sizes from 1 to {LIMIT}", at=_place(info))
        found[info.name] = info.dims
    return found


def find_given(graph: Graph, element: Element) -> Element:
    """The type of the model's floats: that of its first input of a type that ``element`` holds, else ``element``."""
    numbers = {number: ELEMENTS[dtype.name] for number, dtype in DTYPES.items() if dtype.name in ELEMENTS}
    found = [numbers[info.dtype] for info in graph.inputs if info.dtype in numbers]
    return next((item for item in found if item.bytes <= element.bytes), element)


def check_types(graph: Graph, given: Element = FLOAT32) -> None:
    """Inputs must be of the type of the model's floats.

    Raises:
        UnsupportedError: one that is not.
    """
    for info in graph.inputs:
        if info.dtype != number_of(given):
            dtype = DTYPES.get(info.dtype)
            wider = dtype is not None and dtype.kind == "f" and dtype.name in ELEMENTS
            known = f"constants={{{shorten(info.name)!r}: array}} where its value is known"
            raise UnsupportedError(
                f"input {shorten(info.name)!r} is {name_dtype(info.dtype)}",
                need=f"{given} inputs",
                fix=f"dtype={str(dtype)!r}" if wider else known,
            )


def input_dtypes(graph: Graph, given: Element) -> dict[str, np.dtype[Any]]:
    """The type of every input of a model whose other values may live on the host.

    Raises:
        UnsupportedError: a type that NumPy does not have; or a model of float64 alone, asked for in float32.
    """
    found = {info.name: find_dtype(info.dtype, _place(info)) for info in graph.inputs}
    check_given(graph, given)
    return found


def check_given(graph: Graph, given: Element) -> None:
    """A model whose only floats are float64 is not computed in float32.

    Raises:
        UnsupportedError: it is asked for.
    """
    floats = [DTYPES.get(info.dtype) for info in graph.inputs] + [array.dtype for array in graph.constants.values()]
    if given == FLOAT32 and np.dtype(np.float64) in floats and given.dtype not in floats:
        check_types(graph, given)


def _place(info: ValueInfo) -> str:
    return shorten(f"input {info.name!r} of shape {show(info.dims)}")


def _check_names(shapes: Any, names: Sequence[str]) -> Mapping[str, Any]:
    listed = shorten(", ".join(map(repr, names)) or "none")
    if shapes is None:
        return {}
    if not isinstance(shapes, Mapping):
        raise ShapeError(
            f"shapes is a {type(shapes).__name__}",
            need=f"shapes by name; the inputs are {listed}",
            fix=f"shapes={{{shorten(names[0] if names else 'x')!r}: (1, 3, 224, 224)}}",
        )
    unknown = [shorten(repr(name)) for name in shapes if name not in names]
    if unknown:
        raise ShapeError(f"shapes for {', '.join(unknown)}, which are no inputs", need="names among " + listed)
    return shapes


def _as_sizes(info: ValueInfo, given: Any) -> tuple[int | None, ...]:
    items = read_sequence(given)
    sizes = tuple(read_integer(item) for item in items or ())
    if items is None or any(size is None and item is not None for size, item in zip(sizes, items, strict=True)):
        raise ShapeError(
            state(f"shapes[{shorten(info.name)!r}]", given, "is not a sequence of integers"),
            need="one integer an axis, or None where it stays open",
            at=_place(info),
        )
    if any(size is not None and not 0 <= size <= LIMIT for size in sizes):
        problem = state(f"shapes[{shorten(info.name)!r}]", sizes, "has a negative or absurd axis")
        raise ShapeError(problem, need=f"sizes from 0 to {LIMIT}", at=_place(info))
    return sizes


def _merge(info: ValueInfo, given: Any) -> Dims:
    """The declared sizes of an input, replaced by those that are given."""
    sizes = _as_sizes(info, given)
    if info.dims is None:
        return sizes
    shown = show(sizes)
    if len(sizes) != len(info.dims):
        raise ShapeError(f"shape {shown} has {len(sizes)} axes", need=f"{len(info.dims)} axes", at=_place(info))
    for dim, size in zip(info.dims, sizes, strict=True):
        if isinstance(dim, int) and size is not None and dim != size:
            raise ShapeError(f"shape {shown} changes a fixed size", need=f"{dim} instead of {size}", at=_place(info))
    return tuple(dim if size is None else size for dim, size in zip(info.dims, sizes, strict=True))


def _learn(symbols: dict[str, int], info: ValueInfo, dims: Dims) -> None:
    """Note the values of the symbolic sizes of an input."""
    for dim, size in zip(info.dims or (), dims, strict=info.dims is not None):
        if isinstance(dim, str) and isinstance(size, int) and symbols.setdefault(dim, size) != size:
            raise ShapeError(
                f"size {shorten(dim)!r} is {size} here and {symbols[dim]} before", need="equal sizes", at=_place(info)
            )
