"""The phases of an axis on the machine: constants where all are alike, else rows of a table."""

from __future__ import annotations

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class PhaseValues:
    """One phase on the machine: values are integers where the axis is static."""

    start: Index
    first: Index
    k0: Index
    taps: Index
    count: Index


class PhaseTables:
    """The constant tables of one axis inside a kernel."""

    def __init__(self, k: Kernel, walk: AxisWalk) -> None:
        self.k, self.walk = k, walk
        self._tables: dict[str, Pointer] = {}
        if not walk.static:
            for name in ("first", "k0", "taps", "counts"):
                values: tuple[int, ...] = getattr(walk, name)
                if len(set(values)) > 1:
                    self._tables[name] = k.table(list(values))

    def _value(self, name: str, phase: Index) -> Index:
        if name in self._tables:
            return self.k.lookup(self._tables[name], phase)
        values: tuple[int, ...] = getattr(self.walk, name)
        return values[0]

    def phase(self, phase: Index) -> PhaseValues:
        """The numbers of one phase."""
        return PhaseValues(phase, *(self._value(name, phase) for name in ("first", "k0", "taps", "counts")))

    def at(self, output: Index) -> tuple[PhaseValues, Index]:
        """The phase of an output position and its index q within the phase."""
        if self.walk.static:
            return self.phase(0), output
        q, phase = self.k.divmod(output, self.walk.out_step)
        return self.phase(phase), q

    def by_phase(self, index: Index) -> Index:
        """The output position at an index of an order in which those of a phase follow one another, so that what they
        read of the weights stays near; phases that have unequally many keep the order of positions.
        """
        walk = self.walk
        if walk.static or len(set(walk.counts)) > 1:
            return index
        phase, q = self.k.divmod(index, walk.counts[0])
        return self.k.add(self.k.mul(q, walk.out_step), phase)
