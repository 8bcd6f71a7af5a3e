"""Resize and Upsample as files say them: sizes, ends, copies and refusals, and ONNX Runtime beside."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.program_oracle import run_program

from omniconv.errors import ModelError, OmniconvError, UnsupportedError
from omniconv.graph import to_program
from omniconv.program.sampling import COORDINATES, NEAREST


def resize(shape: tuple[int, ...], *, scales: Any = None, sizes: Any = None, opset: int = 19, **settings: Any) -> Any:
    """A model of one Resize, or below opset 10 one Upsample."""
    g = Graph(opset)
    g.input("x", *shape)
    given = g.const(scales, np.float32) if sizes is None else g.const(sizes, np.int64)
    places = ["", given] if sizes is None else ["", "", given]
    g.node("Resize" if opset > 9 else "Upsample", "x", *(places if opset > 10 else [given]), name="y", **settings)
    return g.model("y", shapes=[[None] * len(shape)])


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The float64 result."""
    [y] = run_program(to_program(model), {"x": x}).values()
    return y


def ramp(*sizes: int) -> np.ndarray:
    return np.arange(np.prod(sizes), dtype=np.float32).reshape(1, 1, *sizes)


def test_align_corners_counts_whole_positions() -> None:
    model = resize((1, 1, 5), scales=[1, 1, 0.5], mode="linear", coordinate_transformation_mode="align_corners")
    assert run(model, ramp(5)).tolist() == [[[0, 4]]]


def test_sizes_and_pixels_by_scale() -> None:
    assert run(resize((1, 1, 10), scales=[1, 1, 0.7]), ramp(10)).shape == (1, 1, 7)
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = run(resize((1, 1, 20), scales=[1, 1, 1.1], **nearest), ramp(20))[0, 0]
    # 11 / 1.1 is 10 in float32, and 9.99... for the float64 reading of the same scale.
    assert y.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def test_before_opset_11_shrinking_rounds_up() -> None:
    assert run(resize((1, 1, 2, 4), scales=[1, 1, 0.6, 0.6], opset=10), ramp(2, 4)).tolist() == [[[[0, 2]]]]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_nothing_to_resize_is_a_copy(mode: str) -> None:
    assert run(resize((1, 1, 7, 6), scales=[1, 1, 1.05, 1.1], mode=mode), ramp(7, 6)).tolist() == ramp(7, 6).tolist()


@pytest.mark.parametrize(("policy", "shape"), [("not_larger", (8, 4)), ("not_smaller", (12, 6))])
def test_aspect_ratio_is_kept(policy: str, shape: tuple[int, int]) -> None:
    model = resize((1, 1, 10, 5), sizes=[8, 6], axes=[2, 3], keep_aspect_ratio_policy=policy)
    assert run(model, ramp(10, 5)).shape == (1, 1, *shape)


REFUSED: list[tuple[dict[str, Any], type[OmniconvError], str]] = [
    ({"scales": [1, 1, 0.5, 1], "opset": 9, "mode": "linear"}, ModelError, "scales of at least 1"),
    ({"scales": [1, 1, 0.5, 1], "opset": 9}, ModelError, "scales of at least 1"),
    ({"scales": [1, 1, 0.1, 1]}, ModelError, "sizes from 1"),
    ({"scales": [1, 1.2, 2, 2]}, UnsupportedError, "batch and channels by scale 1"),
    ({"scales": [1, 2, 2, 2]}, UnsupportedError, "equal batch and channels"),
    ({"scales": [1, 1, 2, 2], "antialias": 1}, ModelError, "mode linear or cubic"),
    ({"scales": [1, 1, 2, 2], "coordinate_transformation_mode": "tf_crop_and_resize"}, ModelError, "roi"),
    ({"scales": [1, 1, 1e-4, 1], "mode": "linear", "antialias": 1}, ModelError, "sizes from 1"),
    ({"scales": [1, 1, -1, 1]}, ModelError, "positive"),
]


@pytest.mark.parametrize(("settings", "error", "words"), REFUSED, ids=str)
def test_refusals(settings: dict[str, Any], error: type[OmniconvError], words: str) -> None:
    with pytest.raises(error, match=words):
        to_program(resize((1, 3, 4, 4), **{"mode": "nearest", **settings}))


def takes_nearly_halfway_for_halfway(ort: Any) -> bool:
    """Whether this ONNX Runtime reads 14.499999 as 14.5."""
    how = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    model = resize((1, 1, 20, 1), sizes=[1, 1, 6, 1], **how)
    [y] = ort.InferenceSession(model.SerializeToString()).run(None, {"x": ramp(20, 1)})
    return bool(y[0, 0, 4, 0] == 15)


SETTINGS: list[dict[str, Any]] = [
    *({"mode": "nearest", "nearest_mode": rule} for rule in NEAREST),
    {"mode": "linear"},
    {"mode": "cubic"},
    {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
    *({"mode": mode, "antialias": 1, "exclude_outside": out} for mode in ("linear", "cubic") for out in (0, 1)),
]


@pytest.mark.parametrize("sizes", [(4, 16), pytest.param((10, 20), marks=pytest.mark.wide)], ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_equals_onnx_runtime(coordinates: str, settings: dict[str, Any], sizes: tuple[int, ...]) -> None:
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)
    if settings["mode"] == "nearest" and not takes_nearly_halfway_for_halfway(ort):
        pytest.skip("older versions round halfway positions by their last bit")
    for n, scale, by_sizes in itertools.product(sizes, (0.3, 0.7, 1.3), (False, True)):
        if (m := int(np.float32(scale) * np.float32(n))) == 0:
            continue
        # One channel an input position shows every weight; a second axis that changes keeps the copy away.
        x = np.repeat(np.eye(n, dtype=np.float32)[None, :, :, None], 2, 3)
        to = {"sizes": [1, n, m, 4]} if by_sizes else {"scales": [1, 1, scale, 2]}
        model = resize(x.shape, **to, coordinate_transformation_mode=coordinates, **settings)
        [want] = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        got = run(model, x)
        assert got.shape == want.shape
        # A float32 coordinate below n is wrong by n roundings, which the slope of the filter (3 at most) carries over.
        bound = 0.0 if settings["mode"] == "nearest" else 16 * (n + 1) * 2.0**-24
        assert np.abs(got - want).max() <= bound, (n, scale, by_sizes)
