"""Recurrent layers: how they are drawn, what they give in float64, and how far float32 may be from it.

A node is read here from the standard alone, and becomes the sums of its gates and a `RecurrentStep`, whose values and
errors :mod:`tests.recurrent_bound` accumulates over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from tests.differential.draft import Draft
from tests.differential.table import generator
from tests.recurrent_bound import bound_recurrence

from omniconv.program.steps import RecurrentStep
from omniconv.spec import Activation

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
NAMES: dict[str, tuple[str, dict[str, float]]] = {
    "Relu": ("relu", {}), "Tanh": ("tanh", {}), "Sigmoid": ("sigmoid", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}), "Elu": ("elu", {"alpha": 1.0}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
}  # fmt: skip


def evaluate(
    node: NodeProto, arrays: Sequence[Any], errors: Sequence[Any], u: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outputs of a node in float64, and how far a computation with unit roundoff ``u`` may be from them."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    op, first = node.op_type, given.get("layout", 0) == 1
    x, w, r, b, lengths, h, c, p = (*arrays, *(None,) * 8)[:8]
    wrong = dict(zip("xwrblhcp", (*errors, *(None,) * 8), strict=False))
    turn = (lambda a: a.swapaxes(0, 1)) if first else (lambda a: a)
    x, xe = turn(x), turn(np.broadcast_to(wrong["x"], x.shape))
    states = {name: turn(a) for name, a in (("h", h), ("c", c)) if a is not None}
    state_errors = {name: turn(np.broadcast_to(wrong[name], turn(a).shape)) for name, a in states.items()}
    d, hidden, width = r.shape[0], r.shape[2], r.shape[1]
    bias = np.zeros((d, 2 * width)) if b is None else b
    own, inner = bias[:, :width], bias[:, width:].copy()
    linear = op == "GRU" and given.get("linear_before_reset", 0) == 1
    candidate = inner[:, 2 * hidden :].copy() if linear else None
    if linear:
        inner[:, 2 * hidden :] = 0
    shape = (*x.shape[:2], d * width)
    sums = np.einsum("tni,dgi->tndg", x, w) + own + inner
    size = np.einsum("tni,dgi->tndg", np.abs(x) + xe, np.abs(w)) + np.abs(own) + np.abs(inner)
    spread = np.einsum("tni,dgi->tndg", xe, np.abs(w)) + (x.shape[2] + 4) * u * size
    names = [n.decode() for n in given.get("activations", [])] or DEFAULTS[op] * d
    rest = {key: list(given.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    functions = []
    for name in names:
        ours, defaults = NAMES[name]
        functions.append(
            Activation.of(ours, **{key: rest[key].pop(0) if rest[key] else v for key, v in defaults.items()})
        )
    count = len(functions) // d
    direction = given.get("direction", b"forward").decode()
    step = RecurrentStep(
        "x",
        "y",
        op.lower(),
        r,
        {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction],
        tuple(tuple(functions[i * count : (i + 1) * count]) for i in range(d)),
        *(name if name in states else None for name in ("h", "c")),
        candidate,
        p,
        None if lengths is None else tuple(int(n) for n in lengths),
        given.get("clip"),
        bool(given.get("input_forget", 0)),
    )
    times = x.shape[0]
    found = bound_recurrence(
        step,
        {"x": sums.reshape(shape), **states},
        {"x": spread.reshape(shape), **state_errors},
        (times + step.states, d, x.shape[1], hidden),
        u,
    )

    def pick(y: np.ndarray) -> list[np.ndarray]:
        every = y[:times].transpose(2, 0, 1, 3) if first else y[:times]
        return [every, *(turn(state) for state in y[times:])][: len(node.output)]

    return pick(found[0]), pick(found[1])


@generator("LSTM", "GRU", "RNN")
def _recurrent(g: Draft, op: str) -> None:
    x = g.pick(3, 3) if g.chance(0.6) else g.input((g.whole(1, 5), g.whole(1, 4), g.whole(1, 9)))
    first = g.opset >= 14 and g.chance(0.3)
    shape = g.shape(x)
    batch, times = (shape[0], shape[1]) if first else (shape[1], shape[0])
    direction = g.choose(None, "forward", "reverse", "bidirectional")
    d, hidden, gates = 2 if direction == "bidirectional" else 1, g.choose(1, 3, 8, 17), GATES[op]
    width = gates * hidden
    scale = np.float32(1 / np.sqrt(max(hidden, shape[2])))
    weights = lambda *sizes: g.const(g.numbers.standard_normal(sizes).astype(np.float32) * scale)
    form = (batch, d, hidden) if first else (d, batch, hidden)
    lengths = np.array([g.whole(1, times) for _ in range(batch)], np.int32)
    state = lambda: g.choose("", g.input(form, g.numbers.standard_normal(form).astype("f4")), weights(*form))
    inputs = [
        x,
        weights(d, width, shape[2]),
        weights(d, width, hidden),
        weights(d, 2 * width) if g.chance(0.7) else "",
        g.const(lengths) if g.chance(0.3) else "",
        state(),
    ]
    given: dict[str, Any] = {"direction": direction, "clip": g.choose(None, None, 0.5, 2.0)}
    if op == "LSTM":
        inputs += [state(), weights(d, 3 * hidden) if g.chance(0.3) else ""]
        given["input_forget"] = g.choose(None, 0, 1)
    if op == "GRU":
        given["linear_before_reset"] = g.choose(None, 0, 1)
    if g.chance(0.3):
        names = [g.choose(*NAMES) for _ in DEFAULTS[op] * d]
        given["activations"] = names
        for key, odd in (("alpha", 0.3), ("beta", 0.4)):
            taken = sum(key in NAMES[name][1] for name in names)
            given[f"activation_{key}"] = [odd] * g.whole(0, taken) or None
    g.emit(
        op,
        *inputs,
        count=g.whole(1, 3 if op == "LSTM" else 2),
        hidden_size=hidden,
        layout=1 if first else None,
        **given,
    )
