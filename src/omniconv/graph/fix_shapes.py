"""Pass: fix the shapes of the inputs. Every other shape follows, node by node, while lowering.

Symbolic sizes come from ``shapes``; an input that shares all its symbols with inputs already fixed needs no entry.

It must not fire on: declared sizes (a given shape may not change one), declared shapes of inner values (never read),
and inputs that are bound to constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.nodes import AnyArray, Dims, Graph, ValueInfo, shorten
from omniconv.graph.tensors import DTYPES, name_dtype, number_of
from omniconv.program.element import ELEMENTS, FLOAT32, Element
from omniconv.spec import Shape
from omniconv.spec.conv import LIMIT


def show(dims: Dims | None) -> str:
    """Declared sizes as a user reads them."""
    if dims is None:
        return "(of unknown rank)"
    return shorten("(" + ", ".join("?" if dim is None else str(dim) for dim in dims) + ")")


def _as_shape(name: str, given: Sequence[int]) -> Shape:
    try:
        shape = tuple(size.__index__() for size in given)
    except (AttributeError, TypeError):
        raise ShapeError(f"shapes[{name!r}]={given!r} is not made of integers", need="one integer an axis") from None
    return shape


def _fix(info: ValueInfo, given: Sequence[int] | None, symbols: dict[str, int]) -> Shape:
    at = shorten(f"input {info.name!r} of shape {show(info.dims)}")
    if given is None:
        dims = info.dims
        open_dims = [dim for dim in dims or () if not isinstance(dim, int) and (dim is None or dim not in symbols)]
        if dims is None or open_dims:
            example = tuple(dim if isinstance(dim, int) else 1 for dim in dims or (1, 3, 224, 224))
            names = ", ".join(dim or "?" for dim in open_dims) or "all"
            raise ShapeError(
                f"sizes of input {shorten(info.name)!r} are not known: {names}",
                need="a shape for this input",
                fix=f"shapes={{{shorten(info.name)!r}: {example}}}",
                at=at,
            )
        shape: Shape = tuple(dim if isinstance(dim, int) else symbols[dim or ""] for dim in dims)
    else:
        shape = _as_shape(info.name, given)
    if info.dims is not None and len(shape) != len(info.dims):
        raise ShapeError(f"shape {shape} has {len(shape)} axes", need=f"{len(info.dims)} axes", at=at)
    if any(not 1 <= size <= LIMIT for size in shape):
        raise ShapeError(f"shape {shape} has an empty, negative or absurd axis", need=f"sizes from 1 to {LIMIT}", at=at)
    for dim, size in zip(info.dims or (), shape, strict=info.dims is not None):
        if isinstance(dim, int) and dim != size:
            raise ShapeError(f"shape {shape} changes a declared size", need=f"{dim} instead of {size}", at=at)
        if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
            raise ShapeError(
                f"size {shorten(dim)!r} is {size} here and {symbols[dim]} before", need="equal sizes", at=at
            )
    return shape


def fix_shapes(
    graph: Graph, shapes: Mapping[str, Sequence[int]] | None, constants: Mapping[str, AnyArray],
    element: Element = FLOAT32,
) -> dict[str, Shape]:  # fmt: skip
    """The shape of every input that is not a constant.

    Raises:
        ShapeError: sizes that are missing, contradict the declaration or each other, or a name that is no input.
        UnsupportedError: an input that is not of ``element``.
    """
    given = dict(shapes or {})
    free = [info for info in graph.inputs if info.name not in constants]
    unknown = sorted(set(given) - {info.name for info in free})
    if unknown:
        raise ShapeError(
            f"shapes for {', '.join(map(repr, unknown))}, which are no inputs",
            need="names among " + shorten(", ".join(repr(info.name) for info in free)),
        )
    for info in free:
        if info.dtype != number_of(element):
            dtype = DTYPES.get(info.dtype)
            wider = dtype is not None and dtype.kind == "f" and dtype.name in ELEMENTS
            known = f"constants={{{shorten(info.name)!r}: array}} where its value is known"
            raise UnsupportedError(
                f"input {shorten(info.name)!r} is {name_dtype(info.dtype)}",
                need=f"{element} inputs",
                fix=f"dtype={str(dtype)!r}" if wider else known,
            )
    symbols: dict[str, int] = {}
    found: dict[str, Shape] = {}
    for info in sorted(free, key=lambda info: info.name not in given):
        found[info.name] = _fix(info, given.get(info.name), symbols)
    return {info.name: found[info.name] for info in free}
