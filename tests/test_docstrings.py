"""Docstrings are read by programs too: their sections must parse, and name what exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "omniconv"
FILES = sorted(SOURCE.rglob("*.py"))
NAMED = ("Args", "Attributes", "Raises")
ENTRY = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): \S|(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*):$")


def sections(text: str) -> dict[str, list[str]]:
    """Title -> lines of its body, as they are."""
    found: dict[str, list[str]] = {}
    body: list[str] = []
    for line in text.splitlines():
        if title := re.fullmatch(r"([A-Z]\w+):", line):
            body = found.setdefault(title[1], [])
        elif line and not line.startswith(" "):
            body = []
        else:
            body.append(line)
    return found


def faults(title: str, lines: list[str], names: set[str]) -> list[str]:
    """What does not parse in a section of named entries, and what is named but does not exist."""
    found, said, entries = [], set(), []
    for line in filter(str.strip, lines):
        if line.startswith(" " * 8):
            if not entries:
                found.append(f"{title}: begins with a continuation {line.strip()!r}")
            else:
                entries[-1] += " " + line.strip()
        elif match := ENTRY.match(line[4:]):
            entries.append(line[4:])
            said |= set(re.split(r", ", (match[1] or match[2]).replace("*", "")))
        else:
            found.append(f"{title}: no entry {line.strip()!r}")
    if title != "Raises":
        found += [f"{title}: {name!r} does not exist" for name in sorted(said - names)]
        for entry in entries:
            swallowed = re.findall(r"[.;] (\w+): ", entry)
            found += [f"{title}: {name!r} is hidden in another entry" for name in swallowed if name in names - said]
    return found


def names_of(node: ast.AST) -> set[str]:
    """Parameters of a function; fields, properties, class variables and ``self.x`` of a class."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        return {each.arg for each in every if each is not None}
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.AnnAssign | ast.Assign):
            for target in [each.target] if isinstance(each, ast.AnnAssign) else each.targets:
                for part in ast.walk(target):
                    found |= {part.id} if isinstance(part, ast.Name) else set()
                    found |= {part.attr} if isinstance(part, ast.Attribute) else set()
        elif isinstance(each, ast.FunctionDef):
            found |= {each.name, *names_of(each)}
    return found


def check(source: str) -> list[str]:
    """All faults of a module's docstrings."""
    found = []
    classes = {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            names = names_of(node)
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    names |= names_of(classes[base.id]) if isinstance(base, ast.Name) and base.id in classes else set()
            inherited = isinstance(node, ast.ClassDef) and any(
                not isinstance(base, ast.Name) or base.id not in classes for base in node.bases
            )
            for title, lines in sections(text).items():
                if title in NAMED:
                    problems = faults(title, lines, names)
                    if inherited:
                        problems = [each for each in problems if "does not exist" not in each]
                    found += [f"{node.name}: {problem}" for problem in problems]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_sections_parse(path):
    assert check(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("a: one. b: two.", "'b' is hidden"),
        ("a: one.\n    b two.", "no entry 'b two.'"),
        ("a: one.\n    c: two.", "'c' does not exist"),
    ],
)
def test_faults_are_found(body, fault):
    source = f'def f(a, b):\n    """Sum.\n\n    Args:\n        {body.replace(chr(10), chr(10) + "    ")}\n    """\n'
    assert any(fault in found for found in check(source))
