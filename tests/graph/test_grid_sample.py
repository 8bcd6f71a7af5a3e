"""GridSample on the host: against ONNX's evaluator and PyTorch, beyond the image, and where there are no numbers."""

from __future__ import annotations

import itertools
import time
import warnings
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import omniconv as oc
from omniconv.errors import LimitError, ModelError, ShapeError

PADDINGS = ("zeros", "border", "reflection")
OLD = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}


def make(x: np.ndarray, grid: np.ndarray, opset: int = 20, **attributes: Any) -> Any:
    """A model of one GridSample."""
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], "n0", **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in (("x", x), ("grid", grid))
    ]
    output = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(x.dtype), None)
    graph = helper.make_graph([node], "g", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model: Any, x: np.ndarray, grid: np.ndarray, **options: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        return oc.compile(model, dtype=x.dtype.name, **options).run({"x": x, "grid": grid})["y"]


def draw(sizes: tuple[int, ...], places: tuple[int, ...], dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Two images of three channels, and places inside, at the ends, and far outside."""
    rng = np.random.default_rng(5)
    grid = rng.uniform(-2.5, 2.5, (2, *places, len(sizes)))
    ends = rng.choice([-1.0, 1.0, 0.0, -3.75, 7.0], grid.shape)
    x = rng.standard_normal((2, 3, *sizes))
    return x.astype(dtype), np.where(rng.random(grid.shape) < 0.2, ends, grid).astype(dtype)


@pytest.mark.parametrize("mode", OLD)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize(("sizes", "dtype"), [((5,), np.float32), ((4, 7), np.float64), ((3, 2, 4), np.float32)])
def test_against_the_evaluator(mode: str, padding: str, aligned: int, sizes: Any, dtype: Any) -> None:
    """Whose coordinates are float32 whatever the grid; as exact as these, then, and exact against PyTorch below."""
    x, grid = draw(sizes, (3, 4)[: len(sizes)] if len(sizes) < 3 else (2, 3, 2), dtype)
    model = make(x, grid, mode=mode, padding_mode=padding, align_corners=aligned)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x, "grid": grid})
    got = run(model, x, grid)
    assert got.dtype == dtype
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", OLD)
@pytest.mark.parametrize("padding", PADDINGS)
def test_against_pytorch(mode: str, padding: str) -> None:
    torch = pytest.importorskip("torch")
    x, grid = draw((9, 6), (11, 8), np.float64)
    if (mode, padding) == ("cubic", "border"):  # beyond the ends ONNX reads the outermost pixel, PyTorch what is around
        grid = np.clip(grid, -1, 1)
    for aligned, opset in itertools.product((False, True), (16, 20)):
        want = torch.nn.functional.grid_sample(
            torch.from_numpy(x), torch.from_numpy(grid), OLD[mode], padding, align_corners=aligned
        ).numpy()
        named = {"mode": OLD[mode] if opset < 20 else mode, "padding_mode": padding, "align_corners": int(aligned)}
        np.testing.assert_allclose(run(make(x, grid, opset, **named), x, grid), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", OLD)
@pytest.mark.parametrize("axis", [0, 1])
def test_places_that_are_outside_along_one_axis_only(mode: str, axis: int) -> None:
    """Some taps are inside everywhere along the other."""
    x, grid = draw((9, 6), (5, 4))
    grid[..., axis] = np.clip(grid[..., axis], -0.4, 0.4)
    model = make(x, grid, mode=mode)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x, "grid": grid})
    np.testing.assert_allclose(run(model, x, grid), want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", OLD)
def test_what_is_outside_reads_nothing(mode: str) -> None:
    """Not even pixels that are no numbers; and a place that is no number gives none."""
    x = np.full((1, 2, 4, 4), np.nan, np.float32)
    grid = np.float32([[[[5, 0], [0, -4], [np.inf, 0.5], [-1e38, -np.inf]]]])
    model = make(x, grid, mode=mode)
    assert not run(model, x, grid).any()
    grid[0, 0, 1, 1] = np.nan
    found = run(model, np.ones_like(x), grid)
    assert np.isnan(found[..., 1]).all()
    assert not found[..., [0, 2, 3]].any()
    for padding in PADDINGS[1:]:
        assert np.isnan(run(make(x, grid, mode=mode, padding_mode=padding), np.ones_like(x), grid)[..., 1]).all()


@pytest.mark.parametrize("padding", PADDINGS)
def test_an_image_of_one_pixel(padding: str) -> None:
    x, grid = np.full((1, 1, 1, 1), 3, np.float32), np.float32([[[[0, 0], [0.5, -7], [1e30, -1e30]]]])
    for mode, aligned in itertools.product(OLD, (0, 1)):
        found = run(make(x, grid, mode=mode, padding_mode=padding, align_corners=aligned), x, grid)
        assert found[0, 0, 0, 0] == 3
        if padding != "zeros":
            np.testing.assert_allclose(found, 3, rtol=1e-6)


def test_a_tall_image_takes_no_time() -> None:
    """The evaluator goes through all of its rows for every place."""
    x = np.zeros((1, 1, 1 << 20, 2), np.float32)
    x[..., 7, :] = 1
    grid = np.full((1, 8, 8, 2), (7 * 2 + 1) / x.shape[2] - 1, np.float32)
    begun = time.process_time()
    found = run(make(x, grid, mode="cubic", padding_mode="reflection"), x, grid)
    assert time.process_time() - begun < 5
    np.testing.assert_allclose(found, 1, rtol=0.01)


def test_whole_numbers_keep_every_bit() -> None:
    x = np.array([2**62 + 1, -(2**53) - 1, 5]).reshape(1, 1, 3)
    grid = np.float32([-1, 0, 1, 4]).reshape(1, 4, 1)
    node = make(x, grid, mode="nearest", align_corners=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", oc.HostWarning)
        found = oc.compile(node).run({"x": x, "grid": grid})["y"]
    np.testing.assert_array_equal(found, [[[*x[0, 0], 0]]])


def test_what_does_not_fit_is_refused() -> None:
    x, grid = draw((4, 7), (3, 4))
    with pytest.raises(ModelError, match=r"mode='bilinear'.*one of nearest, linear, cubic"):
        run(make(x, grid, mode="bilinear"), x, grid)
    with pytest.raises(ModelError, match="padding_mode='mirror'"):
        run(make(x, grid, padding_mode="mirror"), x, grid)
    with pytest.raises((ModelError, ShapeError), match="grid"):
        run(make(x, grid[..., :1]), x, grid[..., :1])
    many = np.zeros((2, 1000, 4, 2), np.float32)
    with pytest.raises(LimitError, match="the taps of places"):
        run(make(x, many), x, many, memory_limit=1 << 19)
