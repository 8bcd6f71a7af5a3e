"""RoiAlign on the host: against ONNX's evaluator, a formula of its own, and what is not to be read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import omniconv as oc
from omniconv.errors import LimitError, ModelError, ShapeError

ROIS = np.array(
    [
        [0, 0, 7, 5],
        [3.5, 2.25, 9.75, 8.5],
        [-4, -3, 2, 20],
        [5, 5, 5, 5],
        [8, 6, 3, 2],
        [30, 30, 40, 44],
        [1, 1, 2.5, 1.75],
    ]
)  # inside, between pixels, over the edge, without size, turned over, outside, small


def make(rois: np.ndarray = ROIS, opset: int = 22, *, dtype: Any = np.float32, **attributes: Any) -> tuple[Any, Any]:
    """A model of one RoiAlign and its inputs."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 10, 12)).astype(dtype)
    arrays = {"x": x, "rois": rois.astype(dtype), "n": rng.integers(0, 2, len(rois))}
    node = helper.make_node("RoiAlign", list(arrays), ["y"], "n0", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    kinds = {"x": kind, "rois": kind, "n": TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", kind, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), arrays


def run(model: Any, arrays: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        return oc.compile(model, dtype=arrays["x"].dtype.name).run(arrays)["y"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "attributes",
    [
        {"output_height": 3, "output_width": 4, "sampling_ratio": 2},
        {"output_height": 2, "output_width": 2, "spatial_scale": 0.5},
        {
            "output_height": 5,
            "output_width": 1,
            "sampling_ratio": 3,
            "coordinate_transformation_mode": "output_half_pixel",
        },
        {"output_height": 2, "output_width": 3, "mode": "max", "sampling_ratio": 2},
        {},
    ],
    ids=str,
)
def test_against_the_evaluator(attributes: dict[str, Any], dtype: Any) -> None:
    model, arrays = make(dtype=dtype, **attributes)
    (want,) = ReferenceEvaluator(model).run(None, arrays)
    got = run(model, arrays)
    assert got.dtype == dtype
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_places_outside_read_nothing() -> None:
    """Not even what is no number at the pixels that are nearest; the evaluator reads the first pixel, times zero."""
    model, arrays = make(np.float32([[-20, -20, -8, -6], [2, 3, 6, 7]]), output_height=2, output_width=2)
    arrays["x"][:, :, 0, 1:] = np.nan
    arrays["x"][:, :, 1:, 0] = np.inf
    (want,) = ReferenceEvaluator(model).run(None, arrays)
    got = run(model, arrays)
    assert not got[0].any()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("corner", [np.nan, np.inf, 3e38])
def test_regions_that_are_not_finite_are_refused(corner: float) -> None:
    model, arrays = make(np.float32([[0, 0, corner, 5]]), output_height=2, output_width=2, spatial_scale=2.0)
    with pytest.raises(ModelError, match="a region that is not finite, at spatial_scale="):
        run(model, arrays)


def test_older_opsets_do_not_shift() -> None:
    given = {"output_height": 3, "output_width": 3, "sampling_ratio": 2}
    old, arrays = make(opset=10, **given)
    new, _ = make(coordinate_transformation_mode="output_half_pixel", **given)
    np.testing.assert_array_equal(run(old, arrays), run(new, arrays))


def test_a_linear_map_is_read_exactly() -> None:
    """The mean of a linear function over a bin is its value in the middle."""
    model, arrays = make(np.array([[1, 2, 9, 6]]), output_height=2, output_width=4, sampling_ratio=2)
    arrays["x"][:] = np.arange(10)[:, None] * 100 + np.arange(12)
    want = (np.arange(2) * 2 + 2.5)[:, None] * 100 + np.arange(4) * 2 + 1.5
    np.testing.assert_allclose(run(model, arrays)[0], np.broadcast_to(want, (3, 2, 4)), rtol=1e-6)


def test_what_is_not_finite_stays_in_its_bins() -> None:
    model, arrays = make(ROIS[:2], output_height=4, output_width=4, sampling_ratio=2)
    before = run(model, arrays)
    arrays["x"][:, :, 4, 6] = np.inf
    after = run(model, arrays)
    changed = ~np.isfinite(after)
    assert 0 < changed.sum() < changed.size / 2
    np.testing.assert_array_equal(after[~changed], before[~changed])


def test_no_regions() -> None:
    """Whose number is known only when the data are."""
    model, arrays = make(output_height=2, output_width=2)
    for name in ("rois", "n"):
        model.graph.node.insert(0, helper.make_node("Compress", [name, "keep"], [f"{name} kept"], axis=0))
    model.graph.node[-1].input[1:] = ["rois kept", "n kept"]
    model.graph.input.append(helper.make_tensor_value_info("keep", TensorProto.BOOL, [7]))
    full, _ = make(output_height=2, output_width=2)
    for keep in (np.zeros(7, bool), np.arange(7) % 2 == 1):
        want = run(full, arrays)[keep]
        np.testing.assert_array_equal(run(model, arrays | {"keep": keep}), want)


@pytest.mark.parametrize(
    ("change", "attributes", "error"),
    [
        ({"n": np.full(7, 2)}, {}, ModelError),
        ({"n": np.full(7, -1)}, {}, ModelError),
        ({"rois": np.full((7, 4), np.nan, np.float32)}, {}, ModelError),
        ({"rois": np.array([[0, 0, 1e12, 1e12]] * 7, np.float32)}, {}, LimitError),
        ({}, {"sampling_ratio": 2**31 - 1}, LimitError),
        ({}, {"sampling_ratio": 2**40}, ModelError),
        ({}, {"output_height": 0}, (ModelError, ShapeError)),
        ({}, {"output_height": 2**31}, (ModelError, LimitError)),
    ],
    ids=str,
)
def test_refusals(change: dict[str, Any], attributes: dict[str, Any], error: Any) -> None:
    model, arrays = make(**attributes)
    with pytest.raises(error, match="RoiAlign node 'n0'"):
        run(model, arrays | change)
