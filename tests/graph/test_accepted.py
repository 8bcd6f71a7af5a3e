"""Ways to write a network that people have: every form is compiled, and compared with NumPy or PyTorch.

Values are small integers, so that moves and sums are exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.graph.test_operators import i64
from tests.registry.compiled import strictly

import omniconv as oc
from omniconv.errors import ModelError, ShapeError, UnsupportedError

Array = npt.NDArray[Any]


def whole(*shape: int, seed: int = 0) -> Array:
    """Integers in [-4, 4]."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def run(g: Graph, *outputs: str, **inputs: Array) -> Any:
    """The outputs of a compiled graph, in poisoned memory."""
    found = strictly(oc.compile(g.model(*outputs)), inputs)
    return found[outputs[0]] if len(outputs) == 1 else [found[name] for name in outputs]


def single(op: str, x: Array, *constants: Any, opset: int = 21, **attributes: Any) -> Array:
    """One node over x and constants; ``None`` leaves an input out."""
    g = Graph(opset)
    names = ["" if value is None else g.const(value, np.asarray(value).dtype) for value in constants]
    return run(g, g.node(op, g.input("x", *x.shape), *names, name="y", **attributes), x=x)


# Indices


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 6, 5), (2, 6, 3, 5), (2, 3, 2, 3, 4), (2, 2, 1, 3, 2, 3)], ids=str)
@pytest.mark.parametrize("form", [(), (1,), (7,), (2, 3), (2, 1, 2)], ids=str)
def test_gather_on_every_axis_with_indices_of_any_rank(shape: tuple[int, ...], form: tuple[int, ...]) -> None:
    x = whole(*shape)
    rng = np.random.default_rng(len(shape))
    for axis in range(-len(shape), len(shape)):
        if len(shape) - 1 + len(form) > 6:
            continue
        indices = rng.integers(-shape[axis], shape[axis], form)
        np.testing.assert_array_equal(single("Gather", x, indices, axis=axis), np.take(x, indices, axis))


def test_gather_elements_and_slices() -> None:
    x = whole(3, 4, 5)
    rng = np.random.default_rng(1)
    for axis in range(3):
        form = [2, 3, 4]
        form[axis] = 7
        indices = rng.integers(-x.shape[axis], x.shape[axis], form)
        trimmed = x[tuple(slice(None) if a == axis else slice(size) for a, size in enumerate(form))]
        wanted = np.take_along_axis(trimmed, np.where(indices < 0, indices + x.shape[axis], indices), axis)
        np.testing.assert_array_equal(single("GatherElements", x, indices, axis=axis), wanted)
    np.testing.assert_array_equal(single("GatherND", x, np.array([[2, -1], [0, 3]])), x[[2, 0], [-1, 3]])
    np.testing.assert_array_equal(single("GatherND", x, np.array([[[1, 2, 3]]])), x[1, 2, 3].reshape(1, 1))
    batched = single("GatherND", x, np.array([[[3], [0]], [[1], [1]], [[-1], [2]]]), batch_dims=1)
    np.testing.assert_array_equal(batched, np.stack([x[0, [3, 0]], x[1, [1, 1]], x[2, [-1, 2]]]))


@pytest.mark.parametrize(
    ("op", "indices", "error", "match"),
    [
        ("Gather", i64(6), ModelError, "indices 6 to 6 on an axis of size 3"),
        ("GatherElements", np.zeros((4, 1, 1), np.int64), None, ""),
        ("GatherElements", np.zeros((1, 5, 1), np.int64), ShapeError, r"indices of shape \(1, 5, 1\)"),
        ("GatherElements", i64(0), ShapeError, "indices of shape"),
        ("GatherND", np.zeros((1, 4), np.int64), ShapeError, "indices of shape"),
        ("GatherND", np.full((1, 2), 9, np.int64), ModelError, "indices 9 to 9"),
    ],
)
def test_indices_that_do_not_fit(op: str, indices: Array, error: Any, match: str) -> None:
    x = whole(3, 4, 5)
    if error is None:
        assert single(op, x, indices).shape == indices.shape
        return
    with pytest.raises(error, match=match):
        single(op, x, indices)


