"""The passes over a program, one file each; what a graph goes through before stands in :mod:`omniconv.graph`.

Every pass keeps the values of all outputs for every input, infinities and NaN among them: to the bit, or within a bound
that its file states beside when it must not fire. All that a pass may change freely is the sign of a zero, and whether
an intermediate value beyond the program's element becomes infinite on the way to a result that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from omniconv.program.passes.attach_epilogues import attach_epilogues
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.passes.fold_affine import fold_affine
from omniconv.program.passes.fold_pads import fold_pads
from omniconv.program.passes.join_quantised import join_quantised
from omniconv.program.passes.join_standardised import join_standardised
from omniconv.program.passes.merge_affine import merge_affine
from omniconv.program.passes.merge_clamps import merge_clamps
from omniconv.program.passes.recognise_activations import recognise_activations
from omniconv.program.passes.recognise_channel_moves import recognise_channel_moves
from omniconv.program.passes.tabulate_quantised import tabulate_quantised
from omniconv.program.program import Program

PASSES: Final[tuple[Callable[[Program], Program], ...]] = (
    drop_dead,
    recognise_activations,
    recognise_channel_moves,
    join_quantised,
    tabulate_quantised,
    fold_pads,
    fold_affine,
    join_standardised,
    attach_epilogues,
    merge_affine,
    merge_clamps,
    recognise_channel_moves,
)
"""The program passes in order. Moves are looked at again because a step without operations may be left over."""


def run_passes(program: Program) -> Program:
    """Run all program passes."""
    for run in PASSES:
        program = run(program)
    return program
