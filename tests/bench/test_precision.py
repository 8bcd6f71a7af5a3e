"""Comparisons in bfloat16 and in integers of 8 bits: the integers, and that nobody computes something else."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from tests.machines import COOPER_LAKE, V3, native

import omniconv as oc
from omniconv.bench.peers import PeerError, installed_peers
from omniconv.bench.precision import BFLOAT16, FLOAT32, INT8, TOLERANCES, compute_integers
from omniconv.bench.roofline import emit_fma, emit_integers, measure_roofline
from omniconv.bench.sources import problem_workload, read_cases
from omniconv.compiler.code.build import compile_assembly
from omniconv.reference import reference
from omniconv.spec import parse

LINES = {
    "depthwise": "depthwise n1 ic8 oc8 ih9 iw9 kh3 kw3 pt1 pb1 pl1 pr1 g8 > relu > pointwise ic8 oc12 kh1 kw1 > relu6",
    "groups": "grouped n1 ic8 oc8 ih9 iw9 kh3 kw3 sh2 sw2 pt1 pb1 pl1 pr1 g2",
}
PEERS = {
    peer.name: peer
    for peer in installed_peers([n for n in ("onnxruntime", "openvino", "torch", "ncnn") if find_spec(n)], layouts=None)
}


def make(name: str, precision: str):
    line = LINES[name]
    if " > " in line:
        first, rest = line.split(" > ", 1)
        line = "chain n1 ih9 iw9 > " + first.replace(" n1", "").replace(" ih9 iw9", "") + " > " + rest
    spec, shape = parse(line)
    return problem_workload(line, spec, shape, precision=precision)


@pytest.mark.parametrize("name", LINES)
def test_ours_are_the_integers_of_the_oracle(name):
    workload = make(name, INT8)
    x = workload.inputs["x"]
    wanted = compute_integers(workload.layers, x)
    steps = (oc.compile(workload.model, threads=1)(x) - wanted) / workload.layers[-1].y_scale
    assert np.abs(steps).max() < 0.5
    assert len(np.unique(wanted)) > 50
    exact = reference(workload.spec, x, workload.weights)
    assert np.abs(wanted - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("precision", [BFLOAT16, INT8])
@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
def test_peers_keep_what_they_promise(peer, precision):
    for name in LINES:
        workload = make(name, precision)
        try:
            [found] = peer.load(workload, 1)()
        except PeerError:
            continue
        x = workload.inputs["x"]
        exact = reference(workload.spec, x, workload.weights)
        wanted = compute_integers(workload.layers, x) if precision == INT8 else exact
        allowed = max(TOLERANCES[precision], peer.promises.get(precision, 0.0))
        assert np.abs(found - wanted).max() <= allowed * max(np.abs(wanted).max(), 1.0)
        if precision == INT8:  # nobody computes floats
            assert np.abs(found - exact).max() > 1e-4


def test_layers_without_such_a_form_have_no_oracle():
    spec, shape = parse("chain n1 ih5 iw5 > pointwise ic4 oc4 kh1 kw1 > sigmoid > pointwise ic4 oc4 kh1 kw1")
    assert problem_workload("", spec, shape, precision=INT8).layers == ()


def test_lines_are_chosen_by_what_they_want(tmp_path):
    line = "pointwise n1 ic4 oc4 iw{} kw1  # {}\n"
    wanted = ("some; wanted>=2 int8>=3", "some; bfloat16>=1", "nothing")
    text = "".join(line.format(width, comment) for width, comment in enumerate(wanted, 4))
    path = tmp_path / "lines.txt"
    path.write_text(text)
    found = {each: [(case.shape[2], case.goals) for case in read_cases(path, "", each)] for each in TOLERANCES}
    assert found == {
        FLOAT32: [(4, {"wanted": 2.0}), (6, {})],
        BFLOAT16: [(5, {"wanted": 1.0}), (6, {})],
        INT8: [(4, {"wanted": 3.0}), (6, {})],
    }


def test_peaks_are_made_of_products_alone():
    host = native(COOPER_LAKE)
    assert compile_assembly(emit_fma("f", host, 8, pairs=True), host).count("vdpbf16ps") == 48
    for depth, word, products in ((0, "vpmaddwd", 8), (1, "vpmaddubsw", 8), (2, "vpmaddubsw", 16)):
        text = compile_assembly(emit_integers("f", V3, 8, depth), V3)
        assert text.count(f"\t{word}\t") == products
        assert "(%rsp)" not in text
    assert measure_roofline("generic", 1, INT8).precision == INT8
