"""Reductions over all positions: swept before the result, each position once, whatever the tiles."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.program_oracle import run_program
from tests.seeds import NETWORKS
from tests.tiles.nets import draw_image, draw_net
from tests.tiles.test_random import draw_tile

import omniconv as oc
from omniconv.analysis.tiling import tiling
from omniconv.compiler.planning.options import Options
from omniconv.errors import UnsupportedError
from omniconv.program.keep_axes import keep_axes
from omniconv.program.program import Program
from omniconv.program.statistics import Statistic, split_program
from omniconv.program.steps import ConvStep, RearrangeStep
from omniconv.runtime.executable import Executable
from omniconv.target.select import select_target
from omniconv.tiles import plan_tiles, tiled
from omniconv.tiles.sums import UNIT, Partial, add_exactly

RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 4, 31, 40)).astype(np.float32) + 3
SCALE, BIAS = RNG.standard_normal((2, 4)).astype(np.float32)
W3, W1 = (RNG.standard_normal((4, 4, n, n)).astype(np.float32) / (2 * n) for n in (3, 1))
CONSTANTS = {
    "s": SCALE, "b": BIAS, "one": np.ones(2, np.float32), "nil": np.zeros(2, np.float32), "h0": np.array(2),
    "s3": SCALE.reshape(4, 1, 1), "w3": W3, "w1": W1, "hw": np.array([2, 3]), "c": np.array([1]),
    "chw": np.array([1, 2, 3]), "h": np.array([2]), "groups": np.array([0, 2, -1]), "form": np.array([0, 4, 31, 40]),
}  # fmt: skip
N = helper.make_node
SQUEEZE = [N("GlobalAveragePool", ["x"], ["m"]), N("Conv", ["m", "w1"], ["k"]), N("Sigmoid", ["k"], ["g"])]
NETS = {
    "squeeze": [*SQUEEZE, N("Mul", ["x", "g"], ["y"])],
    "instance": [N("InstanceNormalization", ["x", "s", "b"], ["y"])],
    "groups": [N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)],
    "groups of torch": [
        N("Reshape", ["x", "groups"], ["f"]), N("InstanceNormalization", ["f", "one", "nil"], ["n"]),
        N("Reshape", ["n", "form"], ["u"]), N("Mul", ["u", "s3"], ["y"]),
    ],
    "layer": [N("LayerNormalization", ["x", "s3"], ["y"], axis=1)],
    "mean variance": [N("MeanVarianceNormalization", ["x"], ["y"])],
    "log sum exp": [N("ReduceLogSumExp", ["x", "hw"], ["m"]), N("Sub", ["x", "m"], ["y"])],
    "of all axes": [N("ReduceL2", ["x", "chw"], ["m"]), N("Div", ["x", "m"], ["y"])],
    "without axes": [N("ReduceMax", ["x", "hw"], ["m"], keepdims=0), N("Unsqueeze", ["m", "hw"], ["u"]),
                     N("Sub", ["x", "u"], ["y"])],
    "nested": [
        *SQUEEZE, N("Mul", ["x", "g"], ["a"]), N("Conv", ["a", "w3"], ["d"], pads=[1] * 4, strides=[2, 2]),
        N("GlobalMaxPool", ["d"], ["top"]), N("GlobalAveragePool", ["d"], ["mean"]), N("Add", ["top", "mean"], ["t"]),
        N("Mul", ["d", "t"], ["e"]), N("InstanceNormalization", ["e", "s", "b"], ["y"]),
    ],
}  # fmt: skip
PASSES = {"log sum exp": 2, "nested": 3}
CHANNELS = {
    "mean": [N("ReduceMean", ["x", "c"], ["m"]), N("Mul", ["x", "m"], ["y"])],
    "norm": [N("LpNormalization", ["x"], ["y"], axis=1)],
    "without axis": [N("ReduceMax", ["x", "c"], ["m"], keepdims=0), N("Unsqueeze", ["m", "c"], ["u"]),
                     N("Sub", ["x", "u"], ["y"])],
    "first of the largest": [N("Hardmax", ["x"], ["y"], axis=1)],
}  # fmt: skip


def model(nodes, channels=4, dims=2):
    read = {name for node in nodes for name in node.input}
    sizes = ["d", "h", "w"][-dims:]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *sizes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in read],
    )
    opset = helper.make_opsetid("", 21)
    return helper.make_model(graph, opset_imports=[opset], ir_version=onnx.IR_VERSION_2024_3_25)


def whole(net, x):
    return oc.compile(net, shapes={"x": x.shape}, exact=True)(x)


def some_wide(names, always):
    """Those that every run has, and the others for wide ones."""
    return [name if name in always else pytest.param(name, marks=pytest.mark.wide) for name in names]


@pytest.mark.parametrize("name", some_wide(NETS, ("groups of torch", "layer", "without axes", "nested")))
def test_reductions_over_all_positions(name):
    net = model(NETS[name])
    with pytest.raises(UnsupportedError, match=r"need outputs .*, e\.g\. two_pass=True"):
        plan_tiles(net, X.shape)
    plan = plan_tiles(net, X.shape, two_pass=True, tile=(9, 11))
    assert len(plan.sweeps) == PASSES.get(name, 1)
    assert str(plan).count("over all positions") == len(plan.sweeps)
    found = [tiled(net, X, two_pass=True, tile=tile, exact=True, progress=False) for tile in ((9, 11), (31, 6))]
    want = whole(net, X)
    assert np.array_equal(*found)
    np.testing.assert_allclose(found[0], want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", some_wide(CHANNELS, ("norm", "without axis")))
def test_reductions_over_channels_are_local(name):
    net = model(CHANNELS[name])
    assert plan_tiles(net, X.shape).tiling[0].halo == (0, 0)
    assert np.array_equal(tiled(net, X, tile=(9, 11), exact=True, progress=False), whole(net, X))
    assert not oc.plan_tiles(net, X.shape, two_pass=True).sweeps


def test_reductions_over_channels_of_volumes():
    x = RNG.standard_normal((1, 3, 6, 7, 8)).astype(np.float32)
    net = model(CHANNELS["mean"], 3, 3)
    assert np.array_equal(tiled(net, x, tile=(4, 3, 5), exact=True, progress=False), whole(net, x))


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([N("ReduceProd", ["x", "hw"], ["m"]), N("Mul", ["x", "m"], ["y"])], "prod over all positions"),
        ([N("ReduceMean", ["x", "h"], ["m"]), N("Mul", ["x", "m"], ["y"])], "mean over all positions"),
        ([N("CumSum", ["x", "h0"], ["y"])], "running sum|cumsum"),
    ],
)
def test_what_no_sweep_finds_is_refused(nodes, why):
    with pytest.raises(UnsupportedError, match=why) as error:
        plan_tiles(model(nodes), X.shape, two_pass=True)
    assert "two_pass" not in str(error.value)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.wide) for n in range(20, NETWORKS))])
def test_random_networks_with_a_gate_are_the_whole(seed):
    """Bit for bit where the reduction of whole numbers is a whole number."""
    op = ("max", "mean", "min")[seed % 3]
    program = draw_net(seed, gate=op)
    x = draw_image(program, seed)
    assert tiling(program).obstacles
    sweep = split_program(keep_axes(program, program.outputs)).sweeps
    assert [one.label for one in sweep] == ["squeeze"]
    got = tiled(program, x, tile=draw_tile(program, seed), exact=True, two_pass=True, progress=False)
    if op == "mean":
        want = run_program(program, {"x": x})[program.outputs[0]]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    else:
        assert np.array_equal(got, Executable.of(program, select_target(None), Options(exact=True))(x))


def test_infinities_and_nan_are_those_of_the_whole():
    for odd in (np.nan, np.inf):
        x = X.copy()
        x[0, 1, 3, 3] = odd
        for name in ("without axes", "instance"):
            with np.errstate(all="ignore"):
                want, got = whole(model(NETS[name]), x), tiled(model(NETS[name]), x, two_pass=True, progress=False)
            assert np.array_equal(np.isnan(got), np.isnan(want)), (name, odd)


def test_planes_have_statistics_of_their_own(tmp_path):
    x = np.stack([X[0], 2 * X[0] - 5])
    net = model(NETS["instance"])
    got = tiled(net, x, tmp_path / "y.npy", axes="TCYX", tile=(9, 11), two_pass=True, exact=True, progress=False)
    for plane, y in zip(x, got, strict=True):
        alone = tiled(net, plane[None], tile=(20, 20), two_pass=True, exact=True, progress=False)
        assert np.array_equal(y, alone[0])


def test_a_run_that_stopped_goes_on_only_with_the_same_statistics(tmp_path, monkeypatch):
    from omniconv.errors import StorageError
    from omniconv.tiles.compiled import CompiledTiles
    from omniconv.tiles.journal import Journal

    net, add, lines = model(NETS["squeeze"]), Journal.add, []

    def run(x):
        return tiled(net, x, tmp_path / "y.npy", tile=(9, 11), two_pass=True, exact=True, progress=False)

    def stop(self, *line):
        add(self, *line)
        lines.append(line)
        if len(lines) == 5:
            raise OSError("pulled out")

    def interrupted(x):
        lines.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "add", stop)
            with pytest.raises(StorageError, match="pulled out"):
                run(x)

    computed, call = [], CompiledTiles.__call__
    monkeypatch.setattr(CompiledTiles, "__call__", lambda self, *a: computed.append(self) or call(self, *a))
    for change in (0.0, 1.0):
        interrupted(X)
        other = X.copy()
        other[0, 0, -1, -1] += change  # in the last tile, but the mean is that of all
        computed.clear()
        y = run(other)
        # A sweep, too, goes on: of the changed image one tile of it is new, and all of the result.
        assert len(computed) == (1 + 16 if change else 11)
        assert np.array_equal(y, tiled(net, other, two_pass=True, exact=True, progress=False))


@pytest.mark.wide
def test_dask_in_gives_dask_out():
    da = pytest.importorskip("dask.array")
    net = model(NETS["nested"])
    y = tiled(net, da.from_array(X, chunks=(1, 4, 16, 16)), tile=(9, 11), two_pass=True, exact=True)
    assert np.array_equal(y.compute(), tiled(net, X, tile=(5, 20), two_pass=True, exact=True, progress=False))


@pytest.mark.parametrize("spread", [0, 40, 400])
def test_sums_are_exact(spread):
    r = Random(spread)
    x = np.array([[r.uniform(-1, 1) * 2.0 ** r.randint(-spread, spread) for _ in range(200)] for _ in range(3)])
    x[0, :3] = 2.0**1000, 2.0**-1074, -(2.0**1000)
    want = [sum(map(Fraction, row)) * 2**UNIT for row in x.tolist()]
    assert add_exactly(x).tolist() == want
    assert add_exactly(x[:, ::-1]).tolist() == want


def test_a_variance_loses_nothing_to_a_large_mean():
    x = (RNG.standard_normal((1, 2, 50, 60)) + 1e6).astype(np.float32)
    wanted = [Statistic("v", (1, 2, 1, 1), "variance", (1, 2), ()), Statistic("g", (1, 1), "variance", (1, 2), (1,))]
    parts = [Partial.of(part, wanted) for part in np.split(x, 5, 3)]
    total = parts[4] + (parts[0] + parts[2]) + (parts[3] + parts[1])
    assert total.count == 3000
    exact = [Fraction(n) for n in x[0, 0].ravel().tolist()]
    mean = sum(exact) / 3000
    found = total.find(wanted[0], np.dtype(np.float64))
    assert found[0, 0, 0, 0] == float(sum((n - mean) ** 2 for n in exact) / 3000)
    assert math.isclose(total.find(wanted[1], np.dtype(np.float64)).item(), x.astype(np.float64).var(), rel_tol=1e-9)


def test_positions_that_are_made_of_channels_are_computed_together():
    """Of one position that becomes two along each axis there is no part to tile."""
    step = RearrangeStep("x", "y", (1, 2, 2, 2, 1, 1), (0, 1, 4, 2, 5, 3))
    program = Program(("x",), ("y",), {"x": (1, 8, 1, 1)})
    program.add(step, (1, 2, 2, 2))
    x = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
    y = tiled(program, x, tile=(1, 1), progress=False)
    assert np.array_equal(y, run_program(program, {"x": x})["y"])


def test_work_is_that_of_the_layers_of_the_output():
    spec = oc.Conv.of(1, 1, 3, padding=1)
    program = Program(("x",), ("a", "b"), {"x": (1, 1, 40, 40)})
    for name in program.outputs:
        program.add(ConvStep("x", name, spec, np.ones(spec.weight_shape, np.float32)), (1, 1, 40, 40))
    plan = plan_tiles(program, (1, 1, 40, 40), output="a")
    assert plan.recompute == 1
    assert plan.whole_macs == oc.cost(spec, (1, 1, 40, 40)).executed_macs