# Slices and parts, also empty ones


def test_slices_backwards_and_to_nothing() -> None:
    x = whole(2, 6, 5, 7)
    found = single("Slice", x, i64(-1, 4, 6), i64(-100, 0, -8), i64(1, 2, 3), i64(-2, -1, -3))
    np.testing.assert_array_equal(found, x[:, ::-2, 4:0:-1, ::-3])
    g = Graph()
    name = g.input("x", *x.shape)
    nothing = g.node("Relu", g.node("Slice", name, g.ints(3), g.ints(3), g.ints(2)))
    some = g.node("Slice", name, g.ints(0), g.ints(2), g.ints(2))
    found = run(g, g.node("Concat", nothing, some, name="y", axis=2), x=x)
    np.testing.assert_array_equal(found, x[:, :, :2])
    g = Graph()
    model = g.model(g.node("Slice", g.input("x", *x.shape), g.ints(3), g.ints(3), g.ints(1), name="y"))
    with pytest.raises(UnsupportedError, match="output 'y' is a constant"):
        oc.compile(model, strict=True)
    assert oc.compile(model)(x).shape == (2, 0, 5, 7)


def test_split_into_uneven_and_empty_parts() -> None:
    x = whole(2, 7, 3)
    for given, sizes in (({"num_outputs": 3}, (3, 3, 1)), ({"num_outputs": 4}, (2, 2, 2, 1)), ({}, (4, 0, 3))):
        g = Graph(18)
        more = () if given else (g.ints(*sizes),)
        parts = g.node("Split", g.input("x", 2, 7, 3), *more, count=len(sizes), axis=-2, **given)
        found = run(g, g.node("Concat", *reversed(parts), name="y", axis=1), x=x)
        np.testing.assert_array_equal(found, np.concatenate(np.split(x, np.cumsum(sizes)[:-1], 1)[::-1], 1))


@pytest.mark.parametrize("repeats", [(1, 2, 3, 1), (2, 1, 1, 2), (3, 2, 2, 2), (1, 1, 1, 1)], ids=str)
def test_tile(repeats: tuple[int, ...]) -> None:
    for shape in ((2, 3, 4, 5), (1, 3, 1, 5)):
        x = whole(*shape)
        np.testing.assert_array_equal(single("Tile", x, i64(*repeats)), np.tile(x, repeats))


@pytest.mark.parametrize("rank", [6, 7, 8])
def test_transposes_of_many_axes(rank: int) -> None:
    x = whole(*(2, 3, 2, 1, 3, 2, 2, 3)[:rank])
    rng = np.random.default_rng(rank)
    for _ in range(4):
        perm = rng.permutation(rank)
        np.testing.assert_array_equal(single("Transpose", x, perm=perm.tolist()), x.transpose(perm))


@pytest.mark.parametrize("upper", [0, 1])
def test_triangles_keep_what_no_product_keeps(upper: int) -> None:
    x = whole(2, 3, 5, 4)
    x[0, 0, 0, 0], x[0, 0, 4, 0], x[1, 2, 0, 3] = np.inf, np.nan, -np.inf
    for k in (-9, -2, 0, 3, 9):
        wanted = (np.triu if upper else np.tril)(x, k)
        np.testing.assert_array_equal(single("Trilu", x, np.array(k), upper=upper), wanted)


def test_dropout_keeps_everything() -> None:
    x = whole(2, 3, 4)
    g = Graph()
    y, kept = g.node("Dropout", g.input("x", 2, 3, 4), g.const(0.0), g.const(np.array(True), np.bool_), count=2)
    chosen = g.node("Where", kept, g.const(2.0), g.const(3.0))
    np.testing.assert_array_equal(run(g, g.node("Mul", y, chosen, name="y"), x=x), 2 * x)


# Sums of products

