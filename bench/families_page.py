"""What :mod:`families` found, and the tables of docs/guide/families.md that show it.

``bench/families.jsonl`` has one line for each family. This module needs the standard library only, so that a test can
hold the page against the results.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("families.jsonl")
PAGE: Final = Path(__file__).parents[1] / "docs" / "guide" / "families.md"
BEGIN: Final = "<!-- results: generated from bench/families.jsonl by bench/families.py --write -->\n"
END: Final = "<!-- end of results -->"

Result = dict[str, Any]

UNJUDGED: Final = {"not exported", "not judged", "too slow"}
"""Results that say nothing about the compiler's answers."""
GROUPS: Final[dict[str, Callable[[str], bool]]] = {
    "timm": lambda module: "." not in module,
    "torchvision, classification and flow": lambda module: (
        module.startswith("torchvision.") and (module.count(".") == 1 or "optical_flow" in module)
    ),
    "torchvision, segmentation": lambda module: "segmentation" in module,
    "torchvision, video": lambda module: ".video." in module,
    "torchvision, detection": lambda module: "detection" in module,
    "readers of text lines": lambda module: module.startswith("text."),
}


def read_results(path: Path) -> dict[str, Result]:
    """What earlier runs found, by family."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {item["module"]: item for item in map(json.loads, lines)}


def write_results(path: Path, found: dict[str, Result]) -> None:
    """One line for each family, in order of their names."""
    path.write_text("".join(json.dumps(found[module]) + "\n" for module in sorted(found)), "utf-8")


def count(items: Iterable[Result]) -> tuple[int, int, int, float]:
    """How many there are, how many were judged, how many are right, and the largest error of those [bounds]."""
    items = list(items)
    judged = [item for item in items if item["result"] not in UNJUDGED]
    right = [item for item in judged if item["result"] == "right"]
    return len(items), len(judged), len(right), max((item.get("units", 0.0) for item in right), default=0.0)


def list_counts(found: dict[str, Result]) -> list[str]:
    """The table of counts, a row for each group of networks."""
    lines = [
        "| networks | families | judged | right | largest error [bounds] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows = {name: [found[module] for module in found if belongs(module)] for name, belongs in GROUPS.items()}
    for name, items in (rows | {"all": list(found.values())}).items():
        total, judged, right, worst = count(items)
        lines.append(f"| {name} | {total} | {judged} | {right} | {worst:.2f} |")
    return lines


def summarise(found: dict[str, Result]) -> str:
    """The counts in words."""
    total, judged, right, _ = count(found.values())
    counts = Counter(item["result"] for item in found.values() if item["result"] != "right")
    others = f" ({', '.join(f'{number} {result}' for result, number in counts.most_common())})" if counts else ""
    good = [item for item in found.values() if item["result"] == "right" and "error" in item]
    worst = max(good, key=lambda item: item["error"])
    seconds = [item["busy_s"] for item in good if "busy_s" in item]
    return (
        f"{judged} of the {total} families have been judged, and {right} of them are right{others}. The largest error "
        f"relative to an output's largest number is {worst['error']:.1e}, of `{worst['module']}`, where PyTorch in "
        f"float32 is off by {worst['peer']:.1e}. Compiling takes {min(seconds):.1f} to {max(seconds):.0f} s of the "
        f"processor, in the median {statistics.median(seconds):.1f} s."
    )


def show(item: Result) -> str:
    """The row of a family."""
    size = f"{item['parameters'] / 1e6:.1f}" if item.get("parameters") else ""
    tiers = ", ".join(str(item[key]) for key in ("compiled", "folded", "host") if key in item)
    units = f"{item['units']:.2f}" if item.get("units", 1e9) < 1e9 else ""
    seconds = f"{item['busy_s']:.1f}" if "busy_s" in item else ""
    peak = f"{item['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in item else ""
    cells = [f"`{item['module']}`", f"`{item['model']}`", size, item.get("exporter", ""), tiers, item["result"]]
    return "".join(f"| {cell} " if cell else "| " for cell in [*cells, units, seconds, peak]) + "|"


def list_families(found: dict[str, Result]) -> list[str]:
    """The table of all families."""
    lines = [
        "| family | model | size [M] | exporter | compiled, folded, host | result | bounds | time [s] | memory [MB] |",
        "| --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    lines += [show(item) for belongs in GROUPS.values() for item in found.values() if belongs(item["module"])]
    return lines


def list_reasons(found: dict[str, Result]) -> list[str]:
    """What is to be said of families that are not right."""
    return [f"- `{module}`: {item['reason']}" for module, item in found.items() if "reason" in item]


def render(found: dict[str, Result]) -> str:
    """Everything that the page shows of the results."""
    parts = [list_counts(found), [summarise(found)], list_families(found), list_reasons(found)]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def renew(text: str, found: dict[str, Result]) -> str:
    """The page with current results."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + render(found) + "\n" + END + after
