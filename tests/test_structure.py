from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load_structure():
    spec = importlib.util.spec_from_file_location("structure", ROOT / "docs" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


structure = load_structure()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.parents:
            if parent == folder:
                break
            (parent / "__init__.py").touch()
    return folder / next(iter(files)).split("/")[0]


def test_rooms_floors_and_arrows_of_a_small_house(tmp_path):
    files = {
        "house/low.py": "import os",
        "house/mid/one.py": "from house.low import x\nfrom house.mid import two",
        "house/mid/two.py": "def f():\n    import house.low",
        "house/top.py": "from house import low\nfrom house.mid.one import y",
    }
    found = structure.measure(write(tmp_path, files))
    assert found.rooms == {"low": frozenset(), "mid": {"low"}, "top": {"low", "mid"}}
    assert found.floors == (("low",), ("mid",), ("top",))
    assert (found.arrows, found.circle) == (3, ())


def test_a_circle_is_named(tmp_path):
    found = structure.measure(write(tmp_path, {"house/a/x.py": "import house.b.y", "house/b/y.py": "import house.a"}))
    assert set(found.circle) == {"a", "b"}
    assert found.floors == ()


@pytest.mark.parametrize("package", ["src/omniconv", "src/omniconv/compiler"])
def test_no_rooms_import_one_another_in_a_circle(package):
    found = structure.measure(ROOT / package)
    assert len(found.rooms) > 5
    assert found.circle == ()
