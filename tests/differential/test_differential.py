"""Random graphs, special values and exported PyTorch calls: right or refused, never wrong, never a crash.

OMNICONV_DIFFERENTIAL=20000 draws so many cases (and tells how each refusal came about); by default a few.
OMNICONV_SEED=5 starts elsewhere. A failure names the case; ``python -m tests.differential KIND SEED 1`` repeats it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.stream import run_cases

for _needed in ("onnxruntime", "torch"):
    pytest.importorskip(_needed)

MODULE = "tests.differential"
COUNT = int(os.environ.get("OMNICONV_DIFFERENTIAL", "60"))
FIRST = int(os.environ.get("OMNICONV_SEED", "0"))
SHARES = {"graphs": 0.5, "special": 0.2, "pytorch": 0.3}
CHUNK = 500
"""Cases of one test, so that they spread over the processes of a run."""


def chunks() -> Iterator[Any]:
    """Kind, first seed and number of cases of each test: by default three of each kind, of which two are wide."""
    few = "OMNICONV_DIFFERENTIAL" not in os.environ
    for kind, share in SHARES.items():
        total = max(round(COUNT * share), 1)
        chunk = total // 3 + 1 if few else CHUNK
        for at in range(0, total, chunk):
            marks = [pytest.mark.wide] if few and at else []
            yield pytest.param(kind, FIRST + at, min(chunk, total - at), marks=marks)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "first", "count"), list(chunks()), ids=str)
def test_right_or_refused(kind: str, first: int, count: int, tally) -> None:
    failures = []
    seen = right = 0
    for outcome in run_cases(MODULE, kind, first, count, OMNICONV_CACHE="off"):
        seen += 1
        verdict, reason = outcome["verdict"], outcome["reason"]
        assert verdict != "void", outcome
        if verdict in ("wrong", "crashed"):
            failures.append(
                f"python -m tests.differential {kind} {outcome['seed']} 1  # {verdict}: {reason}: {outcome['detail']}"
            )
            continue
        right += verdict == "right"
        tally(f"differential, {kind}, {verdict}")
        if verdict == "refused":
            tally(f"differential, refused by {reason}")
        for note in outcome["notes"]:
            if not note.startswith(("operator ", "not evaluated", "ONNX Runtime differs", "the exported")):
                tally(f"differential, {note}")
    assert seen == count
    assert not failures, f"{len(failures)} of {count} cases failed:\n" + "\n".join(failures)
    assert right >= count // 2, f"only {right} of {count} cases were right, the others refused"


@pytest.mark.wide
def test_every_operator_is_drawn() -> None:
    from tests.differential import judge

    from omniconv.graph import supported_operators
    from omniconv.graph.operator import OPERATORS

    drawn = set(judge.GENERATORS)
    for seed in range(250):  # what is only folded, and what formulas are written with
        draft = judge.draw_graph(seed, "normal", ["folded", "written gelu", "Reshape"])
        drawn |= {node.op_type for node in draft.nodes} if draft is not None else set()
    compiled = {name for name in supported_operators() if OPERATORS["", name].lower is not None}
    compiled -= {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}  # tests/graph/test_quantised.py
    assert compiled <= drawn, compiled - drawn


@pytest.mark.parametrize("kind", SHARES)
def test_a_small_error_shows(kind: str, monkeypatch) -> None:
    """Results that are off by a ten-thousandth are found out: the bounds are not so wide that nothing can be wrong."""
    from tests.differential import judge

    compute = judge.strictly
    slightly = np.float32(1 + 1e-4)
    monkeypatch.setattr(judge, "strictly", lambda f, x: {name: y * slightly for name, y in compute(f, x).items()})
    verdicts = [judge.run_case(kind, seed).verdict for seed in range(12)]
    ran = [verdict for verdict in verdicts if verdict != "refused"]
    assert len(ran) >= 6, verdicts
    assert ran.count("wrong") >= 2 * len(ran) / 3, verdicts


def test_untyped_errors_are_crashes(monkeypatch) -> None:
    from tests.differential import judge

    monkeypatch.setattr(judge.oc, "compile", lambda *_, **__: 1 / 0)
    assert judge.run_case("graphs", 0).verdict == "crashed"


def test_a_process_that_ends_is_a_crash_and_the_next_case_runs() -> None:
    outcomes = list(run_cases(MODULE, "no such kind", 3, 2))
    assert [(outcome["verdict"], outcome["seed"]) for outcome in outcomes] == [("crashed", 3), ("crashed", 4)]
    assert "KeyError" in outcomes[0]["detail"]
