"""`OpenPlans`: the plans of one network, made with open sizes where several sizes ask the same of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from omniconv.compiler.planning.open_plan import OpenPlan
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, open_planner, plan
from omniconv.compiler.planning.shared import Shared
from omniconv.forks import own_locks
from omniconv.program.open_program import OpenOrigin, OpenProgram
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.target.model import Target

MOST_VARIANTS: Final = 8
"""Plans that are kept of one program. Sizes for which none of these is right are planned by themselves from then on."""
PATIENCE: Final = 2
"""Sizes that are planned by themselves for each plan with open sizes that is begun: a network that sees one size never
pays for one.
"""


@dataclass(slots=True)
class _PlansOfProgram:
    """What is known of one program.

    Attributes:
        missed: how many sizes no plan was right for.
        variants: plans with open sizes, the one used last in front; ``None`` where there can be none.
        busy: whether one is being made.
    """

    missed: int = 0
    variants: tuple[OpenPlan, ...] | None = ()
    busy: bool = False


class OpenPlans:
    """The plans of one network. Thread-safe.

    Args:
        shared: what all of them have in common.
        beside: has a function called that nobody waits for, and says whether it will be. Plans with open sizes are made
            so, since each takes as long as some sizes by themselves; no bit depends on when one is there.
    """

    def __init__(self, shared: Shared, beside: Callable[[Callable[[], object]], bool]) -> None:
        self._shared, self._beside = shared, beside
        self._known: WeakKeyDictionary[OpenProgram, dict[int, _PlansOfProgram]] = WeakKeyDictionary()
        own_locks(self)

    def forget_locks(self) -> None:
        """Nothing is being made: at first, and in the child of a fork, where the thread is gone."""
        for plans in self._known.values():
            for known in plans.values():
                known.busy = False

    def find(self, program: Program, origin: OpenOrigin, target: Target, options: Options) -> Plan:
        """The plan of a program; see :func:`omniconv.compiler.planning.plan.plan`.

        The first sizes are planned by themselves, and those that come before a plan with open sizes is there.
        """
        known = self._find(origin, options)
        variants = known.variants  # others may find in the meantime that there can be none
        if variants:
            planner = open_planner(program, target, options, self._shared)
            for variant in variants:
                found = variant.fix(origin.sizes, planner)
                if found is not None:
                    self._put_first(known, variant)
                    return found
        alone = plan(program, target, options, self._shared)
        if self._miss(known) and not self._beside(partial(self._make, known, origin, target, options)):
            known.busy = False
        return alone

    def refuse(self, origin: OpenOrigin, options: Options) -> None:
        """Plan every size of a program by itself from now on: a constant turned out to depend on sizes."""
        self._find(origin, options).variants = None

    def _find(self, origin: OpenOrigin, options: Options) -> _PlansOfProgram:
        return self._known.setdefault(origin.program, {}).setdefault(options.threads, _PlansOfProgram())

    def _miss(self, known: _PlansOfProgram) -> bool:
        """Count a size that no plan was right for; whether to make one with open sizes, which counts as begun then."""
        with self._shared.lock:
            known.missed += 1
            if known.busy or known.variants is None:
                return False
            count = len(known.variants)
            known.busy = count < MOST_VARIANTS and known.missed >= PATIENCE * (1 + count)
            return known.busy

    def _make(self, known: _PlansOfProgram, origin: OpenOrigin, target: Target, options: Options) -> None:
        """Make a plan with open sizes of what the sizes at hand ask."""
        try:
            made = OpenPlan(origin, target, options, self._shared)
        except TypeError:
            known.variants = None
        else:
            self._put_first(known, made)
        finally:
            known.busy = False

    def _put_first(self, known: _PlansOfProgram, variant: OpenPlan) -> None:
        """Have a plan tried before all others."""
        with self._shared.lock:
            variants = known.variants
            if variants is not None and variants[:1] != (variant,):
                known.variants = (variant, *(each for each in variants if each is not variant))
