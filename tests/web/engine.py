"""WebAssembly modules run in Wasmtime."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

wasmtime = pytest.importorskip("wasmtime")

ENGINE = wasmtime.Engine()


class Instance:
    """A module with its memory as an array of bytes."""

    def __init__(self, code: bytes) -> None:
        self.store = wasmtime.Store(ENGINE)
        self.exports = wasmtime.Instance(self.store, wasmtime.Module(ENGINE, code), []).exports(self.store)
        self.memory = self.exports["memory"]

    def floats(self, offset: int, count: int) -> np.ndarray:
        """A view of the memory."""
        start = ctypes.addressof(self.memory.data_ptr(self.store).contents) + offset
        assert offset + 4 * count <= self.memory.data_len(self.store)
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(start))

    def call(self, name: str, *arguments: int) -> None:
        self.exports[name](self.store, *arguments)


def run_module(module, weights, x, code=None):
    """What a module computes; its output is NaN beforehand."""
    instance = Instance(module.simd if code is None else code)
    module.pack(weights, instance.floats(module.weights_offset, module.index.size))
    instance.floats(module.input_offset, x.size)[:] = x.ravel()
    y = instance.floats(module.output_offset, int(np.prod(module.output)))
    y[:] = np.nan
    instance.call("run")
    return y.reshape(module.output).copy()


def run_taps(instance, heap, words, w, b, x, plan):
    """What the kernel for any setting computes, with records made by ``plan_taps``."""
    modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    frame = np.pad(x, ((0, 0), (0, 0), *plan.margins), mode=modes[plan.mode])
    assert frame.shape == plan.frame
    place = heap

    def put(array, kind=np.float32):
        nonlocal place
        array = np.ascontiguousarray(array, kind)
        start, place = place, place + array.nbytes + 4
        while place > instance.memory.data_len(instance.store):
            instance.memory.grow(instance.store, 1)
        instance.floats(start, array.size).view(kind)[:] = array.ravel()
        return start

    x_place, b_place = put(frame), put(b)
    y_place = put(np.full(plan.output, np.nan))
    for call in plan.calls:
        addresses = {
            "x": x_place,
            "y": y_place + 4 * call.y_start,
            "bias": b_place,
            "offsets": put(call.offsets, np.int32),
            "weights": put(w.ravel()[call.index]),
        }
        values = addresses | call.words
        instance.call("taps", put([values[name] for name in words], np.int32))
    return instance.floats(y_place, int(np.prod(plan.output))).reshape(plan.output).copy()
