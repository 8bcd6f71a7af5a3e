"""How many nodes of a model belong to which tier."""

from __future__ import annotations

from typing import Final

from omniconv.integers import say_count
from omniconv.records import dataclass

WITHOUT_STRICT: Final = "strict=False, with which it runs on the host"
"""A way out for what is refused only because it is not compiled."""


@dataclass(slots=True)
class Tiers:
    """Nodes by tier. Branches and bodies that run on the host count as the one node that they belong to.

    Attributes:
        compiled: nodes whose results are computed by machine code; some are part of another's.
        folded: nodes that depend on constants and shapes only, and need no step.
        host: nodes that run in NumPy.
        waiting: nodes behind values whose shapes depend on values: they are compiled, folded or left to the host when
            those are known.
        stretches: runs of compiled nodes, with steps on the host between them.
    """

    compiled: int = 0
    folded: int = 0
    host: int = 0
    waiting: int = 0
    stretches: int = 0

    def count(self, *, folded: bool) -> None:
        """Count a node that is not left to the host."""
        if folded:
            self.folded += 1
        else:
            self.compiled += 1
            self.stretches = 1

    def __str__(self) -> str:
        many = f" in {self.stretches} stretches" if self.stretches > 1 else ""
        compiled = f"{say_count(self.compiled, 'node')} compiled{many}"
        parts = [compiled, f"{self.folded} folded", f"{self.host} on the host"]
        return ", ".join(parts + ([f"{self.waiting} waiting for shapes"] if self.waiting else []))
