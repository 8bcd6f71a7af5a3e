"""Pass: remove steps that no output depends on.

It must not fire on: steps whose value is an output, even an unread one.
"""

from __future__ import annotations

from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels


def drop_dead(program: Program) -> Program:
    """The program without dead steps."""
    wanted = set(program.outputs)
    kept: list[Item] = []
    for step, label in reversed(list(with_labels(program))):
        if step.y in wanted:
            wanted.update(step.reads)
            kept.append((step, label))
    return rebuild(program, reversed(kept))
