"""`OpenPlans`: the plans of one network, made with open sizes where several sizes ask the same of them."""

from __future__ import annotations

from dataclasses import field
from typing import Final
from weakref import WeakKeyDictionary

from omniconv.compiler.planning.open_plan import OpenPlan
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, open_planner, plan
from omniconv.compiler.planning.shared import Shared
from omniconv.program.open_program import OpenOrigin, OpenProgram
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.target.model import Target

MOST_VARIANTS: Final = 8
"""Plans that are kept of one program. Sizes for which none of these is right are planned by themselves from then on."""
PATIENCE: Final = 4
"""Sizes that are planned by themselves before a plan with open sizes is made, which takes as long as these: a network
that sees few sizes never pays for one."""


@dataclass(slots=True)
class _PlansOfProgram:
    """What is known of one program.

    Attributes:
        missed: how many sizes no plan was right for.
        variants: plans with open sizes, the one used last in front; ``None`` where there can be none.
    """

    missed: int = 0
    variants: list[OpenPlan] | None = field(default_factory=list)


class OpenPlans:
    """The plans of one network. Thread-safe: what two threads make at once is made twice.

    Args:
        shared: what all of them have in common.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._known: WeakKeyDictionary[OpenProgram, dict[int, _PlansOfProgram]] = WeakKeyDictionary()

    def find(self, program: Program, origin: OpenOrigin, target: Target, options: Options) -> Plan:
        """The plan of a program; see :func:`omniconv.compiler.planning.plan.plan`.

        The first sizes are planned by themselves, since there may be few.
        """
        known = self._find(origin, options)
        variants = known.variants
        if variants is None:
            return plan(program, target, options, self._shared)
        planner = open_planner(program, target, options, self._shared)
        for variant in tuple(variants):
            found = variant.fix(origin.sizes, planner)
            if found is not None:
                variants.sort(key=lambda each: each is not variant)
                return found
        known.missed += 1
        if len(variants) < MOST_VARIANTS and known.missed > PATIENCE * (1 + len(variants)):
            try:
                made = OpenPlan(origin, target, options, self._shared)
            except TypeError:
                known.variants = None
            else:
                found = made.fix(origin.sizes, planner)
                if found is not None:
                    variants.insert(0, made)
                    return found
        alone = plan(program, target, options, self._shared)
        if alone.filtered:
            known.variants = None
        return alone

    def refuse(self, origin: OpenOrigin, options: Options) -> None:
        """Plan every size of a program by itself from now on: a constant turned out to depend on sizes."""
        self._find(origin, options).variants = None

    def _find(self, origin: OpenOrigin, options: Options) -> _PlansOfProgram:
        return self._known.setdefault(origin.program, {}).setdefault(options.threads, _PlansOfProgram())
