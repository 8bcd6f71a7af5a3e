"""`Shared`: what the plans of one network for images of different sizes have in common.

A network whose sizes are open is planned anew for every size, which takes milliseconds. What takes seconds is done
once:

- *Machine code.* Kernels read the sizes of images when they run (:mod:`omniconv.open_size`).
- *Tiles.* A tile is code of its own, so a size keeps to the tiles of those before it where they cost it little. That
  changes no sum: tiles of a kernel differ in what they compute at once, never in its order.
- *Weights.* They are packed for tiles, not for images.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import field, fields, replace
from typing import Any, Final, Generic, TypeVar
from weakref import ReferenceType, WeakValueDictionary, ref

import numpy as np

from omniconv.compiler.code.build import LoadedKernel, Source, begin
from omniconv.compiler.code.cache import CodeStore, open_cache
from omniconv.compiler.code.opened import Opened, OpenKernel, OpenKernels
from omniconv.compiler.lowering.family import Choice
from omniconv.compiler.memory.planner import Call, Recipe
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.compiler.problem.candidate import Tile, find_cheapest
from omniconv.forks import own_locks
from omniconv.program.bfloat16 import is_bfloat16
from omniconv.program.program import Program
from omniconv.program.steps import Array, ProgramStep
from omniconv.records import dataclass
from omniconv.spec import Conv
from omniconv.target.model import Target

T = TypeVar("T")
MOST_COST: Final = 1.5
"""Times the cost of the tile that a size would take by itself, at most, for one that there is code for."""
MOST_ELSEWHERE: Final = 1.2
"""Times the cost of the cheapest of its list, at most, for a tile of another kernel that there is code for."""
LITTLE: Final = 1.05
"""The same for a tile of a form that a plan with open sizes has, though there is code for a better one."""
MOST_KERNELS: Final = 1024
"""Kernels whose machine code is kept for sizes to come."""


class _OfArrays(Generic[T]):
    """What a function says of arrays, worked out once while an array lives: programs of one network for images of
    different sizes have the same ones.
    """

    def __init__(self, function: Callable[[Array], T]) -> None:
        self._function = function
        self._found: dict[int, tuple[ReferenceType[Array], T]] = {}

    def __call__(self, array: Array) -> T:
        number = id(array)
        known = self._found.get(number)
        if known is not None and known[0]() is array:
            return known[1]
        said = self._function(array)
        self._found[number] = ref(array, lambda _: self._found.pop(number, None)), said
        return said


def hash_array(array: Array) -> bytes:
    """Type, shape and elements of an array."""
    state = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(array).data)
    return state.digest()


def _hash_step(step: ProgramStep, hash_of: Callable[[Array], bytes]) -> bytes:
    """What the arrays of a step hold, and all that is said of how they are numbered."""
    state = hashlib.blake2b(type(step).__name__.encode(), digest_size=16)
    for each in fields(step):
        value = getattr(step, each.name)
        if isinstance(value, np.ndarray):
            state.update(each.name.encode() + hash_of(value))
        elif isinstance(value, Conv):
            state.update(repr((value.groups, value.transposed, value.flip, value.in_channels)).encode())
    return state.digest()


@dataclass(slots=True, weakref_slot=True, eq=False)
class Shared:
    """The state that plans of one network share. Thread-safe.

    Attributes:
        packed: packed weights: what identifies them -> whatever the runtime keeps of them, while some size uses it.
        store: where machine code is looked for and filed; ``None`` for the cache on disk.
        is_exact: whether bfloat16 has all numbers of an array.
    """

    packed: WeakValueDictionary[Hashable, Any] = field(default_factory=WeakValueDictionary)
    store: CodeStore | None = None
    lock: threading.RLock = field(init=False)
    _code: OrderedDict[str, LoadedKernel] = field(default_factory=OrderedDict)
    _kernels: OpenKernels = field(default_factory=OpenKernels)
    _known: dict[tuple[int, str], dict[str, Tile]] = field(default_factory=dict)
    is_exact: Callable[[Array], bool] = field(default_factory=lambda: _OfArrays(is_bfloat16))
    _made: Callable[[Array], dict[Hashable, Any]] = field(default_factory=lambda: _OfArrays(lambda _: {}))
    _hash: Callable[[Array], bytes] = field(default_factory=lambda: _OfArrays(hash_array))

    def __post_init__(self) -> None:
        own_locks(self)

    def forget_locks(self) -> None:
        """Begin with a lock that nobody holds: at first, and in the child of a fork."""
        self.lock = threading.RLock()

    def keep(self, kernels: Iterable[LoadedKernel]) -> None:
        """Keep machine code for sizes to come: of the kernels used last, :data:`MOST_KERNELS`."""
        with self.lock:
            for kernel in kernels:
                self._code[kernel.digest] = kernel
                self._code.move_to_end(kernel.digest)
            while len(self._code) > MOST_KERNELS:
                self._code.popitem(last=False)

    @property
    def code(self) -> list[LoadedKernel]:
        """The machine code that is kept."""
        with self.lock:
            return list(self._code.values())

    def settle(self, step: int, choice: Choice[Tile], target: Target) -> Choice[Tile]:
        """The choice for a step, with a tile that there is code for where that costs little more.

        A measured choice is kept.
        """
        if choice.tuned:
            return choice
        with self.lock:
            known = self._known.setdefault((step, choice.family.name), {})
            settle = choice.family.settle
            tile = settle(choice.tile, tuple(known.values())) if settle else _settle(choice, known, target)
            known.setdefault(tile.form(), tile)
        return choice if tile is choice.tile else replace(choice, tile=tile)

    def agree(self, step: int, own: Choice[Tile], other: Choice[Tile], target: Target) -> Choice[Tile] | None:
        """The choice for a step with a tile of the form of another one, if that costs little more: hardly more, where
        there is code for its own. A filtered layer keeps its own form.
        """
        family, form = own.family, other.tile.form()
        if family is not other.family:
            return None
        if family.settle:
            return self.settle(step, own, target)
        if own.tile.form() == form:
            return own
        if own.tuned:
            return None
        with self.lock:
            has_code = own.tile.form() in self._known.get((step, family.name), {})
        tile = _find_form(own, {form}, target, LITTLE if has_code else MOST_COST)
        return None if tile is None else replace(own, tile=tile)

    def of_array(self, array: Array, way: Hashable, make: Callable[[], T]) -> T:
        """What is made of an array in a way that says all else it depends on, once while the array lives."""
        with self.lock:
            made = self._made(array)
            if way not in made:
                made[way] = make()
            found: T = made[way]
        return found

    def name_packed(self, calls: Iterable[Call], buffers: Sequence[Buffer], program: Program, first: int = 0) -> None:
        """Have each buffer of packed weights, but for those before ``first``, say all that its content depends on: the
        numbers of its step, and how they are packed.

        Steps are known by their numbers: programs for images of different sizes may have other steps, and make weights
        of their own.
        """
        named: set[int] = set()
        digests: dict[int, bytes] = {}
        for call in calls:
            for place in call.args:
                buffer = buffers[place.buffer]
                if buffer.packed is not None and place.buffer >= first and place.buffer not in named:
                    if call.step not in digests:
                        with self.lock:
                            digests[call.step] = _hash_step(program.steps[call.step], self._hash)
                    buffer.packed = digests[call.step], buffer.packed, buffer.size
                    named.add(place.buffer)

    def open_recipe(self, call: Call, recipe: Recipe, target: Target) -> Opened | None:
        """The kernel of a call with a recipe, which reads its sizes when it runs; ``None`` where it has none.

        A thread begins to compile one that is new.
        """
        machine = target.keeping(call.narrow)
        with self.lock:
            opened = self._kernels.find(recipe, len(call.args), machine)
        if opened is not None and opened.fresh:
            begin(Source.of(opened.kernel, call.what, machine), target, cache=self.store or open_cache())
        return opened

    def open(self, calls: Sequence[Call], buffers: list[Buffer], target: Target) -> tuple[Call, ...]:
        """The calls with kernels that read their sizes when they run, which a new buffer holds.

        A thread begins to compile those that are new.
        """
        sizes: list[int] = []
        table, words = len(buffers), 8 // target.element.bytes
        found: list[Call] = []
        # A layer in slabs is many calls of one recipe, and like layers have equal ones; to compare these takes longer.
        same: dict[tuple[int, int, str, tuple[int, ...]], tuple[OpenKernel, int] | None] = {}
        equal: dict[tuple[Recipe, int, str, tuple[int, ...]], tuple[OpenKernel, int] | None] = {}
        with self.lock:
            for call in calls:
                if call.fixed:
                    found.append(call)
                    continue
                at = len(call.args)
                known = id(call.recipe), at, call.what, call.narrow
                if known not in same:
                    key = call.recipe, *known[1:]
                    if key not in equal:
                        opened = self.open_recipe(call, call.recipe, target)
                        equal[key] = None if opened is None else (opened.kernel, len(sizes))
                        if opened is not None:
                            sizes += opened.sizes
                    same[known] = equal[key]
                kernel = same[known]
                found.append(call if kernel is None else call.open(kernel[0], BufferRef(table, words * kernel[1])))
        buffers.append(Buffer("constant", 8 * len(sizes), make=lambda: np.asarray(sizes, np.int64)))
        return tuple(found)


def _settle(choice: Choice[Tile], forms: Collection[str], target: Target) -> Tile:
    """Its tile, if that has a known form, or one that has, if there is one that costs little more."""
    return choice.tile if choice.tile.form() in forms else _find_form(choice, forms, target, MOST_COST) or choice.tile


def _find_form(choice: Choice[Tile], forms: Collection[str], target: Target, most: float) -> Tile | None:
    """The cheapest tile of the list of its own that has one of these forms, if it costs so many times as much at most;
    else one of another list of the family, where both kernels add in the same order.
    """
    others: list[Tile] = []
    for tiles in choice.family.tiles(choice.problem, target):
        candidates = list(tiles)
        best = find_cheapest(each for each in candidates if each.tile.form() in forms)
        own = next((each.cost for each in candidates if each.tile == choice.tile), None)
        least = find_cheapest(candidates)
        if best is None or least is None:
            continue
        if own is not None and best.cost <= most * own:
            return best.tile
        if own is None and best.cost <= min(most, MOST_ELSEWHERE) * least.cost and choice.problem.static:
            others.append(best.tile)
    return others[0] if others else None
