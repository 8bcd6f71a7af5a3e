"""Build the documentation site, or renew what is generated from the registry of kinds.

python docs/build.py            the site, in build/docs
python docs/build.py --write    the table of kinds in README.md and the pages in docs/kinds
python docs/build.py --check    exit code 1 if that table is not current
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from omniconv.explorer import explore
from omniconv.kinds import kinds
from omniconv.kinds.docs import FIGURE, write

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "docs-source"
OUTPUT = ROOT / "build" / "docs"
BEGIN = "<!-- kinds: generated from the registry by docs/build.py --write -->\n"
END = "<!-- end of kinds -->"


def write_table() -> str:
    """The rows of the README's table: one kind each."""
    return "".join(f"| `{kind.name}` | {kind.summary} |\n" for kind in kinds().values())


def renew(text: str) -> str:
    """The README with a current table of kinds."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| kind | what it is |\n| --- | --- |\n"
    return before + BEGIN + head + write_table() + END + after


def write_sources(folder: Path = SOURCE) -> None:
    """The pages as Sphinx takes them: those of this folder and of the root, the explorer, and what they are listed by.

    Markdown files stay readable where they are kept: a link to a file that has no page, such as an example, becomes its
    name here, and the figure of a kind is followed by the explorer, which takes its place where there is JavaScript.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        (folder / name.lower()).write_text(text, encoding="utf-8")
    explore().save(folder / "_static" / "explorer.html", documentation="..")
    for page in (folder / "index.md", *(folder / "kinds" / f"{kind}.md" for kind in kinds())):
        page.write_text(embed(page.read_text(encoding="utf-8")), encoding="utf-8")
    _list_pages(folder / "kinds", sorted(kinds()))
    (folder / "design" / "index.md").write_text("# Decisions\n", encoding="utf-8")
    _list_pages(folder / "design", sorted(path.stem for path in (folder / "design").glob("0*.md")), hidden=False)


def embed(text: str) -> str:
    """A page with the explorer behind its figure of a kind."""
    figure = FIGURE.search(text)
    if figure is None:
        raise ValueError("the page has no figure of a kind")
    kind, address = figure["kind"], f"{figure['up']}_static/explorer.html"
    component = f"""```{{image}} {figure["path"]}
:alt: {figure["alt"]}
:class: kind-figure
```

```{{raw}} html
<iframe class="explorer" title="{kind} in the explorer" src="{address}?embed#kind={kind}" loading="lazy"
  sandbox="allow-scripts allow-downloads"></iframe>
<p class="explorer-link"><a href="{address}#kind={kind}">The whole explorer with this kind</a></p>
```"""
    return text[: figure.start()] + component + text[figure.end() :]


def _list_pages(folder: Path, names: list[str], *, hidden: bool = True) -> None:
    """Append a table of contents to the page of a folder."""
    index = folder / "index.md"
    options = ":hidden:\n" if hidden else ""
    text = index.read_text(encoding="utf-8") + f"\n```{{toctree}}\n{options}\n" + "\n".join(names) + "\n```\n"
    index.write_text(text, encoding="utf-8")


def mend(text: str) -> str:
    """A page of the theme with what screen readers and keyboards miss in it: names, levels, and code that scrolls."""
    for old, new in (
        ('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">'),
        ('<aside class="toc-drawer">', '<aside class="toc-drawer" aria-label="On this page">'),
        ('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
        ('<div id="search-results">', '<h1>Search</h1><div id="search-results">'),
        ("<pre>", '<pre tabindex="0">'),
    ):
        text = text.replace(old, new)
    return text


def build(output: Path = OUTPUT, source: Path = SOURCE) -> int:
    """Write the sources and run Sphinx, for which every warning is an error."""
    write_sources(source)
    shutil.rmtree(output, ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--conf-dir", str(ROOT / "docs")]
    options += ["--define", f"html_static_path={source / '_static'}"]
    command = [sys.executable, "-m", "sphinx", *options, "--doctree-dir", f"{source}.trees", str(source), str(output)]
    code = subprocess.run(command, check=False).returncode
    for page in output.rglob("*.html"):
        if page.parent.name != "_static":
            page.write_text(mend(page.read_text(encoding="utf-8")), encoding="utf-8")
    return code


def main(arguments: list[str] | None = None) -> int:
    """Build, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    if not (options.write or options.check):
        return build()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if options.check:
        return int(renew(text) != text)
    readme.write_text(renew(text), encoding="utf-8")
    write(ROOT / "docs" / "kinds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
