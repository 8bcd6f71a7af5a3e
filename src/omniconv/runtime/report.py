"""What a plan consists of, in records for tables: layers before a run, times after one."""

from __future__ import annotations

from omniconv.compiler.memory.planner import Call
from omniconv.compiler.planning.plan import Plan
from omniconv.program.layers import describe_step
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Time of the calls of one kernel for a layer: name, kind and problem line, seconds, MACs, share of the total, and
    the multiplications done, which are fewer than the MACs where the layer is filtered.
    """

    name: str
    kind: str
    text: str
    seconds: float
    macs: int
    share: float
    multiplications: int = 0


def merge_calls(plan: Plan) -> list[list[int]]:
    """Indices of the calls that make up one entry of a table: the same kernel of the same step, in order of the first.

    Calls at the boundary stay apart.
    """
    found: dict[object, list[int]] = {}
    for index, call in enumerate(plan.calls):
        found.setdefault((call.step, call.what) if call.step >= 0 else index, []).append(index)
    return list(found.values())


def describe_call(plan: Plan, call: Call, seconds: float, share: float) -> StepProfile:
    """The record of one kernel call; its layer's MACs belong to the call that does them."""
    if call.step < 0:
        return StepProfile("(boundary)", call.what, "", seconds, 0, share)
    layer = describe_step(plan.program, call.step)
    main = call.what in ("lane", "panel", "planes", "series", "filtered")
    if not main and layer.macs:
        return StepProfile(layer.name, call.what, "", seconds, 0, share)
    filtered = getattr(call.recipe, "multiplications", None)
    if call.decision is not None:
        filtered = call.decision.multiplications
    done = layer.macs if filtered is None else filtered
    return StepProfile(layer.name, layer.kind, layer.text, seconds, layer.macs, share, done)
