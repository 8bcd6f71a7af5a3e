"""XNNPACK, through ExecuTorch: problem lines only, as a PyTorch module that is lowered to it.

What XNNPACK does not take, ExecuTorch computes with plain portable loops; those are no contender, so such problems are
refused. Channels last is XNNPACK's own order. Outputs are not copied out of the runtime's memory.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
import torch

from omniconv.bench.peers import PeerError, TimedCall
from omniconv.bench.peers.torch import build, order_input
from omniconv.bench.precision import FLOAT32
from omniconv.bench.workload import Array, Workload

NAME: Final = "XNNPACK"
PACKAGE: Final = "executorch"
LAYOUTS: Final = ("NHWC",)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Its tools warn about themselves on every use."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


with _quiet():  # it carries no types, and importing it takes seconds
    _exir: Any = import_module("executorch.exir")
    _xnnpack: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    _runtime: Any = import_module("executorch.extension.pybindings.portable_lib")


def load(workload: Workload, threads: int, layout: str = "NHWC") -> TimedCall:
    """Export the layer or the chain with PyTorch and lower all of it to XNNPACK."""
    spec = workload.spec
    if workload.precision != FLOAT32:
        raise PeerError(f"it is not set up for {workload.precision}")
    if spec is None:
        raise PeerError("no converter from ONNX to XNNPACK")
    if len(workload.shape) == 5:
        raise PeerError("it has no convolutions along three axes")
    function = build(workload, layout, order_weights=False)  # it packs them itself, and fails on reordered ones
    x = order_input(workload, layout)

    class Exported(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def forward(self, value: Any) -> Any:
            return function(value)

    if _runtime._threadpool_get_thread_count() != threads:  # noqa: SLF001
        _runtime._unsafe_reset_threadpool(threads)  # noqa: SLF001
    try:
        with _quiet(), torch.no_grad():
            exported = torch.export.export(Exported().eval(), (x,))
            lowered = _exir.to_edge_transform_and_lower(exported, partitioner=[_xnnpack.XnnpackPartitioner()])
            program = lowered.to_executorch()
    except Exception as error:
        raise PeerError(f"it cannot be lowered: {str(error).strip().splitlines()[0]}") from error
    left = sorted({item.name for plan in program.executorch_program.execution_plan for item in plan.operators})
    if any("conv" in name for name in left):
        raise PeerError("it leaves the convolution to portable loops")
    buffer = program.buffer
    module = _runtime._load_for_executorch_from_buffer(buffer)  # noqa: SLF001
    flat = layout == "NHWC" and len(workload.shape) == 3
    shape = spec.output_shape(workload.shape)

    def call(_held: bytes = buffer) -> Sequence[Array]:  # the module only points to it
        y = module.forward((x,), clone_outputs=False)[0]
        return [(y.squeeze(2) if flat else y).numpy()]

    try:
        [produced] = call()
    except RuntimeError as error:
        raise PeerError(str(error).strip().splitlines()[0]) from error
    if produced.shape != tuple(shape) or not np.isfinite(produced).all():
        raise PeerError("it computes something else")
    return call
