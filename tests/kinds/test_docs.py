"""The generated pages are current, and their examples run."""

import doctest
from pathlib import Path

import pytest

from omniconv.kinds import kinds
from omniconv.kinds.docs import MARK, pages, sections, write

FOLDER = Path(__file__).parents[2] / "docs" / "kinds"


@pytest.mark.parametrize("name", list(pages()))
def test_page_is_current(name):
    text = pages()[name]
    assert (FOLDER / name).read_text(encoding="utf-8") == text, "run: python -m omniconv.kinds.docs docs/kinds"


def test_no_page_is_left_over():
    assert {path.name for path in FOLDER.glob("*.md")} == set(pages())


@pytest.mark.parametrize("name", list(kinds()))
def test_examples_run(name):
    result = doctest.testfile(str(FOLDER / f"{name}.md"), module_relative=False)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_page_shows_everything(kind):
    page = pages()[f"{kind.name}.md"]
    for name in sections(kind):
        assert name == "Summary" or f"## {name}" in page
    assert page.count("\n| `") == len(kind.samples) + len(kind.errors)
    assert all(len(line) == 0 or not line.endswith(" ") for line in page.splitlines())


def test_write_changes_only_what_differs(tmp_path):
    (tmp_path / "gone.md").write_text(MARK)
    (tmp_path / "own.md").write_text("written by hand")
    assert set(write(tmp_path)) == {"gone.md", *pages()}
    assert write(tmp_path) == []
    assert (tmp_path / "own.md").exists()
    (tmp_path / "causal.md").write_text("old")
    assert write(tmp_path) == ["causal.md"]
