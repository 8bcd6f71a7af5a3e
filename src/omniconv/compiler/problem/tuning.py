"""`Tuning`: choices that were measured, to be used in place of those that the model of costs makes.

Problems and choices are plain text, the same in memory, on disk and in `explain`. A choice is never taken apart: it is
used if it is, to the letter, one of those that the families list for the problem itself, and ignored otherwise. So
whatever a file says, only tiles that the compiler would have made come out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from omniconv.compiler.problem.problem import Problem
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices for one target: text of a problem -> text of a tile of some family."""

    target: Target
    choices: Mapping[str, str] = field(default_factory=dict)

    def find(self, problem: Problem) -> str | None:
        """The choice for a problem; ``None`` where there is none."""
        return self.choices.get(problem.text()) if self.choices else None
