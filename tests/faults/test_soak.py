"""Many runs in one process leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import grown, soak

RUNS = 200

pytestmark = pytest.mark.e2e


def test_many_runs_leave_nothing_behind(tmp_path: Path) -> None:
    assert not grown(soak(RUNS, tmp_path))
