from __future__ import annotations

import numpy as np
import pytest

from omniconv.demo.page import CROP, DEVIATION, MEAN, SHORT_SIDE, make_filter, prepare, resize, rotate


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("skimage")
    from omniconv.demo.page import load_page

    return load_page()


def test_the_page(page):
    assert page.shape == (191, 384)
    assert page.dtype == np.uint8


def test_rotation_is_clockwise_and_closes():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert rotate(image, 90).tolist() == [[3, 0], [4, 1], [5, 2]]
    assert rotate(rotate(image, 90), 270).tolist() == image.tolist()
    assert rotate(image, 0).tolist() == image.tolist()


@pytest.mark.parametrize(("source", "target"), [(191, 256), (384, 515), (7, 3), (5, 5), (1, 9)])
def test_filter_weights_sum_to_one_and_stay_inside(source, target):
    index, weights = make_filter(source, target)
    assert index.shape == weights.shape == (target, 8)
    assert index.min() >= 0
    assert index.max() < source
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_resizing_keeps_constants_and_identity():
    image = np.random.default_rng(0).integers(0, 256, (9, 11)).astype(np.uint8)
    assert np.array_equal(resize(image, 9, 11), image)
    assert set(resize(np.full((9, 11), 77, np.uint8), 20, 5).ravel()) == {77}


def test_resizing_is_that_of_the_network_authors(page):
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    for image in (page, rotate(page, 90)):
        size = tuple(round(n * SHORT_SIDE / min(image.shape)) for n in image.shape)
        theirs = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LANCZOS4)
        difference = np.abs(resize(image, *size).astype(int) - theirs.astype(int))
        # They compute with 11-bit weights, so a value may round to the neighbour.
        assert difference.max() <= 1


def test_prepared_pages(page):
    x = prepare(page)
    assert x.shape == (1, 3, CROP, CROP)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    back = x[0] * np.array(DEVIATION)[:, None, None] + np.array(MEAN)[:, None, None]
    assert back.min() > -1e-6
    assert back.max() < 1 + 1e-6
    np.testing.assert_allclose(back[0], back[1], atol=1e-6)


def test_preparing_turns_with_the_page():
    image = np.random.default_rng(0).integers(0, 256, (SHORT_SIDE, 300)).astype(np.uint8)
    x = prepare(image)
    np.testing.assert_array_equal(prepare(rotate(image, 180)), x[:, :, ::-1, ::-1])
    np.testing.assert_array_equal(prepare(rotate(image, 90)), np.rot90(x, -1, (2, 3)))
