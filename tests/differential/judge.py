"""One case: a model is compiled, run as strictly as there is, and compared with the float64 oracle and its peers."""

from __future__ import annotations

import math
import random
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from tests.differential import elementwise, layers, moves, recurrent, resizes, statistics, written
from tests.differential.bounded import Bounded, Item, evaluate
from tests.differential.draft import Draft, UnfitError
from tests.differential.table import GENERATORS
from tests.differential.values import UntoldError
from tests.registry.compiled import TARGETS, channels_from, channels_to, strictly

import omniconv as oc
from omniconv.errors import OmniconvError

NEWEST = min(27, onnx.defs.onnx_opset_version())
"""The newest opset of ONNX Runtime, or of the onnx package."""
ELEMENTWISE = frozenset(
    """Relu Sigmoid Tanh Exp Abs Neg Identity Reciprocal Sqrt HardSwish LeakyRelu Elu Selu HardSigmoid Celu Gelu Swish
    Clip Add Sub Mul Div Sum Max Min Mean Pow PRelu Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Concat
    Gather GatherElements GatherND Trilu Tile Expand Pad Cast Dropout""".split()
) | {"written gelu", "written swish", "written clamp"}
"""What is drawn with infinities, NaN and denormal numbers."""

FAMILIES = (elementwise, layers, moves, resizes, statistics, recurrent, written)
"""The files whose generators fill the table, in this order."""
FLUSHED = 2.0**-118
"""A sigmoid, also one that is written out, may be 0 where it lies below 2^-126; this is 88 times as much."""
AMPLIFYING = {"Reciprocal", "Div", "Log", "Pow", "ReduceLogSum"}
"""Operators that make anything of such a 0."""
LARGE = 2.0**100
"""What they make of it is as large as this."""

ort.set_default_logger_severity(4)


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        verdict: right, refused, wrong, crashed or void (nothing could be drawn).
        reason: for a refusal the operator and the rule.
        detail: what is needed to understand a failure.
        notes: things to count: operators that were right, peers that differ.
    """

    verdict: str
    reason: str = ""
    detail: str = ""
    notes: list[str] = field(default_factory=list)


Opinions = Mapping[str, Bounded]


def describe(model: onnx.ModelProto) -> str:
    """The nodes of a model in one line."""
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    parts = [f"opset {model.opset_import[0].version}"]
    for info in model.graph.input:
        dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        parts.append(f"{info.name}{dims}")
    for node in model.graph.node:
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        for key, value in given.items():
            if isinstance(value, onnx.TensorProto):
                given[key] = show(onnx.numpy_helper.to_array(value))
        names = [show(constants[name]) if name in constants else name for name in node.input]
        extra = "".join(f" {key}={value}" for key, value in given.items())
        parts.append(f"{','.join(node.output)} = {node.op_type}({', '.join(names)}{extra})")
    return "; ".join(parts) + "; -> " + ", ".join(info.name for info in model.graph.output)


def show(array: np.ndarray) -> str:
    return str(array.tolist()) if array.size <= 8 else f"{array.dtype}{list(array.shape)}"


def rule_of(error: OmniconvError) -> str:
    """Operator and rule of a refusal, without the numbers of the case."""
    op = (error.at.split(" ") or [""])[0] or "model"
    text = error.need or error.problem
    text = re.sub(r"'[^']*'", "'..'", text)
    text = re.sub(r"[(\[][-\d, ]*[)\]]", "(..)", text)
    text = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", text)
    return f"{type(error).__name__}: {op}: {text[:110]}"


def differs(got: np.ndarray, want: Bounded, slack: np.ndarray | float = 0.0) -> np.ndarray:
    """Where ``got`` is outside the bound; elements without a bound are not judged."""
    y = np.asarray(got, np.float64)
    if y.shape != want.shape:
        return np.ones(want.shape, bool)
    with np.errstate(all="ignore"):
        same = (y == want.value) | (np.isnan(y) & np.isnan(want.value))
        near = np.isfinite(want.value) & (np.abs(y - want.value) <= want.error + slack)
        # Rounding to float32 itself may overflow.
        return ~(same | near) & np.isfinite(want.error)


def peer(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """ONNX Runtime without its optimisations; None where it does not take the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
        names = [info.name for info in model.graph.output]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception:  # noqa: BLE001 - a second opinion that is not to be had
        return None


