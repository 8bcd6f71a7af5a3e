"""Damaged files of every group of operators: a typed error or the right answer, within bounds of time and memory.

OMNICONV_HOSTILE=10000 runs so many; by default a few. OMNICONV_SEED=5 starts elsewhere. A failure names the case;
``python -m tests.hostile KIND SEED 1`` repeats it.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stream import run_cases

pytest.importorskip("onnxruntime")
if sys.platform == "win32":
    pytest.skip("limits of time and memory of a process are those of POSIX", allow_module_level=True)

from tests.hostile import judge, seeds

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning", "ignore::omniconv.ModelWarning")

MODULE = "tests.hostile"
COUNT = int(os.environ.get("OMNICONV_HOSTILE", "120"))
FIRST = int(os.environ.get("OMNICONV_SEED", "0"))
CHUNK = 500
"""Cases of one test, so that they spread over the processes of a run."""
FAILURES = frozenset({"wrong", "crashed", "slow", "large"})


def chunks() -> Iterator[Any]:
    """Kind, first seed and number of cases of each test: by default three of each kind, of which two are wide."""
    few = "OMNICONV_HOSTILE" not in os.environ
    total = max(COUNT // len(judge.DAMAGE), 1)
    chunk = total // 3 + 1 if few else CHUNK
    for kind in judge.DAMAGE:
        for at in range(0, total, chunk):
            marks = [pytest.mark.wide] if few and at else []
            yield pytest.param(kind, FIRST + at, min(chunk, total - at), marks=marks)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "first", "count"), list(chunks()), ids=str)
def test_refused_or_right(kind: str, first: int, count: int, tally, tmp_path: Path) -> None:
    failures = []
    seen = 0
    for outcome in run_cases(MODULE, kind, first, count, OMNICONV_CACHE=str(tmp_path)):
        seen += 1
        verdict, reason = outcome["verdict"], outcome["reason"]
        if verdict in FAILURES:
            told = f"{verdict}: {reason}: {outcome['detail']}"
            failures.append(f"python -m tests.hostile {kind} {outcome['seed']} 1  # {told}")
            continue
        tally(f"damaged files, {kind}, {verdict}")
    assert seen == count
    assert not failures, f"{len(failures)} of {count} cases failed:\n" + "\n".join(failures)


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(seeds.SEEDS.keys() - seeds.REFUSED))
def test_undamaged_models_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(judge.DAMAGE, "fields", judge.same)
    outcome = judge.run_case("fields", list(seeds.SEEDS).index(name))
    assert outcome.verdict == "right", outcome


def test_an_empty_number_has_no_second_opinion() -> None:
    """Boxes are chosen "at most ()": none, which is the default; ONNX Runtime reads what lies behind the array."""
    outcome = judge.run_case("sizes", 301144)
    assert (outcome.verdict, outcome.reason) == ("unjudged", "nobody else runs it")


def test_a_wrong_answer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = judge.strictly
    monkeypatch.setattr(judge, "strictly", lambda f, x: {name: 1 - y for name, y in compute(f, x).items()})
    assert judge.run_case("inputs", list(seeds.SEEDS).index("contraction")).verdict == "wrong"


def test_untyped_errors_and_long_or_large_work_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge.oc, "compile", lambda *_, **__: 1 / 0)
    assert judge.run_case("inputs", 0).verdict == "crashed"

    def refuse(*_: object, **__: object) -> None:
        # Pages of its own: what was freed before serves no other call.
        np.frombuffer(mmap.mmap(-1, 2**29), np.uint8)[::4096] = 1
        raise judge.OmniconvError("no")

    monkeypatch.setattr(judge.oc, "compile", refuse)
    assert judge.run_case("inputs", 0).verdict == "refused"
    monkeypatch.setattr(judge, "MOST_MEMORY", 2**28)
    assert judge.run_case("inputs", 0).verdict == "large"
    monkeypatch.setattr(judge, "MOST_SECONDS", 0.0)
    assert judge.run_case("inputs", 0).verdict == "slow"
