from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.text import Text

from omniconv import __version__
from omniconv.cli.app import app
from omniconv.cli.exits import MEANINGS, Exit

COMMANDS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / "src" / "omniconv" / "cli").glob("*.py")
    if f"\ndef {path.stem}(" in path.read_text(encoding="utf-8")
)
"""Files that define a function of their own name."""


def one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1


def test_version(invoke):
    assert invoke("--version").out == f"omniconv {__version__}\n"


def test_help_names_every_command_and_every_exit_code(invoke):
    found = invoke("--help")
    assert found.code == 0
    text = " ".join(found.out.split())
    assert COMMANDS == [
        "bench",
        "compare",
        "compile",
        "demo",
        "explain",
        "explore",
        "inspect",
        "kinds",
        "map",
        "quantize",
        "run",
        "stream",
        "study",
        "tile",
        "tune",
    ]
    assert all(f" {command} " in text for command in COMMANDS)
    assert all(f"{int(code)} {meaning}" in text for code, meaning in MEANINGS.items())
    assert set(MEANINGS) == set(Exit)


def test_no_command_shows_help(invoke):
    found = invoke()
    assert found.code == 0
    assert "Usage: omniconv" in found.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(invoke, command):
    found = invoke(command, "--help")
    assert found.code == 0
    assert "--json" in found.out


def test_no_word_of_a_help_is_taken_for_markup():
    for name, command in typer.main.get_command(app).commands.items():
        for text in (command.help, *(getattr(item, "help", None) for item in command.params)):
            styles = {str(span.style) for span in Text.from_markup(text or "").spans}
            assert styles <= {"bold", "dim"}, (name, text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fly"], "No such command 'fly'; see omniconv --help"),
        (["compare", "--picture"], "Option '--picture' requires an argument; see omniconv compare --help"),
        (["run"], "Missing argument 'MODEL'; see omniconv run --help"),
        (["run", "m.onnx", "--thread", "2"], "No such option: --thread"),
        (["run", "m.onnx", "--threads", "0"], "--threads"),
        (["run", "m.onnx", "--threads", "two"], "--threads"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(invoke, words, message):
    found = invoke(*words)
    assert found.code == 2
    assert message in found.err
    assert one_line(found.err)
    assert found.out == ""


def test_the_installed_command_runs_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "omniconv", "kinds", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout)["kinds"]


def test_a_closed_pipe_is_no_error():
    script = f"{sys.executable} -c 'from omniconv.cli import main; main()' kinds | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "0"
