"""ONNX's own test cases as data: node cases made by `onnx.backend.test`, and the models stored next to it.

Every case is given to a ``run(model, inputs, constants)`` that returns the outputs by name, so the same cases judge the
lowering (through the oracle) and compiled networks. All inputs but the first are bound to their data: what the cases
feed as weights are constants for a compiler.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference.ops import op_pool_common

Arrays = dict[str, np.ndarray]
Run = Callable[[onnx.ModelProto, Arrays, Arrays], Mapping[str, Any]]

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
BY_FRACTIONAL_LENGTH = {
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}
"""Their expected output is the reference evaluator's, which aligns the corners of a tensor of fractional length."""


@dataclass(frozen=True)
class OnnxCase:
    """One model with inputs and expected outputs."""

    name: str
    model: onnx.ModelProto
    inputs: Arrays
    constants: Arrays
    outputs: Arrays
    rtol: float = 1e-3
    atol: float = 1e-7

    def check(self, run: Run) -> None:
        """Run the case and compare, with the tolerance of ONNX's own runner.

        float32 sums that cancel need more than a relative tolerance: a few roundings of the largest output are allowed.
        """
        results = run(self.model, self.inputs, self.constants)
        assert set(results) == set(self.outputs)
        for name, want in self.outputs.items():
            got = np.asarray(results[name])
            assert got.shape == want.shape, (self.name, got.shape, want.shape)
            finite = np.abs(want[np.isfinite(want)])
            atol = self.atol + 1e-6 * float(finite.max(initial=0.0))
            np.testing.assert_allclose(got, want, rtol=self.rtol, atol=atol, err_msg=self.name)


def _case(name: str, model: onnx.ModelProto, inputs: list, outputs: list, **tolerance: float) -> OnnxCase | None:
    arrays = [
        numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item for item in (*inputs, *outputs)
    ]
    if not all(isinstance(item, np.ndarray | np.generic) for item in arrays):
        return None
    initialised = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input if info.name not in initialised]
    given = dict(zip(names, map(np.asarray, arrays[: len(inputs)]), strict=True))
    wanted = dict(zip([info.name for info in model.graph.output], map(np.asarray, arrays[len(inputs) :]), strict=True))
    first = names[:1]
    return OnnxCase(
        name,
        model,
        {key: given[key] for key in first},
        {key: value for key, value in given.items() if key not in first},
        wanted,
        **tolerance,
    )


def _pool(loop, padded, x_shape, kernel, strides, out_shape, kind, *others, **options):
    """Expected outputs of ONNX's pooling cases: those of its own loop, which takes a millisecond for ten outputs, or
    for the large ones, whose windows are all whole, the same formulas over arrays.
    """
    if others or options.keys() - {"p"} or math.prod(out_shape) < MANY:
        return loop(padded, x_shape, kernel, strides, out_shape, kind, *others, **options)
    axes = tuple(range(2, padded.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axes)
    windows = windows[(..., *(slice(None, None, step) for step in strides), *(slice(None) for _ in axes))]
    taps, p = tuple(range(-len(axes), 0)), options.get("p", 1)
    if kind == "MAX":
        return windows.max(axis=taps)
    return windows.mean(axis=taps) if kind == "AVG" else (np.abs(windows) ** p).sum(axis=taps) ** (1.0 / p)


MANY = 10_000
"""Outputs of a channel from which on ONNX's cases of pooling are not computed one by one."""


@cache
def node_cases() -> tuple[OnnxCase, ...]:
    """Every node case of ONNX whose inputs and outputs are tensors."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), mock.patch.object(op_pool_common, "pool", partial(_pool, op_pool_common.pool)):
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found = []
    for item in collected:
        for inputs, outputs in item.data_sets or ():
            case = _case(item.name, item.model, list(inputs), list(outputs), rtol=item.rtol, atol=item.atol)
            if case is not None:
                found.append(case)
    return tuple(found)


@cache
def stored_cases(folder: str) -> tuple[OnnxCase, ...]:
    """The cases stored as files under ``folder``, e.g. ``pytorch-converted``."""
    found = []
    for directory in sorted((DATA / folder).iterdir()):
        model = onnx.load(directory / "model.onnx")
        for data in sorted(directory.glob("test_data_set_*")):
            inputs, outputs = (
                [onnx.load_tensor(path) for path in sorted(data.glob(f"{kind}_*.pb"))] for kind in ("input", "output")
            )
            case = _case(directory.name, model, inputs, outputs)
            if case is not None:
                found.append(case)
    return tuple(found)


@cache
def conv_cases() -> tuple[OnnxCase, ...]:
    """Every Conv and ConvTranspose case: nodes, models converted from PyTorch, and PyTorch's operators."""
    cases = (*node_cases(), *stored_cases("pytorch-converted"), *stored_cases("pytorch-operator"))
    wanted = {"Conv", "ConvTranspose"}
    return tuple(
        case
        for case in cases
        if any(node.op_type in wanted for node in case.model.graph.node)
        and {node.op_type for node in case.model.graph.node} <= wanted | {"Relu", "Constant"}
    )
