"""ONNX's own node cases through the backend that users call: how many are right, and why the rest is refused.

``bench/node_cases.py [PART ...] [--parts N] [--names]``: every case of ``onnx.backend.test`` is compiled with all its
inputs given only when it runs, and its outputs are compared as ONNX's own runner does, in
:mod:`onnx.backend.test.runner`: the element type and shape, and numbers by the case's tolerance. PART of N takes every
N-th case, so that a run can be cut into pieces. The table counts refusals by their reason; ``--names`` also prints
their names. The exit code is 1 if a case is wrong or ends in anything but a typed error.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import defaultdict
from typing import Any, Final

import onnx
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.runner import Runner

from omniconv import onnx_backend
from omniconv.errors import OmniconvError

REASONS: Final = {
    "types that NumPy does not have": "BFLOAT16|FLOAT8|FLOAT4|INT4|INT2",
    "texts": "STRING|texts|operator (String|Regex)",
    "sequences, maps or optional values": "sequence|optional|no tensor",
    "random results": "random",
    "training": "training",
    "images in files": "decodes",
    "operators in preview": "preview",
    "other domains than ONNX's own": "imports no opset of the ONNX domain",
    "arrays of no elements": "empty, negative or absurd axis",
    "opsets before 7, Scan of opset 8": "^opset [1-6];|Scan of opset 8",
}
"""Reasons of refusals, by what the message says; what fits none of them is counted by its message."""

DISPUTED: Final = frozenset(
    {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}
)
"""Cases that expect the corners of a tensor of fractional length to be aligned; ONNX Runtime aligns, as we do, those of
the tensor that there is."""


def explain(error: OmniconvError) -> str:
    """The reason of a refusal."""
    text = str(error)
    return next((reason for reason, words in REASONS.items() if re.search(words, text)), f"other: {text[:120]}")


def run(case: Any) -> None:
    """Compile a case and compare all its sets of data."""
    prepared = onnx_backend.prepare(case.model)
    for data in case.data_sets:
        inputs, outputs = (
            [onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in side] for side in data
        )
        Runner.assert_similar_outputs(outputs, list(prepared.run(inputs)), rtol=case.rtol, atol=case.atol)


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("part", nargs="*", type=int)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--names", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = collect_testcases(None)
    chosen = [case for part in given.part or range(given.parts) for case in cases[part :: given.parts]]
    found: dict[str, list[str]] = defaultdict(list)
    for case in chosen:
        try:
            run(case)
        except OmniconvError as error:
            found[explain(error)].append(case.name)
        except Exception as error:  # noqa: BLE001 - a wrong answer, or an error of no type of ours
            wrong = f"WRONG: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            found["disputed" if case.name in DISPUTED else wrong].append(case.name)
        else:
            found["right"].append(case.name)
    print(f"{len(found.get('right', ()))} of {len(chosen)} cases are right")
    for reason, names in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(names):5}  {reason}" + (f": {', '.join(names)}" if given.names and reason != "right" else ""))
    return int(any(reason.startswith("WRONG") for reason in found))


if __name__ == "__main__":
    sys.exit(main())
