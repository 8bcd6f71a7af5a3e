"""What LSTM, GRU and RNN share: directions, functions, lengths, states, and the results that are asked for.

The product of the input with W is a dense layer for all times and directions at once; the recurrence follows as a step
of its own, whose result holds all hidden states and the last ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node, shorten
from omniconv.graph.operands import Operand, Operands, Ref, as_integers, as_weights
from omniconv.graph.ops._slices import take_slice
from omniconv.program.steps import Array, DenseStep, RecurrentStep
from omniconv.program.steps.recurrent import FUNCTIONS, GATES
from omniconv.spec import Activation

DIRECTIONS: Final = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
DEFAULTS: Final = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
"""Functions of a direction, where none are named."""

ACTIVATIONS: Final[Mapping[str, tuple[str, Mapping[str, float]]]] = {
    "relu": ("relu", {}),
    "tanh": ("tanh", {}),
    "sigmoid": ("sigmoid", {}),
    "leakyrelu": ("leaky_relu", {"alpha": 0.01}),
    "hardsigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "elu": ("elu", {"alpha": 1.0}),
}
"""ONNX's name in small letters -> ours, and the parameters with ONNX's defaults."""
OTHERS: Final = ("affine", "scaledtanh", "softplus", "softsign", "thresholdedrelu")
"""Functions that ONNX names and that are not supported."""


def lower_recurrence(
    node: Node, inputs: Operands, build: Builder, cell: str, *, rounded: bool = False
) -> Sequence[Operand]:
    """The steps of a node; see :class:`omniconv.program.steps.RecurrentStep` for the formulas."""
    gates, count = GATES[cell], FUNCTIONS[cell]
    reverse = _read_directions(node)
    first = node.integer("layout", 0)
    if first not in (0, 1):
        raise ModelError(f"layout={first}", need="0 or 1")
    x = build.value(inputs[0], "the input X")
    if x.rank != 3:
        raise ModelError(f"the input X has shape {x.shape}", need="three axes")
    w, r = as_weights(inputs[1], "the weights W"), as_weights(inputs[2], "the weights R")
    hidden = node.integer("hidden_size", r.shape[-1] if r.ndim else 0)
    batch, times = (x.shape[0], x.shape[1]) if first else (x.shape[1], x.shape[0])
    directions, width = len(reverse), gates * hidden
    for array, need, what in ((w, (directions, width, x.shape[2]), "W"), (r, (directions, width, hidden), "R")):
        if hidden < 1 or array.shape != need:
            raise ModelError(
                f"the weights {what} have shape {array.shape}, with hidden_size={hidden} and {directions} directions",
                need=f"{need}",
            )
    bias = _read_optional(inputs[3], (directions, 2 * width), "the bias B")
    lengths = _read_lengths(inputs[4], batch, times)
    if rounded and lengths is not None:
        raise UnsupportedError("an LSTM with rounded states of sequences that end early", need="no sequence_lens")
    form = (batch, directions, hidden) if first else (directions, batch, hidden)
    states = [
        _read_state(operand, form, f"the input {name}", bool(first), build)
        for operand, name in zip(inputs[5:7], ("initial_h", "initial_c"), strict=False)
    ]
    states += [None] * (2 - len(states))
    if cell != "lstm":
        states[1] = None
    scale = None
    if rounded:
        scale = np.broadcast_to(as_weights(inputs[8], "the scales of R")[:, 0], (directions, width)).copy()
    peepholes = _read_optional(inputs[7] if cell == "lstm" else None, (directions, 3 * hidden), "the peepholes P")
    functions = _read_functions(node, DEFAULTS[cell] * directions)
    clip = node.number("clip", 0.0) if "clip" in node.attributes else None
    if clip is not None and not 0 < clip < math.inf:
        raise ModelError(f"clip={clip}", need="a finite number above 0")
    flags = {name: _read_flag(node, name) for name in ("input_forget", "linear_before_reset")}
    size = build.program.element.bytes
    for shape, what in ((w.shape, "the weights W"), (r.shape, "the weights R")):
        build.budget.take(shape, size, what)
    given, inner = _split_bias(bias, cell, hidden, directions, linear=flags["linear_before_reset"])
    if first:
        x = build.rearrange(x, (times, batch, x.shape[2]), perm=(1, 0, 2), y=build.fresh("times first"))
    matrix = np.ascontiguousarray(w.reshape(directions * width, -1))
    sums = DenseStep(x.name, build.fresh("gates"), matrix, given)
    gated = build.add(sums, (times, batch, directions * width))
    h, c = (None if state is None else state.name for state in states)
    step = RecurrentStep(
        gated.name,
        build.fresh("states"),
        cell,
        r,
        reverse,
        tuple(functions[number * count : (number + 1) * count] for number in range(directions)),
        h=h,
        c=c,
        b=inner,
        p=peepholes,
        lengths=lengths,
        clip=clip,
        coupled=flags["input_forget"],
        rounded=rounded,
        scale=scale,
    )
    found = build.add(step, (times + step.states, directions, batch, hidden))
    return _results(node, found, times, bool(first), build)


def _read_directions(node: Node) -> tuple[bool, ...]:
    name = node.text("direction", "forward")
    if name not in DIRECTIONS:
        raise ModelError(f"direction={shorten(repr(name), 40)}", need="one of " + ", ".join(DIRECTIONS))
    return DIRECTIONS[name]


def _read_flag(node: Node, name: str) -> bool:
    flag = node.integer(name, 0)
    if flag not in (0, 1):
        raise ModelError(f"{name}={flag}", need="0 or 1")
    return bool(flag)


def _read_optional(operand: Operand, need: tuple[int, ...], what: str) -> Array | None:
    """Constants of a fixed shape, where they are given."""
    if operand is None:
        return None
    array = as_weights(operand, what)
    if array.shape != need:
        raise ModelError(f"{what} has shape {array.shape}", need=f"{need}")
    return array


def _read_lengths(operand: Operand, batch: int, times: int) -> tuple[int, ...] | None:
    """The times of each sequence; ``None`` where all have all of them."""
    if operand is None:
        return None
    lengths = as_integers(operand, "the input sequence_lens")
    if len(lengths) != batch or not all(0 <= length <= times for length in lengths):
        raise ModelError(
            f"sequence_lens={lengths[:16]} for {batch} sequences of {times} times", need=f"one each, of 1 to {times}"
        )
    if 0 in lengths:
        raise UnsupportedError("a sequence of no times in sequence_lens", need=f"lengths of 1 to {times}")
    return None if set(lengths) == {times} else lengths


def _read_state(operand: Operand, form: tuple[int, ...], what: str, first: bool, build: Builder) -> Ref | None:
    """The state before, with directions first."""
    if operand is None:
        return None
    if operand.shape != form:
        raise ModelError(f"{what} has shape {operand.shape}", need=f"{form}")
    state = build.value(operand, what)
    if not first:
        return state
    return build.rearrange(state, (form[1], form[0], form[2]), perm=(1, 0, 2), y=build.fresh("directions first"))


def _read_functions(node: Node, defaults: Sequence[str]) -> tuple[Activation, ...]:
    """The functions of all directions; parameters are taken in order by those that have them."""
    names: Sequence[str] = defaults
    given = node.attributes.get("activations")
    if given is not None and given != ():
        texts = given if isinstance(given, tuple) else ()
        names = [text.decode("utf-8", "replace") for text in texts if isinstance(text, bytes)]
    if len(names) != len(defaults):
        raise ModelError(f"{len(names)} activations", need=f"{len(defaults)}, those of each direction")
    values = {key: _numbers(node, f"activation_{key}") for key in ("alpha", "beta")}
    rest = {key: iter(numbers) for key, numbers in values.items()}
    found = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            fault: Callable[..., Exception] = UnsupportedError if name.lower() in OTHERS else ModelError
            raise fault(
                f"activation {shorten(repr(name), 40)}",
                need="one of Relu, Tanh, Sigmoid, LeakyRelu, HardSigmoid, Elu",
            )
        ours, parameters = ACTIVATIONS[name.lower()]
        found.append(Activation.of(ours, **{key: next(rest[key], value) for key, value in parameters.items()}))
    for key, numbers in values.items():
        taken = sum(key in ACTIVATIONS[name.lower()][1] for name in names)
        if len(numbers) > taken:
            raise ModelError(
                f"activation_{key} has {len(numbers)} values, {taken} activations take one", need="one for each"
            )
    return tuple(found)


def _numbers(node: Node, name: str) -> tuple[float, ...]:
    value = node.attributes.get(name)
    return tuple(float(item) for item in value if isinstance(item, float)) if isinstance(value, tuple) else ()


def _split_bias(
    bias: Array | None, cell: str, hidden: int, directions: int, *, linear: bool
) -> tuple[Array | None, Array | None]:
    """What is added to the input's product for all times, and what a GRU adds to the state's before it resets both."""
    if bias is None:
        return None, np.zeros((directions, hidden)) if linear else None
    width = bias.shape[1] // 2
    with np.errstate(all="ignore"):
        own, inner = bias[:, :width].astype(np.float64), bias[:, width:].astype(np.float64)
        if not (cell == "gru" and linear):
            return (own + inner).reshape(-1), None
        shared = inner.copy()
        shared[:, 2 * hidden :] = 0.0
        return (own + shared).reshape(-1), np.ascontiguousarray(inner[:, 2 * hidden :])


def _results(node: Node, states: Ref, times: int, first: bool, build: Builder) -> Sequence[Operand]:
    """Y, Y_h and Y_c, as far as they are used."""
    _, directions, batch, hidden = states.shape
    found: list[Operand] = []
    for index, name in enumerate(node.outputs):
        if not name:
            found.append(None)
            continue
        if index:
            last = take_slice(states, {0: (times + index - 1, 1, 1)}, build, build.fresh("last"))
            assert isinstance(last, Ref), "there is a last state"
            shape, perm = (directions, batch, hidden), (0, 1, 2, 3)
            if first:
                shape, perm = (batch, directions, hidden), (0, 2, 1, 3)
            found.append(build.rearrange(last, shape, perm=perm, y=name))
        elif first:
            every = take_slice(states, {0: (0, 1, times)}, build, build.fresh("every"))
            assert isinstance(every, Ref), "there are times"
            found.append(build.rearrange(every, (batch, times, directions, hidden), perm=(2, 0, 1, 3), y=name))
        else:
            found.append(take_slice(states, {0: (0, 1, times)}, build, name))
    return found
