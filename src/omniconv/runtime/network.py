"""`Network`: a model with open dimensions, compiled when its first input says what they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from omniconv.errors import DataError, ShapeError

if TYPE_CHECKING:
    from omniconv.runtime.executable import Array, Executable
    from omniconv.runtime.report import StepProfile
    from omniconv.spec import Shape

    Dims = tuple[int | str | None, ...] | None


def is_fixed(dims: Dims) -> bool:
    """Whether a model says all sizes of an input."""
    return dims is not None and all(isinstance(size, int) for size in dims)


class Network:
    """A model whose open dimensions the first call fixes; from then on it behaves as its :attr:`executable`.

    Attributes:
        signature: for each input the sizes that the model gives: an int, a name, or nothing.
    """

    def __init__(
        self, build: Callable[[Mapping[str, Shape]], Executable], signature: Mapping[str, Dims], layout: str
    ) -> None:
        self._build, self.signature, self._layout = build, dict(signature), layout
        self._lock = threading.Lock()
        self._executable: Executable | None = None

    @property
    def executable(self) -> Executable:
        """The compiled network.

        Raises:
            ShapeError: nothing has been run yet, so that its shapes are not known.
        """
        if self._executable is None:
            raise ShapeError(
                f"inputs {self.signature} have open dimensions", need="shapes, or one call", fix="shapes={name: shape}"
            )
        return self._executable

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executable, name)

    def __call__(self, x: Any) -> Array:
        """Run on one input and return the one output; see `Executable`."""
        if len(self.signature) != 1:
            raise ShapeError(f"inputs {list(self.signature)}", need="one input", fix="net.run({name: array})")
        return self._fix({next(iter(self.signature)): x})(x)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run on named inputs and return all outputs by name; see `Executable`."""
        return self._fix(inputs).run(inputs)

    def profile(self, inputs: Any, repeat: int = 10) -> list[StepProfile]:
        """Median time of each step; see `Executable`."""
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.signature)): inputs}
        return self._fix(named).profile(inputs, repeat)

    def _fix(self, inputs: Mapping[str, Any]) -> Executable:
        with self._lock:
            if self._executable is None:
                if not isinstance(inputs, Mapping):
                    raise DataError(f"inputs is a {type(inputs).__name__}", need="arrays by name", fix="{name: array}")
                if set(inputs) != set(self.signature):
                    raise ShapeError(
                        f"inputs {sorted(map(str, inputs))} were given", need=f"exactly {sorted(self.signature)}"
                    )
                self._executable = self._build({name: self._logical(x) for name, x in inputs.items()})
            return self._executable

    def _logical(self, x: Any) -> Shape:
        if not hasattr(x, "shape"):
            raise DataError(
                f"input is a {type(x).__name__}", need="a NumPy array or an object with __dlpack__",
                fix="numpy.asarray(x)",
            )  # fmt: skip
        shape = tuple(int(size) for size in x.shape)
        if self._layout == "NHWC" and 3 <= len(shape) <= 5:
            return (shape[0], shape[-1], *shape[1:-1])
        return shape
