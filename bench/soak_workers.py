"""Workers of :mod:`soak` that load saved networks and answer with them."""

from __future__ import annotations

import signal
import tempfile
import warnings
from collections.abc import Sequence
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import omniconv as oc
from omniconv.errors import HostWarning, RebuildWarning
from soak_subjects import digest, draw_input

METHODS: Final = tuple(method for method in ("fork", "spawn") if method in get_all_start_methods())
"""How workers are started."""
PATIENCE: Final = 120
"""How long a worker may take [s]."""


class SavedCall(NamedTuple):
    """One call of a network that is saved.

    Attributes:
        net: what is saved.
        shape, seed: of the input.
        answer: the digest of what is right.
    """

    net: Any
    shape: tuple[int, ...]
    seed: int
    answer: bytes


class _LoadedCall(NamedTuple):
    """The same for a worker, which has the file."""

    path: Path
    shape: tuple[int, ...]
    seed: int
    answer: bytes


def count_wrong(method: str, calls: Sequence[SavedCall]) -> int:
    """How many answers of a worker are wrong; all, where it does not end well.

    Args:
        method: by which it is started.
        calls: what it is asked, each of a file of its own.
    """
    context: Any = get_context(method)
    there, here = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        loaded = []
        for number, call in enumerate(calls):
            loaded.append(_LoadedCall(Path(folder) / f"{number}.oconv", *call[1:]))
            call.net.save(loaded[-1].path)
        worker = context.Process(target=_answer, args=(loaded, here))
        worker.start()
        here.close()
        try:
            wrong = int(there.recv())
        except EOFError:
            wrong = len(calls)
        worker.join()
    there.close()
    return wrong


def _answer(calls: Sequence[_LoadedCall], pipe: Any) -> None:
    """Load each network, without compiling anything, and count the answers that are wrong."""
    if hasattr(signal, "alarm"):
        signal.alarm(PATIENCE)
    warnings.simplefilter("ignore", HostWarning)
    warnings.simplefilter("error", RebuildWarning)
    answers = [digest(oc.load(call.path)(draw_input(call.shape, call.seed))) for call in calls]
    pipe.send(sum(answer != call.answer for answer, call in zip(answers, calls, strict=True)))
