"""OpenVINO: CPU device, latency hint, f32 or bf16 by hint, static shapes; for single layers also channels last."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from omniconv.bench.peers import PeerError, TimedCall
from omniconv.bench.precision import BFLOAT16
from omniconv.bench.workload import Array, Workload

NAME: Final = "OpenVINO"
PACKAGE: Final = "openvino"
LAYOUTS: Final = ("NCHW", "NHWC")


def load(workload: Workload, threads: int, layout: str = "NCHW") -> TimedCall:
    """Compile the model for the shapes of the inputs and ``threads`` threads."""
    last = layout == "NHWC"
    if last and workload.spec is None:
        raise PeerError("channels last is set up for single layers only")
    hint = "bf16" if workload.precision == BFLOAT16 else "f32"
    core = ov.Core()
    inputs = dict(workload.inputs)
    try:
        source = io.BytesIO(workload.model) if isinstance(workload.model, bytes) else str(workload.model)
        model = core.read_model(source)
        model.reshape({name: list(array.shape) for name, array in inputs.items()})
        if last:
            model = _take_channels_last(model, len(workload.shape) - 2)
            inputs = {name: np.ascontiguousarray(np.moveaxis(array, 1, -1)) for name, array in inputs.items()}
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": hint,
                "NUM_STREAMS": "1",
            },
        )
        request = compiled.create_infer_request()
        request.infer(inputs)  # some limits show only here
    except Exception as error:
        raise PeerError(str(error).strip().splitlines()[0]) from error
    if hint == "bf16" and compiled.get_property("INFERENCE_PRECISION_HINT") != ov.Type.bf16:
        raise PeerError("it has no bfloat16 on this processor")
    outputs = list(compiled.outputs)

    def call() -> Sequence[Array]:
        found = request.infer(inputs, share_inputs=True, share_outputs=True)
        arrays = [np.asarray(found[output]) for output in outputs]
        return [np.moveaxis(array, -1, 1) for array in arrays] if last else arrays

    return call


def _take_channels_last(model: Any, dims: int) -> Any:
    """The same model with arrays in the other order at its boundary."""
    axes = "DHW"[-dims:]
    steps = PrePostProcessor(model)
    for port in (steps.input(), steps.output()):
        port.tensor().set_layout(ov.Layout(f"N{axes}C"))
        port.model().set_layout(ov.Layout(f"NC{axes}"))
    return steps.build()
