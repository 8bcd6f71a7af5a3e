"""Code in the style of insightface and of Ultralytics, by what they ask of sessions, on both engines."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ort.small import FaceDetector, Yolo, embedder, face_detector, yolo

from omniconv import ort

theirs = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)


def test_faces_are_found_and_told_apart():
    model = face_detector().SerializeToString()
    ours, other = (FaceDetector(engine.InferenceSession(model)) for engine in (ort, theirs))
    assert (ours.input_size, ours.batched, ours.use_kps) == (other.input_size, other.batched, other.use_kps)
    assert ours.input_size is None
    for size in ((64, 96), (96, 64)):
        image = RNG.integers(0, 256, (*size, 3), np.uint8)
        found, expected = ours.detect(image), other.detect(image)
        assert found.shape == expected.shape
        assert found.shape[0] > 10
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_faces_become_vectors():
    model = embedder().SerializeToString()
    ours, other = (engine.InferenceSession(model, providers=["CPUExecutionProvider"]) for engine in (ort, theirs))
    assert isinstance(ours.get_inputs()[0].shape[0], str)
    assert tuple(ours.get_inputs()[0].shape[2:4][::-1]) == (112, 112)
    for count in (1, 3):
        blob = RNG.standard_normal((count, 3, 112, 112)).astype(np.float32)
        names = [item.name for item in ours.get_outputs()]
        one = ours.run(names, {ours.get_inputs()[0].name: blob})[0]
        two = other.run(names, {other.get_inputs()[0].name: blob})[0]
        cosine = np.sum(one * two, 1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
        assert cosine.min() > 1 - 1e-6


def test_things_are_found_in_bound_memory():
    model = yolo().SerializeToString()
    ours, other = Yolo(ort, model), Yolo(theirs, model)
    assert (ours.names, ours.stride, ours.dynamic, ours.fp16) == ({0: "cat", 1: "dog"}, 8, False, False)
    for _ in range(2):
        x = RNG.standard_normal((1, 3, 32, 32)).astype(np.float32)
        (plain,), (bound,), (expected,) = ours.plain(x), ours.bound(x), other.bound(x)
        assert np.array_equal(plain, bound)
        np.testing.assert_allclose(bound, expected, rtol=1e-4, atol=1e-5)
