"""Bindings and values: memory that is named once, read when a session runs, and written to where it was bound."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ort.small import conv_net, two_inputs

from omniconv import ort
from omniconv.errors import DataError
from omniconv.ort.capi import onnxruntime_pybind11_state as kinds
from omniconv.ort.signature import WORDS, number_type

X = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
K = np.array([3, -4])


@pytest.fixture(scope="module")
def session():
    return ort.InferenceSession(conv_net(1, 3, "h", "w").SerializeToString())


@pytest.fixture
def binding(session):
    return session.io_binding()


def test_memory_is_read_when_the_session_runs(session, binding):
    x = X.copy()
    y, pooled = session.run(None, {"x": X})
    room = np.full(y.shape, np.nan, np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("pooled")
    binding.bind_output("y", "cpu", 0, 1, room.shape, room.ctypes.data)
    session.run_with_iobinding(binding)
    assert np.array_equal(room, y)
    values = binding.get_outputs()
    assert [value.data_ptr() == room.ctypes.data for value in values] == [False, True]
    copies = binding.copy_outputs_to_cpu()
    assert np.array_equal(copies[0], pooled)
    x *= 2
    session.run_with_iobinding(binding)
    assert np.array_equal(room, session.run(["y"], {"x": 2 * X})[0])
    assert np.array_equal(copies[1], y)
    assert np.array_equal(values[0].numpy(), pooled)
    binding.synchronize_inputs()
    binding.synchronize_outputs()
    binding.clear_binding_outputs()
    assert binding.get_outputs() == binding.get_outputs_as_ortvaluevector() == []
    binding.clear_binding_inputs()
    binding.bind_output("y")
    with pytest.raises(ValueError, match=r"inputs \['x'\] are missing"):
        session.run_with_iobinding(binding)


def test_values_are_read_and_written(session, binding):
    value = ort.OrtValue.ortvalue_from_numpy(X.copy())
    into = ort.OrtValue.ortvalue_from_shape_and_type((1, 5, 1, 1), np.float32)
    binding.bind_ortvalue_input("x", value)
    binding.bind_ortvalue_output("pooled", into)
    for factor in (1, 3):
        value.update_inplace(factor * X)
        session.run_with_iobinding(binding)
        assert np.array_equal(into.numpy(), session.run(["pooled"], {"x": factor * X})[0])


def test_an_array_of_any_order_is_bound(session, binding):
    binding.bind_cpu_input("x", np.asfortranarray(X))
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], session.run(["y"], {"x": X})[0])


def test_what_does_not_fit_writes_nothing(session, binding):
    room, other = np.full((1, 5, 6, 5), np.nan, np.float32), np.full((1, 5, 1, 1), np.nan, np.float32)
    binding.bind_cpu_input("x", X)
    with pytest.raises(RuntimeError, match=r"no outputs are bound; need at least one, e\.g\. 'y'"):
        session.run_with_iobinding(binding)
    binding.bind_output("pooled", "cpu", 0, np.float32, other.shape, other.ctypes.data)
    for kind, shape in ((np.float32, room.shape), (np.int32, (1, 5, 6, 6))):
        binding.bind_output("y", "cpu", 0, kind, shape, np.zeros(200, np.int32).ctypes.data)
        with pytest.raises(RuntimeError, match=r"is float32 of shape \(1, 5, 6, 6\); need .* as it was bound"):
            session.run_with_iobinding(binding)
    assert np.isnan(other).all()


BAD = {
    "input": (lambda b: b.bind_cpu_input("q", X), RuntimeError, "input 'q' is unknown; need one of 'x'"),
    "output": (lambda b: b.bind_output("q"), RuntimeError, "output 'q' is unknown; need one of 'y', 'pooled'"),
    "list": (lambda b: b.bind_cpu_input("x", [1]), TypeError, "need a NumPy array"),
    "value": (lambda b: b.bind_ortvalue_input("x", X), TypeError, "need an OrtValue"),
    "device": (lambda b: b.bind_output("y", "cuda"), RuntimeError, "device 'cuda'; need 'cpu'"),
    "no type": (lambda b: b.bind_output("y", "cpu", 0, None, (1,), 64), ValueError, "has memory, but no type or shape"),
    "no address": (lambda b: b.bind_input("x", "cpu", 0, np.float32, (1,), 0), RuntimeError, "buffer_ptr=0; need an a"),
    "odd address": (lambda b: b.bind_input("x", "cpu", 0, np.float32, (1,), 65), RuntimeError, "that 4 divides"),
    "negative": (lambda b: b.bind_input("x", "cpu", 0, np.float32, (-1,), 64), ValueError, r"shape=\(-1,\)"),
    "type": (lambda b: b.bind_input("x", "cpu", 0, 16, (1,), 64), kinds.NotImplemented, r"16 \(tensor\(bfloat16\)\)"),
    "read only": (
        lambda b: b.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(np.broadcast_to(np.float32(0), ()))),
        RuntimeError, "not to be written to",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bindings_that_cannot_be(binding, name):
    act, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        act(binding)


def test_a_binding_belongs_to_its_session(binding):
    other = ort.InferenceSession(two_inputs().SerializeToString())
    with pytest.raises(ValueError, match="belongs to another session"):
        other.run_with_iobinding(binding)
    with pytest.raises(DataError, match=r"need session\.io_binding"):
        other.run_with_iobinding(None)


ASKED = [
    "shape", "data_type", "element_type", "device_name", "is_tensor", "is_sparse_tensor", "is_tensor_sequence",
    "has_value", "tensor_size_in_bytes", "data_ptr",
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for _, name in WORDS.values() if name))
def test_values_say_what_onnx_runtime_says(name):
    theirs = pytest.importorskip("onnxruntime")
    array = np.zeros((2, 3), name)
    ours = ort.OrtValue.ortvalue_from_numpy(array)
    assert ours.element_type() == number_type(array.dtype)
    if array.dtype.kind != "c":
        other = theirs.OrtValue.ortvalue_from_numpy(array)
        for ask in ASKED:
            assert getattr(ours, ask)() == getattr(other, ask)(), ask
    assert ours.data_ptr() == array.ctypes.data
    assert np.shares_memory(np.asarray(ours), array)
    assert not np.shares_memory(np.array(ours, copy=True), array)


def test_values_in_other_forms():
    value = ort.OrtValue.from_dlpack(X)
    assert np.shares_memory(value.numpy(), X)
    assert np.shares_memory(np.from_dlpack(value), X)
    assert value.__dlpack_device__()[0] == 1
    assert np.asarray(value, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="need a copy"):
        value.__array__(np.float64, copy=False)
    assert ort.OrtValue.ortvalue_from_numpy_with_onnx_type(X, 1).data_type() == "tensor(float)"
    with pytest.raises(kinds.NotImplemented, match=r"tensor\(float\) as tensor\(int32\)"):
        ort.OrtValue.ortvalue_from_numpy_with_onnx_type(X, 6)
    one, two = (ort.OrtValue.ortvalue_from_shape_and_type([2], kind) for kind in (np.float32, 1))
    one.update_inplace(np.float32([1, 2]))
    ort.copy_tensors([one], [two])
    assert two.numpy().tolist() == [1, 2]
    for bad in (np.float64([1, 2]), np.float32([1])):
        with pytest.raises(RuntimeError, match=r"data is .*; need float32 of shape \(2,\)"):
            one.update_inplace(bad)
    with pytest.raises(kinds.InvalidArgument, match="1 values are copied to 2; need as many"):
        ort.copy_tensors([one], [one, two])
    for bad in (lambda: ort.OrtValue.from_dlpack(3), lambda: ort.OrtValue.ortvalue_from_numpy([1])):
        with pytest.raises(TypeError, match="the value is a"):
            bad()
    with pytest.raises(kinds.NotImplemented, match="element type"):
        ort.OrtValue.ortvalue_from_numpy(np.array(["a"]))
    with pytest.raises(kinds.NotImplemented, match="sparse"):
        ort.OrtValue.ort_value_from_sparse_tensor(None)
    device = ort.OrtDevice.make("CPU", 0)
    assert (device.device_type(), device.device_id(), device.device_mem_type(), device.device_vendor_id()) == (0,) * 4
    assert ort.OrtDevice.cpu() == ort.OrtDevice.default_memory() == 0
