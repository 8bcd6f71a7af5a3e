from __future__ import annotations

import ast
import importlib.util
from collections import defaultdict
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


def find_shared_names(package: Path) -> dict[str, list[str]]:
    """Names of classes that something else is called by too, another class or an alias, and the modules of each."""
    classes, aliases = defaultdict(list), defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef(name=name):
                    classes[name].append(module)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                    aliases[name].append(module)
    found = {name: modules + aliases[name] for name, modules in classes.items()}
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_shared_names_are_found(tmp_path):
    files = {
        "house/a.py": "class Door: ...\nclass Wall: ...\nPath: TypeAlias = str",
        "house/b.py": "def f():\n    class Door: ...\nPath: TypeAlias = int",
        "house/c/d.py": "Wall: TypeAlias = int",
    }
    assert find_shared_names(write(tmp_path, files)) == {"Door": ["a.py", "b.py"], "Wall": ["a.py", "c/d.py"]}


def test_no_class_shares_its_name():
    assert find_shared_names(ROOT / "src" / "omniconv") == {}


SKIP = "  # fmt: " + "skip"


def test_only_tables_keep_a_form_of_their_own():
    """`# fmt: skip` ends an assignment of constants, or a table of parameters."""
    kept = []
    for path in sorted(
        path for folder in ("src", "tests", "bench", "docs", "examples") for path in (ROOT / folder).rglob("*.py")
    ):
        text = path.read_text(encoding="utf-8")
        if SKIP not in text:
            continue
        tables = {
            node.end_lineno
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign | ast.AnnAssign)
            or (isinstance(node, ast.Call) and "parametrize" in ast.unparse(node.func))
        }
        lines = [n for n, line in enumerate(text.splitlines(), 1) if line.endswith(SKIP)]
        kept += [f"{path.relative_to(ROOT)}:{n}" for n in lines if n not in tables]
    assert kept == []
