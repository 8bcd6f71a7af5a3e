"""Several inputs and outputs in the same tiles, inputs that every tile is given, and a place for each output."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.program_oracle import run_program
from tests.seeds import NETWORKS
from tests.tiles.nets import draw_image, draw_net

import omniconv as oc
from omniconv.errors import DataError, ShapeError, StorageError, UnsupportedError
from omniconv.tiles import plan_tiles, tiled
from omniconv.tiles.compiled import CompiledTiles
from omniconv.tiles.journal import Journal

RNG = np.random.default_rng(3)
N = helper.make_node
WEIGHTS = {
    "w": RNG.integers(-2, 3, (4, 2, 3, 3)),
    "v": RNG.integers(-2, 3, (3, 4, 3, 3)),
    "u": RNG.integers(-2, 3, (4, 1, 5, 5)),
}
NODES = [
    N("Conv", ["x", "w"], ["a"], pads=[1] * 4),
    N("Conv", ["mask", "u"], ["b"], pads=[2] * 4),
    N("Add", ["a", "b"], ["c"]),
    N("Mul", ["c", "gain"], ["d"]),
    N("Resize", ["coarse", "", "twice"], ["e"], mode="nearest", coordinate_transformation_mode="asymmetric"),
    N("Add", ["d", "e"], ["full"]),
    N("Conv", ["full", "v"], ["half"], pads=[1] * 4, strides=[2, 2]),
]
SIZE = 37, 46
X = {
    "gain": RNG.integers(-2, 3, (1, 4, 1, 1)).astype(np.float32),
    "x": RNG.integers(-3, 4, (1, 2, *SIZE)).astype(np.float32),
    "mask": RNG.integers(0, 2, (1, 1, *SIZE)).astype(np.uint8),
    "coarse": RNG.integers(-3, 4, (1, 4, 19, 23)).astype(np.float32),
}


def model(nodes, outputs, fixed=()):
    sizes = {"x": (2, "h", "w"), "mask": (1, "h", "w"), "coarse": (4, "h2", "w2"), "gain": (4, 1, 1), **dict(fixed)}
    read = {name for node in nodes for name in node.input}
    arrays = {name: array.astype(np.float32) for name, array in WEIGHTS.items()}
    arrays["twice"] = np.array([1, 1, 2, 2], np.float32)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *s]) for n, s in sizes.items() if n in read],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NET = model(NODES, ("full", "half"))
EVEN = {**X, "x": X["x"][:, :, :36], "mask": X["mask"][:, :, :36], "coarse": X["coarse"][:, :, :18]}
WHOLE = oc.compile(NET, shapes={name: x.shape for name, x in EVEN.items()}, exact=True).run(
    {name: x.astype(np.float32) for name, x in EVEN.items()}
)
HOW = {"exact": True, "progress": False}


def same(found):
    return all(np.array_equal(found[name][...], WHOLE[name]) for name in WHOLE)


@pytest.mark.parametrize(
    "tile", [(10, 12), (1, 45), *(pytest.param(tile, marks=pytest.mark.wide) for tile in ((7, 46), None))]
)
def test_images_of_two_sizes_a_vector_and_outputs_of_two_sizes(tile):
    plan = plan_tiles(NET, {name: x.shape for name, x in EVEN.items()}, "200K", tile=tile)
    assert list(plan.inputs) == ["x", "mask", "coarse"]
    assert plan.sides == {"gain": (1, 4, 1, 1)}
    assert {axis.grid for axis in plan.tiling} == {2}
    assert plan.inputs["mask"].tiling[0].halo > plan.inputs["coarse"].tiling[0].halo
    assert "output 'half': 18x23" in str(plan)
    assert same(tiled(NET, EVEN, tile=tile, memory="200K", **HOW))


def test_one_output_reads_what_it_needs():
    found = tiled(NET, EVEN, output="half", tile=(5, 6), **HOW)
    assert np.array_equal(found, WHOLE["half"])


def test_planes_and_axes_of_each_image():
    x = {**EVEN, "x": np.stack([EVEN["x"][0]] * 2), "mask": EVEN["mask"][0, 0], "coarse": EVEN["coarse"][0]}
    axes = {"x": "TCYX", "mask": "YX", "coarse": "CYX"}
    found = tiled(NET, x, axes=axes, tile=(10, 12), **HOW)
    assert all(np.array_equal(found[name][plane], WHOLE[name][0]) for name in WHOLE for plane in (0, 1))
    with pytest.raises(ShapeError, match=r"input 'mask' of shape \(3, 36, 46\).*as many planes"):
        tiled(NET, {**x, "mask": np.stack([x["mask"]] * 3)}, axes={**axes, "mask": "TYX"}, **HOW)


def test_a_stopped_run_of_two_outputs_goes_on(tmp_path, monkeypatch):
    out = {name: tmp_path / f"{name}.npy" for name in WHOLE}
    add, lines = Journal.add, []

    def stop(self, *line):
        add(self, *line)
        lines.append(line)
        if len(lines) == 7:  # of the fourth tile one of two
            raise OSError("pulled out")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", stop)
        with pytest.raises(StorageError, match="pulled out"):
            tiled(NET, EVEN, out, tile=(10, 12), **HOW)
    assert not any(path.exists() for path in out.values())
    computed, call = [], CompiledTiles.__call__
    monkeypatch.setattr(CompiledTiles, "__call__", lambda self, *a: computed.append(self) or call(self, *a))
    other = {**EVEN, "gain": EVEN["gain"] + 1}
    assert same(tiled(NET, EVEN, out, tile=(10, 12), **HOW))
    assert len(computed) == 16 - 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.npy", "half.npy"]
    assert not np.array_equal(tiled(NET, other, out, tile=(10, 12), **HOW)["full"], WHOLE["full"])


def test_zarr_and_dask(tmp_path):
    pytest.importorskip("zarr")
    da = pytest.importorskip("dask.array")
    found = tiled(NET, EVEN, {"full": tmp_path / "f.zarr", "half": tmp_path / "h.zarr"}, tile=(10, 12), **HOW)
    assert found["half"].chunks == (1, 3, 5, 6)
    assert same(found)
    with pytest.raises(ShapeError, match=r"of output 'half' .*straddle tiles \(1, 3, 9/2, 6\)"):
        tiled(NET, EVEN, {"half": tmp_path / "h.zarr"}, tile=(9, 12), **HOW)
    lazy = tiled(NET, {**EVEN, "x": da.from_array(EVEN["x"])}, tile=(10, 12), **HOW)
    assert same({name: y.compute() for name, y in lazy.items()})


@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (EVEN["x"], {}, ShapeError, "one array for inputs .*array for each by name"),
        ({"x": EVEN["x"]}, {}, ShapeError, r"array for \['x'\]; need one for each of the inputs"),
        (EVEN, {"out": "y.npy"}, ShapeError, "one out= for outputs"),
        (EVEN, {"out": {"z": None}}, ShapeError, r"out= for \['z'\]"),
        (EVEN, {"out": {"full": "y.npy", "half": "y.npy"}}, DataError, "written to one place"),
        (EVEN, {"axes": {"gain": "YX"}}, ShapeError, "letters for images"),
        ({**EVEN, "mask": EVEN["mask"][:, :, 1:]}, {}, Exception, "35|36"),
    ],
)
def test_what_does_not_fit(x, options, error, words):
    with pytest.raises(error, match=words):
        tiled(NET, x, **HOW, **options)


def test_an_input_of_fixed_size_that_is_read_in_parts_is_refused_by_name():
    net = model([N("Add", ["x", "table"], ["y"])], ("y",), {"table": (2, *SIZE)})
    with pytest.raises(UnsupportedError, match="parts of input 'table'"):
        plan_tiles(net, {"x": (1, 2, *SIZE), "table": (1, 2, *SIZE)}, tile=(9, 9))


def test_statistics_beside_inputs_that_are_given():
    nodes = [N("Mul", ["x", "two"], ["s"]), N("GlobalAveragePool", ["s"], ["m"]), N("Sub", ["s", "m"], ["y"])]
    net, two = model(nodes, ("y",), {"two": (2, 1, 1)}), np.full((1, 2, 1, 1), 2, np.float32)
    y = tiled(net, {"x": X["x"], "two": two}, two_pass=True, tile=(9, 9), **HOW)
    np.testing.assert_allclose(y, 2 * X["x"] - 2 * X["x"].mean((2, 3), keepdims=True), atol=1e-5)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.wide) for n in range(20, NETWORKS))])
def test_random_networks_with_two_outputs_are_the_whole(seed):
    program = draw_net(seed)
    r = Random(seed)
    names = [step.y for step in program.steps]
    program.outputs = tuple(dict.fromkeys((program.outputs[0], r.choice(names))))
    x = draw_image(program, seed)
    tile = [r.randint(max(1, size // 4), size) for size in program.shapes[program.outputs[0]][2:]]
    found = tiled(program, x, tile=tile, **HOW)
    found = found if isinstance(found, dict) else {program.outputs[0]: found}
    want = run_program(program, {"x": x})
    for name in program.outputs:
        np.testing.assert_allclose(found[name], want[name], rtol=1e-5, atol=1e-5)
