"""Concurrent callers of one network: calls a second and latencies, beside ONNX Runtime and OpenVINO.

    python bench/serving.py mobilenet_v2.onnx                     # a table
    python bench/serving.py mobilenet_v2.onnx --save serving.json

Callers are Python threads that call one executable (session, compiled model) again and again, each with an input of its
own, and processes with one caller each, forked and spawned. *1 thread* gives each call one thread, *default* says
nothing to the engine. Every answer is compared with that engine's first one to the same input: ``other bits`` counts
those that differ. Engines take turns, and the median of the turns is shown; latencies are of all turns together.

OpenVINO has as many streams of one thread as there are callers or processors in the first mode. A forked process of
Omniconv goes on with what its parent compiled; the others must open the model anew, since their threads do not live
through a fork.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from omniconv.bench.machine import describe_machine, find_version
from omniconv.processors import find_cores

SETTLE = 0.1
"""Between turns, for threads of other engines that spin [s]."""
MODES: Final = ("1 thread", "default")

Call = Callable[[Any], Any]


def open_omniconv(path: Path, shape: Sequence[int], one: bool, callers: int) -> Callable[[], Call]:
    """A maker of calls, one for each caller."""
    import omniconv as oc

    del callers
    name = read_input(path)
    net = oc.compile(path, shapes={name: shape}, threads=1 if one else None)
    return lambda: net


def open_onnxruntime(path: Path, shape: Sequence[int], one: bool, callers: int) -> Callable[[], Call]:
    """A maker of calls: all of one session."""
    import onnxruntime as ort

    del shape, callers
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if one:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: lambda x: session.run(None, {name: x})[0]


def open_openvino(path: Path, shape: Sequence[int], one: bool, callers: int) -> Callable[[], Call]:
    """A maker of calls: a request for each caller."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(str(path))
    model.reshape(list(shape))
    streams = min(callers, find_cores().number)
    settings = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams} if one else {}
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})

    def make() -> Call:
        request = compiled.create_infer_request()
        return lambda x: np.array(request.infer([x], share_inputs=True)[0])

    return make