EQUATIONS = [
    ("ij->ji", (3, 4)), ("ij->", (3, 4)), ("i...->...", (3, 2, 4)), ("...ii->...i", (2, 4, 4)), ("ii", (5, 5)),
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)), ("bhij,bjhd->bihd", (2, 3, 4, 6), (2, 6, 3, 5)),
    ("bqhc,hkc->bhqk", (2, 4, 3, 5), (3, 6, 5)), ("i,j->ij", (3,), (4,)), ("ij,ij->ij", (3, 4), (3, 4)),
    ("ij,j->i", (3, 4), (4,)), ("ab,cd->bd", (3, 4), (2, 5)), ("...ab,...bc->...ac", (2, 3, 4), (4, 5)),
    ("bij,jk,kl->bil", (2, 3, 4), (4, 5), (5, 6)), ("ij,ij->", (3, 4), (3, 4)), ("bnct,nm->bmct", (2, 3, 4, 5), (3, 6)),
    ("ij,jk->ik", (3, 1), (4, 5)), ("a,a,a->a", (4,), (4,), (4,)), ("ijj,jk->ik", (2, 3, 3), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda case: case[0])
def test_einsum(case: Any) -> None:
    equation, *shapes = case
    arrays = [whole(*shape, seed=index) for index, shape in enumerate(shapes)]
    wanted = np.einsum(equation, *(array.astype(np.float64) for array in arrays))
    for constant in range(len(arrays)):  # all computed, or one of the later ones constant
        g = Graph()
        names = [g.const(a) if i == constant > 0 else g.input(f"x{i}", *a.shape) for i, a in enumerate(arrays)]
        g.node("Einsum", *names, name="y", equation=equation)
        inputs = {f"x{i}": a for i, a in enumerate(arrays) if not i == constant > 0}
        np.testing.assert_array_equal(run(g, "y", **inputs), wanted)


