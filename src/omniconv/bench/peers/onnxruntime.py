"""ONNX Runtime: CPU provider, all graph optimisations, its default spinning workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnxruntime as ort

from omniconv.bench.peers import Call, PeerError
from omniconv.bench.workload import Array, Workload

NAME: Final = "ONNX Runtime"
PACKAGE: Final = "onnxruntime"


def load(workload: Workload, threads: int) -> Call:
    """Open a session with ``threads`` threads within an operator and one operator at a time."""
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
        session.run(None, inputs)  # some limits show only here
    except Exception as error:
        raise PeerError(str(error).strip().splitlines()[0]) from error

    def call() -> Sequence[Array]:
        return list(session.run(None, inputs))

    return call
