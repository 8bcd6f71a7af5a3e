"""``omniconv stream``: run a model over sound as it comes, from files or pipes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from omniconv.cli.console import format_time, out, print_json
from omniconv.cli.exits import UsageProblemError
from omniconv.cli.options import Dtype, Exact, Json, Model, Output, Threads
from omniconv.cli.outputs import check_not_read
from omniconv.cli.wav import MOST_CHANNELS, Sound, SoundWriter, check_format, read_blocks, read_header
from omniconv.errors import ShapeError, UnsupportedError
from omniconv.runtime.streams import MOST_CHUNK

if TYPE_CHECKING:
    from omniconv.runtime.inputs import Array
    from omniconv.runtime.stream import Stream

PIPE = "-"
MILLISECONDS = 10
"""Of a chunk, where none is asked for."""


def stream(
    model: Model,
    source: Annotated[str, typer.Argument(metavar="IN", help="A WAV file, or - for samples on standard input.")],
    result: Annotated[str, typer.Argument(metavar="OUT", help="A WAV file, or - for samples on standard output.")],
    chunk: Annotated[
        int | None, typer.Option("--chunk", min=1, max=MOST_CHUNK, help="Samples of a push; default 10 ms.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="Samples on pipes, or of OUT: f32le or s16le.")] = None,
    rate: Annotated[int | None, typer.Option("--rate", min=1, help="With IN -: samples a second.")] = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, max=MOST_CHANNELS, help="With IN -: channels, side by side.")
    ] = 1,
    output: Output = None,
    exact: Exact = False,
    threads: Threads = None,
    dtype: Dtype = "float32",
    json: Json = False,
) -> None:
    """Run a [bold]model[/bold] over sound as it comes: the same result as of the whole, a little late.

    The model reads (N, T), (N, 1, T) or (N, channels, T). One of a single channel runs for each channel of IN alone.
    """
    if form is not None:
        check_format(form)
    if source == PIPE and rate is None:
        raise UsageProblemError("IN - needs --rate, e.g. --rate 16000")
    if source != PIPE and (rate is not None or channels != 1):
        raise UsageProblemError("--rate and --channels belong to IN -; a WAV file says its own")
    if PIPE not in (source, result):
        check_not_read("OUT", Path(result), Path(source))
    with ExitStack() as stack:
        if source == PIPE:
            sound, size, file = Sound(channels, rate or 1, form or "f32le"), None, stdin()
        else:
            file = stack.enter_context(Path(source).open("rb"))
            sound, size = read_header(file, source)
        net = _Net(model, sound, chunk, output, {"exact": exact, "threads": threads, "dtype": dtype})
        blocks = read_blocks(file, sound, size, net.chunk, source)
        report = _run(net, blocks, result, Sound(net.channels, net.rate, form or sound.form))
    if result == PIPE:
        return
    if json:
        print_json({"model": model.name, "result": result, **report})
        return
    many = f"{net.channels} channel{'s' if net.channels > 1 else ''}"
    first, *rest = (
        f"{report['samples']} samples of {many} at {report['rate']} Hz written to {result}",
        f"latency {report['latency']} samples, {format_time(report['latency_seconds'])}",
        f"{report['real_time_factor']:.3g} of real time, chunks of {report['chunk']}",
        *([f"{report['clipped']} samples beyond 16 bits"] if report["clipped"] else []),
    )
    out().print("; ".join((first, *rest)), markup=False, highlight=False, soft_wrap=True)


def stdin() -> IO[bytes]:
    """Where samples come in."""
    return sys.stdin.buffer


def stdout() -> IO[bytes]:
    """Where samples go out."""
    return sys.stdout.buffer


class _Net:
    """The model, with a stream for each channel, or one for all."""

    def __init__(
        self, model: Path, sound: Sound, chunk: int | None, output: str | None, options: dict[str, Any]
    ) -> None:
        import omniconv as oc

        net: Any = oc.compile(str(model), **options)
        signature = getattr(net, "signature", None) or net.inputs
        ((_, dims),) = signature.items() if len(signature) == 1 else [("", None)]
        if dims is None or len(dims) not in (2, 3):
            raise ShapeError(f"inputs {dict(signature)}", need="one input (N, T) or (N, channels, T)", at=model.name)
        inside = dims[1] if len(dims) == 3 and isinstance(dims[1], int) else 1
        if inside not in (1, sound.channels):
            raise ShapeError(f"{sound.channels} channels for a model of {inside}", need=f"{inside}", at=model.name)
        self.chunk = chunk or min(max(sound.rate * MILLISECONDS // 1000, 1), MOST_CHUNK)
        self._rank, self._inside = len(dims), inside
        shape = (1, inside, 1)[: len(dims)] if len(dims) == 3 else (1, 1)
        many = sound.channels // inside
        self.streams: Sequence[Stream] = [net.stream(-1, self.chunk, shape=shape, output=output) for _ in range(many)]
        plan = self.streams[0].plan
        self._dtype = plan.dtype
        exact = sound.rate * plan.rate
        if exact.denominator != 1 or exact > 2**31:
            raise UnsupportedError(f"a result of {exact} samples a second", need="a whole number", at=model.name)
        self.rate = int(exact)
        room = plan.room(0)
        if plan.out_axis != len(room) - 1:
            raise UnsupportedError(
                f"a result of shape {room} along axis {plan.out_axis}", need="time last", at=model.name
            )
        self.channels = many * math.prod(room[:-1])
        if self.channels > MOST_CHANNELS:
            raise UnsupportedError(f"a result of {self.channels} channels", need=f"{MOST_CHANNELS}", at=model.name)

    def push(self, block: Array) -> Array:
        """What is ready, as ``(channels, samples)``."""
        parts = [
            stream.push(self._enter(block[n * self._inside : (n + 1) * self._inside]))
            for n, stream in enumerate(self.streams)
        ]
        return self._leave(parts)

    def flush(self) -> Array:
        """The rest."""
        return self._leave([stream.flush() for stream in self.streams])

    def _enter(self, part: Array) -> Array:
        return np.ascontiguousarray(part if self._rank == 2 else part[None], self._dtype)

    def _leave(self, parts: Sequence[Array]) -> Array:
        return np.concatenate([part.reshape(math.prod(part.shape[:-1]), part.shape[-1]) for part in parts])


def _run(net: _Net, blocks: Iterator[Array], result: str, sound: Sound) -> dict[str, Any]:
    """Write what the blocks become, and say how it went."""
    pipe: IO[bytes] | None = stdout() if result == PIPE else None
    path = None if pipe is not None else Path(result)
    writer = SoundWriter(path, pipe, sound, raw=pipe is not None)
    seconds, came, samples = 0.0, 0, 0
    try:
        for block in blocks:
            start = time.perf_counter()
            y = net.push(block)
            seconds += time.perf_counter() - start
            came, samples = came + block.shape[1], samples + y.shape[1]
            writer.write(y)
        y = net.flush()
        writer.write(y)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    latency = net.streams[0].latency
    rate = net.rate / net.streams[0].plan.rate
    return {
        "samples": samples + y.shape[1],
        "channels": net.channels,
        "rate": net.rate,
        "chunk": net.chunk,
        "latency": latency.samples,
        "latency_seconds": float(Fraction(latency.samples) / rate),
        "real_time_factor": float(seconds * rate / came) if came else 0.0,
        "clipped": writer.clipped,
    }
