"""The backend in the shape of `onnx.backend.base`: ONNX's own cases through it, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.backend.base import Backend, BackendRep
from tests.graph.onnx_cases import stored_cases
from tests.ort.small import conv_net, two_inputs

from omniconv import onnx_backend, ort
from omniconv.errors import DataError, HostWarning
from omniconv.ort.capi import onnxruntime_pybind11_state as kinds

CASES = [*stored_cases("pytorch-operator")[::3], *stored_cases("pytorch-converted")[::9]]
X = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_of_onnx(case):
    given = {**case.inputs, **case.constants}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostWarning)
        prepared = onnx_backend.prepare(case.model, "CPU")
        found = prepared.run([given[item.name] for item in prepared.session.get_inputs()])
        case.check(lambda *_: {name: found[name] for name in case.outputs})
        if len(case.model.graph.node) > 1:
            return
        given |= {item.name: onnx.numpy_helper.to_array(item) for item in case.model.graph.initializer}
        (node,) = case.model.graph.node
        version = case.model.opset_import[0].version
        inputs = [given[name] for name in dict.fromkeys(node.input)]
        alone = onnx_backend.run_node(node, inputs, opset_version=version)
        case.check(lambda *_: {name: alone[name] for name in case.outputs})


def test_it_is_a_backend():
    assert issubclass(onnx_backend.OmniconvBackend, Backend)
    prepared = onnx_backend.prepare(conv_net(1, 3, "h", "w"), intra_op_num_threads=2)
    assert isinstance(prepared, BackendRep)
    assert prepared.session.get_session_options().intra_op_num_threads == 2
    assert onnx_backend.prepare(prepared) is prepared
    found = prepared.run(X)
    for again in (
        prepared.run([X]),
        prepared.run({"x": X}),
        onnx_backend.prepare(prepared.session).run((X,)),
        onnx_backend.run_model(conv_net(1, 3, "h", "w").SerializeToString(), [X]),
    ):
        assert all(np.array_equal(one, two) for one, two in zip(found, again, strict=True))
    assert np.array_equal(found["pooled"], found[1])
    assert found._fields == ("y", "pooled")
    for device, known in (("CPU", True), ("CPU:0", True), ("CUDA", False), (3, False)):
        assert onnx_backend.supports_device(device) is known
    assert onnx_backend.is_compatible(two_inputs())


def test_what_is_refused():
    unknown = two_inputs()
    unknown.graph.node[0].op_type = "Nope"
    assert not onnx_backend.is_compatible(unknown)
    with pytest.raises(kinds.NotImplemented, match="device 'CUDA'; need 'CPU'"):
        onnx_backend.prepare(two_inputs(), "CUDA")
    prepared = onnx_backend.prepare(two_inputs())
    with pytest.raises(kinds.InvalidArgument, match="1 inputs were given; need 2"):
        prepared.run([X])
    for option in ("nonsense", "copy", "_sizes"):
        with pytest.raises(kinds.InvalidArgument, match=f"option '{option}' is unknown"):
            onnx_backend.prepare(two_inputs(), **{option: 1})
    node = helper.make_node("Add", ["a", "b"], ["c"])
    with pytest.raises(kinds.InvalidArgument, match="1 inputs were given; need 2"):
        onnx_backend.run_node(node, [X])
    with pytest.raises(kinds.InvalidArgument, match="ONNX's rule for Add refuses the inputs"):
        onnx_backend.run_node(node, [X, np.ones((7, 5), np.float32)])
    with pytest.raises(DataError, match="node is a str"):
        onnx_backend.run_node("Add", [X])


def test_types_and_shapes_of_outputs_may_be_given():
    node = helper.make_node("Add", ["a", "a"], ["c"])
    (found,) = onnx_backend.run_node(node, [X], outputs_info=[(np.float32, X.shape)])
    assert np.array_equal(found, 2 * X)


def test_it_imports_without_onnx():
    code = (
        "import sys; sys.modules.update(onnx=None)\nimport omniconv.onnx_backend as b\nassert b.supports_device('CPU')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ort.get_device() == onnx_backend.DEVICE
