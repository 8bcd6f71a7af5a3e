"""`Stream`: a network that runs along one axis, on whatever has come so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import numpy as np

from omniconv.errors import DataError, ShapeError, StreamError, UnsupportedError
from omniconv.program.stretch import before_name
from omniconv.runtime.inputs import Array, arrange, read_array
from omniconv.runtime.stream_plan import Latency, Leg, StreamPlan

VERSION: Final = 1
"""Of states."""
_KEPT: Final = "kept/"
_STATE: Final = "state/"


class Stream:
    """Computes what a network computes of a whole input, as the input comes. Not for several threads at once; streams
    of one network may run in several, and share all code and weights.

    What pushes and the flush return, side by side, is what the network returns of all that was pushed, side by side.
    Nothing is computed twice: of every value inside, the positions that later ones read are kept.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> spec = oc.cross_correlation(in_channels=1, out_channels=1, kernel_size=3, dims=1, padding=1)
        >>> net = oc.compile(spec, (1, 1, 4), (np.ones((1, 1, 3), np.float32), None))
        >>> stream = net.stream(axis=2, chunk=2)
        >>> stream.latency.samples
        1
        >>> stream.push(np.float32([[[1, 2]]])), stream.push(np.float32([[[3, 4]]])), stream.flush()
        (array([[[3.]]], dtype=float32), array([[[6., 9.]]], dtype=float32), array([[[7.]]], dtype=float32))

    Attributes:
        plan: what streams of one network share.
        chunk: positions that pushes usually have.
        pushed, given: positions of the input that came and of the result that were returned.
    """

    def __init__(self, plan: StreamPlan, chunk: int, *, last: bool = False) -> None:
        self.plan, self.chunk, self._last = plan, chunk, last
        self._most = min(max(chunk // plan.hop, 1), plan.most)
        self.reset()

    @property
    def latency(self) -> Latency:
        """How far results lag behind, if all pushes have the size of a chunk or a multiple of it."""
        return Latency(self.plan.delay, 0 if self.chunk % self.plan.hop == 0 else self.plan.hop - 1)

    @property
    def hop(self) -> int:
        """Positions that are computed together: pushes of a multiple of it leave nothing waiting."""
        return self.plan.hop

    def reset(self) -> None:
        """Begin anew."""
        self.pushed = self.given = self._position = 0
        self._queue: Array = np.empty(self.plan.part_shape(0), self.plan.dtype)
        self._states = dict(self.plan.states)
        self._kept: dict[str, Array] = self.plan.settle(0, {}) if self.plan.steady == 0 else {}
        self._over = False

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a stream stands in the middle of its input.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            "Stream cannot be pickled",
            need="its network, which can, and what state() returns",
            fix="net.stream(axis, chunk) and restore(state) in the other process",
        )

    def push(self, x: Any) -> Array:
        """Take more of the input and return what of the result is ready, which may be nothing: an array without
        positions along the axis.

        Raises:
            ShapeError: another shape than the input's, but for any number of positions along the axis.
            DataError: another type than the network's.
            StreamError: the stream was flushed.
        """
        self._check_open()
        x = self._inside(x)
        plan, before = self.plan, self._save()
        axis = plan.axis
        queue = np.concatenate([self._queue, x], axis) if self._queue.shape[axis] else x
        size, at, found = queue.shape[axis], 0, []
        try:
            while size - at >= (least := self._find_least(self._position)):
                hops = (size - at) // plan.hop
                hops = self._most if hops >= self._most else 1 << (hops.bit_length() - 1)
                count = hops * plan.hop if least == plan.hop else least
                part = queue[(*(slice(None),) * axis, slice(at, at + count))]
                found.append(self._run(plan.on(self._position, count), part))
                self._position += count
                at += count
                if self._position - count < plan.steady <= self._position:
                    self._kept = plan.settle(self._position, self._kept)
        except BaseException:
            self._load(before)
            raise
        self._queue = queue[(*(slice(None),) * axis, slice(at, None))].copy()
        self.pushed += x.shape[axis]
        return self._outside(found)

    def flush(self) -> Array:
        """The rest of the result: the input ends here, and its end has the padding that the layers have there.

        Raises:
            ShapeError: the network has no result for so short an input; the stream stays as it is.
            StreamError: the stream was flushed already.
        """
        self._check_open()
        plan = self.plan
        if self.pushed == 0:
            self._over = True
            return self._outside([])
        waiting = self._queue.shape[plan.axis]
        found = self._run(plan.end(self._position, waiting), self._queue)
        self._position += waiting
        self._over = True
        return self._outside([found])

    def state(self) -> dict[str, Array]:
        """All that the stream knows, as arrays by name; for `restore`, also in another process, or of a stream with
        another ``chunk``.
        """
        plan = self.plan
        found: dict[str, Array] = {
            "version": np.array([VERSION], np.int64),
            "network": np.frombuffer(plan.digest, np.uint8).copy(),
            "counts": np.array([self._position, self.pushed, self.given, self._over], np.int64),
            "queue": self._queue.copy(),
        }
        found |= {_KEPT + name: array.copy() for name, array in self._kept.items()}
        return found | {_STATE + name: array.copy() for name, array in self._states.items()}

    def restore(self, state: object) -> None:
        """Go on from a state, which stays the caller's. Nothing changes if it does not fit.

        Raises:
            DataError: no state of a stream, or one of another version, or arrays of another type.
            ShapeError: of another network, or arrays of other shapes.
        """
        plan = self.plan
        if not isinstance(state, Mapping) or not {"version", "network", "counts", "queue"} <= set(state):
            raise DataError("this is no state of a stream", need="what Stream.state() returned", at=plan.at)
        given = {name: _read(name, array) for name, array in state.items()}
        version, counts = given["version"], given["counts"]
        if version.shape != (1,) or version.dtype != np.int64 or version[0] != VERSION:
            raise DataError(f"a state of version {version.tolist()}", need=f"version {VERSION}", at=plan.at)
        if given["network"].tobytes() != plan.digest:
            raise ShapeError("a state of another network, axis or output", need="a stream of the same", at=plan.at)
        queue = given["queue"]
        fits = counts.shape == (4,) and counts.dtype == np.int64 and queue.ndim == len(plan.shape)
        position, pushed, done, over = counts.tolist() if fits else (-1, 0, 0, 0)
        waiting = queue.shape[plan.axis] if fits else 0
        if over == 1 and fits:
            waiting, whole = 0, position == pushed
        else:
            whole = position % plan.hop == 0 and position + waiting == pushed
        most = self._find_least(position)
        if not fits or over not in (0, 1) or min(position, done) < 0 or not whole or waiting >= most:
            raise ShapeError(f"counts {counts.tolist()} that do not fit", need="a state as it was", at=plan.at)
        expected = {"queue": plan.part_shape(queue.shape[plan.axis])}
        if not over:
            expected |= {_KEPT + name: shape for name, shape in plan.kept_shapes(position).items()}
            expected |= {_STATE + name: array.shape for name, array in plan.states.items()}
        arrays = {name: array for name, array in given.items() if name not in ("version", "network", "counts")}
        if not over and set(arrays) != set(expected):
            problem = f"arrays {sorted(set(arrays) ^ set(expected))} that are missing or too many"
            raise ShapeError(problem, need="a state as it was", at=plan.at)
        for name, shape in expected.items():
            if arrays[name].shape != shape or arrays[name].dtype != plan.dtype:
                problem = f"{name!r} is {arrays[name].dtype} of shape {arrays[name].shape}"
                raise ShapeError(problem, need=f"{plan.dtype} of shape {shape}", at=plan.at)
        self._position, self.pushed, self.given, self._over = position, pushed, done, bool(over)
        self._queue = np.array(queue, order="C")
        own = {name: np.array(array, order="C") for name, array in arrays.items()}
        self._kept = {name[len(_KEPT) :]: array for name, array in own.items() if name.startswith(_KEPT)}
        self._states = {name[len(_STATE) :]: array for name, array in own.items() if name.startswith(_STATE)}

    def __repr__(self) -> str:
        plan = self.plan
        sizes = ", ".join("*" if n == plan.axis else str(size) for n, size in enumerate(plan.shape))
        return (
            f"<Stream ({sizes}) along axis {plan.axis}; hop {plan.hop}, latency {self.latency.samples}, "
            f"{self.pushed} pushed, {self.given} given>"
        )

    # -- inside

    def _find_least(self, position: int) -> int:
        """Positions that are computed at once, at least: fewer wait."""
        return self.plan.start if position == 0 else self.plan.hop

    def _check_open(self) -> None:
        if self._over:
            raise StreamError("the stream was flushed", need="reset() before more comes", at=self.plan.at)

    def _inside(self, x: Any) -> Array:
        """A part of the input, channels first."""
        plan = self.plan
        array = read_array(plan.source, x, plan.dtype, plan.at)
        if self._last and array.ndim == len(plan.shape):
            array = np.moveaxis(array, -1, 1)
        expected = plan.part_shape(array.shape[plan.axis] if array.ndim == len(plan.shape) else 0)
        if array.shape != expected:
            shown: list[Any] = list(plan.shape)
            shown[plan.axis] = "any"
            raise ShapeError(
                f"a part of shape {tuple(np.shape(x))}", need=f"({', '.join(map(str, self._order(shown)))})", at=plan.at
            )
        return array

    def _order(self, shape: list[Any]) -> list[Any]:
        return [shape[0], *shape[2:], shape[1]] if self._last else shape

    def _outside(self, found: list[Array]) -> Array:
        """Results side by side, as the caller has them."""
        plan = self.plan
        axis = plan.out_axis
        parts = [part for part in found if part.shape[axis]]
        y = parts[0] if len(parts) == 1 else np.concatenate([np.empty(plan.room(0), plan.dtype), *parts], axis)
        self.given += y.shape[axis]
        if plan.tensor in plan.truths:
            y = y != 0
        return np.ascontiguousarray(np.moveaxis(y, 1, -1)) if self._last else y

    def _run(self, compiled: Leg, x: Array) -> Array:
        """One stretch: what it makes of the result; what it leaves takes the place of what was kept."""
        plan, stretch = self.plan, compiled.stretch
        found: dict[str, Array] = {}
        if compiled.run is not None:
            values = {plan.source: x, **self._states, **{before_name(name): old for name, old in self._kept.items()}}
            found = compiled.run.run({name: arrange(values[name]) for name in compiled.run.inputs})
        kept = {}
        for name, (output, count) in stretch.kept.items():
            if output is not None:
                kept[name] = found[output]
            else:
                old, axis = self._kept[name], plan.flow.axes[name]
                kept[name] = old[(*(slice(None),) * axis, slice(old.shape[axis] - count, None))]
        self._kept = kept
        self._states = {**self._states, **{name: found[output] for name, output in stretch.states.items()}}
        return found[stretch.result] if stretch.result is not None else np.empty(plan.room(0), plan.dtype)

    def _save(self) -> tuple[Any, ...]:
        return self._position, self._kept, self._states

    def _load(self, saved: tuple[Any, ...]) -> None:
        self._position, self._kept, self._states = saved


def _read(name: Any, array: Any) -> Array:
    if not isinstance(name, str) or not isinstance(array, np.ndarray):
        raise DataError(f"{name!r} is a {type(array).__name__}", need="NumPy arrays by name")
    return array
