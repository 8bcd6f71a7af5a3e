"""Pictures are drawn, are the same each time, and show the numbers they are about."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.report import models
from tests.report.conftest import inspect_model

import omniconv as oc
from omniconv.analysis import connectivity, coverage, dilated_stack, overlap, receptive_field, separability
from omniconv.report.comparison import LayerSizes, compare_kinds
from omniconv.report.inspection import PARTS
from omniconv.spec import Conv

pytest.importorskip("matplotlib")

from omniconv.report import pictures
from omniconv.report.drawing import draw_parts


def transposed(kernel, dims=2, **options):
    return Conv.of(4, 4, kernel, dims=dims, stride=2, transposed=True, **options)


DRAWINGS = {
    "overlap": lambda: pictures.draw_overlap(overlap(transposed(3))),
    "overlap in one dimension": lambda: pictures.draw_overlap(overlap(transposed(3, 1))),
    "overlap in three dimensions": lambda: pictures.draw_overlap(overlap(transposed(3, 3))),
    "overlap of an image": lambda: pictures.draw_overlap(overlap(transposed(3), (1, 4, 9, 9))),
    "holes": lambda: pictures.draw_overlap(overlap(transposed(4, dilation=2))),
    "coverage": lambda: pictures.draw_coverage(coverage(dilated_stack([2, 2, 2], dims=2))),
    "coverage in one dimension": lambda: pictures.draw_coverage(coverage(dilated_stack([1, 2, 9]))),
    "large coverage": lambda: pictures.draw_coverage(coverage(dilated_stack([1, 2, 5, 13], dims=2))),
    "connectivity": lambda: pictures.draw_connectivity(connectivity(oc.grouped(16, 16, 3, groups=4))),
    "large connectivity": lambda: pictures.draw_connectivity(connectivity(oc.pointwise(600, 700))),
    "field": lambda: pictures.draw_support(receptive_field(dilated_stack([2, 2], dims=2), shape=(1, 1, 33, 33))),
    "kernel": lambda: pictures.draw_separability(separability(np.eye(5))),
    "layer": lambda: pictures.draw_separability(
        separability(np.random.default_rng(0).standard_normal((32, 16, 3, 3))), "a $name$"
    ),
    "comparison": lambda: pictures.draw_comparison(compare_kinds(LayerSizes(8, 16, size=8), measure=False)),
    "timed comparison": lambda: pictures.draw_comparison(
        compare_kinds(LayerSizes(8, 16, size=8), rounds=1, turn=0.0), "a processor"
    ),
}


QUICK = {"overlap", "overlap in three dimensions", "coverage", "connectivity", "field", "kernel", "layer", "comparison"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.wide) for name in DRAWINGS]
)
def test_pictures_are_drawn(name, tmp_path):
    figure = DRAWINGS[name]()
    svg = pictures.save(figure, tmp_path / "a.svg")
    root = ET.parse(svg).getroot()
    assert root.tag.endswith("svg")
    assert sum(1 for _ in root.iter()) > 30
    png = pictures.save(figure, tmp_path / "a.png").read_bytes()
    assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", ["overlap", *(pytest.param(name, marks=pytest.mark.wide) for name in ("coverage", "layer"))]
)
def test_the_same_picture_is_the_same_file(name, tmp_path):
    first, again = (pictures.save(DRAWINGS[name](), tmp_path / f"{n}.svg").read_bytes() for n in range(2))
    assert first == again


def test_cells_show_their_counts():
    [axes] = DRAWINGS["overlap"]().axes
    assert {text.get_text() for text in axes.texts} == {"1", "2", "4"}
    [axes] = DRAWINGS["coverage in one dimension"]().axes
    paths = coverage(dilated_stack([1, 2, 9])).paths
    assert [int(text.get_text()) for text in axes.texts] == paths.tolist()
    assert "84.0%" in axes.get_title(loc="left")


@pytest.mark.wide
def test_hostile_names_are_no_formulas_and_no_paths(tmp_path):
    found = inspect_model(models.hostile(), parts=PARTS)
    (tmp_path / "out").mkdir()
    written = draw_parts(found, PARTS, tmp_path / "out")
    assert len(written) > 5
    assert all(path.parent == tmp_path / "out" for path in written)
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def test_only_parts_that_were_asked_for(tmp_path, awkward):
    names = [path.name for path in draw_parts(awkward, ["overlap"], tmp_path)]
    assert [name.partition("-")[2] for name in names] == ["overlap-up1.svg", "overlap-up2.svg"]
