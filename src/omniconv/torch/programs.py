"""The compiled programs of layers, made when a shape is first met, and a bounded number of them kept.

A program is for one layer, one shape, one type, one order in memory and one number of threads. Its weights are inputs:
a step of an optimiser compiles nothing.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import field
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import torch

from omniconv.errors import RecompileWarning, warn
from omniconv.forks import own_locks
from omniconv.gradients import compile_forward, compile_input_gradient, compile_weight_gradient
from omniconv.normalise import (
    compile_conv_norms,
    compile_conv_norms_gradient,
    compile_normalise,
    compile_normalise_gradient,
)
from omniconv.program.normalise import ConvNorm, Norm
from omniconv.records import dataclass
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.runtime.kept import MOST_KEPT, Kept
from omniconv.spec import Conv, Shape
from omniconv.torch.prepared import PreparedCall

MOST_LAYERS: Final = 1024
"""Layers whose programs are kept: those looked for last, which a call that is remembered does not do. Of each one the
last :data:`MOST_KEPT` shapes."""
MOST_CALLS: Final = MOST_LAYERS * MOST_KEPT
"""Calls that are remembered."""
HINT_AFTER: Final = 10
"""After so many shapes compiled anew for one layer a warning says so, once."""

DTYPES: Final = {torch.float32: "float32", torch.float64: "float64"}
"""The types that code is compiled for."""

_COMPILE: Final[dict[str, Callable[..., Executable]]] = {
    "forward": partial(compile_forward, bias=False),
    "forward_bias": partial(compile_forward, bias=True),
    "input_gradient": compile_input_gradient,
    "weight_gradient": partial(compile_weight_gradient, bias=False),
    "weight_gradient_bias": partial(compile_weight_gradient, bias=True),
    "normalise": compile_normalise,
    "normalise_gradient": compile_normalise_gradient,
    "conv_norms": compile_conv_norms,
    "conv_norms_gradient": compile_conv_norms_gradient,
    "first_conv_norms_gradient": partial(compile_conv_norms_gradient, inner=False),
}


@lru_cache(maxsize=1)
def find_parallel() -> int:
    """Address of the function that runs others' work on the threads of PyTorch's own operators; 0 where there is none.

    Threads of our own would take turns on the same processors with PyTorch's, which spin for a while after each of its
    operators, as ours do.
    """
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return 0
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        function = ctypes.CDLL(str(library)).GOMP_parallel  # of the runtime that PyTorch is linked to
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


Layers: TypeAlias = Conv | Norm | tuple[ConvNorm, ...]
"""What a program is for."""


class _ProgramKey(NamedTuple):
    """What a program is for, apart from the shape and the threads."""

    what: str
    spec: Layers
    dtype: torch.dtype
    layout: str
    image: Shape
    """Of a normalisation, which fits any: what tells the layers of a network apart, that have the same numbers."""


@dataclass(slots=True)
class _Layer:
    """The programs of one key, and how many have been compiled."""

    kept: Kept[Executable] = field(default_factory=Kept)
    compiled: int = 0


class Programs:
    """Programs by layer and shape. Thread-safe; those of a process are used on in its forks."""

    def __init__(self) -> None:
        self._layers: OrderedDict[_ProgramKey, _Layer] = OrderedDict()
        self._calls: dict[Hashable, PreparedCall] = {}
        own_locks(self)
        self.compiled = 0
        """How many have been compiled so far."""
        self.memory = ArenaPool()
        """Working memory, which all of them share."""

    def reach(
        self, what: str, spec: Layers, shape: Shape, dtype: torch.dtype, *, channels_last: bool
    ) -> Callable[[], Executable]:
        """A call that gives the program for one input shape and the threads of now; compiled there where there is none.

        The call raises:
            ShapeError: an input that the layer does not take.
            LimitError: more memory than allowed; nothing has been allocated then.
        """
        image = shape[1:] if isinstance(spec, Norm) else ()
        key = _ProgramKey(what, spec, dtype, "NHWC" if channels_last else "NCHW", image)
        with self._lock:
            layer = self._layers.get(key)
            if layer is None:
                layer = self._layers[key] = _Layer()
                while len(self._layers) > MOST_LAYERS:
                    self._layers.popitem(last=False)
                    self._calls.clear()
            else:
                self._layers.move_to_end(key)
        threads = torch.get_num_threads()
        return partial(layer.kept.find, (shape, threads), partial(self._compile, layer, key, shape, threads))

    def recall(self, key: Hashable) -> PreparedCall | None:
        """The call that was remembered for a key."""
        return self._calls.get(key)

    def remember(self, key: Hashable, call: PreparedCall) -> None:
        """Keep a call until layers are forgotten, or too many calls are kept."""
        with self._lock:
            if len(self._calls) >= MOST_CALLS:
                self._calls.clear()
            self._calls[key] = call

    def _compile(self, layer: _Layer, key: _ProgramKey, shape: Shape, threads: int) -> Executable:
        dtype = DTYPES[key.dtype]
        found = _COMPILE[key.what](key.spec, shape, threads=threads, layout=key.layout, dtype=dtype)
        found.borrow(self.memory, find_parallel())
        with self._lock:
            layer.compiled += 1
            self.compiled += 1
            many = layer.compiled
        if many == HINT_AFTER + 1:
            first = key.spec[0] if isinstance(key.spec, tuple) else key.spec
            warn(
                f"the {key.what.removesuffix('_bias').replace('_', ' ')} of a layer has been compiled for "
                f"{many} shapes, and the last {MOST_KEPT} are kept; need few shapes, e.g. inputs padded to a "
                f"few sizes, and drop_last=True for the last batch | {first.text(shape)}",
                RecompileWarning,
            )
        return found

    def clear(self) -> None:
        """Forget all programs, and return the working memory that none of them is using."""
        with self._lock:
            self._layers.clear()
            self._calls.clear()
        self.memory.clear()

    def forget_locks(self) -> None:
        """Begin with a lock that nobody holds: at first, and in the child of a fork."""
        self._lock = threading.Lock()


PROGRAMS: Final = Programs()
"""Those of this process."""
