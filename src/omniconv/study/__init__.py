"""What the kinds of convolution promise, measured on the same footing: one network, trained with every kind.

:func:`run_study` trains, measures and judges; `omniconv study` does it from the command line. Needs the extra
``study``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omniconv.study.settings import StudySettings

if TYPE_CHECKING:
    from omniconv.study.run import run_study
    from omniconv.study.study import Study

__all__ = ["Study", "StudySettings", "run_study"]


def __getattr__(name: str) -> Any:
    """What needs PyTorch, when it is first asked for."""
    if name == "run_study":
        from omniconv.study.run import run_study

        return run_study
    if name == "Study":
        from omniconv.study.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
