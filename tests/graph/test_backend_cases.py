"""ONNX's own cases: every convolution must give its expected output, and everything else too or be refused."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
from tests.graph.onnx_cases import BY_FRACTIONAL_LENGTH, Arrays, OnnxCase, conv_cases, node_cases, stored_cases
from tests.program_oracle import run_program

from omniconv.errors import OmniconvError
from omniconv.graph import supported_operators, to_program


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
    assert sum(passed.values()) > 400, passed
    never = set(supported_operators()) - set(passed)
    # These are only ever folded, or their only cases read integers or float64; test_operators.py covers them.
    names = """
        And Ceil Constant ConstantOfShape CumSum Einsum Equal Erf Floor Greater GreaterOrEqual InstanceNormalization
        LayerNormalization Less LessOrEqual Log Mod Not Or Range ReduceProd Round Shape Sign Size Swish Tile Trilu
        Upsample Where Xor
    """
    assert never <= set(names.split()), never
