"""The exceptions of ONNX Runtime by their names, with messages of Omniconv.

Each is an `OmniconvError`. Where ONNX Runtime is loaded, what is raised is its class of that name, too, so that
handlers written for either catch it. ONNX Runtime raises plain `RuntimeError` and `ValueError` in some places for what
is an exception of its own in others; ours are both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, cast

from omniconv.errors import LimitError, ModelError, OmniconvError, StorageError, UnsupportedError
from omniconv.ort.presence import STATE, find_theirs


class Failure(OmniconvError, RuntimeError):
    """Base of all of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the class that has the name: the one with ONNX Runtime's among its bases is made as needed."""
        kind = next(item for item in type(self).__mro__ if item.__module__ == __name__ and "_mixed" not in vars(item))
        return kind, self.args, self.__dict__


class Fail(Failure):
    """Something else."""


class InvalidArgument(Failure, ValueError):
    """Inputs, names, shapes, types or options that do not fit."""


class NoSuchFile(Failure):
    """A model file that is not there."""


class NoModel(Failure):
    """Never raised here."""


class EngineError(Failure):
    """Never raised here."""


class RuntimeException(Failure):
    """More memory than allowed."""


class InvalidProtobuf(Failure):
    """A file that is no model, or cut short."""


class ModelLoaded(Failure):
    """Never raised here."""


class NotImplemented(Failure):
    """A valid request that Omniconv cannot carry out; the message says what would be."""


class InvalidGraph(Failure):
    """A model that contradicts itself."""


class EPFail(Failure):
    """Never raised here."""


class ModelLoadCanceled(Failure):
    """Loading was called off by the options."""


class ModelRequiresCompilation(Failure):
    """Never raised here."""


class NotFound(Failure):
    """Never raised here."""


class DeviceReset(Failure):
    """Never raised here."""


F = TypeVar("F", bound=Failure)


def fail(kind: type[F], problem: str, *, need: str = "", fix: str = "", at: str = "") -> F:
    """An exception to be raised; see `OmniconvError`."""
    theirs = find_theirs(STATE, kind.__name__)
    found = kind if theirs is None else cast("type[F]", _mix(cast("Any", kind), theirs))
    return found(problem, need=need, fix=fix, at=at)


@lru_cache(maxsize=64)
def _mix(kind: type, theirs: type) -> type:
    """A class that is both."""
    return type(kind.__name__, (kind, theirs), {"__module__": kind.__module__, "_mixed": True})


def translate_run(error: OmniconvError) -> OmniconvError:
    """What a run raises, by the name that ONNX Runtime has for it."""
    return _translate(error, InvalidArgument)


def translate_load(error: OmniconvError) -> OmniconvError:
    """What loading and compiling a model raise, by the name that ONNX Runtime has for it."""
    return _translate(error, InvalidGraph if isinstance(error, ModelError) else InvalidArgument)


def _translate(error: OmniconvError, other: type[Failure]) -> OmniconvError:
    if isinstance(error, Failure):
        return error
    kind = other
    if isinstance(error, UnsupportedError):
        kind = NotImplemented
    elif isinstance(error, LimitError | StorageError):
        kind = RuntimeException
    return fail(kind, error.problem, need=error.need, fix=error.fix, at=error.at)
