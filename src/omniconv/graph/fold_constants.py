"""Pass: evaluate nodes whose inputs are all constants, while lowering.

It must not fire on: nodes that read a computed value, operators without a NumPy evaluation (a Conv of constants is
computed at every call, not by minutes of NumPy), and results above the memory limit, which are refused before they are
allocated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operator import Fold


def fold_node(fold: Fold, node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> Sequence[AnyArray]:
    """The outputs of one node, each an array: NumPy gives a scalar where every input has rank 0.

    Raises:
        LimitError: a result above the memory limit.
        ModelError, ShapeError: inputs that the operator forbids.
    """
    with np.errstate(all="ignore"):
        result = fold(node, arrays, budget)
    return [np.asarray(item) for item in (result if isinstance(result, Sequence) else (result,))]
