"""Runs comfyreport and its unit tests on the Windows CPython, under Wine; fails if any of it does.

Where Wine can't be had, or doesn't start, it says so and fails nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.windows.wine import WindowsPython, WineCrashError, WineError, find_wine

LIMIT = 1200.0
TRIES = 3
UNIT_TESTS = (
    "-n2", "-m", "not real and not e2e", "--ignore=tests/faults", "--ignore=tests/hostile", "--ignore=tests/benchmarks",
    # They run what the pages show, in bash; and these need terminals, signals and nginx.
    "--ignore=tests/docs", "--ignore=tests/e2e",
)  # fmt: skip

PARTS = {
    "commands": ("-n2", "tests/windows/test_commands.py"),
    "console": ("-s", "tests/windows/test_console.py"),
    "units": UNIT_TESTS,
}

# Tests that fail for Wine's sake, by what it lacks; on Windows they run.
LACKING = {
    "`shutdown` on one thread wakes no `recv` on another": (
        "tests/net/test_websocket.py::test_a_connection_that_takes_nothing_more_is_ended",
    ),
}


def main() -> int:
    """Set all up in a temporary folder, run the parts, and say what came of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.windows", description=__doc__)
    parser.add_argument("--only", choices=("commands", "console", "units"), help="run one part of three")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="comfyreport-windows-", ignore_cleanup_errors=True) as folder:
        try:
            python = WindowsPython(find_wine(), Path(folder))
            with python:
                python.start()
                python.install()
                return max(_tried(python, part) for part in PARTS if only in (None, part))
        except WineError as error:
            print(f"\n!!! NOT TESTED ON WINDOWS: {error}; on Debian: apt-get install --no-install-recommends wine64\n")
            return 0


def _tried(python: WindowsPython, part: str) -> int:
    """Run the tests of one part; anew where Wine's server ended in the middle, which is none of the tests' doing."""
    for _ in range(TRIES - 1):
        try:
            return _run(python, part)
        except WineCrashError as crash:
            print(f"\nWindows, {part}: Wine crashed ({crash}): once more\n", flush=True)
            python.close()
            python.start()
    return _run(python, part)


def _run(python: WindowsPython, part: str) -> int:
    """Run the tests of one part: 0 if all passed, and some did."""
    began = time.monotonic()
    run = python.run_on_terminal if part == "console" else python.run
    left_out = [f"--deselect={test}" for tests in LACKING.values() for test in tests]
    report = python.checkout / f"{part}.xml"
    pytest = ("-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", f"--junit-xml={report.name}")
    code = run(*pytest, *PARTS[part], *left_out, limit=LIMIT)
    seconds = time.monotonic() - began
    if not report.exists():
        print(f"Windows, {part}: came to no end, exit code {code}, {seconds:.0f} s")
        return 1
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, skipped, failed = (int(suite.get(name, 0)) for name in ("tests", "skipped", "failures"))
    failed += int(suite.get("errors", 0))
    if part == "console":
        # What pytest said of them went there.
        for case in suite.iter("testcase"):
            for reason in (*case.iter("failure"), *case.iter("error")):
                print(f"FAILED {case.get('classname')}::{case.get('name')}\n{reason.text}")
    print(f"Windows, {part}: {total - skipped - failed} passed of {total}, {skipped} skipped, {seconds:.0f} s")
    return int(code != 0 or failed > 0 or total == skipped)


if __name__ == "__main__":
    sys.exit(main())
