"""Many images: what they come from, what becomes of them, and what goes wrong with some of them."""

from __future__ import annotations

import os
import signal
import struct
import time
import zlib

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import DataError, LimitError, OmniconvError, ShapeError, SpecError, StorageError, UnsupportedError
from omniconv.mapping import network as network_module
from omniconv.mapping import results as results_module
from omniconv.mapping.network import MapNetwork
from omniconv.mapping.pictures import read_picture
from omniconv.runtime.executable import Executable
from omniconv.tiles.subject import find_origin

Image = pytest.importorskip("PIL.Image")

NET = oc.Chain((oc.Conv.of(3, 4, 3, stride=2, padding=1), oc.Activation("relu"), oc.Conv.of(4, 2, 1)))
WEIGHTS = [
    (np.random.default_rng(n).integers(-2, 3, shape).astype(np.float32), None)
    for n, shape in enumerate(NET.weight_shapes)
]
RNG = np.random.default_rng(3)
SIZES = [(20, 24), (20, 24), (17, 9), (20, 24), (8, 8), (17, 9), (20, 24)]
PICTURES = [RNG.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def alone(picture):
    x = np.moveaxis(picture, -1, 0)[None].astype(np.float32)
    return oc.compile(NET, x.shape, WEIGHTS, exact=True)(x)[0]


WANTED = [alone(picture) for picture in PICTURES]


def run(source, out=None, **options):
    return oc.map(NET, source, out, **{"weights": WEIGHTS, "exact": True, "progress": False, **options})


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "in"
    (top / "deep" / "er").mkdir(parents=True)
    for n, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(top / ("deep/er" if n % 3 == 2 else "deep" if n % 3 else ".") / f"p{n}.png")
    return top


def check(report, folder=None):
    """Results of pictures by the number in their names."""
    assert not report.failed, str(report)
    assert [record.index for record in report] == list(range(len(report)))
    for record in report:
        n = int(record.name.split("/")[-1][1:].split(".")[0])
        y = record.result if folder is None else np.load(record.result)
        assert np.array_equal(y, WANTED[n])
        assert record.shape == (3, *SIZES[n])


def test_a_folder_into_a_folder(folder, tmp_path, monkeypatch):
    sizes, compute = [], Executable.run
    monkeypatch.setattr(
        Executable, "run", lambda self, x, *a: sizes.append(next(iter(x.values())).shape) or compute(self, x, *a)
    )
    report = run(folder, tmp_path / "out", batch=3)
    check(report, tmp_path / "out")
    assert len(report) == 7
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".omniconv",
        "deep",
        "p0.npy",
        "p3.npy",
        "p6.npy",
    ]
    assert not list((tmp_path / "out").rglob("*.part"))
    assert sorted(sizes) == [(1, 3, 8, 8), (1, 3, 20, 24), (2, 3, 17, 9), (3, 3, 20, 24)]
    # Once more, there is nothing to do; but for what was changed, lost or damaged.
    sizes.clear()
    assert all(record.old for record in run(folder, tmp_path / "out"))
    (tmp_path / "out" / "p0.npy").unlink()
    (tmp_path / "out" / "p3.npy").write_bytes(b"short")
    Image.fromarray(PICTURES[4]).save(folder / "p6.png")
    report = run(folder, tmp_path / "out")
    assert [record.name for record in report if not record.old] == ["p0.png", "p3.png", "p6.png"]
    assert np.array_equal(np.load(tmp_path / "out" / "p6.npy"), WANTED[4])
    assert np.array_equal(np.load(tmp_path / "out" / "p3.npy"), WANTED[3])


@pytest.mark.wide
def test_bags_of_dask(folder):
    bag = pytest.importorskip("dask.bag")
    check(run(bag.from_sequence(sorted(map(str, folder.rglob("*.png"))), npartitions=3)))


def test_lists_generators_and_patterns(folder, tmp_path):
    paths = sorted(map(str, folder.rglob("*.png")))
    check(run(paths))
    check(run(path for path in paths))
    check(run(str(folder / "**" / "*.png")))
    check(run(folder, pattern="p[0-9].png"))
    arrays = [np.moveaxis(picture, -1, 0) for picture in PICTURES]
    for source in (arrays, iter(PICTURES), map(Image.fromarray, PICTURES)):
        report = run(source, axes="YXC" if source is not arrays and "map" not in type(source).__name__ else None)
        assert all(np.array_equal(y, want) for y, want in zip(report.results, WANTED, strict=True))
    assert [path.name for path in run(arrays[:2], tmp_path / "out").results] == ["000000.npy", "000001.npy"]


