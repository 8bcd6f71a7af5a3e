"""``omniconv study``: what is claimed of the kinds of convolution, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omniconv.cli.console import advance, make_table, out, print_json, progress, write_json
from omniconv.cli.options import Json
from omniconv.cli.outputs import check_output_folder, need_packages, open_whole
from omniconv.processors import find_cores
from omniconv.study.settings import StudySettings

if TYPE_CHECKING:
    from omniconv.study.study import Study

EXTRA: Final = "study"
PACKAGES: Final = ("torch", "onnxscript", "jinja2", "matplotlib")
_DEFAULT: Final = StudySettings()
_COLOURS: Final = {"held": "green", "not held": "red", "undecided": "yellow"}


def study(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="digits (scikit-learn), textures (scikit-image), a folder with a folder for each class, an .npz file, "
            "or a folder that the library datasets saved.",
        ),
    ] = "digits",
    kinds: Annotated[
        str,
        typer.Option("--kinds", "-k", help="Kinds with commas between, beside the standard one.", show_default="all"),
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Networks of each kind.")] = _DEFAULT.seeds,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="Seeds are the numbers from here on.")] = 0,
    width: Annotated[int, typer.Option("--width", min=4, help="Channels of the first layer.")] = _DEFAULT.width,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of each training, at most.")] = _DEFAULT.epochs,
    decoder_steps: Annotated[
        int, typer.Option("--decoder-steps", min=1, help="Of training of each decoder.")
    ] = _DEFAULT.decoder_steps,
    images: Annotated[
        int | None, typer.Option("--images", min=20, help="Use so many at most.", show_default="all")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", "-m", help="Train fewer epochs where it would take longer.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on with what the folder holds, or begin anew.")
    ] = True,
    folder: Annotated[Path, typer.Option("--out", "-o", help="The folder of the results.")] = Path("study"),
    processes: Annotated[
        int | None, typer.Option("--processes", "-p", min=1, max=1024, help="That train at once.", show_default="cores")
    ] = None,
    json: Json = False,
) -> None:
    """Train one small network with [bold]every kind of convolution[/bold], measure it, and judge what is claimed.

    Writes study.json, study.html, study.svg and a journal, with which the same command goes on when it was stopped.
    """
    names = tuple(name.strip().replace("-", "_") for name in kinds.split(",") if name.strip())
    settings = StudySettings(names, seeds, first_seed, width, epochs, decoder_steps, images, minutes)
    check_output_folder("--out", folder, PACKAGES, EXTRA)
    if data in {"digits", "textures"}:
        need_packages(["sklearn" if data == "digits" else "skimage"], EXTRA)
    folder.mkdir(exist_ok=True)
    found = carry_out(data, settings, folder, resume=resume, processes=processes or find_cores().number)
    write(found, folder)
    if json:
        print_json(found.to_dict())
    else:
        show(found)
        out().print(f"written to {folder}", markup=False, highlight=False, soft_wrap=True)


def carry_out(data: str, settings: StudySettings, folder: Path, *, resume: bool, processes: int) -> Study:
    """The study, with a bar."""
    from omniconv.study.run import run_study

    with progress("starting") as bar:

        def report(text: str, share: float) -> None:
            bar.update(bar.task_ids[0], description=text)
            advance(bar, share)

        return run_study(data, settings, folder=folder, resume=resume, processes=processes, on_step=report)


def write(found: Study, folder: Path) -> None:
    """All files, each whole or not at all."""
    from omniconv.report.pictures import save
    from omniconv.study.page import make_study_page
    from omniconv.study.picture import draw_study

    write_json(folder / "study.json", found.to_dict())
    with open_whole(folder / "study.html") as file:
        file.write(make_study_page(found).encode())
    save(draw_study(found), folder / "study.svg")


def show(found: Study) -> None:
    """Print the tables and the verdicts."""
    from omniconv.study.tables import make_accuracies, make_decoders, make_times
    from omniconv.study.words import write_paragraph

    console = out()
    tables = (
        make_accuracies("Same width", found.same_width, layers=False),
        make_accuracies(
            "Same measured time of a step of training; step: its time over that of the standard network",
            found.same_time,
            layers=False,
        ),
        make_times(found),
        make_decoders(found.decoders),
    )
    for table in tables:
        console.print(make_table(table.title, table.columns, table.rows, left=table.left))
    for claim in found.claims:
        console.print(f"[bold]{claim.title}[/bold] [{_COLOURS[claim.verdict]}]{claim.verdict}[/]")
        console.print(f"  {write_paragraph(claim)}", markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True, style="dim")