def judge(
    model: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    oracle: Opinions,
    chooser: random.Random,
    truth: Opinions | None = None,
) -> Outcome:
    """Compile, run, compare.

    Args:
        model: all sizes of its inputs declared.
        inputs: float32 arrays.
        oracle: each output in float64 with its bound.
        chooser: draws target, threads, layout and whether filtering is allowed.
        truth: where the model was exported from another framework, what that computes in float64.
    """
    options = {
        "target": chooser.choice(TARGETS), "threads": chooser.choice((1, 1, 2)), "exact": chooser.random() < 0.8,
        "layout": chooser.choice(("NCHW", "NCHW", "NHWC")),
    }  # fmt: skip
    text = f"{options} {describe(model)}"

    def order(f: Any, change: Callable[[str, np.ndarray], np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(change("NHWC", x)) if f.is_channels_last(name, x.ndim) else x

    operators = sorted({node.op_type for node in model.graph.node})
    try:
        f = oc.compile(model.SerializeToString(), memory_limit=1 << 28, **options)
        got = strictly(f, {name: order(f, channels_to, name, x) for name, x in inputs.items()})
        got = {name: order(f, channels_from, name, y) for name, y in got.items()}
    except OmniconvError as error:
        return Outcome("refused", rule_of(error), f"{error} || {text}")
    except Exception as error:  # noqa: BLE001 - whatever is not typed is the fault that is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} in {where.name} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
        return Outcome("crashed", reason, f"{error} || {text}")
    second = peer(model, inputs)
    notes = [f"operator {op}" for op in operators]
    if second is None:
        notes.append("ONNX Runtime does not take the model")
    for name, told in oracle.items():
        judges = told if truth is None else truth[name]
        slack = FLUSHED if {"Exp", "Sigmoid"} & set(operators) else 0.0
        slack += 0.0 if options["exact"] else filtered_slack(model, told)
        bad = differs(got[name], judges, slack)
        if slack and AMPLIFYING & set(operators):
            bad &= np.abs(judges.value) < LARGE
        bounded = np.isfinite(judges.error)
        if not bounded.all():
            notes.append(
                "outputs with some elements that have no bound" if bounded.any() else "outputs without a bound"
            )
        if second is not None and differs(second[name], told).any():
            notes.append("ONNX Runtime differs: " + " ".join(operators))
        if not bad.any():
            continue
        if truth is not None and second is not None and not differs(got[name], told, slack).any():
            other = differs(second[name], Bounded(np.asarray(got[name], np.float64), told.error + told.error), slack)
            if not other.any():
                notes.append("the exported model differs from PyTorch: " + " ".join(operators))
                continue
        votes = (
            "not run"
            if second is None
            else "with us"
            if agrees(second[name], got[name], told)
            else ("against both" if differs(second[name], judges).any() else "with the oracle")
        )
        return Outcome(
            "wrong", f"{' '.join(operators)} (ONNX Runtime {votes})", say(name, got[name], judges, bad) + text
        )
    return Outcome("right", notes=notes)


def agrees(a: np.ndarray, b: np.ndarray, told: Bounded) -> bool:
    return a.shape == b.shape and not differs(a, Bounded(np.asarray(b, np.float64), 2 * told.error)).any()


def say(name: str, got: np.ndarray, want: Bounded, bad: np.ndarray) -> str:
    if got.shape != want.shape:
        return f"output {name} has shape {got.shape}, expected {want.shape} || "
    at = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.ndim else ()
    return (
        f"output {name}: {int(bad.sum())} of {bad.size}, at {at} {float(got[at])!r}, expected "
        f"{float(want.value[at])!r} +- {float(want.error[at])!r} || "
    )


def filtered_slack(model: onnx.ModelProto, told: Bounded) -> float:
    """Winograd filtering errs by the size of the largest values nearby, not of one window's."""
    if not any(node.op_type == "Conv" for node in model.graph.node):
        return 0.0
    finite = told.value[np.isfinite(told.value)]
    errors = told.error[np.isfinite(told.error)]
    return 2e-5 * float(np.abs(finite).max(initial=0.0)) + 50 * float(errors.max(initial=0.0))


# -- drawn graphs -----------------------------------------------------------------------------------------------------

RANKS = (4, 4, 4, 4, 3, 3, 5, 2, 2, 1, 0, 6)


def draw_shape(chooser: random.Random, rank: int) -> tuple[int, ...]:
    if rank < 3:
        return tuple(chooser.choice((1, 2, 3, 5, 8, 9, 17)) for _ in range(rank))
    widest = {3: 17, 4: 9, 5: 5, 6: 3}[rank]
    channels = chooser.choice((1, 2, 3, 4, 6, 8, 9, 12, 16, 17)) if rank < 6 else chooser.randint(1, 4)
    return (chooser.choice((1, 1, 1, 2, 3)), channels, *(chooser.randint(1, widest) for _ in range(rank - 2)))


def draw_graph(seed: int, style: str, names: Sequence[str] | None = None) -> Draft | None:
    """A graph of 1 to 8 draws; None where nothing fits."""
    chooser = random.Random(f"graph {seed}")
    opset = chooser.choice((chooser.randint(7, NEWEST), 9, 11, 13, 17, 21, NEWEST))
    draft = Draft(chooser.getrandbits(32), opset, style)
    rank = chooser.choice(RANKS)
    shape = draw_shape(chooser, rank)
    draft.input(shape)
    if chooser.random() < 0.3:
        draft.input(shape if chooser.random() < 0.6 else draw_shape(chooser, chooser.choice(RANKS)))
    usable = [key for key, (since, _) in GENERATORS.items() if since <= opset and (names is None or key in names)]
    if not usable:
        return None
    wanted, made = chooser.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8)), 0
    for _ in range(40):
        if made == wanted:
            break
        try:
            GENERATORS[chooser.choice(usable)][1](draft)
            made += 1
        except UnfitError:
            continue
    return draft if draft.nodes else None


