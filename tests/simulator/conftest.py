"""One fast simulator, of either generation, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyreport.simulator import Simulator

from .client import Client, connected

FAST = 1000.0


OLDER, NEWER = "0.3.64", "0.33.0"


@pytest.fixture(params=[OLDER, NEWER])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(speed=FAST, version=request.param) as started:
        yield started


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    with connected(simulator) as found:
        yield found
