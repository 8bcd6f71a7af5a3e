"""`study`: what is refused before anything is trained, and a small one with all that it writes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.axe import judge
from tests.study.test_run import timeless

from omniconv.study.rules import RULES
from omniconv.study.study import read_study
from omniconv.study.variants import VARIANTS

__all__ = ["timeless"]

PAGE_LOADS = re.compile(r"<script|\b(?:src|href)=[\"'](?!#|data:)")


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    path = tmp_path / "images.npz"
    np.savez(path, x=rng.random((40, 8, 8)) + labels[:, None, None], y=np.array(["<b>dark", "light"])[labels])
    return path


def test_help_says_where_images_come_from(invoke):
    found = invoke("study", "--help")
    assert found.code == 0
    for word in ("digits", "textures", ".npz", "--resume", "--minutes", "--first-seed"):
        assert word in found.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--kinds", "standing"], 3, "kind 'standing' is not in the study; need some of standard, depthwise_separable"),
        (["--kinds", "standard"], 3, "leave nothing to compare; need one beside standard"),
        (["--seeds", 1], 2, "--seeds"),
        (["--minutes", -1], 3, "minutes=-1.0 is no time; need a positive number of minutes"),
        (["--data", "missing"], 3, "no images at 'missing'"),
        (["--out", "missing/study"], 3, "missing does not exist"),
    ],
)
def test_what_is_refused(invoke, words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = invoke("study", *words)
    assert (found.code, found.out) == (code, "")
    assert message in found.err
    assert found.err.count("\n") == 1


def test_too_few_images_of_a_class(invoke, tmp_path):
    path = tmp_path / "few.npz"
    np.savez(path, x=np.zeros((6, 8, 8)), y=[0, 0, 0, 0, 0, 1])
    found = invoke("study", "--data", path, "--out", tmp_path / "study")
    assert found.code == 3
    assert "class '1' has 1 image; need at least 5 of each class" in found.err


@pytest.mark.parametrize(("missing", "named"), [("torch", "torch"), ("sklearn", "sklearn")])
def test_without_a_package(invoke, monkeypatch, tmp_path, missing, named):
    monkeypatch.setattr("omniconv.cli.outputs.find_spec", lambda name: None if name == missing else name)
    found = invoke("study", "--out", tmp_path / "study")
    assert found.code == 5
    assert f'{named} is not installed; need: pip install "omniconv[study]"' in found.err
    assert not (tmp_path / "study").exists()


def test_a_folder_that_may_not_be_written_to(invoke, tmp_path):
    (tmp_path / "study").write_text("in the way")
    found = invoke("study", "--out", tmp_path / "study")
    assert found.code == 3
    assert "is not a folder" in found.err


def judge_page(browser, path, scheme):
    context = browser.new_context(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(path.as_uri())
    assert judge(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


@pytest.mark.wide
def test_a_small_study(invoke, timeless, archive, tmp_path, browser):
    folder = tmp_path / "study"
    words = ["study", "--data", archive, "--kinds", ",".join(VARIANTS), "--seeds", 2, "--epochs", 1, "--width", 8]
    words += ["--decoder-steps", 1, "--processes", 1, "--out", folder]
    found = invoke(*words)
    assert found.code == 0, found.err
    assert all(kind in found.out for kind in VARIANTS)
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "study.html", "study.json", "study.svg"]
    assert ET.parse(folder / "study.svg").getroot().tag.endswith("svg")
    report = json.loads((folder / "study.json").read_text())
    assert [claim["name"] for claim in report["claims"]] == list(RULES)
    assert [item["kind"] for item in report["same_width"]] == list(VARIANTS)
    page = (folder / "study.html").read_text()
    assert PAGE_LOADS.findall(page) == []
    assert "<b>dark" not in page
    for scheme in ("light", "dark"):
        judge_page(browser, folder / "study.html", scheme)
    # the same command again finds everything done
    again = invoke(*words, "--json")
    assert json.loads(again.out) == report
    assert (folder / "study.html").read_text() == page
    assert read_study((folder / "study.json").read_text()).to_dict() == report
    other = invoke(*words, "--seeds", 3)
    assert other.code == 3
    assert "is of another study: seeds 2, now 3" in other.err
