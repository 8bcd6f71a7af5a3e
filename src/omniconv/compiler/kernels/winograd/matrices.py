"""The matrices of Winograd's minimal filtering F(m x m, 3 x 3), and products with them in the fewest operations.

Points of the transforms come in pairs +-a (but for the point 2 of m = 3), whose rows of B^T and columns of A^T differ
in the signs of the odd terms only: both share their even and odd halves.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel, Value
from omniconv.program.steps import Array

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Filtering:
    """The matrices of F(m x m, 3 x 3): ``data`` is B^T, ``kernel`` is G, ``result`` is A^T."""

    data: Matrix
    kernel: Matrix
    result: Matrix


FILTERINGS: Final = {
    2: Filtering(
        data=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        result=((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    3: Filtering(
        data=((2, -1, -2, 1, 0), (0, -2, -1, 1, 0), (0, 2, -3, 1, 0), (0, -1, 0, 1, 0), (0, 2, -1, -2, 1)),
        kernel=(
            (1 / 2, 0, 0),
            (-1 / 2, -1 / 2, -1 / 2),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 6, 1 / 3, 2 / 3),
            (0, 0, 1),
        ),
        result=((1, 1, 1, 1, 0), (0, 1, -1, 2, 0), (0, 1, 1, 4, 1)),
    ),
    4: Filtering(
        data=(
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        kernel=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        result=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}


def _combine(k: Kernel, row: Sequence[float], values: Sequence[Value]) -> Value:
    """``sum(c * v)`` over the nonzero c, largest factors last so that they fuse."""
    terms = sorted(
        ((c, v) for c, v in zip(row, values, strict=True) if c), key=lambda term: (abs(term[0]) != 1, -term[0])
    )
    factor, total = terms[0]
    if factor != 1:
        total = k.b.fneg(total) if factor == -1 else k.b.fmul(total, k.splat(factor))
    for factor, value in terms[1:]:
        if factor == 1:
            total = k.b.fadd(total, value)
        elif factor == -1:
            total = k.b.fsub(total, value)
        else:
            total = k.fma(value, k.splat(factor), total)
    return total


def _mirrored(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two rows of B^T, or columns of A^T, belong to points +-a: they differ in the signs of odd terms only."""
    return all(p == (-q if i % 2 else q) for i, (p, q) in enumerate(zip(a, b, strict=True)))


def emit_data(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """``matrix @ values`` for B^T: two mirrored rows are the sum and the difference of the even and the odd terms."""
    results: list[Value] = []
    while len(results) < len(matrix):
        row = matrix[len(results)]
        if not any(_mirrored(row, other) for other in matrix[len(results) + 1 :][:1]):
            results.append(_combine(k, row, values))
            continue
        scale = [c for c in row[1::2] if c][-1]
        even = _combine(k, row[0::2], values[0::2])
        odd = _combine(k, [c / scale for c in row[1::2]], values[1::2])
        results += [_combine(k, (1, scale), (even, odd)), _combine(k, (1, -scale), (even, odd))]
    return results


def emit_result(k: Kernel, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """``matrix @ values`` for A^T: mirrored columns add their sum to even rows and their difference to odd ones."""
    columns = list(zip(*matrix, strict=True))
    terms: list[tuple[tuple[float, ...], Value, Value]] = []
    at = 0
    while at < len(columns):
        column, value = columns[at], values[at]
        if any(_mirrored(column, other) for other in columns[at + 1 :][:1]):
            terms.append((column, k.b.fadd(value, values[at + 1]), k.b.fsub(value, values[at + 1])))
            at += 2
        else:
            terms.append((column, value, value))
            at += 1
    return [
        _combine(k, [column[i] for column, _, _ in terms], [odd if i % 2 else even for _, even, odd in terms])
        for i in range(len(matrix))
    ]


def transform_weights(w: Array, m: int, groups: int = 1) -> Array:
    """G g G^T in float64, rounded once: ``(out, in of a group, 3, 3)`` to ``(groups * points * out of a group, in of a
    group)``.
    """
    g: npt.NDArray[np.float64] = np.asarray(FILTERINGS[m].kernel)
    u = np.kron(g, g) @ w.reshape(-1, 9).astype(np.float64).T
    grouped = u.reshape(len(u), groups, -1, w.shape[1]).transpose(1, 0, 2, 3)
    transformed: Array = grouped.reshape(-1, w.shape[1]).astype(w.dtype)
    return transformed
