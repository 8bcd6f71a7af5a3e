r"""Cost: parameters, multiply-accumulates, bytes, arithmetic intensity, roofline time; by layer and in total.

A convolution of any kind with output positions :math:`O`, input positions :math:`I` and taps :math:`K` does

.. math:: N \, O \, K \, \frac{C_{in}}{g} C_{out} \quad [\mathrm{MAC}]

nominally; a transposed one meets each input with each tap, so there the nominal figure has :math:`I` in place of
:math:`O`. Published tables differ on that, so both are given by name (:data:`CONVENTIONS`). Executed ones are only
those whose tap lands inside the input, counted from the phases in integers. 1 MAC = 2 FLOP, always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, as_program
from omniconv.errors import SpecError
from omniconv.program.element import FLOAT32, Element
from omniconv.program.layers import WORDS
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConstantStep,
    ConvStep,
    DenseStep,
    PostOp,
    ProductStep,
    ProgramStep,
    operands,
    weight_arrays,
)
from omniconv.spec import Conv, Shape

CONVENTIONS: Final = {
    "nominal": "every tap for every output position; transposed: for every input position",
    "input": "every tap for every input position, also where the layer has a stride",
    "output": "every tap for every output position, also of a transposed layer",
    "executed": "only taps that land inside the input",
}
"""Ways to count multiply-accumulates, by name."""

BIASES: Final = ("as_is", "none", "batch_norm")
"""Ways to count what is added to each output channel: the biases as they are stored; nothing; a scale and a shift for
each channel of a convolution with a bias, as a batch norm has before it is folded (and nothing shared)."""


@dataclass(frozen=True, slots=True)
class Machine(Record):
    """What a machine can do at most.

    Attributes:
        flops: peak arithmetic [FLOP/s].
        bandwidth: of memory [bytes/s].
        name: for reports.
    """

    flops: float
    bandwidth: float
    name: str = ""

    def __post_init__(self) -> None:
        if not (self.flops > 0 and self.bandwidth > 0):
            raise SpecError(
                f"a machine of {self.flops} FLOP/s and {self.bandwidth} bytes/s", need="positive rates",
                fix="Machine(flops=100e9, bandwidth=20e9)",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerCost(Record):
    """Cost of one step.

    Attributes:
        name, kind: of the layer; ``text`` is the problem line of a convolution.
        input_shape, output_shape: channels first.
        weights, biases: numbers of them, as they are in the program.
        macs: nominal multiply-accumulates [MAC].
        executed_macs: those whose tap lands inside [MAC].
        input_macs, output_macs: counted by input and by output positions [MAC].
        activations: values that it writes.
        bytes_read, bytes_written, bytes_weights: each tensor once, in the program's element [bytes].
    """

    name: str
    kind: str
    text: str
    input_shape: Shape
    output_shape: Shape
    weights: int
    biases: int
    macs: int
    executed_macs: int
    input_macs: int
    output_macs: int
    activations: int
    bytes_read: int
    bytes_written: int
    bytes_weights: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def bytes(self) -> int:
        """All that is moved [bytes]."""
        return self.bytes_read + self.bytes_written + self.bytes_weights

    @property
    def intensity(self) -> float:
        """Arithmetic intensity [FLOP/byte], of the nominal work."""
        return 2 * self.macs / self.bytes if self.bytes else 0.0

    def count_macs(self, convention: str) -> int:
        """Multiply-accumulates by the name of a convention, see :data:`CONVENTIONS` [MAC]."""
        if convention not in CONVENTIONS:
            raise SpecError(f"convention={convention!r} is unknown", need="one of " + ", ".join(CONVENTIONS))
        return int(getattr(self, "macs" if convention == "nominal" else f"{convention}_macs"))

    def roofline_seconds(self, machine: Machine) -> float:
        """The least time: arithmetic or memory, whichever takes longer, of the nominal work [s]."""
        return max(2 * self.macs / machine.flops, self.bytes / machine.bandwidth)

    def bound(self, machine: Machine) -> str:
        """``"compute"`` or ``"memory"``."""
        return "compute" if 2 * self.macs / machine.flops >= self.bytes / machine.bandwidth else "memory"


@dataclass(frozen=True, slots=True)
class Cost(Record):
    """Cost of a layer, a chain or a network: the sum over ``layers``.

    Attributes:
        layers: one for each step, in order.
        weights, biases: numbers of them; an array that several layers share counts once, as it is stored once.
    """

    layers: tuple[LayerCost, ...]
    weights: int
    biases: int

    @property
    def parameters(self) -> int:
        """Weights and biases, as they are."""
        return self.weights + self.biases

    def count_parameters(self, bias: str = "as_is") -> int:
        """Parameters by the name of a convention, see :data:`BIASES`."""
        if bias not in BIASES:
            raise SpecError(f"bias={bias!r} is unknown", need="one of " + ", ".join(BIASES))
        if bias == "batch_norm":
            return self.weights + sum(
                layer.biases if layer.kind == "dense" else 2 * layer.biases for layer in self.layers
            )
        return self.parameters if bias == "as_is" else self.weights

    @property
    def macs(self) -> int:
        """Nominal multiply-accumulates [MAC]."""
        return sum(layer.macs for layer in self.layers)

    @property
    def executed_macs(self) -> int:
        """Those whose tap lands inside [MAC]."""
        return sum(layer.executed_macs for layer in self.layers)

    def count_macs(self, convention: str) -> int:
        """Multiply-accumulates by the name of a convention, see :data:`CONVENTIONS` [MAC]."""
        return sum(layer.count_macs(convention) for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 FLOP for each nominal MAC [FLOP]."""
        return 2 * self.macs

    @property
    def activations(self) -> int:
        """Values that convolutions and dense layers write."""
        return sum(layer.activations for layer in self.layers if layer.weights)

    @property
    def bytes(self) -> int:
        """Bytes moved when no two steps are fused [bytes]."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity [FLOP/byte]."""
        return self.flops / self.bytes if self.bytes else 0.0

    def roofline_seconds(self, machine: Machine) -> float:
        """The sum over the layers [s]."""
        return sum(layer.roofline_seconds(machine) for layer in self.layers)


