"""Graphs: ONNX in, as a :class:`~omniconv.program.steps.Program`, and specs out as ONNX."""

from omniconv.graph.export import export
from omniconv.graph.load import NEWEST_OPSET, OLDEST_OPSET, ModelLike, load
from omniconv.graph.partial import Gap
from omniconv.graph.program import input_signature, prepare, to_partial_program, to_program, to_schedule
from omniconv.graph.registry import supported_operators

__all__ = [
    "NEWEST_OPSET",
    "OLDEST_OPSET",
    "Gap",
    "ModelLike",
    "export",
    "input_signature",
    "load",
    "prepare",
    "supported_operators",
    "to_partial_program",
    "to_program",
    "to_schedule",
]
