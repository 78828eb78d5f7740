"""What holds for all tests: an environment that doesn't depend on where they run, and a least number of real ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.installation import NOTHING_LEARNED
from tests.packages import packages, plugins
from tests.receiver import received

__all__ = ["packages", "plugins", "received"]

LEAST_REAL = "COMFYREPORT_LEAST_REAL_TESTS"

# What would change what comfyreport does or shows: the tests set what they need.
_FOREIGN = (
    "CI",
    "COLUMNS",
    "COMFYREPORT_DEBUG",
    "COMFYREPORT_PLUGINS",
    "COMFYREPORT_REPORTER",
    "COMFYREPORT_SERVER",
    "COMFYREPORT_SIM_SPEED",
    "COMFYREPORT_SIM_STRICT",
    "COMFYREPORT_TIME_SCALE",
    "COMFYREPORT_TOKEN",
    "COMFYREPORT_WEBHOOK_SECRET",
    "COMFYREPORT_WEBHOOK_URL",
    "FORCE_COLOR",
    "GITHUB_STEP_SUMMARY",
    "NO_COLOR",
)

# Those of learning unset the one, and set the other.
os.environ.update(NOTHING_LEARNED)

# A shell that starts something in the background lets it ignore Ctrl-C, and nohup the terminal's end, and with it
# whatever the tests start.
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

_TESTS = Path(__file__).parent
_SLOW_FOLDERS = {"benchmarks", "docs", "faults", "hostile"}

_real_tests = 0


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests: those that nothing says otherwise of."""
    for item in items:
        slow = any(item.get_closest_marker(name) is not None for name in ("real", "e2e", "slow"))
        # Hundreds of examples each.
        slow = slow or getattr(getattr(item, "function", None), "is_hypothesis_test", False)
        if not (slow or _SLOW_FOLDERS & set(item.path.relative_to(_TESTS).parts)):
            item.add_marker("quick")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests of a real ComfyUI that passed."""
    global _real_tests  # noqa: PLW0603  pytest's hooks share nothing else
    _real_tests += report.when == "call" and report.passed and "real" in report.keywords


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail where fewer tests of a real ComfyUI ran than were asked for."""
    if hasattr(session.config, "workerinput"):
        # One of several processes: the one that started them has all reports.
        return
    least = int(os.environ.get(LEAST_REAL) or 0)
    if exitstatus == pytest.ExitCode.OK and _real_tests < least:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nonly {_real_tests} tests of a real ComfyUI passed, {least} are the least")
