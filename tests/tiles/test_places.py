"""GeoTIFF and OME-Zarr, which say where positions lie: levels, axes, and results that say it, too."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from tests.tiles.test_resume import stop_after
from tests.tiles.test_run import NET, SHAPE, WEIGHTS, WHOLE, X, run

import omniconv as oc
from omniconv.errors import DataError, ShapeError, UnsupportedError
from omniconv.spec import Chain, Resize

WHERE = (30.0, 0.0, 500000.0, 0.0, -20.0, 6000000.0)


def write_raster(path, x, affine=WHERE, crs="EPSG:32633", overviews=(), **options):
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count, height, width = x.shape
        places = {} if affine is None else {"transform": rasterio.Affine(*affine)}
        places |= {"crs": crs} if affine is not None or "gcps" in options else {}
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count, dtype=x.dtype, **places, **options
        ) as file:
            file.write(x)
            if overviews:
                file.build_overviews(list(overviews))
    return path


def read_raster(path):
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            return file.read(), tuple(file.transform)[:6], file.crs, file.profile


def test_a_raster_keeps_its_georeference(tmp_path):
    x = write_raster(tmp_path / "x.tif", X[0], compress="deflate", tiled=True, blockxsize=32, blockysize=16)
    found = run(x, tmp_path / "y.tif")
    y, affine, crs, profile = read_raster(tmp_path / "y.tif")
    assert np.array_equal(y, WHOLE[0])
    assert np.array_equal(np.asarray(found), WHOLE[0])
    assert (affine, crs.to_epsg(), profile["tiled"]) == (WHERE, 32633, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tif", "y.tif"]


@pytest.mark.parametrize(
    ("net", "want"),
    [
        # Half as many pixels, each twice as large; the corner stays.
        (oc.Conv.of(1, 1, 3, stride=2, padding=1), (60.0, 0.0, 500000.0, 0.0, -40.0, 6000000.0)),
        (Chain((oc.Conv.of(1, 1, 3, padding=1), Resize(2, "nearest"))), (15.0, 0.0, 500000.0, 0.0, -10.0, 6000000.0)),
        # Nothing is padded: the first pixel lies in the middle of the five by five that it reads.
        (oc.Conv.of(1, 1, 5), (30.0, 0.0, 500060.0, 0.0, -20.0, 5999960.0)),
    ],
)
def test_the_transform_follows_the_sizes(tmp_path, net, want):
    x = np.zeros((1, 41, 53), np.float32)
    x[0, 20, 26] = 1
    layer = net.steps[0] if isinstance(net, Chain) else net
    weights = [(np.ones((1, 1, *layer.kernel_size), np.float32), None)]
    oc.tiled(
        net, write_raster(tmp_path / "x.tif", x), tmp_path / "y.tif", weights=weights, tile=(16, 16), progress=False
    )
    y, affine, _, _ = read_raster(tmp_path / "y.tif")
    assert affine == want
    # What one pixel makes lies around the middle of that pixel, to half of a pixel of the result.
    rows, columns = np.nonzero(y[0])
    a, _, c, _, e, f = affine
    assert abs(a * (columns.mean() + 0.5) + c - (30 * 26.5 + 500000)) <= abs(a) / 2 + 7.5
    assert abs(e * (rows.mean() + 0.5) + f - (-20 * 20.5 + 6000000)) <= abs(e) / 2 + 5


def test_rotated_rasters_overviews_and_levels(tmp_path):
    rotated = (3.0, 4.0, 10.0, 4.0, -3.0, 20.0)
    x = np.repeat(np.repeat(X[0], 2, 1), 2, 2)
    path = write_raster(tmp_path / "x.tif", x, rotated, overviews=(2,))
    assert np.array_equal(run(path, tmp_path / "y.tif", level=1)[:], WHOLE[0])
    _, affine, _, _ = read_raster(tmp_path / "y.tif")
    assert affine == (6.0, 8.0, 10.0, 8.0, -6.0, 20.0)
    with pytest.raises(DataError, match="level=2 of an image with 2 resolutions"):
        run(path, level=2)
    with pytest.raises(DataError, match="level=1 of an image with one resolution"):
        run(X, level=1)


def test_rasters_that_say_nothing_or_something_else(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "x.tif", X[0], None)
    pytest.importorskip("tifffile")
    run(path, tmp_path / "y.tif", axes="YXC")  # no georeference is made up
    y, affine, crs, _ = read_raster(tmp_path / "y.tif")
    assert np.array_equal(y, WHOLE[0])
    assert (affine, crs) == ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
    rasterio = pytest.importorskip("rasterio")
    points = [rasterio.control.GroundControlPoint(row, row, 10 * row, 20) for row in range(4)]
    write_raster(tmp_path / "g.tif", X[0], None, gcps=points)
    with pytest.raises(DataError, match=r"by control points or a camera model.*gdalwarp"):
        run(tmp_path / "g.tif")
    three = write_raster(tmp_path / "three.tif", np.concatenate([X[0], X[0, :1]]))
    with pytest.raises(ShapeError, match="say 3 channels; need 2"):
        run(three)
    with pytest.raises(ShapeError, match=r"axes='YXC' .* whose description says CYX"):
        run(three, axes="YXC")
    with pytest.raises(DataError, match="along NCYX in a GeoTIFF"):
        run(X, tmp_path / "z.tif")
    monkeypatch.setattr("omniconv.outside.find_spec", lambda name: None if name == "rasterio" else name)
    with pytest.raises(UnsupportedError, match=r"rasterio is not installed; need pip install \"omniconv\[geo\]\""):
        run(three)


def test_rasters_go_on_where_they_stopped_and_may_be_large(tmp_path, monkeypatch):
    x = write_raster(tmp_path / "x.tif", X[0])
    monkeypatch.setattr("omniconv.tiles.geo.BIG", 1000)
    stop_after(monkeypatch, 4, tmp_path / "y.tif", x)
    run(x, tmp_path / "y.tif")
    assert np.array_equal(read_raster(tmp_path / "y.tif")[0], WHOLE[0])
    assert (tmp_path / "y.tif").read_bytes()[:4] in (b"II+\0", b"MM\0+")
    stop_after(monkeypatch, 4, tmp_path / "y.tif", x)
    write_raster(x, X[0], (60.0, *WHERE[1:]))
    with pytest.raises(DataError, match=r"of another run: place .*30\.0.* now .*60\.0"):
        run(x, tmp_path / "y.tif")


def make_group(path, axes, transformations=(), version="0.5", **arrays):
    """Resolutions by name; each with the transformations of its own."""
    zarr = pytest.importorskip("zarr")
    sets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": scale}, *transformations]}
        for name, (_, scale) in arrays.items()
    ]
    scales = [{"axes": axes, "datasets": sets, "version": version}]
    attributes = {"ome": {"version": version, "multiscales": scales}} if version == "0.5" else {"multiscales": scales}
    group = zarr.create_group(path, attributes=attributes, zarr_format=3 if version == "0.5" else 2)
    for name, (array, _) in arrays.items():
        group.create_array(name, data=array)
    return path


AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "channel 5", "type": "channel"},
    {"name": "z", "type": "space"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space"},
]


@pytest.mark.parametrize("version", ["0.5", pytest.param("0.4", marks=pytest.mark.wide)])
def test_levels_and_axes_by_the_description(tmp_path, version):
    images = np.stack([X[0], X[0, ::-1]])[:, :, None]  # T C Z Y X
    x = make_group(
        tmp_path / "x.zarr",
        AXES,
        [{"type": "translation", "translation": [5, 0, 1, 2, 3]}],
        version,
        a=(np.repeat(images, 2, 4), [1, 1, 4, 0.5, 0.25]),
        b=(images, [1, 1, 4, 0.5, 0.5]),
    )
    y = run(x, tmp_path / "y.ome.zarr", level=1)
    assert y.shape == (2, 3, 1, *WHOLE.shape[2:])
    assert np.array_equal(y[0, :, 0], WHOLE[0])
    described = json.loads((tmp_path / "y.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert [one["name"] for one in described["axes"]] == list("tczyx")
    assert described["axes"][3] == {"name": "y", "type": "space", "unit": "micrometer"}
    steps = described["datasets"][0]["coordinateTransformations"]
    assert [step[step["type"]] for step in steps] == [[1, 1, 4, 0.5, 0.5], [5, 0, 1, 2, 3]]
    # What was written is read again; half the size is twice the scale, and begins between the first two positions.
    half = oc.Conv.of(3, 1, 2, stride=2)
    weights = [(np.ones((1, 3, 2, 2), np.float32), None)]
    again = oc.tiled(
        half, tmp_path / "y.ome.zarr", tmp_path / "z.ome.zarr", weights=weights, tile=(8, 8), progress=False
    )
    assert again.shape == (2, 1, 1, 29, 35)
    described = json.loads((tmp_path / "z.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    steps = described["datasets"][0]["coordinateTransformations"]
    assert [step[step["type"]] for step in steps] == [[1, 1, 4, 1, 1], [5, 0, 1, 2.25, 3.25]]
    with pytest.raises(DataError, match="level=2 of an image with 2 resolutions; need 0 to 1"):
        run(x, level=2)
    with pytest.raises(ShapeError, match=r"axes='TZCYX' of an image whose description says TCZYX"):
        run(x, axes="TZCYX")
    inner = pytest.importorskip("zarr").open_array(tmp_path / "y.ome.zarr" / "0")
    with pytest.raises(DataError, match="written over the image"):
        oc.tiled(half, inner, tmp_path / "y.ome.zarr", weights=weights, axes="TCZYX", progress=False)
    run(x, tmp_path / "y.ome.zarr", level=1)  # takes the place of the older one
    (tmp_path / "y.ome.zarr" / "mine").mkdir()
    (tmp_path / "y.ome.zarr" / "mine" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(DataError, match="is not a result in OME-Zarr"):
        run(x, tmp_path / "y.ome.zarr", level=1)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (["c", "y"], "for an array of 3 axes"),
        (["c", "y", "y"], "a name of one letter for each"),
        (["c", "y", "x and more"], "a name of one letter for each"),
        ([{"name": 4}, {}, None], "a name of one letter for each"),
        ("cyx", "axes of a Zarr group that are no list"),
    ],
)
def test_axes_of_groups_that_say_nothing(tmp_path, axes, words):
    x = make_group(tmp_path / "x.zarr", axes, s0=(X[0], [1, 1, 1]))
    with pytest.raises(DataError, match=words):
        run(x)


def test_what_no_group_of_results_holds(tmp_path):
    for number, odd in enumerate(({"type": "affine", "affine": [[1]]}, {"type": "scale", "scale": [1, "nan", 1]})):
        x = make_group(tmp_path / f"x{number}.zarr", list("cyx"), [odd], s0=(X[0], [1, 1, 1]))
        assert np.array_equal(run(x), WHOLE[0])
        with pytest.raises(DataError, match="coordinate transformations of a kind that is not known"):
            run(x, tmp_path / "y.ome.zarr")
    with pytest.raises(DataError, match="a result along YXC in an OME-Zarr"):
        run(X[0].transpose(1, 2, 0), tmp_path / "y.ome.zarr", axes="YXC")


def test_levels_of_several_images(tmp_path):
    with pytest.raises(ShapeError, match="levels of images, which are"):
        run(X, level={"y": 1})
    assert oc.plan_tiles(NET, SHAPE, weights=WEIGHTS).tiles == 1
