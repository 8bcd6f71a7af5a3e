"""`bundle`: plain ES modules joined into the text of one inline script, by Python.

A page that is one file cannot import other files, and nothing but Python is needed to make it. So the modules keep to
a part of the language that can be joined by lines::

    import { first, second } from "./other.js";      names of another module, perhaps on several lines
    export function f(...) {    export class C {    export const x = ...

A module declares each of its top-level names at the start of a line, one name to a declaration. Names are unique over
all modules, because joined they share one scope; ``as``, ``default``, ``export { ... }`` and ``import("...")`` are not
there. What breaks these rules is an error with file and line, so that what runs joined also runs apart, where browsers
and node read the modules as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from omniconv.errors import OmniconvError
from omniconv.records import dataclass

ENTRY: Final = "app.js"
"""The module that starts the page."""

_IMPORT: Final = re.compile(r'^import \{([^{}"\']*)\} from "\./([\w.-]+)";[ \t]*(?://.*)?\n', re.MULTILINE)
_DECLARATION: Final = re.compile(r"^(export )?(?:(?:async )?function\*? ?|class |const |let |var )(\S*)", re.MULTILINE)
_MODULE_WORD: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_LOADED: Final = re.compile(r"\bimport *\(|\bimport\.meta\b")
_NAME: Final = re.compile(r"[A-Za-z_$][\w$]*")
_ENDS_SCRIPT: Final = re.compile(r"</script|<!--", re.IGNORECASE)


class BundleError(OmniconvError, ValueError):
    """Modules of the page that cannot be joined into one script."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module: the names it takes from others, the names it declares, and its text without imports and exports.

    Attributes:
        name: file name.
        imports: file name of another module -> the names taken from it.
        exports, names: the names that it exports, and all that it declares at the top.
        body: the text.
    """

    name: str
    imports: Mapping[str, tuple[str, ...]]
    exports: frozenset[str]
    names: tuple[str, ...]
    body: str


def bundle(modules: Mapping[str, str], entry: str = ENTRY) -> str:
    """The text of one module script that does what ``entry`` and the modules that it imports do.

    Example:
        >>> print(bundle({"app.js": 'import { f } from "./f.js";\\nf();\\n', "f.js": "export function f() {}\\n"}))
        // f.js
        function f() {}
        <BLANKLINE>
        // app.js
        f();
        <BLANKLINE>

    Args:
        modules: file name -> text.
        entry: the module that starts the page.

    Raises:
        BundleError: a module that is not there or imports itself through others; a name that two modules declare, or
            that a module does not export; anything but the forms above.
    """
    read: dict[str, Module] = {}
    order = list(_in_order(entry, modules, read, ()))
    owners: dict[str, str] = {}
    for module in order:
        for name in module.names:
            if name in owners:
                other = owners[name]
                where = f"twice in {other}" if other == module.name else f"in {other} and in {module.name}"
                raise BundleError(f"{name} is declared {where}", need="names that are unique over all modules")
            owners[name] = module.name
        for source, names in module.imports.items():
            for name in names:
                if name not in read[source].exports:
                    problem = f"{module.name} imports {name}, which {source} does not export"
                    raise BundleError(problem, need=", ".join(sorted(read[source].exports)) or "an export")
    return "\n".join(f"// {module.name}\n{module.body}" for module in order)


def _in_order(
    name: str, modules: Mapping[str, str], read: dict[str, Module], path: tuple[str, ...]
) -> Iterator[Module]:
    """A module after all that it imports, in the order in which they are imported, each once."""
    if name in path:
        raise BundleError(
            f"modules import one another: {' > '.join((*path[path.index(name) :], name))}", need="no circle"
        )
    if name in read:
        return
    if name not in modules:
        wanted_by = f" that {path[-1]} imports" if path else ""
        raise BundleError(f"there is no module {name!r}{wanted_by}", need="one of " + ", ".join(sorted(modules)))
    found = read_module(name, modules[name])
    for source in found.imports:
        yield from _in_order(source, modules, read, (*path, name))
    read[name] = found
    yield found


def read_module(name: str, text: str) -> Module:
    """Read one module.

    Raises:
        BundleError: a form that cannot be joined.
    """
    if not text.endswith("\n"):
        text += "\n"
    imports: dict[str, tuple[str, ...]] = {}
    for found in _IMPORT.finditer(text):
        taken = tuple(part.strip() for part in found[1].split(",") if part.strip())
        for each in taken:
            if not _NAME.fullmatch(each):
                raise _refuse(name, text, found.start(), f"imports {each!r}", "plain names, without `as`")
        imports[found[2]] = (*imports.get(found[2], ()), *taken)
    rest = _IMPORT.sub("", text)
    names, exports = [], set()
    for found in _DECLARATION.finditer(rest):
        declared = _NAME.match(found[2])
        if declared is None:
            problem = f"declares {found[2]!r} at the top"
            raise _refuse(name, rest, found.start(), problem, "one name to a declaration")
        names.append(declared[0])
        if found[1]:
            exports.add(declared[0])
    body = _DECLARATION.sub(lambda found: found[0].removeprefix("export "), rest)
    for pattern, need in (
        (_MODULE_WORD, '`import { a } from "./x.js";`, or `export` before function, class or const'),
        (_LOADED, "modules that are known before the page starts"),
        (_ENDS_SCRIPT, 'no text that ends an inline script, e.g. "<" + "/script>"'),
    ):
        wrong = pattern.search(body)
        if wrong is not None:
            raise _refuse(name, body, wrong.start(), f"has {wrong[0].strip()!r}", need)
    return Module(name, imports, frozenset(exports), tuple(names), body.strip("\n") + "\n")


def _refuse(name: str, text: str, place: int, problem: str, need: str) -> BundleError:
    line = text[text.rfind("\n", 0, place) + 1 :].partition("\n")[0].strip()
    return BundleError(f"{name} {problem}", need=need, at=line[:120])
