"""`RecurrentStep`: a recurrent layer, LSTM, GRU or plain, over the sums that its input gives to the gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.dependence import Blocks, Broadcast, Dependence, Form, Part, Place, Regroup, Slice, Take, Window
from omniconv.program.steps.step import Array, Shapes, Step, Work
from omniconv.records import dataclass
from omniconv.spec import Activation, Axis, Shape

GATES: Final = {"rnn": 1, "gru": 3, "lstm": 4}
"""Sums of a hidden unit, by cell."""
FUNCTIONS: Final = {"rnn": 1, "gru": 2, "lstm": 3}
"""Activation functions of a direction, by cell."""


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentStep(Step):
    r"""``y[t, d] = cell(x[t, :, d] + y[t - 1, d] @ w[d].T)`` from the first time to the last, or, reversed, back.

    x is ``(T, N, D G H)``: what the input alone gives to the G gates of each of H hidden units in each of D directions,
    biases included. y is ``(T + S, D, N, H)``: the hidden state h after each time, then the S states in which a
    sequence ends (h, and the cell c of an LSTM). With a gate's sum :math:`s = x_t + w\,h_{t-1}`, clipped where there is
    a bound:

    - rnn: :math:`h_t = f(s)`;
    - gru, gates z r n: :math:`z = f(s_z)`, :math:`r = f(s_r)`, :math:`h_t = (1 - z) n + z h_{t-1}` with
      :math:`n = g(x_{t,n} + w_n (r h_{t-1}))`, or with b :math:`n = g(x_{t,n} + r (w_n h_{t-1} + b))`;
    - lstm, gates i o f g: :math:`i = f(s_i + p_i c_{t-1})`, :math:`f = f(s_f + p_f c_{t-1})` (coupled: :math:`1 - i`),
      :math:`c_t = f c_{t-1} + i g(s_g)`, :math:`o = f(s_o + p_o c_t)`, :math:`h_t = o\,h(c_t)`.

    With scales, the product :math:`w\,h` of every gate and unit is multiplied by its own.

    A rounded one multiplies w by the nearest of 256 levels of the states before instead: multiples
    :math:`r\max(-z, \min(255 - z, \operatorname{round}(h / r)))` of :math:`r = (\max(h, 0) - \min(h, 0)) / 255` with
    :math:`z = \operatorname{round}(-\min(h, 0) / r)`, over all sequences of a direction at a time.

    Attributes:
        cell: a key of :data:`GATES`.
        w: ``(D, G H, H)``.
        reverse: for each direction, whether it runs from the end; the second of two does.
        functions: for each direction f, g and h, as many as the cell has.
        h, c: values ``(D, N, H)``, the states before; zeros where there are none.
        b: ``(D, H)``, what is added to the product of a GRU's gate n before the reset gate multiplies both.
        p: ``(D, 3 H)``, an LSTM's weights from a cell to its own gates i o f.
        lengths: times of each of the N sequences, at least 1; what lies behind is not read, and y is zero there.
        clip: the largest magnitude of a sum.
        coupled: whether an LSTM forgets what it does not take in.
        rounded: whether an LSTM multiplies states rounded to levels of their range.
        scale: ``(D, G H)``, of a rounded one, whose w are then the levels of weights.
    """

    word: ClassVar[str] = "recurrence"
    x: str
    y: str
    cell: str
    w: Array
    reverse: tuple[bool, ...]
    functions: tuple[tuple[Activation, ...], ...]
    h: str | None = None
    c: str | None = None
    b: Array | None = None
    p: Array | None = None
    lengths: tuple[int, ...] | None = None
    clip: float | None = None
    coupled: bool = False
    rounded: bool = False
    scale: Array | None = None

    @property
    def hidden(self) -> int:
        """Hidden units of a direction."""
        return int(self.w.shape[2])

    @property
    def states(self) -> int:
        """States in which a sequence ends."""
        return 2 if self.cell == "lstm" else 1

    @property
    def reads(self) -> tuple[str, ...]:
        """x once for each direction, and the states before."""
        return (*(self.x for _ in self.reverse), *(name for name in (self.h, self.c) if name is not None))

    def renamed(self, names: Mapping[str, str]) -> RecurrentStep:
        """The states before as well."""
        h, c = (None if name is None else names.get(name, name) for name in (self.h, self.c))
        return replace(self, x=names.get(self.x, self.x), y=names.get(self.y, self.y), h=h, c=c)

    def with_constants(self, convert: Callable[[Array], Array]) -> RecurrentStep:
        """w, b, p and scale."""
        changed: dict[str, Any] = {}
        for name in ("w", "b", "p", "scale"):
            array = getattr(self, name)
            if array is not None and (found := convert(array)) is not array:
                changed[name] = found
        return replace(self, **changed) if changed else self

    def output_shape(self, shapes: Shapes) -> Shape:
        """``(T + S, D, N, H)``."""
        x, directions, hidden = shapes[self.x], len(self.reverse), self.hidden
        width = GATES[self.cell] * hidden
        if len(x) != 3 or x[2] != directions * width:
            raise ShapeError(f"sums of gates of shape {tuple(x)}", need=f"(T, N, {directions * width})")
        form = (directions, x[1], hidden)
        for name, what in ((self.h, "hidden"), (self.c, "cell")):
            if name is not None and tuple(shapes[name]) != form:
                raise ShapeError(f"a {what} state of shape {tuple(shapes[name])}", need=f"{form}, one a direction")
        for array, need in (
            (self.w, (directions, width, hidden)),
            (self.b, (directions, hidden)),
            (self.p, (directions, 3 * hidden)),
            (self.scale, (directions, width)),
        ):
            if array is not None and array.shape != need:
                raise ShapeError(f"weights of shape {array.shape} of a recurrent layer", need=f"{need}")
        if self.lengths is not None and (
            len(self.lengths) != x[1] or not all(1 <= length <= x[0] for length in self.lengths)
        ):
            raise ShapeError(f"lengths {self.lengths[:16]} of {x[1]} sequences", need=f"one each, of 1 to {x[0]}")
        return (x[0] + self.states, *form)

    def dependence(self, shapes: Shapes) -> Dependence:
        """All units on all of the same sequence and direction, at this time and those that it has seen before; of all
        sequences, where states are rounded together; the last states on all times.
        """
        times, batch, _ = shapes[self.x]
        directions, hidden, width = len(self.reverse), self.hidden, GATES[self.cell] * self.hidden
        total = times + self.states
        before = Axis(total, padding=(total - 1, self.states))
        parts = []
        for number, reverse in enumerate(self.reverse):
            split = (times, batch, directions, width)
            forms: list[Form] = [Regroup(shapes[self.x], split, (0, 2, 1, 3), (times, directions, batch, width))]
            if directions > 1:
                forms.append(Slice(1, directions, number, 1, 1))
            forms.append(Blocks(3, width, hidden, average=False, why=self.word))
            if self.rounded:
                forms.append(Blocks(2, batch, batch, average=False, why=self.word))
            if reverse:
                forms.append(Slice(0, times, times - 1, -1, times))
            forms.append(Window(0, times, before, border=False))
            if reverse:
                forms.append(Take(0, total, np.r_[np.arange(times)[::-1], times:total].astype(np.int64)))
            if directions > 1:
                forms.append(Place(1, 1, number, directions))
            parts.append(Part(self.x, tuple(forms)))
        mixed: tuple[Form, ...] = (Blocks(2, hidden, hidden, average=False, why=self.word),)
        if self.rounded:
            mixed += (Blocks(1, batch, batch, average=False, why=self.word),)
        form = (directions, batch, hidden)
        spread = Broadcast(form, (total, *form))
        parts += [Part(name, (*mixed, spread)) for name in (self.h, self.c) if name is not None]
        return Dependence(tuple(parts), linear=False)

    def work(self, shapes: Shapes) -> Work:
        """One MAC for each weight, time and sequence."""
        macs = math.prod(shapes[self.x][:2]) * int(self.w.size)
        return Work(macs, macs, macs, macs, self.w, self.b, 0 if self.p is None else int(self.p.size))
