"""Arguments as they are given for one, two or three axes, brought into one form: an integer or a pair for each axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import LIMIT, as_integer, as_integers, as_shape, read_sequence
from omniconv.spec.geometry import Pair

SAME: Final = ("same_upper", "same_lower")

Shape: TypeAlias = tuple[int, ...]
IntOrTuple: TypeAlias = int | Sequence[int]
PaddingLike: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]


def resolve_dims(dims: int | None, *values: object, default: int = 2) -> int:
    """Number of axes: ``dims`` where given, else the one length of the sequences among ``values``, else ``default``.

    Raises:
        SpecError: not 1, 2 or 3.
    """
    if dims is None:
        lengths = {len(items) for items in map(read_sequence, values) if items is not None}
        dims = lengths.pop() if len(lengths) == 1 else default
    return as_integer("dims", dims, 1, 3)


def per_axis(name: str, value: IntOrTuple, dims: int, minimum: int) -> Shape:
    """Normalise an int or a sequence to one int an axis, each at least ``minimum``."""
    items = read_sequence(value)
    if items is None:
        return (as_integer(name, value, minimum),) * dims
    if len(items) != dims:
        raise SpecError(f"{name}={value!r} has {len(items)} values", need=f"one, or one for each of {dims} axes")
    return as_integers(name, items, minimum, need="integers")


def take_shape(shape: object, channels: int, dims: int, text: Callable[[], str]) -> Shape:
    """An input shape ``(N, C, *spatial)`` for ``dims`` axes, in Python's integers.

    Args:
        shape: as it is given.
        channels: a number of channels for the example in messages.
        dims: number of spatial axes.
        text: the problem line, for messages.

    Raises:
        ShapeError: not a shape, or one of another rank.
    """
    if type(shape) is tuple and len(shape) == dims + 2 and all(type(n) is int and 1 <= n <= LIMIT for n in shape):
        return shape  # as it mostly is: no message is needed, and none is written
    example = f"{(1, channels, *(32,) * dims)}"
    taken = as_shape(shape, fix=example, at=text())
    if len(taken) != dims + 2:
        raise ShapeError(
            f"input of shape {taken} has rank {len(taken)}",
            need=f"(N, C, *spatial) of rank {dims + 2}",
            fix=example,
            at=text(),
        )
    return taken


def check_pairs(padding: object, dims: int, minimum: int | None = 0) -> tuple[Pair, ...]:
    """Padding that is given as one pair an axis."""
    items = read_sequence(padding) or ()
    if len(items) != dims:
        raise SpecError(f"padding={padding!r} has {len(items)} pairs", need=f"one pair for each of {dims} axes")
    pairs = [as_integers("padding", item, minimum, need="(before, after)") for item in items]
    for pair in pairs:
        if len(pair) != 2:
            raise SpecError(f"padding={padding!r} has {len(pair)} values on an axis", need="(before, after)")
    return tuple((before, after) for before, after in pairs)


def normalise_padding(
    padding: PaddingLike, kernel: Shape, stride: Shape, dilation: Shape, *, transposed: bool, output_padding: Shape
) -> tuple[tuple[Pair, ...] | str, Shape]:
    """Turn every accepted way to write padding into ``((before, after), ...)`` (or a size-dependent "same").

    Accepted: an int; one int an axis; one pair an axis; ``"valid"``; ``"same"`` (= ``"same_upper"``), ``"same_lower"``;
    ``"causal"`` (all of it before). For a transposed convolution ``"same"`` means output = input * stride and
    ``"causal"`` crops the surplus at the end. "Same" with a stride above 1 depends on the input size and is kept by
    name; see :meth:`Conv.resolve`.

    Returns:
        The padding and the output padding (which "same" sets where a transposed kernel is smaller than its stride).
    """
    dims = len(kernel)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        name = "same_upper" if padding == "same" else padding
        if name == "valid":
            return ((0, 0),) * dims, output_padding
        if name == "causal":
            if transposed:
                return tuple((0, max(e - s, 0)) for e, s in zip(extents, stride, strict=True)), tuple(
                    max(s - e, 0) for e, s in zip(extents, stride, strict=True)
                )
            return tuple((e - 1, 0) for e in extents), output_padding
        if name in SAME:
            if transposed:
                totals = [e - s for e, s in zip(extents, stride, strict=True)]
                output_padding = tuple(max(-total, 0) for total in totals)
            elif all(s == 1 for s in stride):
                totals = [e - 1 for e in extents]
            else:
                return name, output_padding
            halves = [(max(total, 0) // 2, max(total, 0) - max(total, 0) // 2) for total in totals]
            return tuple(h if name == "same_upper" else (h[1], h[0]) for h in halves), output_padding
        raise SpecError(
            f"padding={padding!r} is unknown", need='an integer, pairs, "valid", "same", "same_lower" or "causal"'
        )
    items = read_sequence(padding)
    if items is not None and any(read_sequence(item) is not None for item in items):
        if any(read_sequence(item) is None for item in items):
            raise SpecError(f"padding={padding!r} mixes integers and pairs", need="one or the other")
        return check_pairs(padding, dims), output_padding
    each = per_axis("padding", padding, dims, 0)  # type: ignore[arg-type]
    return tuple((p, p) for p in each), output_padding