def run_graph(seed: int, style: str | None = None) -> Outcome:
    """Draw a graph and judge it."""
    chooser = random.Random(f"case {seed}")
    style = style or chooser.choice(("normal", "normal", "grid", "grid", "wide"))
    draft = draw_graph(seed, style, sorted(ELEMENTWISE) if style == "special" else None)
    if draft is None:
        return Outcome("void")
    read = {name for node in draft.nodes for name in node.input}
    produced = [n for n in draft.computed if n not in draft.inputs and isinstance(draft.items[n], Bounded)]
    outputs = [name for name in produced if name not in read][-4:]
    outputs += [name for name in produced if name in read and chooser.random() < 0.15]
    if not outputs:
        return Outcome("void")
    oracle = {name: item for name in outputs if isinstance(item := draft.items[name], Bounded)}
    outcome = judge(draft.model(outputs), draft.inputs, oracle, chooser)
    outcome.notes += [f"not evaluated: {text}" for text in draft.untold]
    return outcome


def run_special(seed: int) -> Outcome:
    """Elementwise graphs over infinities, NaN, denormal and very large numbers."""
    return run_graph(seed, "special")


# -- models that were exported ----------------------------------------------------------------------------------------


def evaluate_model(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, Bounded]:
    """The outputs of a model in float64 with bounds.

    Raises:
        UntoldError: a node that the oracle does not cover.
    """
    opset = model.opset_import[0].version
    items: dict[str, Item] = {name: Bounded.exact(x) for name, x in inputs.items()}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        items[tensor.name] = Bounded.exact(array) if array.dtype == np.float32 else array
    for node in model.graph.node:
        results = evaluate(node, opset, [items[name] if name else None for name in node.input])
        items.update(zip(node.output, results))
    found = {info.name: items[info.name] for info in model.graph.output}
    return {name: item for name, item in found.items() if isinstance(item, Bounded)}


def run_module(seed: int) -> Outcome:
    """A call of PyTorch, exported and judged by PyTorch in float64."""
    from tests.differential import modules

    chooser = random.Random(f"module {seed}")
    drawn = modules.draw(chooser)
    if drawn is None:
        return Outcome("void")
    model, x, y, exact = drawn
    name = model.graph.output[0].name
    scale = float(np.abs(y).max(initial=0.0)) if math.prod(y.shape) else 0.0
    try:
        told = evaluate_model(model, {model.graph.input[0].name: x})[name]
        error = told.error if told.shape == y.shape else np.full(y.shape, 1e-5 * scale)
        covered = True
    except (UntoldError, KeyError):
        error, covered = np.full(y.shape, 1e-5 * scale), False
    truth = Bounded(y, np.zeros(y.shape) if exact else error)
    oracle = {name: told if covered else truth}
    outcome = judge(model, {model.graph.input[0].name: x}, oracle, chooser, {name: truth})
    if not covered:
        outcome.notes.append("exported model without a bound of its own")
    return outcome


KINDS: dict[str, Callable[[int], Outcome]] = {"graphs": run_graph, "special": run_special, "pytorch": run_module}


def run_case(kind: str, seed: int) -> Outcome:
    """The first draw of a seed that gives a model; what goes wrong outside Omniconv is not caught."""
    for attempt in range(100):
        outcome = KINDS[kind](1000 * seed + attempt)
        if outcome.verdict != "void":
            break
    return outcome


def as_json(kind: str, seed: int, outcome: Outcome) -> dict[str, Any]:
    return {"kind": kind, "seed": seed, **vars(outcome)}
