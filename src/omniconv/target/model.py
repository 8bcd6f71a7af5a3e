"""`Target`, `Host` and `Level`: what the code generator needs to know of a processor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from omniconv.program.element import FLOAT32, Element


@dataclass(frozen=True, slots=True)
class Target:
    """What the code generator needs to know of a processor.

    Attributes:
        name: the name that selects it: ``native``, ``generic`` or a level.
        lanes: elements in one vector.
        registers: vector registers.
        fma: whether a fused multiply-add is one instruction.
        cpu: LLVM's name of the processor.
        features: LLVM's feature string, such as ``+avx2,-avx512f``.
        triple: LLVM's target triple.
        cache_bytes: second-level cache of one core: the host's for ``native``, a fixed size for a level, so that code
            for a level does not depend on the machine [bytes].
        element: what vectors are filled with.
    """

    name: str
    lanes: int
    registers: int
    fma: bool
    cpu: str
    features: str
    triple: str
    cache_bytes: int
    element: Element = FLOAT32

    def of(self, element: Element) -> Target:
        """The same machine with vectors of other elements."""
        return replace(self, element=element, lanes=self.lanes * self.element.bytes // element.bytes)

    def __str__(self) -> str:
        fma = "FMA" if self.fma else "no FMA"
        return f"{self.name} ({self.cpu}, {self.lanes} lanes of {self.element}, {self.registers} registers, {fma})"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: what LLVM says of it, and the second-level cache of one core [bytes].

    ``features`` maps every known feature to whether the machine has it.
    """

    cpu: str
    features: tuple[tuple[str, bool], ...]
    triple: str
    cache_bytes: int = 2**20

    @property
    def arch(self) -> str:
        """``x86-64``, ``aarch64``, or the first word of the triple."""
        word = self.triple.split("-", 1)[0].lower()
        return {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}.get(word, word)

    def has(self, needed: tuple[str, ...]) -> bool:
        """Whether the machine has every feature in ``needed``."""
        present = {name for name, value in self.features if value}
        return present.issuperset(needed)


@dataclass(frozen=True, slots=True)
class Level:
    """One row of :data:`LEVELS`: the vector shape of an instruction set and what a machine must have to run it."""

    name: str
    arch: str
    lanes: int
    registers: int
    fma: bool
    needs: tuple[str, ...]
    cpu: str
    features: str = ""
    cache_bytes: int = 2**19
