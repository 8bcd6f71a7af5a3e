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

from omniconv.kinds import kinds
from omniconv.kinds.docs import write

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "docs-source"
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


def build() -> int:
    """Copy the pages and run MkDocs."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("*.py", "*.yml", "__pycache__"))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        (SOURCE / name.lower()).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "docs" / "mkdocs.yml")]
    return subprocess.run(command, check=False).returncode


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
