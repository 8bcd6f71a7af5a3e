"""Products of two computed values: any ranks, broadcasts, transposes and epilogues, against NumPy in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omniconv as oc
from omniconv.errors import OmniconvError
from tests.graph.small_models import Graph

Array = npt.NDArray[Any]
UNIT = 2.0**-24


def bound(terms: int, a: Array, b: Array) -> Array:
    """gamma(K + 1) times the product of absolute values."""
    gamma = (terms + 1) * UNIT / (1 - (terms + 1) * UNIT)
    return np.asarray(gamma * np.matmul(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))))


def compile_product(a: Array, b: Array, constant: str = "", perms: tuple[Any, Any] = (None, None), **options: Any) -> Any:
    """A model of one MatMul, the sides transposed before it; ``constant`` says which side is a constant."""
    g = Graph()
    names = []
    for side, array, perm in zip("ab", (a, b), perms, strict=True):
        name = g.const(array) if side in constant else g.input(side, *array.shape)
        names.append(name if perm is None else g.node("Transpose", name, perm=list(perm)))
    return oc.compile(g.model(g.node("MatMul", *names, name="y")), **options)


def feed(a: Array, b: Array, constant: str = "") -> dict[str, Array]:
    return {side: array for side, array in zip("ab", (a, b), strict=True) if side not in constant}


@st.composite
def products(draw: st.DrawFn) -> tuple[Array, Array, tuple[Any, Any]]:
    """Two arrays whose product is defined, and how they lie: each may be stored transposed by any permutation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, k, n = (draw(st.sampled_from([1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 49])) for _ in range(3))
    batch = draw(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=4))
    arrays: list[Array] = []
    perms: list[Any] = []
    for side in range(2):
        missing = draw(st.integers(0, len(batch)))
        own = tuple(1 if draw(st.booleans()) and draw(st.booleans()) else size for size in batch[missing:])
        matrix = (m, k) if side == 0 else (k, n)
        if not own and draw(st.booleans()) and draw(st.booleans()):
            matrix = (k,)
        shape = (*own, *matrix)
        perm = None
        if draw(st.booleans()):
            perm = tuple(draw(st.permutations(range(len(shape)))))
            stored = [0] * len(shape)
            for axis, source in enumerate(perm):
                stored[source] = shape[axis]
            shape = tuple(stored)
        arrays.append(rng.integers(-4, 5, shape).astype(np.float32))
        perms.append(perm)
    return arrays[0], arrays[1], (perms[0], perms[1])


@settings(max_examples=120, deadline=None)
@given(products(), st.sampled_from(["", "", "a", "b"]), st.sampled_from([1, 2]))
def test_products_of_integers_are_exact(case: Any, constant: str, threads: int) -> None:
    a, b, perms = case
    left, right = (x if p is None else x.transpose(p) for x, p in zip((a, b), perms, strict=True))
    expected = np.matmul(left.astype(np.float64), right.astype(np.float64))
    if not expected.ndim:
        return  # a network has no outputs without axes
    net = compile_product(a, b, constant, perms, threads=threads)
    np.testing.assert_array_equal(net.run(feed(a, b, constant))["y"], expected)


SHAPES = [
    ((8, 64, 197, 64), (8, 64, 64, 197)), ((1, 12, 40, 40), (1, 12, 40, 32)), ((1, 4, 3136, 16), (1, 4, 16, 49)),
    ((16, 1, 77, 512), (512, 512)), ((3, 5), (4, 5, 2)), ((7,), (2, 7, 3)), ((2, 3, 7), (7,)), ((65, 300), (300, 129)),
    ((2, 1, 3, 1, 5, 6), (4, 1, 5, 6, 7)), ((1, 1000), (1000, 77)), ((100, 1000), (1000, 1)), ((64, 512), (512, 1024)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SHAPES[1:], ids=str)
def test_products_keep_the_bound(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    results = [compile_product(a, b, threads=threads).run({"a": a, "b": b})["y"] for threads in (1, 2)]
    assert (np.abs(results[0] - expected) <= bound(a.shape[-1], a, b)).all()
    np.testing.assert_array_equal(*results)