@pytest.mark.parametrize(
    ("equation", "error", "match"),
    [
        ("ij,jk->ik", ModelError, "a term for each operand"),
        ("ij->ik", ModelError, "labels of operands"),
        ("i->i", ShapeError, "a label for each axis"),
        ("i1->i", ModelError, "letters"),
        ("ij->ii", ModelError, "each once"),
    ],
)
def test_equations_that_do_not_fit(equation: str, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        single("Einsum", whole(3, 4), equation=equation)


# Attention


def attend(q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """Attention in float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + (0 if bias is None else bias)
    with np.errstate(invalid="ignore"):
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return np.nan_to_num(shares / shares.sum(-1, keepdims=True)) @ v


@pytest.mark.parametrize("heads", [2, 6])
def test_attention_with_a_computed_mask(heads: int) -> None:
    """A mask that the network computes; where it leaves a query nothing, the result is zero."""
    q, k, v = whole(2, 6, 5, 8), whole(2, heads, 7, 8, seed=1), whole(2, heads, 7, 3, seed=2)
    bias = np.where(np.random.default_rng(3).random((2, 1, 5, 7)) < 0.6, 0.0, -np.inf).astype(np.float32)
    bias[1, 0, 2] = -np.inf
    wide = k.repeat(6 // heads, 1), v.repeat(6 // heads, 1)
    wanted = attend(q, *wide, bias)
    for computed in (False, True):
        g = Graph(23)
        mask = g.input("m", *bias.shape) if computed else g.const(bias)
        g.node("Attention", g.input("q", *q.shape), g.input("k", *k.shape), g.input("v", *v.shape), mask, name="y")
        found = run(g, "y", q=q, k=k, v=v, **({"m": bias} if computed else {}))
        # Shares add up to one, each off by some roundings of an exponential and of a sum over the keys.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=4 * 64 * 2.0**-24)
        assert not found[1, :, 2].any()


@pytest.mark.parametrize("computed", [False, True])
def test_a_query_without_keys_gives_zeros_whatever_it_holds(computed: bool) -> None:
    q, k, v = whole(1, 2, 3, 4), whole(1, 2, 5, 4, seed=1), whole(1, 2, 5, 4, seed=2)
    allowed = np.ones((3, 5), bool)
    allowed[1] = False
    q[0, 0, 1, 2], q[0, 1, 1, 0] = np.nan, np.inf
    g = Graph(23)
    mask = g.input("m", *allowed.shape, dtype=onnx.TensorProto.BOOL) if computed else g.const(allowed, bool)
    g.node("Attention", g.input("q", *q.shape), g.input("k", *k.shape), g.input("v", *v.shape), mask, name="y")
    found = oc.compile(g.model("y")).run({"q": q, "k": k, "v": v, **({"m": allowed} if computed else {})})["y"]
    assert not found[:, :, 1].any()
    kept = [0, 2]
    np.testing.assert_allclose(found[:, :, kept], attend(q, k, v)[:, :, kept], rtol=0, atol=4 * 64 * 2.0**-24)


@pytest.mark.parametrize("keys", [7, 5])
@pytest.mark.parametrize("compared", [True, False])
def test_attention_with_a_computed_mask_of_truths(compared: bool, keys: int) -> None:
    """A truth says which keys are attended to, it is no number to add; those behind a shorter mask are not."""
    q, k, v = whole(2, 6, 5, 8), whole(2, 6, 7, 8, seed=1), whole(2, 6, 7, 3, seed=2)
    allowed = np.random.default_rng(3).random((2, 1, 5, keys)) < 0.6
    allowed[1, 0, 2] = False
    bias = np.full((2, 1, 5, 7), -np.inf)
    bias[..., :keys][allowed] = 0
    g = Graph(23)
    if compared:
        mask, given = g.node("Greater", g.input("m", *allowed.shape), g.const(0.5)), allowed.astype(np.float32)
    else:
        mask, given = g.input("m", *allowed.shape, dtype=onnx.TensorProto.BOOL), allowed
    g.node("Attention", g.input("q", *q.shape), g.input("k", *k.shape), g.input("v", *v.shape), mask, name="y")
    model = g.model("y")
    found = oc.compile(model).run({"q": q, "k": k, "v": v, "m": given})["y"]
    np.testing.assert_allclose(found, attend(q, k, v, bias), rtol=0, atol=4 * 64 * 2.0**-24)
    assert not found[1, :, 2].any()


def test_training_is_refused_in_words() -> None:
    g = Graph(15)
    outputs = g.node(
        "BatchNormalization", g.input("x", 2, 3, 4), *(g.const(np.ones(3)) for _ in range(4)), count=3, training_mode=1
    )
    with pytest.raises(UnsupportedError, match=r"training mode; need training_mode=0.*model.eval\(\)"):
        oc.compile(g.model(outputs[0]))


# Norms whose scales are computed


@pytest.mark.parametrize("op", ["BatchNormalization", "InstanceNormalization", "GroupNormalization"])
def test_norms_with_computed_scales(op: str) -> None:
    """The same as with constant ones, within the roundings of one more way to write it."""
    x, rng = whole(2, 4, 5), np.random.default_rng(0)
    rest = [rng.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4 if op == "BatchNormalization" else 2)]
    found = []
    for computed in (False, True):
        g = Graph(21)
        names = [g.input(f"p{i}", 4) if computed else g.const(p) for i, p in enumerate(rest)]
        more: dict[str, Any] = {"num_groups": 2} if op == "GroupNormalization" else {}
        g.node(op, g.input("x", *x.shape), *names, name="y", **more)
        inputs = {f"p{i}": p for i, p in enumerate(rest)} if computed else {}
        found.append(run(g, "y", x=x, **inputs))
    np.testing.assert_allclose(found[1], found[0], rtol=16 * 2.0**-24, atol=64 * 2.0**-24)


def test_models_of_torch_with_ceiling_pools_compile() -> None:
    """PyTorch's exporter declares too small an output for a pool whose last window hangs over."""
    g = Graph(17)
    g.node("MaxPool", g.input("x", 1, 2, 6, 6), name="y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    model = g.model("y", shapes=[[1, 2, 2, 2]])
    with pytest.warns(oc.ModelWarning, match=r"declared \(1, 2, 2, 2\), the nodes produce \(1, 2, 3, 3\)"):
        net = oc.compile(model)
    torch = pytest.importorskip("torch")
    x = whole(1, 2, 6, 6)
    wanted = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, 2, ceil_mode=True)
    np.testing.assert_array_equal(strictly(net, {"x": x})["y"], wanted.numpy())
