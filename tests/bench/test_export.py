"""Exported problems mean the same to another runtime as to the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omniconv.bench.cost import count_macs, count_parameters, list_steps
from omniconv.bench.peers import PeerError, installed_peers, missing_peers
from omniconv.bench.sources import problem_workload, read_corpus
from omniconv.kinds import kinds
from omniconv.reference import reference
from omniconv.spec import Conv

CORPORA = sorted((Path(__file__).resolve().parents[2] / "bench" / "corpus").glob("*.txt"))
SAMPLES = [
    pytest.param(
        kind.build(sample), tuple(sample.shape), id=f"{name}-{index}", marks=[pytest.mark.wide] if index % 2 else []
    )
    for name, kind in kinds().items()
    for index, sample in enumerate(kind.samples)
]
PEERS = {peer.name: peer for peer in installed_peers(["onnxruntime", "openvino", "torch"])}


@pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
@pytest.mark.parametrize(("spec", "shape"), SAMPLES)
def test_peers_agree_with_the_reference(spec, shape, peer):
    workload = problem_workload(spec.text(shape), spec, shape)
    try:
        [produced] = peer.load(workload, 1)()
    except PeerError as error:
        pytest.skip(f"{peer.name}: {error}")
    expected = reference(spec, workload.inputs["x"], workload.weights)
    np.testing.assert_allclose(produced, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


def test_some_peer_is_installed():
    assert "ONNX Runtime" in PEERS
    assert not {"onnxruntime"} & set(missing_peers())


@pytest.mark.parametrize("path", CORPORA, ids=lambda path: path.stem)
def test_corpora_read_back(path):
    problems = list(read_corpus(path))
    assert problems
    for line, spec, shape, comment in problems:
        assert spec.text(shape) == line
        assert comment


@pytest.mark.parametrize(("spec", "shape"), SAMPLES)
def test_costs_of_steps_add_up(spec, shape):
    steps = list_steps(spec, shape)
    assert sum(step[3] for step in steps) == count_parameters(spec, bias=False)
    assert sum(step[4] for step in steps) == count_macs(spec, shape)
    assert steps[-1][2] == spec.output_shape(shape)
    assert count_parameters(spec, bias=False) == sum(int(np.prod(w)) for w in spec.weight_shapes)


def test_counted_macs_are_those_of_the_loop():
    spec, shape = Conv.of(6, 4, (2, 3), stride=(1, 2), padding=1, groups=2), (2, 6, 5, 7)
    outputs = int(np.prod(spec.output_shape(shape)))
    assert count_macs(spec, shape) == outputs * 3 * 2 * 3
    transposed = Conv.of(6, 4, (2, 3), stride=(1, 2), groups=2, transposed=True)
    assert count_macs(transposed, shape) == int(np.prod(shape)) * 2 * 2 * 3
