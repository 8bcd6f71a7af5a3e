"""Modules are joined in the order of their imports, and whatever could not be joined is refused."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from omniconv.explorer.bundle import BundleError, bundle, read_module
from omniconv.explorer.document import read_modules

MODULES = {
    "app.js": 'import { add } from "./add.js";\nimport {\n  ONE,\n  Box,\n} from "./values.js";\n\n'
    "const found = new Box(add(ONE, ONE));\nconsole.log(found.value);\n",
    "add.js": 'import { ZERO } from "./values.js"; // a comment\nexport async function later() {}\n'
    "export function add(a, b) {\n  return ZERO + a + b;\n}\n",
    "values.js": "export const ZERO = 0;\nexport const ONE = 1;\nexport class Box {\n  constructor(value) {\n"
    "    this.value = value;\n  }\n}\n",
}


def test_a_module_stands_after_what_it_imports_and_only_once():
    text = bundle(MODULES)
    assert [line for line in text.splitlines() if line.startswith("// ")] == ["// values.js", "// add.js", "// app.js"]
    assert "import" not in text
    assert "export" not in text
    assert text.count("const ZERO = 0;") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_what_is_joined_does_what_the_modules_do(tmp_path):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "all.mjs").write_text(bundle(MODULES))
    apart, joined = (
        subprocess.run(["node", name], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for name in ("app.js", "all.mjs")
    )
    assert apart == joined == "2\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"app.js": 'import { a } from "./none.js";\n'},
            "there is no module 'none.js' that app.js imports; need one of",
        ),
        ({"values.js": 'import { add } from "./add.js";\nexport const ZERO = 0;\n'}, "add.js > values.js > add.js"),
        ({"add.js": "export const add = 1;\nconst ONE = 2;\n"}, "ONE is declared in add.js and in values.js"),
        ({"values.js": "const ZERO = 0;\nfunction ZERO() {}\n"}, "ZERO is declared twice in values.js"),
        ({"values.js": "const ZERO = 0;\n"}, "add.js imports ZERO, which values.js does not export"),
        ({"app.js": 'import { add as plus } from "./add.js";\n'}, "imports 'add as plus'; need plain names"),
        ({"app.js": 'import add from "./add.js";\n'}, "app.js has 'import add from"),
        ({"app.js": 'import { add } from "https://x.org/add.js";\n'}, "app.js has 'import { add } from"),
        ({"app.js": 'import "./add.js";\n'}, "app.js has 'import"),
        ({"app.js": "export default function () {}\n"}, "app.js has 'export default"),
        ({"app.js": "const a = 1;\nexport { a };\n"}, "app.js has 'export { a };'"),
        ({"app.js": 'export * from "./add.js";\n'}, "app.js has 'export \\*"),
        ({"app.js": "const { a } = { a: 1 };\n"}, "declares '{' at the top; need one name"),
        ({"app.js": 'const f = () => import("./add.js");\n'}, "modules that are known before"),
        ({"app.js": "const here = import.meta.url;\n"}, "modules that are known before"),
        ({"app.js": 'const text = "</script>";\n'}, "no text that ends an inline script"),
        ({"app.js": 'const text = "<!--";\n'}, "no text that ends an inline script"),
    ],
)
def test_what_cannot_be_joined_is_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        bundle(MODULES | changes)


def test_an_error_says_where():
    with pytest.raises(BundleError, match=r"\| export default 3;$"):
        read_module("x.js", "const a = 1;\nexport default 3;\nconst b = 2;\n")


def test_every_module_of_the_page_is_used():
    modules = read_modules()
    text = bundle(modules)
    assert [name for name in modules if f"// {name}\n" not in text] == []
