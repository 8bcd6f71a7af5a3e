"""Which savings of the kinds of convolution arrive: multiplications that they spare, and time."""

from __future__ import annotations

from typing import Final

from omniconv.report.comparison import Alternative, LayerComparison

ARRIVING: Final = (
    (0.95, "arrive in full"),
    (0.75, "arrive for the most part"),
    (0.5, "arrive by half or more"),
    (0.0, "arrive by less than half"),
)
"""What is said of a saving in multiplications of which at least so much there is in time."""
MORE: Final = "More multiplications than the standard layer"
"""What is said of kinds that do more of them."""


def measure_arrival(found: LayerComparison, item: Alternative) -> float | None:
    """Part of the saving in multiplications, as they are done, that there is in time: times as fast over times fewer.
    ``None`` where nothing was measured, and of kinds that do no fewer than the standard layer.
    """
    base, faster = found.standard, found.savings(item)["time"]
    if faster is None or not base.multiplications or not item.multiplications:
        return None
    fewer = base.multiplications / item.multiplications
    return faster / fewer if fewer > 1 else None


def summarise_arrivals(found: LayerComparison) -> str:
    """Which savings arrive, in some sentences; empty where nothing was measured."""
    base = found.standard
    assert base.cost is not None
    if not base.multiplications:
        return ""
    groups: dict[str, list[str]] = {}
    for item in found.alternatives[1:]:
        faster, done = found.savings(item)["time"], item.multiplications
        if faster is None or not done:
            continue
        share = measure_arrival(found, item)
        if share is not None:
            word = next(word for least, word in ARRIVING if share >= least)
            groups.setdefault(word, []).append(f"{item.kind} {faster:.3g}x of {base.multiplications / done:.3g}x")
        elif done > base.multiplications:
            groups.setdefault(MORE, []).append(f"{item.kind} {done / base.multiplications:.3g}x")
    said = [f"{word}: {', '.join(groups[word])}" for _, word in ARRIVING if word in groups]
    times = base.cost.macs / base.multiplications
    text = f"The standard layer has {times:.3g} MACs for each multiplication that it does. "
    text += f"Savings beside it (times as fast, of times fewer multiplications) {'; '.join(said) or 'are none'}."
    return text + (f" {MORE}: {', '.join(groups[MORE])}." if MORE in groups else "")
