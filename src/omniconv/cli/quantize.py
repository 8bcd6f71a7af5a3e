"""``omniconv quantize``: a model in float32 becomes one in integers of 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer
from rich.markup import escape

from omniconv.cli.console import advance, format_time, make_table, out, print_json, progress
from omniconv.cli.inspect_report import shorten
from omniconv.cli.model import fix_shapes, read_inputs
from omniconv.cli.options import Json, Model, Shapes, Threads, parse_shapes
from omniconv.cli.outputs import PAGES, check_output, open_whole
from omniconv.cli.scaling import Deviation, Mean, Multiply, Scaling, read_scaling
from omniconv.limits import format_size
from omniconv.quantization import PRECISIONS, LayerReport, QuantOptions, QuantReport, quantize_with_report
from omniconv.records import dataclass
from omniconv.report.words import visible

MODELS: Final = (".onnx",)


@dataclass(frozen=True, slots=True)
class Fitting:
    """The middle of a picture whose shorter side was brought to a size, then scaled; channels last.

    Attributes:
        side: the shorter side becomes so long; 0 for pictures as they are.
        size: what is cut out, ``(height, width)``.
        scaling: of the values.
    """

    side: int
    size: tuple[int, int]
    scaling: Scaling | None

    def __call__(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Of one picture of 8 bits."""
        if self.side:
            from PIL import Image

            height, width = x.shape[:2]
            factor = self.side / min(height, width)
            larger = (max(round(width * factor), self.size[1]), max(round(height * factor), self.size[0]))
            x = np.asarray(Image.fromarray(x).resize(larger, Image.Resampling.BILINEAR))
            top, left = ((x.shape[n] - self.size[n]) // 2 for n in range(2))
            x = x[top : top + self.size[0], left : left + self.size[1]]
        return np.asarray(x, np.float64) if self.scaling is None else self.scaling(x)


def quantize(
    model: Model,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FOLDER-or-NPZ", help="Samples: images, in folders of their classes; or .npz."),
    ],
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write.", show_default="MODEL.int8.onnx")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Samples to measure on; default: those of --data.")
    ] = None,
    ranges: Annotated[str, typer.Option("--ranges", help="minmax, percentile, entropy or mse.")] = "mse",
    percentile: Annotated[float, typer.Option("--percentile", help="Of --ranges percentile.")] = 99.99,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", help="Most points of top-1 to lose, of a classifier.")
    ] = None,
    min_snr: Annotated[
        float | None, typer.Option("--min-snr", help="Least ratio of signal to noise of the outputs, in dB.")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="A layer that stays in floats; repeat it.")] = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Measure each layer alone.")] = False,
    per_channel: Annotated[
        bool,
        typer.Option("--per-channel/--per-tensor", help="A scale for each output channel of weights, or one for all."),
    ] = True,
    reduce_range: Annotated[
        bool, typer.Option("--reduce-range", help="Weights of 7 bits, for runtimes whose sums of bytes saturate.")
    ] = False,
    equalize: Annotated[bool, typer.Option("--equalize/--no-equalize", help="Scale channels to alike ranges.")] = True,
    correct_bias: Annotated[
        bool, typer.Option("--correct/--no-correct", help="Take the mean error of weights off biases.")
    ] = True,
    resize: Annotated[
        int,
        typer.Option("--resize", min=0, help="Bring the shorter side to this and cut out the middle; 0 for neither."),
    ] = 0,
    scale: Multiply = 1.0,
    mean: Mean = "0",
    std: Deviation = "1",
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with all layers.")] = None,
    measure: Annotated[bool, typer.Option("--time", help="Time each layer at each precision on this machine.")] = False,
    fastest: Annotated[
        bool, typer.Option("--fastest", help="Leave layers in floats where that makes the model faster here.")
    ] = False,
    bfloat16: Annotated[
        bool,
        typer.Option("--bfloat16", help="Weights of layers in floats as bfloat16, of as many as the budget allows."),
    ] = False,
    shape: Shapes = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Make a [bold]model[/bold] compute in integers of 8 bits, and write it as ONNX that other runtimes load as well.

    Layers stay in floats until --max-drop and --min-snr are kept, and with --fastest where they take less time so; the
    table says which and why.
    """
    target = model.with_name(f"{model.stem}.int8.onnx") if output is None else output
    check_output("--out", target, MODELS, reads=model)
    check_output("--report", report, PAGES, ["jinja2"])
    options = QuantOptions(
        ranges=ranges,
        percentile=percentile,
        per_channel=per_channel,
        reduce_range=reduce_range,
        equalize=equalize,
        correct_bias=correct_bias,
        max_drop=max_drop,
        min_snr=min_snr,
        keep=tuple(keep or ()),
        sensitivity=sensitivity,
        time=measure,
        fastest=fastest,
        bfloat16=bfloat16,
        threads=threads,
    )
    inputs = read_inputs(model)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    scaling = read_scaling(scale, mean, std)
    prepare: Callable[[npt.NDArray[Any]], Any] | None = scaling
    if resize:
        sizes = next(iter(shapes.values()))[-2:]
        prepare = Fitting(resize, (sizes[0], sizes[-1]), scaling)
    with progress(f"quantising {model.name}") as bar:

        def show(text: str, share: float) -> None:
            bar.update(bar.task_ids[0], description=text)
            advance(bar, share)

        found = quantize_with_report(
            str(model), data, test=test, preprocess=prepare, shapes=shapes, options=options, on_progress=show
        )
    with open_whole(target) as file:
        file.write(found.model.SerializeToString())
    if report is not None:
        from omniconv.report.quantization import write_quant_page

        write_quant_page(model.name, found.report, report)
    if json:
        print_json(
            {
                "model": model.name,
                "out": str(target),
                "options": asdict(options),
                **found.report.to_dict(),
            }
        )
        return
    show_report(model.name, found.report)
    for path in (target, report):
        if path is not None:
            out().print(f"written to {path}", highlight=False, markup=False, soft_wrap=True)


def show_report(name: str, found: QuantReport) -> None:
    """Print the table of layers and what became of the network."""
    console = out()
    timed = [name for name in PRECISIONS if any(name in layer.seconds for layer in found.layers)]
    columns = ["layer", "operator", "as", "dB", "alone", *(f"{name} [us]" for name in timed), "range", "bytes"]
    rows = [[escape(cell) for cell in make_row(layer, timed)] for layer in found.layers]
    console.print(make_table(escape(visible(name)), columns, rows, left=3))
    for layer in found.kept:
        console.print(f"{visible(layer.name)} stays in {layer.precision}: {layer.reason}", markup=False, soft_wrap=True)
    for label, reason in found.others.items():
        console.print(f"{visible(label)}: {reason}", markup=False, soft_wrap=True)
    rewrites = f"norms folded: {found.folded}, pairs equalised: {found.equalised}, shifted: {found.absorbed}, "
    rewrites += f"biases corrected: {found.corrected}; samples: {found.samples}, ranges by {found.ranges}"
    console.print(rewrites)
    for what, seconds in found.times.items():
        text = format_time(seconds) if isinstance(seconds, float) else seconds
        console.print(f"{what}: {text}", highlight=False, markup=False, soft_wrap=True)
    console.print(say(found), markup=False, soft_wrap=True)


def say(found: QuantReport) -> str:
    """What became of a network, in one line."""
    text = (
        f"{len(found.layers) - len(found.kept)} of {len(found.layers)} layers in integers; outputs {found.snr:.1f} dB"
    )
    if found.accuracy is not None:
        text += f"; top-1 {found.accuracy:.2f} %"
    if found.drop is not None:
        text += f", {found.drop:.2f} points lost"
    sizes = f"{format_size(found.bytes_before)} became {format_size(found.bytes_after)}"
    return f"{text}; {sizes} in {format_time(found.seconds)}"


def make_row(layer: LayerReport, timed: Sequence[str]) -> list[str]:
    """The cells of one layer, with its times at these precisions."""
    limits = "" if layer.low is None or layer.high is None else f"{layer.low:.4g} to {layer.high:.4g}"
    return [
        shorten(layer.name),
        layer.op,
        layer.precision,
        "" if layer.snr is None else f"{layer.snr:.1f}",
        "" if layer.alone is None else f"{layer.alone:.1f}",
        *(show_time(layer, name) for name in timed),
        limits,
        f"{layer.bytes_before} > {layer.bytes_after}" if layer.bytes_before else "",
    ]


def show_time(layer: LayerReport, name: str) -> str:
    """What a layer takes at a precision [us]; a mark where that stands with another layer."""
    if layer.timed_with:
        return '"'
    return f"{1e6 * layer.seconds[name]:.1f}" if name in layer.seconds else ""
