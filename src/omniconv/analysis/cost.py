r"""Cost: parameters, multiply-accumulates, bytes, arithmetic intensity, roofline time; by layer and in total.

A convolution of any kind with output positions :math:`O`, input positions :math:`I` and taps :math:`K` does

.. math:: N \, O \, K \, \frac{C_{in}}{g} C_{out} \quad [\mathrm{MAC}]

nominally; a transposed one meets each input with each tap, so there the nominal figure has :math:`I` in place of
:math:`O`. Published tables differ on that, so both are given by name (:data:`CONVENTIONS`). Executed ones are only
those whose tap lands inside the input, counted from the phases in integers. 1 MAC = 2 FLOP, always.

Minimal filtering does fewer multiplications than there are multiply-accumulates. How many only a plan knows: of what is
compiled they are given beside, and the roofline is by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, as_program
from omniconv.errors import SpecError
from omniconv.program.element import Element
from omniconv.program.layers import describe_step
from omniconv.program.program import Program
from omniconv.program.steps import Work
from omniconv.records import dataclass
from omniconv.spec import Shape

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
                f"a machine of {self.flops} FLOP/s and {self.bandwidth} bytes/s",
                need="positive rates",
                fix="Machine(flops=100e9, bandwidth=20e9)",
            )


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
        filtered: multiplications that minimal filtering leaves; ``None`` of a direct sum, or where nothing is compiled.
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
    filtered: int | None = None

    @property
    def multiplications(self) -> int:
        """Those done: what filtering leaves, or one for each nominal multiply-accumulate."""
        return self.macs if self.filtered is None else self.filtered

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
        """The least time: arithmetic or memory, whichever takes longer, of the multiplications done [s]."""
        return max(2 * self.multiplications / machine.flops, self.bytes / machine.bandwidth)

    def bound(self, machine: Machine) -> str:
        """``"compute"`` or ``"memory"``."""
        return "compute" if 2 * self.multiplications / machine.flops >= self.bytes / machine.bandwidth else "memory"


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

    @property
    def multiplications(self) -> int:
        """Those done, fewer than MACs where compiled layers are filtered."""
        return sum(layer.multiplications for layer in self.layers)

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


def cost(
    x: Subject,
    shape: Sequence[int] | None = None,
    element: Element | None = None,
    filtered: Mapping[int, int] | None = None,
) -> Cost:
    """What a layer, a chain or a network costs.

    Formula:
        macs: N O K (in / g) out, transposed N I K (in / g) out; executed_macs: without taps that land outside.
        bytes: size of an element times (inputs + weights + output), each once for each step.
        roofline_seconds(machine): max(2 multiplications / flops, bytes / bandwidth), summed over the steps.

    Example:
        >>> from omniconv.spec import Conv
        >>> found = cost(Conv.of(64, 64, 3, padding=1, groups=64), (1, 64, 56, 56))
        >>> found.macs, found.executed_macs, found.weights, round(found.intensity, 2)
        (1806336, 1763584, 576, 2.25)

    Args:
        x: a `Conv`, a `Chain` (counted without biases) or a `Program`.
        shape: of the input, for a spec.
        element: what a spec is computed with; default float32. A program has its own.
        filtered: multiplications that a plan of the program does for steps that it filters, by their index.

    Raises:
        SpecError: a program with another element than its own.
        ShapeError: a spec without a shape, or one that does not fit.
    """
    program = as_program(x, shape, element)
    seen: set[int] = set()
    weights = biases = 0
    layers = []
    for index, step in enumerate(program.steps):
        work = step.work(program.shapes)
        layers.append(_layer(program, index, work, (filtered or {}).get(index)))
        weights += work.weights if id(work.w) not in seen else 0
        biases += work.biases if id(work.b) not in seen else 0
        seen.update((id(work.w), id(work.b)))
    return Cost(tuple(layers), weights, biases)


def _layer(program: Program, index: int, work: Work, filtered: int | None) -> LayerCost:
    info, step = describe_step(program, index), program.steps[index]
    read = sum(math.prod(program.shapes[item]) for item in set(step.reads))
    written = math.prod(info.output_shape)
    size = program.element.bytes
    return LayerCost(
        info.name,
        info.kind,
        info.text,
        info.input_shape,
        info.output_shape,
        work.weights,
        work.biases,
        work.macs,
        work.executed,
        work.by_input,
        work.by_output,
        activations=written,
        bytes_read=size * read,
        bytes_written=size * written if step.reads else 0,
        bytes_weights=size * (work.parameters + work.constants),
        filtered=filtered,
    )
