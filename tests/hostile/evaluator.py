"""Operators that ``onnx.reference`` reads in another way than ONNX says, put right for the judge."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv_transpose import ConvTranspose as _ConvTranspose
from onnx.reference.ops.op_grid_sample import GridSample as _GridSample
from onnx.reference.ops.op_loop import Loop as _Loop
from onnx.reference.ops.op_pad import Pad_18 as _Pad
from tests.differential import recurrent

_FAR: Final = 1e6
"""A place that is outside of every image here."""
_NO_PIXEL: Final = 1e18
"""Where numbers of pixels end, in 64 bits."""


class ConvTranspose(_ConvTranspose):  # type: ignore[misc] # untyped for a checker
    """Groups one by one: the evaluator takes their weights from the wrong axis, and all biases for each."""

    def _run(self, x: Any, w: Any, b: Any = None, *, group: int = 1, **attributes: Any) -> tuple[Any]:
        parts = [np.split(x, group, 1), np.split(w, group), [None] * group if b is None else np.split(b, group)]
        found = [super(ConvTranspose, self)._run(*part, group=1, **attributes)[0] for part in zip(*parts, strict=True)]
        return (np.concatenate(found, 1),)


class GridSample(_GridSample):  # type: ignore[misc] # untyped for a checker
    """Places that the evaluator cannot turn into numbers of pixels: far outside, all are as one that is outside; where
    a place is no number, or a reflection may bring it anywhere, nothing is known.
    """

    def _run(self, x: Any, grid: Any, *, padding_mode: str, **attributes: Any) -> tuple[Any]:
        unknown = np.isnan(grid)
        if padding_mode == "reflection":
            unknown |= np.abs(grid) >= _NO_PIXEL
        near = np.clip(np.where(unknown, 0, grid), -_FAR, _FAR).astype(grid.dtype)
        (y,) = super()._run(x, near, padding_mode=padding_mode, **attributes)
        return (np.where(unknown.any(-1)[:, None], np.nan, y).astype(y.dtype) if y.dtype.kind == "f" else y,)


class _Recurrent(OpRun):  # type: ignore[misc] # untyped for a checker
    """Read from the standard, in float64: the evaluator passes over lengths, clips and most functions."""

    def _run(self, *arrays: Any, **_attributes: Any) -> tuple[Any, ...]:
        wide = [a if a is None or a.dtype.kind != "f" else a.astype(np.float64) for a in arrays]
        exact = [None if a is None else 0.0 for a in wide]
        return tuple(y.astype(arrays[0].dtype) for y in recurrent.evaluate(self.onnx_node, wide, exact, 0.0)[0])


class GRU(_Recurrent):
    """A GRU."""


class LSTM(_Recurrent):
    """An LSTM."""


class RNN(_Recurrent):
    """A plain recurrent layer."""


class LRN(OpRun):  # type: ignore[misc] # untyped for a checker
    """That of ``onnx.reference`` goes through as many channels as there are images."""

    def _run(self, x: Any, *, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
        below, above = (size - 1) // 2, size - 1 - (size - 1) // 2
        padded = np.pad(x.astype(np.float64) ** 2, [(0, 0), (below, above), *[(0, 0)] * (x.ndim - 2)])
        sums = sum(padded[:, at : at + x.shape[1]] for at in range(size))
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


class Loop(_Loop):  # type: ignore[misc] # untyped for a checker
    """What a Loop scans is joined along a new axis; the evaluator joins it along the first that there is."""

    def __init__(self, onnx_node: Any, run_params: Any) -> None:
        super().__init__(onnx_node, run_params)
        self._once, self._run_body = self._run_body, self._run_raised
        self._scalars = [False] * self.K
        # A value that is carried and scanned has two places; what is carried is the first.
        names = self.body.output_names
        self.output_index = {name: names.index(name) for name in names}

    def _run_raised(self, *arguments: Any, **options: Any) -> list[Any]:
        outputs = list(self._once(*arguments, **options))
        scanned = [np.asarray(item)[None] for item in outputs[len(outputs) - self.K :]]
        self._scalars = [item.ndim == 1 for item in scanned]
        return outputs[: len(outputs) - self.K] + scanned

    def _run(self, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        found = list(super()._run(*arguments, **options))
        first = len(found) - self.K
        for index, scalar in enumerate(self._scalars, first):
            found[index] = found[index][:, 0] if scalar else found[index]
        return tuple(found)


class Pad(_Pad):  # type: ignore[misc] # untyped for a checker
    """Negative widths cut constant padding off before; the evaluator refuses them."""

    def _run(self, data: Any, pads: Any, value: Any = None, axes: Any = None, mode: Any = None) -> tuple[Any]:
        if mode == "constant" and np.min(pads, initial=0) < 0:
            chosen = range(data.ndim) if axes is None else [int(axis) % data.ndim for axis in axes]
            half = len(pads) // 2
            for axis, before, after in zip(chosen, pads[:half], pads[half:], strict=True):
                size = data.shape[axis]
                kept = range(max(-int(before), 0), size - max(-int(after), 0))
                data = np.take(data, kept, axis)
            pads = np.maximum(pads, 0)
        found: tuple[Any] = super()._run(data, pads, value, axes, mode)
        return found


OPERATORS: Final = [GRU, LRN, LSTM, RNN, ConvTranspose, GridSample, Loop, Pad]
