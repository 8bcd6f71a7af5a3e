"""One case: a damaged model is refused with a typed error, or runs within bounds and gives what the reference gives."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from tests.graph.mutations import mutate_bytes, mutate_fields, mutate_values
from tests.graph.small_models import input_shapes
from tests.hostile.evaluator import OPERATORS
from tests.hostile.seeds import SEEDS
from tests.registry.compiled import strictly

import omniconv as oc
from omniconv.errors import OmniconvError
from omniconv.runtime.network import Network

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

LIMIT: Final = 2**26
"""Memory that a model is allowed [bytes]."""
MOST_MEMORY: Final = 2**29 + 2**28
"""What a case may add to the process: some values of the largest size, machine code, what NumPy holds [bytes]."""
MOST_SECONDS: Final = 10.0
"""Processor time of a case [s]."""
ADDRESSES: Final = 2**33
"""Address space beside what the process has taken when it begins [bytes]."""
EXTREMES: Final = (0, 1, -1, 2, 7, -7, 100, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
SPECIAL: Final = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 3e38, -1e30, 1e6)
SIZES: Final = (0, 1, 2, 3, 5, 17, 64, 1000, 2**16, 2**24, 2**31, 2**40)
"""What open sizes are called with."""
_MANY_PIXELS: Final = 512
"""An axis along which positions in float32 are off by 1e-5 of a pixel and more."""
_PIXEL: Final = 1e-2
"""What they may be off by [pixels]."""


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        verdict: right, refused, unjudged (no reference runs it), wrong, crashed, slow or large.
        reason: for a refusal the error and its rule; otherwise what is at odds.
        detail: what is needed to understand a failure.
    """

    verdict: str
    reason: str = ""
    detail: str = ""


def same(data: onnx.ModelProto, _seed: int) -> onnx.ModelProto:
    """The model as it is: only its inputs are hostile."""
    return data


