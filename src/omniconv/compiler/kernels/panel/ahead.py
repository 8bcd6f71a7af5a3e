"""Asking for weights before their turn: what processors do not foresee themselves.

A panel of weights that comes from beyond the second-level cache is waited for by the first tile that it serves, at the
rate of memory; further tiles find it near. Asked for evenly, a part by each tile of the panel before, it is on its way
while they multiply. A tile that asks for all of the next panel gains nothing: it waits in the stead of the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.kernels.panel.tiles import SPAN
from omniconv.integers import ceil_div
from omniconv.open_size import is_open

if TYPE_CHECKING:
    from omniconv.compiler.kernels.panel.kernel import Panel

MOST_TURNS: Final = 64
"""Tiles of a panel beyond which the wait for its weights is little beside them."""


def count_turns(panel: Panel, k: Kernel) -> int:
    """Tiles of one phase that multiply by one panel in turn, each of which asks for a part of the next one: where the
    weights of panels lie one behind the other, and take more than half of the second-level cache. Else 0, also where
    tiles take turns at spans of inputs: those ask by themselves.
    """
    sizes = panel.batch, *(max(axis.counts) for axis in panel.axes), panel.inputs, panel.outputs
    if (
        panel.parted
        or panel.sweep
        or panel.tile.inner
        or panel.w_line
        or any(panel.w_strides)
        or any(map(is_open, sizes))
    ):
        return 0
    turns = panel.batch * max(panel.axes[0].counts) * max(panel.axes[1].counts) * panel.tiles
    size = panel.groups * panel.depth * panel.columns * _weight_bytes(panel, k)
    return turns if 1 < turns <= MOST_TURNS and size > k.target.cache_bytes // 2 else 0


def ask_next_panel(
    panel: Panel, k: Kernel, turns: int, turn: Index, weights: Pointer, first: Index, number: int, width: int
) -> None:
    """Ask for a part of the next panel beside ``number`` inputs from ``first`` on of a tile.

    Args:
        panel: the kernel.
        k: its code.
        turns, turn: see :func:`count_turns`; which of them the tile is.
        weights: of this panel, for one tap.
        first, number: inputs.
        width: weights of an input.
    """
    each = ceil_div(width, turns)
    at = k.add(panel.depth * width, k.mul(turn, ceil_div(panel.lines * width, turns)))
    at = k.add(at, k.mul(first, each))
    for index in range(0, number * each, _count_line(k, _weight_bytes(panel, k))):
        k.prefetch(weights, k.add(at, index), level=2)


def ask_next_span(panel: Panel, k: Kernel, weights: Pointer, first: Index, number: Index, width: int) -> None:
    """Ask for the share of one tile of a unit in the weights of the next span of inputs, which all of them read.

    Args:
        panel: the kernel, whose tiles take turns.
        k: its code.
        weights: of this panel.
        first: input of the span at hand.
        number: of the tile in its unit.
        width: weights of an input.
    """
    line = _count_line(k, k.element.bytes)
    share = ceil_div(SPAN * width // line, panel.tile.block)
    with k.loop(share) as each:
        ahead = k.mul(k.add(k.mul(number, share), each), line)
        k.prefetch(weights, k.add(k.mul(k.add(first, SPAN), width), ahead))


def ask_next_matrix(panel: Panel, k: Kernel, weights: Pointer, place: Sequence[Index], part: Index, parts: int) -> None:
    """Ask for a part of the weights that the next matrix of a product has: its rows lie too far apart for the
    processor to foresee them. Behind the last matrix that asks for nothing that is used.
    """
    next_matrix = next((stride for stride in reversed(panel.w_strides) if stride), 0)
    if not next_matrix:
        return
    line = _count_line(k, k.element.bytes)
    count = ceil_div(ceil_div(panel.depth * (panel.w_line or panel.columns), line), parts)
    first = k.add(next_matrix, k.mul(part, count * line))
    for position, stride in zip(place, panel.w_strides, strict=True):
        first = k.add(first, k.mul(position, stride))
    for index in range(count):
        k.prefetch(weights, k.add(first, index * line))


def _count_line(k: Kernel, size: int) -> int:
    """Elements of so many bytes in a cache line."""
    return k.target.traits.line_bytes // size


def _weight_bytes(panel: Panel, k: Kernel) -> int:
    return 2 if panel.pairs else k.element.bytes
