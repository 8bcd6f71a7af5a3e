"""ONNX Runtime: CPU provider, all graph optimisations, its default spinning workers, arrays bound once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from omniconv.bench.peers import PeerError, TimedCall
from omniconv.bench.precision import BFLOAT16
from omniconv.bench.workload import Array, Workload
from omniconv.ort.session import InferenceSession

NAME: Final = "ONNX Runtime"
PACKAGE: Final = "onnxruntime"
LAYOUTS: Final = ("NCHW",)


def load(workload: Workload, threads: int, layout: str = "NCHW") -> TimedCall:  # noqa: ARG001 - it has one order
    """Open a session with ``threads`` threads within an operator and one operator at a time."""
    if ort.InferenceSession is InferenceSession:
        raise PeerError("omniconv.ort stands in for it; omniconv.ort.uninstall() gives it back")
    if workload.precision == BFLOAT16:
        raise PeerError("it has no bfloat16 on CPUs")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    source = workload.model if isinstance(workload.model, bytes) else str(workload.model)
    inputs = dict(workload.inputs)
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        produced = session.run(None, inputs)  # some limits show only here
    except Exception as error:
        raise PeerError(str(error).strip().splitlines()[0]) from error
    binding = session.io_binding()
    results = [allocate(array.shape, array.dtype) for array in produced]
    held = [allocate(array.shape, array.dtype) for array in inputs.values()]
    for (name, array), aligned in zip(inputs.items(), held, strict=True):
        aligned[...] = array
        binding.bind_input(name, "cpu", 0, aligned.dtype, aligned.shape, aligned.ctypes.data)
    for item, array in zip(session.get_outputs(), results, strict=True):
        binding.bind_output(item.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def call(_held: Sequence[Array] = held) -> Sequence[Array]:  # the binding only points to the inputs
        session.run_with_iobinding(binding)
        return results

    return call


def allocate(shape: Sequence[int], dtype: Any) -> Array:
    """An array that starts on a cache line."""
    size = math.prod(shape) * dtype.itemsize
    room = np.zeros(size + 64, np.uint8)
    skip = -room.ctypes.data % 64
    array: Array = room[skip : skip + size].view(dtype).reshape(shape)
    return array