def open_sizes(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with all, or most, sizes of its inputs left open: it is then called with hostile ones."""
    rng = random.Random(seed)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for info in opened.graph.input:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_value and rng.random() < 0.8:
                dim.dim_param = f"{info.name}{axis}"
    return opened


def draw_sizes(model: onnx.ModelProto, known: Shapes, rng: np.random.Generator) -> Shapes:
    """Shapes of inputs, with a few of the open sizes hostile; a symbol is one size."""
    symbols = {
        dim.dim_param: size
        for info in model.graph.input
        for dim, size in zip(info.type.tensor_type.shape.dim, known[info.name], strict=True)
        if dim.dim_param
    }
    for symbol in symbols:
        if rng.random() < 1.5 / len(symbols):
            symbols[symbol] = int(rng.choice(SIZES))
    return {
        info.name: tuple(symbols.get(dim.dim_param, dim.dim_value) for dim in info.type.tensor_type.shape.dim)
        for info in model.graph.input
    }


DAMAGE: Final = {
    "bytes": mutate_bytes,
    "fields": mutate_fields,
    "values": mutate_values,
    "inputs": same,
    "sizes": open_sizes,
}


def make_case(kind: str, seed: int) -> tuple[bytes, Arrays]:
    """The file of a case and its inputs."""
    name, at = list(SEEDS)[seed % len(SEEDS)], seed // len(SEEDS)
    model = SEEDS[name]()
    rng = np.random.default_rng([seed, len(kind)])
    damage: Any = DAMAGE[kind]
    damaged = damage(model.SerializeToString() if kind == "bytes" else model, at)
    data = damaged if isinstance(damaged, bytes) else damaged.SerializeToString()
    declared = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    known: Shapes = input_shapes(model)
    if kind == "sizes":
        known = draw_sizes(damaged, known, rng)
    else:
        with contextlib.suppress(Exception):
            parsed = onnx.ModelProto.FromString(data)
            shapes = {name: shape for name, shape in input_shapes(parsed).items() if np.prod(shape, dtype=float) < 4096}
            known |= {name: shape for name, shape in shapes.items() if min(shape, default=1) >= 0}
            declared |= {info.name: info.type.tensor_type.elem_type for info in parsed.graph.input}
            given = {info.name for info in parsed.graph.input} - {item.name for item in parsed.graph.initializer}
            known = {name: shape for name, shape in known.items() if name in given}
    inputs = {}
    for key, shape in known.items():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(declared[key]))
            inputs[key] = draw(rng, shape, dtype, hostile=kind == "inputs" and rng.random() < 0.8)
    return data, inputs


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], *, hostile: bool) -> np.ndarray:
    """Small numbers; with some that are extreme. What is larger than any case may take is one number, read again."""
    if np.prod(shape, dtype=float) * dtype.itemsize > LIMIT:
        return np.broadcast_to(np.ones((), dtype), shape)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), dtype)
    if dtype.kind in "iu":
        array = np.asarray(rng.integers(0, 4, shape), dtype)
        choices = np.array(EXTREMES).astype(dtype)
    else:
        array = np.asarray(rng.integers(-8, 9, shape) / 4, dtype)
        choices = np.array(SPECIAL).astype(dtype)
    if hostile and array.size:
        where = rng.random(shape) < (1.0 if rng.random() < 0.2 else 0.15)
        array = np.asarray(np.where(where, rng.choice(choices, shape), array), dtype)
    return array


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what Python runs for too long."""

    def stop(_signal: int, _frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Let no case take the whole machine."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, resource.RLIM_INFINITY))


def watch_memory() -> int:
    """The most memory since the last call [bytes]; 0 where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return int(re.findall(r"VmHWM:\s*(\d+)", text)[0]) * 1024


def run_case(kind: str, seed: int) -> Outcome:
    """Compile and run one damaged model, then judge."""
    data, inputs = make_case(kind, seed)
    watch_memory()
    before, begun = watch_memory(), time.process_time()
    f: Any = None
    given: Arrays = {}
    compiled = begun
    try:
        f = oc.compile(data, memory_limit=LIMIT)
        if isinstance(f, Network):
            f = f.fix({name: x.shape for name, x in inputs.items()})
        given = {name: inputs[name] for name in f.inputs if name in inputs}
        compiled = time.process_time()
        got: Arrays | None = strictly(f, given)
    except OmniconvError as error:
        got, outcome = None, Outcome("refused", rule_of(error), str(error)[:400])
    except Exception as error:  # noqa: BLE001 - whatever is not typed is the fault that is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{where.name} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
        return Outcome("crashed", f"{type(error).__name__} in {at}", str(error)[:400])
    spent, taken = time.process_time() - begun, watch_memory() - before
    if f is not None and spent > MOST_SECONDS:  # guarded memory is slow where a loop asks for it at every step
        spent = compiled - begun + time_run(f, given)
    if spent > MOST_SECONDS:
        return Outcome("slow", f"{spent:.1f} s")
    if taken > MOST_MEMORY:
        return Outcome("large", f"{taken / 2**20:.0f} MiB")
    return outcome if got is None else judge(data, given, got)


def time_run(f: Any, given: Arrays) -> float:
    """Processor time of a call as users make it [s]."""
    begun = time.process_time()
    with contextlib.suppress(OmniconvError):
        f.run(given)
    return time.process_time() - begun


def rule_of(error: OmniconvError) -> str:
    """The operator and the rule of a refusal, without the numbers of the case."""
    text = re.sub(r"'[^']*'", "'..'", error.need or error.problem)
    text = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", re.sub(r"[(\[][-\d, ]*[)\]]", "(..)", text))
    return f"{type(error).__name__}: {text[:100]}"


def judge(data: bytes, inputs: Arrays, got: Arrays) -> Outcome:
    """Compare with the reference; where that differs, with ONNX Runtime and with what small changes of inputs do."""
    model = onnx.ModelProto.FromString(data)
    want = reference(model, inputs)
    if want is not None and not differ(got, want):
        return Outcome("right")
    other = runtime(model, inputs)
    voices = [item for item in (want, other) if item is not None]
    if not voices:
        return Outcome("unjudged", "nobody else runs it")
    special = any(is_special(x) for x in (*inputs.values(), *got.values()))
    found = differ(got, *voices, special=special)
    if not found:
        return Outcome("right", "ONNX Runtime agrees, the reference does not")
    if want is None and any(is_resized_far(item, inputs) for item in nodes_of(model.graph)):
        rounded = {name: np.full(x.shape, _PIXEL * largest(x)) for name, x in got.items()}
        if not differ(got, *voices, slack=rounded, special=special):
            return Outcome("unjudged", "ONNX Runtime alone runs it, and its positions along many pixels are rounded")
    if want is None and any(is_never_run(item, inputs) for item in nodes_of(model.graph)):
        return Outcome("unjudged", "ONNX Runtime alone runs it, where what no iteration stacks has one axis")
    slack = None if want is None else sensitivity(model, inputs, want)
    if want is not None and slack is not None and not differ(got, want, slack=slack):
        return Outcome("unjudged", "small changes of the inputs change as much")
    if len(voices) == 1:
        votes = f"{'the reference' if other is None else 'ONNX Runtime'} alone runs it"
    else:
        votes = "both agree" if not differ(voices[0], voices[1]) else "all three differ"
    return Outcome("wrong", f"{found}; {votes}", describe(model)[:1500])


def describe(model: onnx.ModelProto) -> str:
    """The nodes of a model in one line."""
    parts = [f"opset {[entry.version for entry in model.opset_import]}"]
    for item in model.graph.node:
        given = {
            attribute.name: "graph"
            if attribute.type == onnx.AttributeProto.GRAPH
            else onnx.helper.get_attribute_value(attribute)
            for attribute in item.attribute
        }
        parts.append(f"{','.join(item.output)} = {item.op_type}({', '.join(item.input)}) {given or ''}")
    return "; ".join(parts)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of graphs in attributes included."""
    for item in graph.node:
        yield item
        for attribute in item.attribute:
            yield from nodes_of(attribute.g)


def is_misread(item: onnx.NodeProto, opset: int, inputs: Arrays) -> bool:
    """Whether ``onnx.reference`` computes something else than a node asks for.

    A softmax of an old opset goes along one axis, not along all from there on; a causal attention takes one row of a
    mask for one query; the least and the most of what is scattered is that of Python, which keeps or loses what is no
    number by its place.
    """
    if item.op_type == "Attention":
        mask = inputs.get(item.input[3]) if len(item.input) > 3 else None
        return mask is not None and mask.ndim > 1 and mask.shape[-2] == 1
    if item.op_type in ("Hardmax", "LogSoftmax", "Softmax"):
        return opset < 13
    if item.op_type in ("ScatterElements", "ScatterND"):
        extreme = any(attribute.s in (b"min", b"max") for attribute in item.attribute)
        return extreme and any(is_special(x) for x in inputs.values())
    return False


def is_overread(item: onnx.NodeProto, inputs: Arrays) -> bool:
    """Whether ONNX Runtime reads a number behind the end of an empty array, where nothing was given for it."""
    return item.op_type == "NonMaxSuppression" and any(
        name in inputs and not inputs[name].size for name in item.input[2:]
    )


def is_never_run(item: onnx.NodeProto, inputs: Arrays) -> bool:
    """Whether a loop makes no step, so that only its body says of which shape its steps are."""
    count = inputs.get(item.input[0]) if item.op_type == "Loop" else None
    return count is not None and count.size == 1 and int(count.reshape(())) <= 0


def is_resized_far(item: onnx.NodeProto, inputs: Arrays) -> bool:
    """Whether an image may be resized along so many pixels that ONNX Runtime's float32 positions, and with them the
    shares of two neighbours, are off by more than values may be.
    """
    return item.op_type in ("Resize", "Upsample") and any(
        max(x.shape, default=0) >= _MANY_PIXELS for x in inputs.values()
    )


def largest(x: np.ndarray) -> float:
    """The largest absolute value that is a number."""
    return float(np.abs(x, where=np.isfinite(x), out=np.zeros(x.shape)).max(initial=0.0))


def reference(model: onnx.ModelProto, inputs: Arrays) -> Arrays | None:
    """What ONNX's own evaluator gives; ``None`` where it does not run the model, or misreads it."""
    names = [info.name for info in model.graph.output]
    try:
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if any(is_misread(item, opset, inputs) for item in nodes_of(model.graph)):
            return None
        with time_limit(MOST_SECONDS), np.errstate(all="ignore"):
            found = ReferenceEvaluator(model, new_ops=OPERATORS).run(names, dict(inputs))
        return {name: np.asarray(item) for name, item in zip(names, found, strict=True)}
    except Exception:  # noqa: BLE001 - a second opinion that is not to be had
        return None


def runtime(model: onnx.ModelProto, inputs: Arrays) -> Arrays | None:
    """What ONNX Runtime gives without its optimisations; ``None`` where it does not run the model, or misreads it."""
    import onnxruntime as ort

    if any(is_overread(item, inputs) for item in nodes_of(model.graph)):
        return None
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    names = [info.name for info in model.graph.output]
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception:  # noqa: BLE001 - a second opinion that is not to be had
        return None


def sensitivity(model: onnx.ModelProto, inputs: Arrays, want: Arrays) -> dict[str, np.ndarray] | None:
    """How far outputs move when floats that enter, constants among them, change in their last digits."""
    slack = {name: np.zeros(array.shape) for name, array in want.items()}
    for seed in range(3):
        rng = np.random.default_rng(seed)

        def shift(array: np.ndarray, rng: np.random.Generator = rng) -> np.ndarray:
            return array * (1 + 1e-6 * rng.standard_normal(array.shape)).astype(array.dtype)

        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(onnx.numpy_helper.from_array(shift(onnx.numpy_helper.to_array(tensor)), tensor.name))
        moved = reference(changed, {name: shift(x) if x.dtype.kind == "f" else x for name, x in inputs.items()})
        if moved is None:
            return None
        for name, array in moved.items():
            if array.shape != want[name].shape:
                return {name: np.full(item.shape, np.inf) for name, item in want.items()}
            with np.errstate(all="ignore"):
                distance = np.abs(array.astype(np.float64) - want[name].astype(np.float64))
            slack[name] = np.fmax(slack[name], np.where(np.isnan(distance), np.inf, distance))
    return {name: 10 * item for name, item in slack.items()}


def is_special(x: np.ndarray) -> bool:
    """Whether there are numbers that are none, or so large that sums of squares overflow."""
    return x.dtype.kind == "f" and not (np.abs(x) < 1e18).all()


def differ(got: Arrays, *voices: Arrays, slack: Mapping[str, np.ndarray] | None = None, special: bool = False) -> str:
    """What outputs differ in from every voice; nothing where each element is that of one, within float32's rounding.

    Where values are special, voices are heard that agree on a number: what overflows and what multiplies infinity by
    zero is theirs, and the maxima and clips of ONNX Runtime pass over NaN.
    """
    for name, x in got.items():
        given = [voice[name] for voice in voices]
        if (
            slack is not None
            and slack[name].size
            and np.isinf(slack[name]).all()
            and all(y.dtype == x.dtype for y in given)
        ):
            continue  # not even the shape stays
        fitting = [y for y in given if y.shape == x.shape and y.dtype == x.dtype]
        if not fitting:
            expected = " or ".join(f"{y.dtype} {y.shape}" for y in given)
            return f"output {name} is {x.dtype} {x.shape}, expected {expected}"
        bad = np.logical_and.reduce([far(x, y, 0.0 if slack is None else slack[name]) for y in fitting])
        if special:
            bad &= np.logical_and.reduce([~np.isnan(y) & ~far(y, fitting[0], 0.0) for y in fitting])
            if len(fitting) == 1:
                bad &= np.isfinite(x) & np.isfinite(fitting[0])
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            expected = " or ".join(repr(y[at]) for y in fitting)
            return f"output {name}: {int(bad.sum())} of {bad.size}, at {at} {x[at]!r}, expected {expected}"
    return ""


def far(x: np.ndarray, y: np.ndarray, slack: np.ndarray | float) -> np.ndarray:
    """Where two arrays differ by more than float32 rounds, and by more than ``slack``."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    with np.errstate(all="ignore"):
        bound = (1e-4 * np.abs(b) + 1e-5 * float(finite.max(initial=1.0))) if y.dtype.kind == "f" else 0.0
        near = np.abs(a - b) <= bound + slack
    return np.asarray(~(near | (a == b) | (np.isnan(a) & np.isnan(b))) & np.isfinite(slack))
