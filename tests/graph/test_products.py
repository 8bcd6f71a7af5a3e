"""Products of two computed values: any ranks, broadcasts, transposes and epilogues, against NumPy in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.graph.small_models import Graph
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, channels_from, strictly

import omniconv as oc
from omniconv.errors import LimitError, OmniconvError
from omniconv.graph import to_program

Array = npt.NDArray[Any]
UNIT = 2.0**-24


def bound(terms: int, a: Array, b: Array) -> Array:
    """gamma(K + 1) times the product of absolute values."""
    gamma = (terms + 1) * UNIT / (1 - (terms + 1) * UNIT)
    return np.asarray(gamma * np.matmul(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))))


def compile_product(
    a: Array, b: Array, constant: str = "", perms: Any = (None, None), factor: float = 1.0, **options: Any
) -> Any:
    """A model of one MatMul, the sides transposed and multiplied by a factor before it; ``constant`` says which side is
    a constant.
    """
    g = Graph()
    names = []
    for side, array, perm in zip("ab", (a, b), perms, strict=True):
        name = g.const(array) if side in constant else g.input(side, *array.shape)
        name = name if perm is None else g.node("Transpose", name, perm=list(perm))
        names.append(name if factor == 1.0 else g.node("Mul", name, g.const(np.array(factor))))
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


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=20, deadline=None)
@given(
    case=products(),
    constant=st.sampled_from(["", "", "a", "b"]),
    threads=st.sampled_from([1, 2]),
    factor=st.sampled_from([1.0, 2.0]),
)
def test_products_of_integers_are_exact(target: str, case: Any, constant: str, threads: int, factor: float) -> None:
    a, b, perms = case
    left, right = (x if p is None else x.transpose(p) for x, p in zip((a, b), perms, strict=True))
    expected = factor**2 * np.matmul(left.astype(np.float64), right.astype(np.float64))
    if not expected.ndim:
        return  # a network has no outputs without axes
    net = compile_product(a, b, constant, perms, factor, threads=threads, target=target)
    np.testing.assert_array_equal(strictly(net, feed(a, b, constant))["y"], expected)


SHAPES = [
    ((2, 4, 197, 64), (2, 4, 64, 197)), ((1, 12, 40, 40), (1, 12, 40, 32)), ((1, 4, 3136, 16), (1, 4, 16, 49)),
    ((16, 1, 77, 512), (512, 512)), ((3, 5), (4, 5, 2)), ((7,), (2, 7, 3)), ((2, 3, 7), (7,)), ((65, 300), (300, 129)),
    ((2, 1, 3, 1, 5, 6), (4, 1, 5, 6, 7)), ((1, 1000), (1000, 77)), ((100, 1000), (1000, 1)), ((64, 512), (512, 1024)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SHAPES, ids=str)
def test_products_keep_the_bound(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    results = [strictly(compile_product(a, b, threads=threads), feed(a, b))["y"] for threads in (1, 2)]
    assert (np.abs(results[0] - expected) <= bound(a.shape[-1], a, b)).all()
    np.testing.assert_array_equal(*results)


def test_scaled_queries_and_keys_are_not_moved() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 3, 16)).astype(np.float32)
    net = compile_product(x, x, perms=((0, 2, 1, 3), (0, 2, 3, 1)), factor=0.5)
    q, k = x.transpose(0, 2, 1, 3) * np.float32(0.5), x.transpose(0, 2, 3, 1) * np.float32(0.5)
    expected = np.matmul(q.astype(np.float64), k.astype(np.float64))
    assert (np.abs(strictly(net, feed(x, x))["y"] - expected) <= bound(16, q, k)).all()
    assert {call.what for call in net.plan.calls} == {"map", "pack", "panel"}


def attention(form: str, heads: int = 2) -> tuple[Any, dict[str, Array]]:
    """Attention over 9 positions: scores, a scale, a mask that is broadcast, softmax, values, heads joined again."""
    g = Graph()
    rng = np.random.default_rng(1)
    given: dict[str, Array] = {}
    for name in ("q", "k", "v"):
        given[name] = rng.standard_normal((2, 9, heads * 5)).astype(np.float32)
        g.input(name, *given[name].shape)
    split = [
        g.node("Transpose", g.node("Reshape", name, g.ints(2, 9, heads, 5)), perm=list(perm))
        for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3)))
    ]
    scores = g.node("Div", g.node("MatMul", *split[:2]), g.const(5**0.5))
    if form == "mask":
        given["mask"] = np.where(rng.random((2, 1, 9, 9)) < 0.5, -1e4, 0.0).astype(np.float32)
        scores = g.node("Add", scores, g.input("mask", *given["mask"].shape))
    if form == "constant mask":
        scores = g.node("Add", g.const(np.tril(np.ones((9, 9))) * 3), scores)
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), split[2])
    joined = g.node("Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(2, 9, heads * 5), name="y")
    return g.model(joined), given


@pytest.mark.parametrize("form", ["plain", "mask", "constant mask"])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention(form: str, heads: int) -> None:
    model, given = attention(form, heads)
    program = to_program(model)
    net = oc.compile(model)
    expected = run_program(program, given)["y"]
    np.testing.assert_allclose(strictly(net, given)["y"], expected, rtol=1e-5, atol=1e-6)
    # Scale and mask are part of the product, and what it is computed from is read in place.
    assert [call.what for call in net.plan.calls if call.what in ("map", "pad")] == []


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Max"])
@pytest.mark.parametrize("shape", [(3, 4, 6, 7), (4, 1, 7), (6, 1), (1,), (3, 1, 1, 7), (3, 1, 6, 1)], ids=str)
def test_epilogues_of_products_broadcast(op: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    given = {
        name: rng.integers(-4, 5, size).astype(np.float32)
        for name, size in (("a", (3, 4, 6, 5)), ("b", (4, 5, 7)), ("c", shape))
    }
    for constant in (False, True):
        g = Graph()
        sides = [g.input(name, *given[name].shape) for name in "ab"]
        other = g.const(given["c"]) if constant else g.input("c", *shape)
        net = oc.compile(g.model(g.node("Relu", g.node(op, other, g.node("MatMul", *sides)), name="y")))
        functions: Any = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum}
        expected = np.maximum(functions[op](given["c"], np.matmul(given["a"], given["b"])), 0)
        fed = {name: array for name, array in given.items() if name != "c" or not constant}
        np.testing.assert_array_equal(strictly(net, fed)["y"], expected)
        assert {call.what for call in net.plan.calls} <= {"panel", "pack", "copy"}


@pytest.mark.parametrize(("op", "attributes"), [("Add", {}), ("Sub", {}), ("Div", {}), ("Concat", {"axis": 1})])
def test_constants_stand_first(op: str, attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(1, 9, (2, 3, 4, 5)).astype(np.float32) for _ in range(2))
    g = Graph()
    net = oc.compile(g.model(g.node(op, g.const(a), g.input("b", *b.shape), name="y", **attributes)))
    functions: Any = {"Add": np.add, "Sub": np.subtract, "Div": np.divide, "Concat": lambda *x: np.concatenate(x, 1)}
    np.testing.assert_array_equal(strictly(net, {"b": b})["y"], functions[op](a, b))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_constant_image_is_convolved_with_an_input(layout: str) -> None:
    rng = np.random.default_rng(4)
    image, w = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((1, 3, 8, 9), (5, 3, 3, 3)))
    g = Graph()
    model = g.model(g.node("Conv", g.const(image), g.input("w", *w.shape), name="y"))
    net = oc.compile(model, layout=layout)
    expected = run_program(to_program(model), {"w": w})["y"]
    got = strictly(net, {"w": w})["y"]
    np.testing.assert_array_equal(channels_from(layout, got), expected)


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ((3, 4), (5, 6), "A has 4 columns, B 5 rows"),
        ((2, 3, 4), (3, 4, 5), "do not broadcast"),
        ((), (3,), "one axis or more"),
        ((2, 3), (), "one axis or more"),
    ],
)
def test_shapes_that_have_no_product_are_refused(a: tuple[int, ...], b: tuple[int, ...], match: str) -> None:
    g = Graph()
    with pytest.raises(OmniconvError, match=match):
        to_program(g.model(g.node("MatMul", g.input("a", *a), g.input("b", *b))))


def test_a_product_too_large_for_memory_is_refused_before_it_is_planned() -> None:
    g = Graph()
    model = g.model(g.node("MatMul", g.input("a", 1 << 20, 1), g.input("b", 1, 1 << 20)))
    with pytest.raises(LimitError, match="the result"):
        to_program(model, memory_limit=1 << 30)


@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_products_and_computed_weights_in_float64(op: str) -> None:
    rng = np.random.default_rng(5)
    shapes = ((3, 9, 70), (3, 70, 21)) if op == "MatMul" else ((1, 6, 9, 9), (10, 6, 3, 3))
    a, b = (rng.standard_normal(shape) for shape in shapes)
    g = Graph()
    model = g.model(g.node(op, g.input("a", *a.shape), g.input("b", *b.shape), name="y"))
    net = oc.compile(model, dtype="float64")
    got = strictly(net, {"a": a, "b": b})["y"]
    terms = math.prod(shapes[1][1:]) if op == "Conv" else shapes[0][-1]
    program = to_program(model)
    expected, magnitude = (run_program(program, {"a": f(a), "b": f(b)})["y"] for f in (np.asarray, np.abs))
    assert got.dtype == np.float64
    # The judge sums in float64 too.
    assert (np.abs(got - expected) <= 2 * (terms + 2) * 2.0**-53 * magnitude).all()


def test_a_product_is_explained() -> None:
    near, far = ((4, 8, 8), (4, 8, 8)), ((4, 8, 512), (4, 512, 512))
    for shapes, words in ((near, "read as it lies"), (far, "packed at each call")):
        a, b = (np.zeros(shape, np.float32) for shape in shapes)
        assert words in compile_product(a, b).explain()
    assert "the right side is a constant" in compile_product(*(np.zeros(s, np.float32) for s in near), "b").explain()


@pytest.mark.parametrize("constant", ["", "b"])
@pytest.mark.parametrize("depth", [256, 383, 384, 640, 4000, 16384])
def test_long_sums_are_made_of_short_ones(depth: int, constant: str) -> None:
    """Equal terms round the same way every time, so that a running sum leaves the bound of spans far behind."""
    terms = min(depth, 383) + -(-depth // 256) + 1
    for value in (0.1, 0.7, 1 / 3):
        a, b = np.full((5, depth), value, np.float32), np.ones((depth, 17), np.float32)
        found = strictly(compile_product(a, b, constant), feed(a, b, constant))["y"]
        exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
        assert (np.abs(found - exact) <= bound(terms, a, b)).all(), (depth, value)
