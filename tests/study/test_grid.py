"""The energy of a grid, on grids that were made and against the Fourier transform; and decoders before they learn."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.study import decoders
from omniconv.study.decoders import ENLARGINGS, Scenes, measure_first, measure_scenes, train_decoder
from omniconv.study.grid import crop, find_energies, find_share, split_phases


@pytest.mark.parametrize(("stride", "dims"), [(2, 1), (3, 1), (2, 2), (3, 2)])
def test_the_share_is_that_of_the_fourier_transform(stride, dims):
    images = np.random.default_rng(0).normal(size=(5, *[6 * stride] * dims)) + 3
    energies = np.abs(np.fft.fftn(images, axes=range(1, dims + 1))) ** 2
    energies.reshape(5, -1)[:, 0] = 0
    grid = energies[(slice(None), *[slice(None, None, 6)] * dims)]
    assert find_share(images, stride) == pytest.approx(grid.sum() / energies.sum(), rel=1e-9)


def test_made_grids():
    y, x = np.mgrid[:12, :12]
    board = ((x + y) % 2).astype(float)
    smooth = np.sin(2 * np.pi * x / 12)
    assert find_share(board[None], 2) == pytest.approx(1)
    assert find_share(smooth[None], 2) == pytest.approx(0, abs=1e-20)
    # variances 1/4 and 1/2
    assert find_share((board + smooth)[None], 2) == pytest.approx((1 / 4) / (1 / 4 + 1 / 2))
    assert find_share(board[None], 3) == pytest.approx(0, abs=1e-20)
    assert find_share(np.full((1, 12, 12), 7.0), 2) == 0


def test_energies_are_those_of_each_phase():
    image = np.tile([[1.0, 2.0], [3.0, 4.0]], (3, 3))
    assert find_energies(image[None], 2).tolist() == [1, 4, 9, 16]
    assert split_phases(image[None], 2).shape == (1, 4, 9)
    assert crop(np.arange(36.0).reshape(1, 6, 6), 2).tolist() == [[[14, 15], [20, 21]]]


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    images = rng.random((40, decoders.SIDE, decoders.SIDE), np.float32)
    return Scenes(rng.normal(size=(40, decoders.CODE)).astype(np.float32), images)


def test_what_overlap_predicts():
    counts = {(name, dims): way.predict(dims) for name, way in ENLARGINGS.items() for dims in (1, 2)}
    assert counts["transposed k3 s2", 1] == [1, 2]
    assert counts["transposed k3 s2", 2] == [1, 2, 2, 4]
    assert counts["transposed k4 s2", 2] == [4] * 4
    assert sorted(counts["transposed k5 s3", 2]) == [1, 2, 2, 2, 2, 4, 4, 4, 4]
    assert all(len(set(counts[name, 2])) == 1 for name in ("resize", "sub_pixel", "sub_pixel ICNR"))


@pytest.mark.parametrize("dims", [1, 2])
def test_untrained_layers_have_the_energies_that_are_predicted(scenes, dims, monkeypatch):
    monkeypatch.setattr(decoders, "DRAWS", 24)
    found = measure_first("transposed k3 s2", dims, 0, scenes)
    energies = np.mean(found["energies"], axis=0)
    assert energies / energies[0] == pytest.approx(ENLARGINGS["transposed k3 s2"].predict(dims), rel=0.25)
    assert np.mean(found["shares"]) > 0.1


def test_only_layers_that_begin_alike_have_no_grid(scenes, monkeypatch):
    monkeypatch.setattr(decoders, "DRAWS", 2)
    shares = {name: np.mean(measure_first(name, 2, 0, scenes)["shares"]) for name in ENLARGINGS}
    assert shares["sub_pixel ICNR"] < 1e-3 < 0.05 < shares["sub_pixel"]
    assert shares["resize"] < 0.05 < shares["transposed k4 s2"]


def test_a_decoder_learns_and_is_the_same_again(scenes):
    first, again = (train_decoder("resize", 2, 3, 2, scenes) for _ in range(2))
    assert first == again
    assert train_decoder("resize", 2, 4, 2, scenes) != first
    assert train_decoder("resize", 2, 3, 30, scenes)["error"] < first["error"]
    assert 0 < measure_scenes(2, 2, scenes) < 0.2


def test_rows_are_laid_out_so_that_neighbours_stay_neighbours(scenes):
    row = scenes.targets(1)[0]
    assert row[: decoders.SIDE].tolist() == scenes.images[0, 0].tolist()
    assert row[decoders.SIDE : 2 * decoders.SIDE].tolist() == scenes.images[0, 1, ::-1].tolist()
