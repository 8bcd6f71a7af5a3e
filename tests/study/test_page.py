"""The page of the documentation shows what was kept of two runs, and a study is read again as it was written."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from omniconv.errors import DataError
from omniconv.study.study import read_study
from omniconv.study.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = runpy.run_path(str(ROOT / "docs" / "study.py"))


def test_the_page_is_current():
    text, kept = DOCS["PAGE"].read_text(encoding="utf-8"), DOCS["read_kept"]()
    assert DOCS["renew"](text, kept) == text, "run: .venv/bin/python docs/study.py"
    first = kept[0]
    for claim in first.claims:
        assert claim.title in text
    wrong = replace(first, claims=(replace(first.claims[0], verdict="undecided" * 2), *first.claims[1:]))
    assert DOCS["renew"](text, [wrong, *kept[1:]]) != text


def test_what_is_kept_is_of_all_kinds():
    for study in DOCS["read_kept"]():
        assert [item.kind for item in study.same_width] == list(VARIANTS)
        assert study.data["name"] == "digits"
    assert len({study.settings["first_seed"] for study in DOCS["read_kept"]()}) == len(DOCS["read_kept"]())


def test_a_study_is_read_as_it_was_written():
    text = (DOCS["KEPT"] / "first.json").read_text(encoding="utf-8")
    assert read_study(text).to_dict() == json.loads(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"settings": 1}', "[" * 100_000])
def test_what_is_no_study(text):
    with pytest.raises(DataError, match="no study: "):
        read_study(text)
