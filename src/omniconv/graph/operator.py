"""`Operator`: how one ONNX operator is lowered or folded; each file of :mod:`omniconv.graph.ops` registers its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref
from omniconv.records import dataclass

Lower: TypeAlias = Callable[[Node, Operands, Builder], Operand | Sequence[Operand]]
Fold: TypeAlias = Callable[[Node, Sequence[AnyArray | None], Budget], AnyArray | Sequence[AnyArray]]


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator becomes steps, and how it is evaluated where all its inputs are constants.

    Attributes:
        name: ONNX's name.
        lower: appends steps and returns the outputs; ``None`` where the operator is only ever folded.
        fold: evaluates it in NumPy; ``None`` where it is not folded.
        since, until: first and last opset version handled; ``until=None`` for no end.
        domain: ``""`` for ONNX's own.
        open_sizes: whether ``lower`` serves values whose sizes are open: it keeps them so, and makes no array of them.
        truths: whether ``lower`` knows that a computed value may be a truth, 0 or 1 in the program and boolean to ONNX.
    """

    name: str
    lower: Lower | None = None
    fold: Fold | None = None
    since: int = 1
    until: int | None = None
    domain: str = ""
    truths: bool = False
    open_sizes: bool = False

    def check_truths(self, operands: Operands) -> None:
        """Check that the operator takes truths where it is given one.

        Raises:
            UnsupportedError: it would take 0 and 1 for numbers.
        """
        if not self.truths and any(isinstance(item, Ref) and item.truth for item in operands):
            raise UnsupportedError(f"{self.name} of booleans", need="numbers", fix="a Cast to float before it")


OPERATORS: Final[dict[tuple[str, str], Operator]] = {}


def register(
    name: str,
    *,
    lower: Lower | None = None,
    fold: Fold | None = None,
    since: int = 1,
    until: int | None = None,
    domain: str = "",
    truths: bool = False,
    open_sizes: bool = False,
) -> None:
    """Add an operator to the registry; called once for each operator when its file is imported."""
    assert (domain, name) not in OPERATORS, f"{name} is registered twice"
    OPERATORS[domain, name] = Operator(name, lower, fold, since, until, domain, truths, open_sizes)