@pytest.mark.parametrize("suffix", [".npz", ".zarr", ".tif", ".png"])
def test_endings_of_results(folder, tmp_path, suffix):
    def show(y):
        return y.argmax(0).astype(np.uint8)

    found = run(folder / "p0.png", tmp_path / "out", suffix=suffix, postprocess=show if suffix == ".png" else None)
    (path,) = found.results
    if suffix == ".npz":
        (y,) = np.load(path).values()
    elif suffix == ".zarr":
        y = pytest.importorskip("zarr").open_array(path, mode="r")[:]
    elif suffix == ".tif":
        y = pytest.importorskip("tifffile").imread(path)
    else:
        y = np.asarray(Image.open(path))
    assert np.array_equal(y, show(WANTED[0]) if suffix == ".png" else WANTED[0])
    again = run(folder / "p0.png", tmp_path / "out", suffix=suffix, postprocess=show if suffix == ".png" else None)
    assert again.records[0].old


def test_modes_of_pictures(tmp_path):
    grey = PICTURES[0][..., 0]
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "I;16"):
        picture = (
            Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        )
        path = tmp_path / f"{mode.replace(';', '')}.{'jpg' if mode == 'CMYK' else 'png'}"
        picture.save(path)
        for channels in (None, 1, 3, 4):
            if mode == "I;16" and channels in (3, 4):
                with pytest.raises(DataError, match="grey of 16 bits for 3 channels"):
                    read_picture(path, 3, lambda *_: None)
                continue
            array, names = read_picture(path, channels, lambda *_: None)
            assert array.shape[:2] == grey.shape
            assert names == ("YX" if array.ndim == 2 else "YXC")
            assert channels in (None, *(array.shape[2:] or (1,)))
            if mode == "L" and channels != 4:
                assert np.array_equal(array if array.ndim == 2 else array[..., 1], grey)


