"""ONNX's own cases: every convolution must give its expected output, and everything else too or be refused."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import onnx
import pytest
from tests.graph.onnx_cases import BY_FRACTIONAL_LENGTH, Arrays, OnnxCase, conv_cases, node_cases, stored_cases
from tests.program_oracle import run_program

from omniconv.errors import OmniconvError
from omniconv.graph import prepare, supported_operators, to_program, to_schedule
from omniconv.graph.fix_shapes import find_given
from omniconv.graph.operator import OPERATORS
from omniconv.graph.schedule import Settings
from omniconv.program.element import FLOAT32, FLOAT64
from omniconv.program.program import Program
from omniconv.runtime.pieces import Pieces
from omniconv.runtime.runner import Context


def run(model: onnx.ModelProto, inputs: Arrays, constants: Arrays) -> Arrays:
    """Lower a model and interpret the program."""
    program = to_program(model, shapes={name: x.shape for name, x in inputs.items()}, constants=constants)
    return run_program(program, inputs)


@pytest.mark.parametrize("case", conv_cases(), ids=lambda case: case.name)
def test_convolutions(case: OnnxCase) -> None:
    case.check(run)


def test_there_are_convolutions_of_every_sort() -> None:
    names = [case.name for case in conv_cases()]
    assert len(names) >= 40
    for part in (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose2d",
        "convtranspose_autopad",
        "operator_conv",
        "depthwise",
    ):
        assert any(part in name for name in names), part


def test_every_other_case_is_right_or_refused() -> None:
    passed: Counter[str] = Counter()
    for case in (
        *node_cases(),
        *stored_cases("pytorch-converted"),
        *stored_cases("pytorch-operator"),
        *stored_cases("simple"),
    ):
        if case.name in BY_FRACTIONAL_LENGTH:
            with pytest.raises(AssertionError):
                case.check(run)
            continue
        try:
            case.check(run)
        except OmniconvError:
            continue
        passed.update({node.op_type for node in case.model.graph.node})
    assert sum(passed.values()) > 1900, passed
    never = {name for name in supported_operators() if OPERATORS["", name].lower is not None} - set(passed)
    # Their only cases are of integers, float64 or booleans; test_operators.py, test_float_operators.py and
    # test_quantised.py cover them.
    names = """
        And CumSum Equal GlobalLpPool Greater IsInf IsNaN LayerNormalization LessOrEqual Not Or ReduceLogSumExp Tile Xor
        Einsum GatherElements Trilu DequantizeLinear QLinearConv QLinearMatMul QuantizeLinear
    """
    assert never <= set(names.split()), never


class Interpreted:
    """A program as something that runs; the compiler has tests of its own."""

    arena_bytes = constant_bytes = 0

    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, inputs: Arrays) -> Arrays:
        dtype = self.program.element.dtype
        return {name: np.asarray(x, dtype) for name, x in run_program(self.program, inputs).items()}


def run_in_tiers(model: onnx.ModelProto, inputs: Arrays, constants: Arrays) -> Arrays:
    """All inputs are given when the model runs; stretches are interpreted, the rest runs on the host."""
    given = {**inputs, **constants}
    types = {x.dtype for x in given.values()}
    wide = np.dtype(np.float64) in types and np.dtype(np.float32) not in types
    element = FLOAT64 if wide else FLOAT32
    graph = prepare(model, shapes={name: x.shape for name, x in given.items()})
    settings = Settings(2**28, element, find_given(graph, element))
    schedule = to_schedule(graph, memory_limit=2**28, element=element)
    return Pieces(schedule, Context(Interpreted, settings)).run(given)


NEVER = (
    "is BFLOAT16", "is FLOAT8", "is FLOAT4", "is U?INT4", "is U?INT2", "is STRING",  # types that NumPy does not have
    "its results are random", "in training mode", "works on texts", "on sequences or optional", "decodes files",
    "is no tensor", "element type", "imports no opset of the ONNX domain", "ai.onnx.preview", "opset 1;",
    "Scan of opset 8", "is not in onnx.reference", "not part of GELU",
    "its NumPy implementation forgets signs", "its NumPy implementation sums",
)  # fmt: skip
"""Every reason for which a case is refused."""


@pytest.mark.parametrize("part", range(8))
def test_every_node_case_is_right_in_tiers_or_refused_by_name(part: int, tally) -> None:
    refused: list[str] = []
    for case in node_cases()[part::8]:
        if case.name in BY_FRACTIONAL_LENGTH:
            continue
        try:
            case.check(run_in_tiers)
        except OmniconvError as error:
            refused.append(f"{case.name}: {error}")
            continue
        tally("node cases of ONNX, all inputs given at run time")
    assert not [text for text in refused if not re.search("|".join(NEVER), text)]
    assert len(refused) < 0.2 * len(node_cases()[part::8]), refused
