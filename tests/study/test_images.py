"""Where images come from, and what is refused."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest

from omniconv.errors import DataError, LimitError, StorageError, UnsupportedError
from omniconv.study.images import LabelledImages
from omniconv.study.load import load_images
from omniconv.study.split import count_parts, split_images

Image = pytest.importorskip("PIL.Image")


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def make(classes=2, each=6, size=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((classes * each, 1, size, size), np.float32)
    labels = np.repeat(np.arange(classes), each)
    return LabelledImages("made", "made", x, labels, tuple(f"class {n}" for n in range(classes)))


def test_the_digits():
    found = load_images("digits")
    assert (found.x.shape, found.x.dtype, len(found.classes)) == ((1797, 1, 8, 8), np.float32, 10)
    assert (found.x.min(), found.x.max()) == (0, 1)


def test_the_textures():
    found = load_images("textures")
    assert found.x.shape == (3072, 1, 16, 16)
    assert np.bincount(found.labels).tolist() == [1024] * 3
    from skimage import data

    assert np.array_equal(found.x[33, 0], data.brick()[16:32, 16:32] / np.float32(255))


def test_a_folder_with_all_that_goes_wrong(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        for n in range(3):
            save(tmp_path / label / f"{n}.png", rng.integers(0, 255, (10, 12, 3)))
    save(tmp_path / "cats" / "grey.png", np.full((9, 9), 128))
    save(tmp_path / "dogs" / "large.png", rng.integers(0, 255, (200, 90, 3)))
    save(tmp_path / "dogs" / "tiny.png", np.zeros((2, 30, 3)))
    (tmp_path / "cats" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (tmp_path / "cats" / "empty.jpg").touch()
    (tmp_path / "cats" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    found = load_images(str(tmp_path))
    assert found.classes == ("cats", "dogs")
    assert found.x.shape == (8, 3, 32, 32)
    assert np.bincount(found.labels).tolist() == [4, 4]
    left = sorted(text.partition(":")[0] for text in found.left_out)
    assert left == ["cats/broken.png", "cats/empty.jpg", "dogs/tiny.png"]
    assert "30 x 2 pixels are too few" in " ".join(found.left_out)
    assert found.x[3] == pytest.approx(128 / 255)


def test_grey_pictures_of_one_size_stay_as_they_are(tmp_path):
    values = np.arange(64).reshape(8, 8)
    for label in "ab":
        save(tmp_path / label / "one.png", values)
    found = load_images(str(tmp_path))
    assert np.array_equal(found.x[0, 0], values.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("make_folder", "message"),
    [
        (lambda path: None, "0 classes with a picture"),
        (lambda path: save(path / "a" / "1.png", np.zeros((8, 8))), r"1 classes with a picture"),
        (lambda path: (path / "a").mkdir() or (path / "a" / "1.png").write_bytes(b"x"), "cannot be read"),
    ],
)
def test_folders_without_two_classes(tmp_path, make_folder, message):
    make_folder(tmp_path)
    with pytest.raises(DataError, match=message):
        load_images(str(tmp_path))


@pytest.mark.parametrize("source", ["nowhere", "", 3, None, "a\0b"])
def test_sources_that_are_none(source):
    with pytest.raises((StorageError, DataError), match=r"data=|no images at"):
        load_images(source)


@pytest.mark.parametrize("shape", [(12, 8, 8), (12, 8, 8, 3), (12, 3, 8, 8), (12, 96, 96)])
def test_archives(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    np.savez(tmp_path / "a.npz", images=values, labels=np.arange(12) % 3 + 5)
    found = load_images(str(tmp_path / "a.npz"))
    assert found.classes == ("5", "6", "7")
    assert found.x.shape == (12, 3 if 3 in shape else 1, *(2 * [8] if shape[-2] != 96 else 2 * [32]))
    assert found.x.min() >= 0
    assert found.x.max() <= 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros(3)}, "has the arrays other"),
        ({"x": np.zeros((3, 8, 9)), "y": np.zeros(3, int)}, "8 x 9 pixels"),
        ({"x": np.zeros((3, 8, 8)), "y": np.zeros(2, int)}, r"labels of int64 and shape \(2,\) for 3"),
        ({"x": np.zeros((3, 8, 8)), "y": np.zeros(3)}, "labels of float64"),
        ({"x": np.full((3, 8, 8), np.nan), "y": np.zeros(3, int)}, "not finite"),
        ({"x": np.zeros((3, 8, 8), "U1"), "y": np.zeros(3, int)}, "images of <U1"),
        ({"x": np.zeros((0, 8, 8)), "y": np.zeros(0, int)}, r"shape \(0, 8, 8\)"),
    ],
)
def test_archives_of_something_else(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_images(str(tmp_path / "a.npz"))


def test_archives_that_are_damaged_or_too_large(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((100, 64, 64)), y=np.zeros(100, int))
    monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "1M")
    with pytest.raises(LimitError, match="the images needs"):
        load_images(str(path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StorageError, match=r"reading 'a\.npz'"):
        load_images(str(path))
    np.savez(path, x=np.array([None, {}], object), y=np.zeros(2, int))
    monkeypatch.delenv("OMNICONV_MEMORY_LIMIT")
    with pytest.raises(StorageError, match="pickle"):
        load_images(str(path))


def write_description(path, kinds):
    path.mkdir(exist_ok=True)
    features = {name: {"_type": kind, "names": ["cat", "dog"]} for name, kind in kinds.items()}
    (path / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_saved_data_set_needs_pyarrow(tmp_path, monkeypatch):
    write_description(tmp_path, {"image": "Image", "label": "ClassLabel"})
    monkeypatch.setattr("omniconv.outside.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="pyarrow is not installed"):
        load_images(str(tmp_path))


def test_a_saved_data_set(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "train"]}))
    write_description(tmp_path / "train", {"image": "Image", "label": "ClassLabel"})
    rows = []
    for n in range(4):
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8), 10 * n, np.uint8)).save(file, "PNG")
        rows.append({"bytes": file.getvalue() if n else b"broken", "path": None})
    table = arrow.table({"image": rows, "label": [0, 1, 0, 1]})
    path = str(tmp_path / "train" / "data-00000-of-00001.arrow")
    with arrow.OSFile(path, "wb") as file, arrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    found = load_images(str(tmp_path))
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.x[:, 0, 0, 0] * 255 == pytest.approx([10, 20, 30])
    assert found.left_out[0].startswith("row 0: ")


def test_saved_data_sets_of_something_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("omniconv.outside.find_spec", lambda name: name)
    write_description(tmp_path, {"text": "Value"})
    with pytest.raises(DataError, match=r"the columns text \(Value\)"):
        load_images(str(tmp_path))
    (tmp_path / "dataset_info.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list"):
        load_images(str(tmp_path))
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(StorageError, match="JSONDecodeError"):
        load_images(str(tmp_path))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["../../etc"]}))
    with pytest.raises(DataError, match="the name of a folder"):
        load_images(str(tmp_path))


def test_a_class_with_one_example():
    images = make(each=6)
    lone = LabelledImages("made", "made", images.x[:7], images.labels[:7], images.classes)
    with pytest.raises(DataError, match=r"class 'class 1' has 1 image; need at least 5 of each class"):
        split_images(lone, 0)
    with pytest.raises(DataError, match="need two or more"):
        split_images(LabelledImages("made", "made", images.x[:6], images.labels[:6], ("only",)), 0)


def test_splits_are_even_disjoint_and_paired():
    images = make(classes=3, each=40)
    first, again, other = (split_images(images, seed) for seed in (0, 0, 1))
    assert first.counts == (42, 18, 60)
    assert np.array_equal(first.test[0], again.test[0])
    assert not np.array_equal(first.test[0], other.test[0])
    assert np.bincount(first.validation[1]).tolist() == [6, 6, 6]
    assert first.train[0].mean() == pytest.approx(0, abs=1e-5)
    assert first.train[0].std() == pytest.approx(1, abs=1e-5)
    whole = np.concatenate([part[0] for part in (first.train, first.validation, first.test)]).reshape(120, -1)
    assert len(np.unique(whole, axis=0)) == 120
    assert all(sum(count_parts(n)) == n and min(count_parts(n)) >= 1 for n in range(5, 200))


def test_fewer_images_are_taken_from_each_class():
    found = make(classes=3, each=10).take(7)
    assert np.bincount(found.labels).tolist() == [3, 2, 2]
    assert len(make().take(100).labels) == 12
