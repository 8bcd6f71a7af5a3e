"""The passes, one file each. `fix_shapes` and `fold_constants` run while a graph is read; the others rewrite a program.

Every pass keeps the values of all outputs (up to one rounding of folded weights), and its file says when it must
not fire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from omniconv.program.passes.attach_epilogues import attach_epilogues
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.passes.fold_affine import fold_affine
from omniconv.program.passes.fold_pads import fold_pads
from omniconv.program.passes.merge_affine import merge_affine
from omniconv.program.passes.recognise_activations import recognise_activations
from omniconv.program.passes.recognise_channel_moves import recognise_channel_moves
from omniconv.program.program import Program

PASSES: Final[tuple[Callable[[Program], Program], ...]] = (
    drop_dead,
    recognise_activations,
    recognise_channel_moves,
    fold_pads,
    fold_affine,
    attach_epilogues,
    merge_affine,
    recognise_channel_moves,
)
"""The program passes in order. Moves are looked at again because a step without operations may be left over."""


def run_passes(program: Program) -> Program:
    """Run all program passes."""
    for run in PASSES:
        program = run(program)
    return program
