"""OpenVINO: CPU device, latency hint, f32 inference, static shapes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import openvino as ov

from omniconv.bench.peers import Call, PeerError
from omniconv.bench.workload import Array, Workload

NAME: Final = "OpenVINO"
PACKAGE: Final = "openvino"


def load(workload: Workload, threads: int) -> Call:
    """Compile the model for the shapes of the inputs and ``threads`` threads."""
    core = ov.Core()
    try:
        source = io.BytesIO(workload.model) if isinstance(workload.model, bytes) else str(workload.model)
        model = core.read_model(source)
        model.reshape({name: list(array.shape) for name, array in workload.inputs.items()})
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": "1",
            },
        )
        request = compiled.create_infer_request()
        inputs = dict(workload.inputs)
        request.infer(inputs)  # some limits show only here
    except Exception as error:
        raise PeerError(str(error).strip().splitlines()[0]) from error
    outputs = list(compiled.outputs)

    def call() -> Sequence[Array]:
        found = request.infer(inputs, share_inputs=True)
        return [np.asarray(found[output]) for output in outputs]

    return call
