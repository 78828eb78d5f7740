"""Fixtures of the tests of the delivery."""

from __future__ import annotations

import pytest

from comfyreport.reporting import delivery
from tests.reporting.deliveries import HeldTime


@pytest.fixture
def held_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for the delivery but in reporters that are stuck."""
    monkeypatch.setattr(delivery, "time", HeldTime())
