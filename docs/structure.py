"""Count the rooms, floors and arrows of a package: how many places there are, how deep they stand, who knows whom.

A *room* is a folder of modules, or a single module where its folder also holds folders. An *arrow* leads from a room to
another one that it imports (at any depth of its code, type checking included). *Floors* are counted from below: a room
stands one floor above the highest room that it imports. Where rooms import one another in a *circle* there are none.

    python docs/structure.py                            # src/omniconv/compiler
    python docs/structure.py src/omniconv --arrows
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Structure(NamedTuple):
    """What stands in a package.

    Attributes:
        rooms: name of each room -> the rooms that it imports.
        floors: rooms of each floor, from below; empty where there is a circle.
        circle: rooms that import one another, the first of them again at the end; empty where there is none.
    """

    rooms: dict[str, frozenset[str]]
    floors: tuple[tuple[str, ...], ...]
    circle: tuple[str, ...]

    @property
    def arrows(self) -> int:
        """Pairs of rooms of which one imports the other."""
        return sum(map(len, self.rooms.values()))


def measure(package: Path) -> Structure:
    """Read the imports of every module below ``package``."""
    top = next(folder for folder in (package, *package.parents) if not (folder.parent / "__init__.py").exists())
    modules = {_name(path, top.parent): path for path in sorted(package.rglob("*.py"))}
    room_of = {name: _room(path, package) for name, path in modules.items()}
    rooms: dict[str, set[str]] = {room: set() for room in room_of.values() if room}
    for name, path in modules.items():
        for imported in _imports(path):
            found = next((room_of[each] for each in _prefixes(imported) if each in room_of), "")
            if room_of[name] and found and found != room_of[name]:
                rooms[room_of[name]].add(found)
    fixed = {room: frozenset(known) for room, known in sorted(rooms.items())}
    try:
        TopologicalSorter(fixed).prepare()
    except CycleError as error:
        return Structure(fixed, (), tuple(error.args[1]))
    return Structure(fixed, _floors(fixed), ())


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(path: Path, package: Path) -> str:
    """The room of a module; none for the ``__init__`` of a folder whose modules are rooms of their own."""
    folder = path.parent
    parts = folder.relative_to(package).parts
    divided = folder == package or any(each.is_dir() and each.name != "__pycache__" for each in folder.iterdir())
    if not divided:
        return "/".join(parts)
    return "" if path.stem == "__init__" else "/".join((*parts, path.stem))


def _imports(path: Path) -> Iterator[str]:
    """Full names that a module imports; ``from a import b`` may mean the module ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _prefixes(name: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _floors(rooms: Mapping[str, frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    height: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        height[room] = 1 + max((height[known] for known in rooms[room]), default=-1)
    return tuple(
        tuple(room for room, found in sorted(height.items()) if found == floor)
        for floor in range(max(height.values(), default=-1) + 1)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the counts, and the rooms floor by floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", type=Path, default=ROOT / "src" / "omniconv" / "compiler")
    parser.add_argument("--arrows", action="store_true", help="list what each room imports")
    options = parser.parse_args(arguments)
    found = measure(options.package.resolve())
    print(f"{len(found.rooms)} rooms, {len(found.floors) or '?'} floors, {found.arrows} arrows")
    if found.circle:
        print("circle: " + " -> ".join(found.circle))
    for floor, rooms in reversed(list(enumerate(found.floors))):
        print(f"{floor:3d}  " + "  ".join(rooms))
    if options.arrows:
        for room, known in found.rooms.items():
            print(f"{room}: {', '.join(sorted(known)) or '-'}")


if __name__ == "__main__":
    main()