ENGINES: Final = {"Omniconv": open_omniconv, "ONNX Runtime": open_onnxruntime, "OpenVINO": open_openvino}
PACKAGES: Final = {"Omniconv": "omniconv", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


def read_input(path: Path) -> str:
    """The name of the input."""
    import onnx

    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


def make_inputs(shape: Sequence[int], callers: int) -> list[Any]:
    """An input for each caller."""
    return list(np.random.default_rng(0).standard_normal((callers, *shape)).astype(np.float32))


@dataclass
class Tally:
    """What the callers of an engine did.

    Attributes:
        rates: calls a second, of each turn.
        latencies: of all calls [s].
        other: answers whose bits differ from the first one to the same input.
    """

    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    other: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For a report; milliseconds."""
        points = np.percentile(self.latencies, [50, 95, 99]) * 1e3
        return {
            "rate": statistics.median(self.rates),
            "calls": len(self.latencies),
            **{f"p{n}_ms": float(value) for n, value in zip((50, 95, 99), points, strict=True)},
            "other_bits": self.other,
        }


def take_turn(calls: Sequence[Call], inputs: Sequence[Any], expected: Sequence[bytes], seconds: float) -> Tally:
    """All callers at once, for a while."""
    found = [Tally() for _ in calls]
    gate = threading.Barrier(len(calls))

    def work(number: int) -> None:
        call, x, want, mine = calls[number], inputs[number], expected[number], found[number]
        gate.wait()
        begun = now = time.perf_counter()
        while now - begun < seconds:
            y = call(x)
            after = time.perf_counter()
            mine.latencies.append(after - now)
            mine.other += y.tobytes() != want
            now = time.perf_counter()
        mine.rates.append(len(mine.latencies) / (now - begun))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Tally([sum(tally.rates[0] for tally in found)])
    for tally in found:
        whole.latencies += tally.latencies
        whole.other += tally.other
    return whole


def measure_threads(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table for threads of this process."""
    rows = []
    for callers in options.callers:
        inputs = make_inputs(options.shape, callers)
        tallies: dict[tuple[str, str], Tally] = {}
        calls, expected = {}, {}
        for engine in options.engines:
            for mode in MODES:
                make = ENGINES[engine](options.model, options.shape, mode == MODES[0], callers)
                key = engine, mode
                calls[key], tallies[key] = [make() for _ in range(callers)], Tally()
                expected[key] = [call(x).tobytes() for call, x in zip(calls[key], inputs, strict=True)]
        for _ in range(options.rounds):
            for key, tally in tallies.items():
                time.sleep(SETTLE)
                turn = take_turn(calls[key], inputs, expected[key], options.seconds)
                tally.rates += turn.rates
                tally.latencies += turn.latencies
                tally.other += turn.other
        rows += [
            {"engine": engine, "mode": mode, "callers": f"{callers} threads", **tally.as_dict()}
            for (engine, mode), tally in tallies.items()
        ]
    return rows


def serve(
    make: Callable[[], Call] | None,
    engine: str,
    mode: str,
    options: argparse.Namespace,
    gate: Any,
    found: Any,
    number: int,
) -> None:
    """A process with one caller."""
    one = mode == MODES[0]
    call = (make or ENGINES[engine](options.model, options.shape, one, options.processes))()
    x = make_inputs(options.shape, options.processes)[number]
    first = call(x).tobytes()
    for _ in range(options.rounds):
        gate.wait(60)
        found.put((number, first, take_turn([call], [x], [first], options.seconds)))


def measure_processes(options: argparse.Namespace, method: str) -> list[dict[str, Any]]:
    """Rows of the table for processes that are started by a method."""
    context: Any = multiprocessing.get_context(method)
    rows = []
    for engine in options.engines:
        for mode in MODES:
            inherits = engine == "Omniconv" and method == "fork"
            make = ENGINES[engine](options.model, options.shape, mode == MODES[0], 1) if inherits else None
            gate, found = context.Barrier(options.processes + 1), context.Queue()
            workers = [
                context.Process(target=serve, args=(make, engine, mode, options, gate, found, number))
                for number in range(options.processes)
            ]
            for worker in workers:
                worker.start()
            tally, answers = Tally(), dict[int, bytes]()
            for _ in range(options.rounds):
                gate.wait(60)
                turns = [found.get(timeout=60) for _ in workers]
                tally.rates.append(sum(turn.rates[0] for _, _, turn in turns))
                for number, first, turn in turns:
                    tally.latencies += turn.latencies
                    tally.other += turn.other + (answers.setdefault(number, first) != first)
            for worker in workers:
                worker.join()
            if make is not None:
                inputs = make_inputs(options.shape, options.processes)
                tally.other += sum(make()(inputs[number]).tobytes() != first for number, first in answers.items())
            rows.append(
                {"engine": engine, "mode": mode, "callers": f"{options.processes} by {method}", **tally.as_dict()}
            )
    return rows


def main() -> int:
    """Print the table; 1 where an answer of Omniconv has other bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", type=int, nargs="+", default=[1, 3, 224, 224])
    parser.add_argument("--callers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=["fork", "spawn"])
    parser.add_argument("--engines", nargs="+", default=[name for name in ENGINES if find_version(PACKAGES[name])])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    cores = find_cores()
    print(f"{options.model.name}, {cores.number} cores ({cores.why})")
    print(f"{'callers':12} {'engine':13} {'mode':9} calls/s     p50     p95     p99 ms  other bits")
    rows = []
    # Forks come first: afterwards this process has threads of engines that a child would lack.
    for method in [*options.methods, None]:
        more = measure_threads(options) if method is None else measure_processes(options, method)
        rows += more
        for row in more:
            print(
                f"{row['callers']:12} {row['engine']:13} {row['mode']:9} {row['rate']:7.1f} "
                + " ".join(f"{row[f'p{n}_ms']:7.2f}" for n in (50, 95, 99))
                + f"     {row['other_bits']} of {row['calls']}",
                flush=True,
            )
    if options.save is not None:
        options.save.write_text(json.dumps({"machine": describe_machine(cores.number), "rows": rows}, indent=1))
    return 1 if any(row["other_bits"] for row in rows if row["engine"] == "Omniconv") else 0


if __name__ == "__main__":
    raise SystemExit(main())