def count_executed(spec: Conv, shape: Sequence[int]) -> int:
    """Multiply-accumulates whose tap lands inside an input of ``shape`` [MAC].

    Formula:
        N C_out C_in / g times the product over the axes of the number of (output, tap) pairs that read an input; with a
        padding mode other than zeros every tap reads one.

    Example:
        >>> count_executed(Conv.of(1, 1, 3, dims=1, padding=1), (1, 1, 5))
        13
    """
    spec = spec.resolve(spec.check_input(shape))
    total = shape[0] * spec.out_channels * (spec.in_channels // spec.groups)
    if spec.padding_mode != "zeros":
        return total * math.prod(spec.output_shape(shape)[2:]) * math.prod(spec.kernel_size)
    for phases, size in zip(spec.phases(shape), shape[2:], strict=True):
        inside = 0
        for phase in phases:
            for _, offset in phase.taps:
                low, high = phase.inside(offset, size)
                inside += high - low
        total *= inside
    return total


def cost(x: Subject, shape: Sequence[int] | None = None, element: Element = FLOAT32) -> Cost:
    """What a layer, a chain or a network costs.

    Formula:
        macs: N O K (in / g) out, transposed N I K (in / g) out; executed_macs: without taps that land outside.
        bytes: size of an element times (inputs + weights + output), each once for each step.
        roofline_seconds(machine): max(2 macs / flops, bytes / bandwidth), summed over the steps.

    Example:
        >>> found = cost(Conv.of(64, 64, 3, padding=1, groups=64), (1, 64, 56, 56))
        >>> found.macs, found.executed_macs, found.weights, round(found.intensity, 2)
        (1806336, 1763584, 576, 2.25)

    Args:
        x: a `Conv`, a `Chain` (counted without biases) or a `Program`.
        shape: of the input, for a spec.
        element: what a spec is computed with; a program has its own.

    Raises:
        ShapeError: a spec without a shape, or one that does not fit.
    """
    program = as_program(x, shape, element)
    seen: set[int] = set()
    weights = biases = 0
    layers = []
    for index, step in enumerate(program.steps):
        layer = _layer(program, step, program.labels[index])
        layers.append(layer)
        w, b = weight_arrays(step)
        if id(w) not in seen:
            weights += layer.weights
        if id(b) not in seen:
            biases += layer.biases
        seen.update(id(array) for array in (w, b) if array is not None)
    return Cost(tuple(layers), weights, biases)


def _layer(program: Program, step: ProgramStep, name: str) -> LayerCost:
    names = list(dict.fromkeys(operands(step)))
    result = program.shapes[step.y]
    shape = program.shapes[names[0]] if names else result
    weights, biases = (0 if array is None else int(array.size) for array in weight_arrays(step))
    macs = (0, 0, 0, 0)
    kind, text = WORDS.get(type(step).__name__, ""), ""
    if isinstance(step, ConvStep):
        spec = step.spec
        kind, text = spec.label, spec.text(shape)
        macs = count_conv(spec, shape)
    elif isinstance(step, DenseStep | ProductStep):
        macs = (math.prod(result) * shape[-1],) * 4
    posts: Iterable[PostOp] = getattr(step, "post", ())
    size = program.element.bytes
    constants = sum(int(post.operand.size) for post in posts if isinstance(post.operand, np.ndarray))
    if isinstance(step, ConstantStep):
        constants = int(step.value.size)
    return LayerCost(
        name,
        kind,
        text,
        shape,
        result,
        weights,
        biases,
        *macs,
        activations=math.prod(result),
        bytes_read=size * sum(math.prod(program.shapes[item]) for item in names),
        bytes_written=0 if isinstance(step, ConstantStep) else size * math.prod(result),
        bytes_weights=size * (weights + biases + constants),
    )


def count_conv(spec: Conv, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Multiply-accumulates of one convolution: nominal, executed, by input and by output positions [MAC]."""
    each = shape[0] * math.prod(spec.weight_shape)
    by_input = each * math.prod(shape[2:])
    by_output = each * math.prod(spec.output_shape(shape)[2:])
    return by_input if spec.transposed else by_output, count_executed(spec, shape), by_input, by_output
