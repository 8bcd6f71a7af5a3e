"""`Target`, `Host` and `Level`: what the code generator needs to know of a processor."""

from __future__ import annotations

from dataclasses import replace

from omniconv.program.element import FLOAT32, Element
from omniconv.records import dataclass
from omniconv.target.traits import QuadUnit, Traits


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
        l1_bytes: first-level data cache, likewise [bytes].
        traits: what rules ask of it beside these sizes.
        element: what vectors are filled with.
        narrow: of one kernel, the numbers of the buffers whose numbers are kept as bfloat16.
    """

    name: str
    lanes: int
    registers: int
    fma: bool
    cpu: str
    features: str
    triple: str
    cache_bytes: int
    l1_bytes: int
    traits: Traits
    element: Element = FLOAT32
    narrow: tuple[int, ...] = ()

    def __hash__(self) -> int:
        """Of what machines differ in: caches ask for it at every turn."""
        return hash((self.name, self.features, self.lanes, self.element.name, self.narrow))

    def of(self, element: Element) -> Target:
        """The same machine with vectors of other elements."""
        return replace(self, element=element, lanes=self.lanes * self.element.bytes // element.bytes, narrow=())

    def keeping(self, narrow: tuple[int, ...]) -> Target:
        """The same machine for a kernel some of whose buffers keep bfloat16."""
        return self if narrow == self.narrow else replace(self, narrow=narrow)

    def __str__(self) -> str:
        fma = "FMA" if self.fma else "no FMA"
        return f"{self.name} ({self.cpu}, {self.lanes} lanes of {self.element}, {self.registers} registers, {fma})"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: what LLVM says of it, and the caches of one core, second and first level [bytes].

    ``features`` maps every known feature to whether the machine has it.
    """

    cpu: str
    features: tuple[tuple[str, bool], ...]
    triple: str
    cache_bytes: int = 2**20
    l1_bytes: int = 2**15

    @property
    def arch(self) -> str:
        """``x86-64``, ``aarch64``, or the first word of the triple."""
        return arch_of(self.triple)

    def has(self, needed: tuple[str, ...]) -> bool:
        """Whether the machine has every feature in ``needed``."""
        present = {name for name, value in self.features if value}
        return present.issuperset(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """An instruction set: its vectors and traits, and what a machine must have to run it.

    Attributes:
        name: what selects it.
        arch: the architecture.
        system: the rest of the triple, where the machine that compiles is another one.
        aliases: other names of it.
        lanes, registers, fma, cpu, features, cache_bytes, l1_bytes, traits: of the target.
        needs: features of the hosts that run it.
        native: features that a ``native`` target gets on top of those of its host.
        pair_sums: feature of hosts that multiply pairs of bfloat16, and LLVM's name for it.
        quad_sums: features of hosts that multiply quads of bytes, best first, and the instruction of each.
        models: traits of processors whose name begins with a word, where they differ: for ``native``.
    """

    name: str
    arch: str
    lanes: int
    registers: int
    fma: bool
    needs: tuple[str, ...]
    cpu: str
    features: str = ""
    cache_bytes: int = 2**19
    l1_bytes: int = 2**15
    traits: Traits
    aliases: tuple[str, ...] = ()
    system: str = "unknown-linux-gnu"
    native: tuple[str, ...] = ()
    pair_sums: tuple[str, str] | None = None
    quad_sums: tuple[tuple[str, QuadUnit], ...] = ()
    models: tuple[tuple[str, Traits], ...] = ()

    @property
    def triple(self) -> str:
        """LLVM's triple of a machine of this architecture that is not here."""
        return f"{self.arch.replace('-', '_')}-{self.system}"

    def target(self, triple: str) -> Target:
        """Exactly this instruction set, whatever machine it runs on."""
        return Target(
            self.name,
            self.lanes,
            self.registers,
            self.fma,
            self.cpu,
            self.features,
            triple,
            self.cache_bytes,
            self.l1_bytes,
            self.traits,
        )

    def native_target(self, host: Host) -> Target:
        """Everything that a host has whose best level this is."""
        features = [("+" if value else "-") + feature for feature, value in sorted(host.features)]
        traits = next((traits for word, traits in self.models if host.cpu.startswith(word)), self.traits)
        if self.pair_sums is not None and host.has(self.pair_sums[:1]):
            traits = replace(traits, pair_sums=self.pair_sums[1])
        traits = replace(
            traits, quad_sums=next((unit for feature, unit in self.quad_sums if host.has((feature,))), None)
        )
        return Target(
            "native",
            self.lanes,
            self.registers,
            self.fma,
            host.cpu,
            ",".join([*features, *self.native]),
            host.triple,
            host.cache_bytes,
            host.l1_bytes,
            traits,
        )


def arch_of(triple: str) -> str:
    """The architecture that a triple names: ``x86-64``, ``aarch64``, or its first word."""
    word = triple.split("-", 1)[0].lower()
    return {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}.get(word, word)
