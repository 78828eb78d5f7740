"""One fast simulator and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyreport.simulator import Simulator

from .client import Client, connected

FAST = 1000.0


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=FAST) as started:
        yield started


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    with connected(simulator) as found:
        yield found
