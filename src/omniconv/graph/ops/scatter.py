"""ScatterElements, Scatter and ScatterND: a copy of the data with some entries replaced, or combined with others.

Where an index comes several times and nothing is combined, the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant
from omniconv.graph.operator import register
from omniconv.graph.ops.gather import Index, find_elements, find_slices

_COMBINE: Final[dict[str, np.ufunc | None]] = {
    "none": None,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _scatter(node: Node, x: AnyArray, places: Index, updates: AnyArray, budget: Budget) -> AnyArray:
    """``x`` read as rows, some of them replaced by the updates, or combined with them."""
    reduction = bytes(node.attributes.get("reduction", b"none")).decode("ascii", "replace")  # type: ignore[arg-type]
    if reduction not in _COMBINE:
        raise ModelError(f"reduction={reduction[:40]!r}", need="one of " + ", ".join(_COMBINE))
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    result = np.array(x, order="C")
    if not updates.size:
        return result
    rows, combine = result.reshape(-1, updates.size // places.size), _COMBINE[reduction]
    given = updates.reshape(places.size, -1)
    if combine is None:
        rows[places] = given
    elif np.unique(places).size == places.size:
        rows[places] = combine(rows[places], given)
    else:
        combine.at(rows, places, given)
    return result


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, updates = as_constant(arrays[0], "the input data"), as_constant(arrays[2], "the input updates")
    find, form = (
        (find_slices, "a slice of the data for each index")
        if node.op == "ScatterND"
        else (find_elements, "as the indices")
    )
    places, shape = find(node, arrays, budget)
    if updates.shape != shape:
        raise ModelError(f"updates of shape {updates.shape}", need=f"{shape}, {form}")
    return _scatter(node, x, places, updates, budget)


register("Scatter", fold=_fold, since=9, until=10)
register("ScatterElements", fold=_fold, since=11)
register("ScatterND", fold=_fold, since=11)