def png(width, height, bits=8, kind=2, data=bytes(999)):
    """A picture of some hundred bytes that says it is so large."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_pictures_of_16_bits_are_whole_or_refused(tmp_path):
    values = np.arange(0, 48000, 1000).astype(np.uint16)
    for name, kind, count in (("rgb", 2, 3), ("rgba", 6, 4), ("la", 4, 2)):
        rows = values.reshape(2, -1, count).astype(">u2")
        data = b"".join(b"\0" + row.tobytes() for row in rows)
        (tmp_path / f"{name}.png").write_bytes(png(rows.shape[1], 2, 16, kind, data))
    (tmp_path / "p6.ppm").write_bytes(b"P6 8 2 1023\n" + values.astype(">u2").tobytes())
    for name in ("rgb.png", "rgba.png", "la.png", "p6.ppm"):
        for channels in (None, 1, 3):
            with pytest.raises(DataError, match="colour of 16 bits; need a picture of 8 bits"):
                read_picture(tmp_path / name, channels, lambda *_: None)
    (tmp_path / "p5.pgm").write_bytes(b"P5 24 2 65535\n" + values.astype(">u2").tobytes())
    array, names = read_picture(tmp_path / "p5.pgm", 1, lambda *_: None)
    assert (array.dtype, names) == (np.uint16, "YX")
    assert np.array_equal(array.reshape(-1), values)


def test_small_images_in_large_pieces_are_refused_before_they_are_unpacked(tmp_path):
    zarr, tifffile = pytest.importorskip("zarr"), pytest.importorskip("tifffile")
    zarr.create_array(tmp_path / "x.zarr", shape=(3, 8, 8), chunks=(3, 9000, 9000), dtype="uint8")
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8, 3), np.uint8), tile=(4096, 4096))
    for name in ("x.zarr", "x.tif"):
        (record,) = run([tmp_path / name], memory="256MB")
        assert isinstance(record.error, LimitError), record


def test_what_a_generator_gave_before_it_failed_is_finished(tmp_path):
    def give():
        yield from (np.moveaxis(picture, -1, 0) for picture in PICTURES[:3])
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(give(), tmp_path / "out")
    assert [np.array_equal(np.load(tmp_path / "out" / f"{n:06}.npy"), WANTED[n]) for n in range(3)] == [True] * 3


BAD = {
    "cut.png": "truncated", "empty.png": "cannot identify", "huge.png": "DecompressionBomb",
    "large.png": 'need at most 128.0 MiB for each, e.g. memory="', "other.npy": "opening", "text.jpg": "identify",
    "double.npy": "float64 for a network of float32", "objects.npy": "opening", "none.npy": "at least one value",
    "grey.npy": "say 1 channels; need 3", "gone.png": "No such file", "pipe.png": "is no file",
}  # fmt: skip
"""What is said of each of some bad images."""


def test_bad_images_are_reported_and_skipped(folder, tmp_path):
    whole = (folder / "p0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(png(60000, 60000))
    (folder / "large.png").write_bytes(png(9000, 9000))
    (folder / "other.npy").write_bytes(whole)
    (folder / "text.jpg").write_text("no picture")
    np.save(folder / "double.npy", np.zeros((3, 8, 8)))
    np.save(folder / "objects.npy", np.array([None]), allow_pickle=True)
    np.save(folder / "none.npy", np.zeros((3, 0, 8), np.float32))
    np.save(folder / "grey.npy", np.zeros((1, 8, 8), np.float32))
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    (folder / ".hidden.png").write_bytes(b"")
    report = run(folder, tmp_path / "out")
    failed = {record.name: str(record.error) for record in report.failed}
    assert len(report) - len(failed) == 7
    for name, words in BAD.items():
        assert words in failed.pop(name)
    assert not failed
    assert "7 of 19 images" in str(report)
    assert "cut.png" in str(report)
    with pytest.raises(StorageError, match=r"truncated.*\| cut.png"):
        run(folder, tmp_path / "out", errors="raise")
    (folder / "cut.png").write_bytes(whole)
    again = run(folder, tmp_path / "out")
    assert [record.name for record in again if not record.old and record.error is None] == ["cut.png"]


def test_names_that_are_odd_or_meet(tmp_path):
    top = tmp_path / "in"
    top.mkdir()
    names = ["new\nline.png", b"\xff\xfe.png".decode("utf-8", "surrogateescape"), "a b'\"*.png", "Ünï.png", "[red].png"]
    for name in names:
        Image.fromarray(PICTURES[0]).save(top / name, format="PNG")
    Image.fromarray(PICTURES[0]).save(top / "a.png")
    Image.fromarray(PICTURES[0]).save(top / "a.bmp")
    Image.fromarray(PICTURES[0]).save(top / ("x" * 250 + ".png"))
    for again in (False, True):
        report = run(top, tmp_path / "out", suffix=".npz")
        str(report).encode()
        assert "\n" not in report.to_dict()["records"][0]["name"]
        assert [record.name for record in report.failed] == ["a.png", "x" * 250 + ".png"][
            : 1 + (len(os.fsencode("x" * 250 + ".npz")) > 255)
        ]
        assert "would both be written to 'a.npz'" in str(report.failed[0].error)
        assert all(record.old is again for record in report if record.error is None)


def test_what_is_there_is_kept(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "p0.npy").write_text("mine")
    (out / "p3.npy").mkdir()
    report = run(folder, out)
    assert [record.name for record in report.failed] == ["p0.png", "p3.png"]
    assert "no run has written it" in str(report.failed[0].error)
    assert (out / "p0.npy").read_text() == "mine"
    with pytest.raises(DataError, match=r"results of another run: network .*resume=False"):
        oc.map(NET, folder, out, weights=[(w + 1, b) for w, b in WEIGHTS], exact=True, progress=False)
    with pytest.raises(DataError, match="results of another run: exact True, now False"):
        run(folder, out, exact=None)
    # Begun anew, results of earlier runs are replaced, and nothing else is.
    report = run(folder, out, postprocess=lambda y: y + 1, resume=False)
    assert [record.name for record in report.failed] == ["p0.png", "p3.png"]
    assert np.array_equal(np.load(out / "p6.npy"), WANTED[6] + 1)
    with pytest.raises(DataError, match="postprocess"):
        run(folder, out, postprocess=lambda y: y + 2)
    with pytest.raises(DataError, match="results in the folder of the images"):
        run(out, out)


def test_results_inside_the_folder_of_the_images(folder):
    for _ in range(2):
        check(run(folder, folder / "results"), folder)
    assert len(run(folder, folder / "results")) == 7
    for _ in range(2):
        report = run(str(folder / "**" / "*.png"), folder / "masks", suffix=".png", postprocess=lambda y: y[0] > 0)
        assert len(report) == 7
        assert not report.failed


def test_a_full_disk_ends_all_and_what_is_finished_stays(folder, tmp_path, monkeypatch):
    write, written = results_module._write, []

    def fill(path, value):
        write(path, value)
        written.append(path)
        if len(written) > 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(results_module, "_write", fill)
        with pytest.raises(StorageError, match=r"No space left on device.*goes on where it stopped"):
            run(folder, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.npy"))) == 3
    report = run(folder, tmp_path / "out")
    check(report, tmp_path / "out")
    assert sum(record.old for record in report) == 3


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_whole_results(folder, tmp_path, monkeypatch):
    write = results_module._write

    def interrupt(path, value):
        write(path, value)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

    with monkeypatch.context() as patched:
        patched.setattr(results_module, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "out", batch=1)
    for path in (tmp_path / "out").glob("**/p*.npy"):
        np.load(path)
    check(run(folder, tmp_path / "out"), tmp_path / "out")


def test_functions_around_the_network(folder):
    report = run(folder, preprocess=lambda x: x[:8, :8] / 2, postprocess=lambda y: int(y.argmax()))
    wanted = [int(alone(picture[:8, :8].astype(np.float32) / 2).argmax()) for picture in PICTURES]
    assert sorted(report.results) == sorted(wanted)

    def fail(x):
        raise KeyError("odd")

    for option in ("preprocess", "postprocess"):
        report = run(folder, **{option: fail})
        assert len(report.failed) == 7
        assert f"{option}" in str(report.failed[0].error)
        assert "KeyError: 'odd'" in str(report.failed[0].error)


def test_networks_that_mix_images_get_them_one_by_one():
    g = Graph()
    x = g.input("x", "n", 3, "h", "w")
    mean = g.node("ReduceMean", x, axes=[0], keepdims=1)
    mixed = g.model(g.node("Sub", x, mean, name="y")).SerializeToString()
    images = [np.full((3, 4, 4), n, np.float32) for n in range(5)]
    report = oc.map(mixed, images, batch=4, progress=False)
    assert all(np.array_equal(y, np.zeros_like(y)) for y in report.results)
    made = MapNetwork(find_origin(NET, WEIGHTS, None, None, exact=True), None, 2**31)
    assert made._find((2, 3, 8, 8)) is not None
    with pytest.raises(OmniconvError, match="depends on others of its batch"):
        MapNetwork(find_origin(mixed, None, None, None, exact=None), None, 2**31)._find((2, 3, 4, 4))


def test_networks_that_are_compiled_or_have_several_outputs(tmp_path):
    g = Graph()
    x = g.input("x", "n", 3, "h", "w")
    y = g.conv(x, 2, 3)
    both = g.model(g.node("Relu", y, name="r"), g.node("Neg", y, name="s")).SerializeToString()
    images = [RNG.standard_normal((3, 9, 7)).astype(np.float32) for _ in range(3)]
    net = oc.compile(both)
    whole = [net.run({"x": image[None]}) for image in images]
    names = list(whole[0])
    report = oc.map(net, images, progress=False)
    for found, want in zip(report.results, whole, strict=True):
        assert all(np.allclose(found[name], want[name][0], atol=1e-5) for name in names)
    one = oc.map(both, images, output=names[1], progress=False)
    assert np.allclose(one.results[0], whole[0][names[1]][0], atol=1e-5)
    with pytest.raises(SpecError, match=r'in a file .npy; need one of them, e.g. output=.*suffix=".npz"'):
        oc.map(both, images, tmp_path / "out", progress=False)
    (path,) = oc.map(both, images[:1], tmp_path / "npz", suffix=".npz", progress=False).results
    assert set(np.load(path)) == set(names)
    fixed = oc.compile(both, shapes={"x": (1, 3, 9, 7)})
    report = oc.map(fixed, [*images, np.zeros((3, 5, 5), np.float32)], progress=False)
    assert [record.error is None for record in report] == [True, True, True, False]
    assert isinstance(report.failed[0].error, ShapeError)


def test_a_network_that_cannot_be_compiled_ends_the_run(folder):
    g = Graph()
    model = g.model(g.node("NonZero", g.input("x", "n", 3, "h", "w"), name="y"), y=7)
    with pytest.raises(UnsupportedError, match="NonZero"):
        oc.map(model.SerializeToString(), folder, progress=False)


def test_tiff_files_by_their_axes(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "0.tif", PICTURES[0])
    tifffile.imwrite(tmp_path / "1.tif", np.moveaxis(PICTURES[0], -1, 0), metadata={"axes": "CYX"}, ome=True)
    tifffile.imwrite(tmp_path / "2.tif", PICTURES[0], compression="zlib")
    whole = (tmp_path / "0.tif").read_bytes()
    (tmp_path / "3.tif").write_bytes(whole[:-9])
    large = bytearray(whole)
    with tifffile.TiffFile(tmp_path / "0.tif") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            struct.pack_into("<I", large, file.pages[0].tags[name].valueoffset, 50000)
    (tmp_path / "4.tif").write_bytes(large)
    tifffile.imwrite(tmp_path / "5.tif", np.zeros((4, 3, 8, 8), np.uint8), metadata={"axes": "TCYX"}, ome=True)
    report = run(tmp_path)
    assert all(np.array_equal(y, WANTED[0]) for y in report.results[:3])
    words = ["failed to read", "50000x50000x3 values takes 34.9 GiB", "is several images"]
    assert all(word in str(record.error) for word, record in zip(words, report.failed, strict=True))


def test_arrays_of_other_libraries():
    torch = pytest.importorskip("torch")
    x = np.moveaxis(PICTURES[0], -1, 0).astype(np.float32)
    masked, wanted = np.ma.asarray(x), WANTED[0]
    report = run([torch.from_numpy(x).requires_grad_(), masked, x[None], [[1]], b"x", {"a": 1}, x.astype(complex)])
    assert all(np.array_equal(y, wanted) for y in report.results[:3])
    assert all(isinstance(record.error, DataError) for record in report.records[3:])


def test_memory_bounds_what_waits(monkeypatch):
    stacks, stack = [], np.stack

    def count(images, **options):
        stacks.append(len(images))
        return stack(images, **options)

    monkeypatch.setattr(network_module.np, "stack", count)
    images = (np.zeros((3, 40, 40 + n % 2), np.float32) for n in range(8))
    report = run(images, memory="1MB", batch=64)  # one share holds three images
    assert not report.failed
    assert max(stacks) <= 3
    (record,) = run([np.zeros((3, 200, 200), np.float32)], memory="1MB").records
    assert isinstance(record.error, LimitError)
    assert "or omniconv.tiled" in str(record.error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": 3}, "images in a int"), ({"source": b"x"}, "images in a bytes"),
        ({"source": np.zeros((3, 4, 4))}, "images in a ndarray.*e.g. \\[image\\]"),
        ({"source": "nowhere"}, "no file or folder 'nowhere'"), ({"source": []}, None),
        ({"source": [3, None, "nowhere.png"]}, None), ({"suffix": ".jpg"}, "suffix='.jpg'; need one of .npy"),
        ({"errors": "drop"}, "errors='drop'"), ({"batch": 0}, "batch=0"),
        ({"pattern": "*.png"}, "a pattern for folders"),
        ({"preprocess": 3}, "preprocess is int"), ({"out": "no/where"}, "no folder"), ({"memory": "x"}, "memory='x'"),
        ({"weights": None}, "a spec without weights"), ({"axes": 3}, "axes is int"), ({"cluster": 3}, "cluster is int"),
        ({"out": 3}, "out is int"), ({"out": "a\0b"}, "path of a folder"), ({"out": "\ud800"}, "path of a folder"),
    ],
)  # fmt: skip
def test_wrong_arguments(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    arguments = {"source": [np.zeros((3, 8, 8), np.float32)], **options}
    if words is None:
        report = run(arguments.pop("source"), **arguments)
        assert len(report.failed) == len(report)
        return
    with pytest.raises(OmniconvError, match=words):
        run(arguments.pop("source"), **arguments)
