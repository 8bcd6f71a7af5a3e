"""``omniconv kinds``: every kind of convolution, from the registry."""

from __future__ import annotations

from typing import Any

from omniconv.bench.cost import count_macs, count_parameters
from omniconv.cli.console import format_count, make_table, out, print_json
from omniconv.cli.options import Json
from omniconv.kinds import Kind
from omniconv.kinds import kinds as registry

EXAMPLE = (1, 64, 56, 56)
"""Input of the cost columns. Where a constructor leaves the choice, 64 output channels and 3 taps an axis."""


def kinds(json: Json = False) -> None:
    """List every [bold]kind[/bold] of convolution.

    The costs are those of a layer from 64 to 64 channels with 3 taps an axis on 56 x 56 positions, without biases.
    """
    found = [describe(kind) for kind in registry().values()]
    if json:
        print_json({"example_shape": EXAMPLE, "kinds": found})
        return
    rows = [
        (
            item["name"],
            item["summary"],
            "" if item["parameters"] is None else format_count(item["parameters"]),
            "" if item["macs"] is None else format_count(item["macs"]),
        )
        for item in found
    ]
    console = out()
    console.print(make_table("Kinds of convolution", ("kind", "", "parameters", "MACs"), rows, left=2))
    console.print("Costs: 64 to 64 channels, 3 taps an axis, on 56 x 56, without biases; 1 MAC = 2 FLOP.", style="dim")
    console.print("omniconv explain KIND shows formula, use, cost, samples and the compiled plan.", style="dim")


def describe(kind: Kind) -> dict[str, Any]:
    """One row: name, summary, signature, traits, and the cost of the example layer where it can be built."""
    from omniconv.kinds.typical import build_example

    spec = build_example(kind, EXAMPLE)
    return {
        "name": kind.name,
        "summary": kind.summary,
        "signature": kind.signature,
        "traits": sorted(kind.traits),
        "example": None if spec is None else spec.text(EXAMPLE),
        "parameters": None if spec is None else count_parameters(spec, bias=False),
        "macs": None if spec is None else count_macs(spec, EXAMPLE),
    }
