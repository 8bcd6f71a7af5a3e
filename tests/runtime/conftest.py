from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.runtime.ring import Kernels, make_kernels

from omniconv.runtime.threads import Team


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    return make_kernels()


@pytest.fixture(params=[1, 2, 3, 4, 7])
def team(request: pytest.FixtureRequest) -> Iterator[Team]:
    team = Team(request.param)
    yield team
    team.close()
