"""Col2Im: against ONNX's evaluator and the float64 oracle, compiled, folded and on the host."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph
from tests.graph.test_operators import check
from tests.registry.compiled import TARGETS

import omniconv as oc
from omniconv.errors import LimitError, ModelError, ShapeError

GEOMETRIES: list[dict[str, Any]] = [
    {"image": (5, 5), "block": (1, 5)},
    {"image": (7, 6), "block": (3, 2), "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"image": (9, 7), "block": (3, 3), "strides": [2, 3], "dilations": [2, 1], "pads": [1, 0, 0, 2]},
    {"image": (4, 5), "block": (2, 2), "strides": [3, 3]},  # positions that no block reaches
    {"image": (11,), "block": (4,), "strides": [2], "pads": [0, 1]},
    {"image": (4, 5, 3), "block": (2, 3, 2), "strides": [1, 1, 1], "pads": [1, 0, 0, 0, 1, 0]},
]


def count_blocks(case: dict[str, Any]) -> int:
    dims = len(case["image"])
    strides, dilations = case.get("strides", [1] * dims), case.get("dilations", [1] * dims)
    pads = case.get("pads", [0] * 2 * dims)
    rows = zip(case["image"], case["block"], strides, dilations, pads[:dims], pads[dims:], strict=True)
    return math.prod((i + a + b - d * (k - 1) - 1) // s + 1 for i, k, s, d, a, b in rows)


def make(case: dict[str, Any], *, taps: int | None = None, dtype: Any = np.float32) -> Any:
    """A model of one Col2Im over an input, and its input."""
    g = Graph(18)
    shape = (2, 3 * (taps or math.prod(case["block"])), case["blocks"] if "blocks" in case else count_blocks(case))
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    attributes = {key: case[key] for key in ("strides", "dilations", "pads") if key in case}
    name = g.input("x", *shape, dtype=kind)
    g.node("Col2Im", name, g.ints(*case["image"]), g.ints(*case["block"]), name="y", **attributes)
    model = g.model("y", shapes=[[None] * (2 + len(case["image"]))])
    model.graph.output[0].type.tensor_type.elem_type = kind
    values = np.random.default_rng(5).integers(-64, 64, shape)  # whose sums are exact
    return model, values.astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", GEOMETRIES, ids=str)
def test_compiled(case: dict[str, Any], target: str) -> None:
    model, x = make(case)
    check(model)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    net = oc.compile(model, target=target, strict=True)
    np.testing.assert_array_equal(net(x), want)


def test_nothing_is_left_where_no_tap_is_inside() -> None:
    model, x = make({"image": (1, 3), "block": (1, 1), "strides": [2, 2], "pads": [1, 0, 0, 0]})
    np.testing.assert_array_equal(oc.compile(model)(x), np.zeros((2, 3, 1, 3), np.float32))


def test_what_is_not_finite_stays_where_it_belongs() -> None:
    model, x = make(GEOMETRIES[1])
    x[0, 7, 3], x[1, 0, 11] = np.inf, np.nan
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert 1 <= np.isnan(want).sum() + np.isinf(want).sum() <= 2
    np.testing.assert_array_equal(oc.compile(model)(x), want)


@pytest.mark.parametrize("case", GEOMETRIES, ids=str)
def test_of_integers_on_the_host(case: dict[str, Any]) -> None:
    model, x = make(case, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        net = oc.compile(model)
    assert net.tiers.host == 1
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(net(x), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adjoint_of_unfold(dtype: Any) -> None:
    """The sum over an image of what its own windows hold: every pixel as often as it is in one."""
    import torch

    case = GEOMETRIES[2]
    model, x = make(case, dtype=dtype)
    pads = case["pads"]
    wide = [case["image"][axis] + pads[axis] + pads[axis + 2] for axis in range(2)]
    folded = torch.nn.functional.fold(
        torch.tensor(x), wide, case["block"], dilation=case["dilations"], stride=case["strides"]
    )
    cuts = tuple(slice(pads[axis], pads[axis] + case["image"][axis]) for axis in range(2))
    np.testing.assert_array_equal(oc.compile(model, dtype=np.dtype(dtype).name)(x), folded.numpy()[(..., *cuts)])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"block": (3, 4)}, ShapeError),
        ({"blocks": 13}, ShapeError),
        ({"image": (2**31, 6)}, (ModelError, LimitError)),
        ({"image": (0, 6)}, ModelError),
        ({"image": (7,)}, ModelError),
        ({"strides": [0, 1]}, ModelError),
        ({"pads": [1, 1, 1]}, ModelError),
        ({"image": (2**30, 2**30), "strides": [2**30, 2**30], "blocks": 1, "pads": [0, 0, 0, 0]}, LimitError),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_refusals(change: dict[str, Any], error: Any, dtype: Any) -> None:
    model, x = make({"blocks": 16} | GEOMETRIES[1] | change, taps=6, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        with pytest.raises(error) as caught:
            oc.compile(model)(x)
    assert "Col2Im node 'n0'" in str(caught.value)
