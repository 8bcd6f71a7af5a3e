r"""The matrices of minimal filtering F(m, r), and products with them in the fewest operations.

F(m, r) computes m outputs of a kernel of r taps by n = m + r - 1 multiplications. It multiplies two polynomials by
their values at n - 1 points and at infinity, transposed:

.. math:: y = A^T [ (G g) \odot (B^T d) ], \quad A^T_{ij} = p_j^i, \quad G_{ij} = p_i^j / N_i,
    \quad (B^T)_i = \prod_{k \neq i} (x - p_k), \quad N_i = \prod_{k \neq i} (p_i - p_k)

where a row of B^T is the coefficients of a polynomial, and the last row and columns are those of infinity: the leading
coefficients, and the product over all points. Points come in pairs +-a (but for the last one of five), whose rows of
B^T and columns of A^T differ in the signs of the odd terms only: both share their even and odd halves. Where there are
two pairs and no other but 0 and infinity, they are +-1/2 and +-2, each the inverse of the other: F(4, 3) by them grows
roundings by 3.5 instead of the 5.6 of +-1 and +-2, and the forms that lack a tap at either end grow them alike.

Sources: Winograd, Arithmetic complexity of computations, 1980; Lavin and Gray, Fast algorithms for convolutional neural
networks, 2015; points that are inverse to each other: Barabasz, Anderson, Soodhalter and Gregg, Error analysis and
improving the accuracy of Winograd convolution for deep neural networks, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Value
from omniconv.records import dataclass

Matrix: TypeAlias = tuple[tuple[float, ...], ...]
Exact: TypeAlias = tuple[tuple[Fraction, ...], ...]


def _fractions(*points: int | str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, points))


POINTS: Final = {
    3: _fractions(0, 1),
    4: _fractions(0, 1, -1),
    5: _fractions(0, 1, -1, 2),
    6: _fractions(0, "1/2", "-1/2", 2, -2),
    8: _fractions(0, 1, -1, 2, -2, "1/2", "-1/2"),
}
"""Points of the transforms beside infinity, by how many there are with it. Of seven no two would share anything."""
USUAL_POINTS: Final = _fractions(0, 1, -1, 2, -2)
"""Those beside infinity that F(4, 3) has in most libraries."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """The matrices of F(m, r): ``data`` is B^T, ``result`` is A^T, and G has the rows ``factors[i] * powers[i]``."""

    data: Matrix
    factors: tuple[float, ...]
    powers: Matrix
    result: Matrix

    @property
    def kernel(self) -> npt.NDArray[np.float64]:
        """G."""
        powers: npt.NDArray[np.float64] = np.asarray(self.powers)
        return np.asarray(self.factors)[:, None] * powers

    @property
    def growth(self) -> float:
        r"""Root mean square of the terms of an output over that of a direct sum, for the worst output of a block: what
        roundings grow by.

        .. math:: \max_i \sqrt{\frac{1}{r} \sum_j (A^T_{ij})^2 \sum_k G_{jk}^2 \sum_k (B^T_{jk})^2}

        for inputs and weights that are independent and of one size. Axes multiply.
        """
        terms = (np.square(self.kernel).sum(axis=1) * np.square(self.data).sum(axis=1)) @ np.square(self.result).T
        return float(np.sqrt(terms.max() / len(self.powers[0])))


@lru_cache(maxsize=256)
def construct_filtering(
    m: int, r: int, points: tuple[Fraction, ...]
) -> tuple[Exact, tuple[Fraction, ...], Exact, Exact]:
    """B^T, the factors and the powers of G, and A^T, exactly.

    What a row of B^T, a row of G and a column of A^T of one point are multiplied by may be moved between them. Powers
    of 2 change no rounding, so that they are where the fewest operations and constants are left: the row of B^T of a
    point that is neither 0 nor +-1 has whole numbers, the column of A^T of a point below 1 is divided by it, and that
    of the inverse of such a point by its square, where there is a row for that to be 1 in, and no +-1 to be 1 in all.

    Args:
        m, r: outputs and taps.
        points: m + r - 2 different ones; infinity is one more.
    """
    assert len(set(points)) == len(points) == m + r - 2
    zero, one = Fraction(0), Fraction(1)
    rows = [_multiply_out([q for q in points if q != p]) for p in points]
    whole = [
        math.lcm(*(c.denominator for c in row)) if abs(p) not in (0, 1) else 1
        for p, row in zip(points, rows, strict=True)
    ]
    data = [(*(scale * c for c in row), zero) for scale, row in zip(whole, rows, strict=True)] + [_multiply_out(points)]
    scales = [_find_scale(p, m, points) for p in points]
    factors = [
        scale / (times * math.prod((p - q for q in points if q != p), start=one))
        for p, scale, times in zip(points, scales, whole, strict=True)
    ]
    powers = [tuple(p**j for j in range(r)) for p in points] + [(zero,) * (r - 1) + (one,)]
    columns = list(zip(points, scales, strict=True))
    result = [(*(p**i / scale for p, scale in columns), one if i == m - 1 else zero) for i in range(m)]
    return tuple(data), (*factors, one), tuple(powers), tuple(result)


def _find_scale(p: Fraction, m: int, points: Sequence[Fraction]) -> Fraction:
    """What the column of A^T of a point is divided by."""
    if 0 < abs(p) < 1:
        return abs(p)
    inverse = p and 1 / p in points and 1 not in points
    return p**2 if inverse and m > 3 else Fraction(1)


def _multiply_out(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients of the product of all x - q, that of the lowest power first."""
    coefficients = [Fraction(1)]
    for q in roots:
        coefficients = [
            a - q * b for a, b in zip([Fraction(0), *coefficients], [*coefficients, Fraction(0)], strict=True)
        ]
    return tuple(coefficients)


@lru_cache(maxsize=256)
def find_filtering(m: int, r: int) -> Filtering:
    """F(m, r) by its :data:`POINTS`."""
    return make_filtering(m, r, POINTS[m + r - 1])


def make_filtering(m: int, r: int, points: tuple[Fraction, ...]) -> Filtering:
    """F(m, r) by any points, in float64."""
    data, factors, powers, result = construct_filtering(m, r, points)
    return Filtering(_round(data), tuple(map(float, factors)), _round(powers), _round(result))


def _round(matrix: Exact) -> Matrix:
    return tuple(tuple(map(float, row)) for row in matrix)


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
        odd = min((c for c in row[1::2] if c), key=abs)
        even = min((c for c in row[0::2] if c), key=abs) if abs(odd) == 1 else 1.0
        halves = [
            _combine(k, [c / scale for c in row[start::2]], values[start::2]) for start, scale in ((0, even), (1, odd))
        ]
        results += [_combine(k, (even, odd), halves), _combine(k, (even, -odd), halves)]
    return results


def emit_result(k: Kernel, matrix: Sequence[Sequence[float]], values: Sequence[Value]) -> list[Value]:
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
