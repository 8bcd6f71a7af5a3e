"""`Traits`: what machines with an instruction set do well, and what their instructions cost.

No rule of the compiler asks for a number of lanes or registers where it means something else: it asks one of these,
which every instruction set states in a file of its own, each with a word on where it comes from.
"""

from __future__ import annotations

from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelCosts:
    r"""What a step of the panel kernel costs, in multiply-adds of whole vectors.

    A step is one input channel and tap of a tile of r positions by v vectors of output channels:

    .. math:: \max(r v,\; p\,l,\; s) + \text{load}\,l + \text{row}\,r + \text{step}
        + \text{crowd} \max(0, r - \text{easy})

    with :math:`l = \text{broadcast}\,r + v` loads, p multiply-adds in the time of a load where loads are counted, and
    s sums in flight. Then there are ``far`` for each vector whose weights come from the second-level cache,
    ``border / inputs`` for each row at the border, and ``store`` for each sum and ``start`` for each tile, divided by
    its number of steps.

    Attributes:
        broadcast: one number read into all lanes, in loads of a vector.
        counts_loads: whether the loads may be what takes longest.
        load, row, step: what a load, the address of a row and the loop add.
        easy, crowd: rows whose broadcasts and addresses find a register in time, and what each further one adds.
        far, border, store, start: see above.
    """

    broadcast: float
    counts_loads: bool
    load: float
    row: float
    step: float
    easy: int
    crowd: float
    far: float
    border: float
    store: float
    start: float


@dataclass(frozen=True, slots=True)
class WordUnits:
    """LLVM's names of instructions on whole vectors of 16-bit integers; an empty one is written out in others.

    Attributes:
        pairs: products of neighbours, added: 32 bits from two times 16.
        pack: 32 bits to 16, saturated; each group of four of one vector is followed by that of the other.
        round: float32 to 32 bits, halves to even.
        lookup: bytes of a table of 16, repeated through the vector, by the lower four bits of other bytes; 0 for those
            whose highest bit is set.
        quads: products of unsigned and signed bytes that are neighbours, added: 16 bits, saturated.
        scaled: products of words, divided by 2**15 and rounded, halves up.
        narrow: 16 bits to unsigned bytes, saturated; each group of eight of one vector is followed by that of another.
    """

    pairs: str = ""
    pack: str = ""
    round: str = ""
    lookup: str = ""
    quads: str = ""
    scaled: str = ""
    narrow: str = ""


@dataclass(frozen=True, slots=True)
class QuadUnit:
    """An instruction that adds the products of four bytes and four others to each sum of 32 bits, without limit.

    Attributes:
        name: LLVM's intrinsic for whole vectors.
        signed: whether the first four are signed, as the others are; else they are not.
        packed: whether LLVM takes four bytes as one integer of 32 bits.
    """

    name: str
    signed: bool = False
    packed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What the rules of the compiler ask of a machine.

    Attributes:
        fma_per_cycle: multiply-adds of whole vectors that start in a cycle.
        fma_latency: time from a sum to the next one that needs it [cycles].
        loads_per_cycle: loads of whole vectors that start in a cycle.
        masked_store_cheap: whether a store under a mask is one quick instruction.
        permutes_cross_halves: whether a permutation across the two halves of a vector is as quick as one inside them.
        keeps_weights: whether there are registers for the weights of several taps and inputs beside the sums of a lane
            kernel; without, it serves one input of a group at a time.
        second_level_keeps_up: whether the second-level cache feeds a lane kernel as fast as that multiplies.
        stencil_sums: sums of a tile of the stencil, at most.
        row_sums: sums below which a row of outputs waits for the one before.
        series_sums: sums below which a tile of the series kernel does.
        gathers_loads: whether LLVM reads inputs ahead of their multiply-adds, so that those of all rows of a step of
            the panel kernel, and of some pixels of a lane kernel, take registers.
        half_vector: time of an operation on half a vector, in those on whole ones.
        transform: time of an addition or a move in the transforms of Winograd filtering [half cycles].
        panel: costs of the panel kernel.
        line_bytes: cache line [bytes].
        vector_letter: LLVM's letter for a vector register in inline assembly; empty where that is not known.
        words: instructions for integers.
        pair_sums: LLVM's intrinsic that adds the products of pairs of bfloat16 to float32, with a place for the bits of
            a vector; empty where the machine has none.
        quad_sums: the instruction that multiplies quads of bytes exactly; ``None`` where the machine has none.
        relaxed_madd: LLVM's intrinsic for a multiply-add of whole vectors that rounds once or twice as the machine
            likes; empty where there is none.
        pause: LLVM's intrinsic for one turn of a wait, and its argument if it has one; ``None`` where there is none.
    """

    fma_per_cycle: int
    fma_latency: int
    loads_per_cycle: int
    masked_store_cheap: bool
    permutes_cross_halves: bool
    keeps_weights: bool
    second_level_keeps_up: bool
    stencil_sums: int
    row_sums: int
    series_sums: int
    gathers_loads: bool
    half_vector: float
    transform: float
    panel: PanelCosts
    line_bytes: int
    vector_letter: str
    pause: tuple[str, int | None] | None
    pair_sums: str = ""
    quad_sums: QuadUnit | None = None
    relaxed_madd: str = ""
    words: WordUnits = WordUnits()

    @property
    def sums_in_flight(self) -> int:
        """Sums that are begun before the first of them is done, where the multipliers are busy."""
        return self.fma_per_cycle * self.fma_latency

    @property
    def fmas_per_load(self) -> float:
        """Multiply-adds in the time of a load."""
        return self.fma_per_cycle / self.loads_per_cycle
