"""The process of a command: standard streams."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from comfyreport.process import open_missing_descriptors, report_stdout_failure, standard_streams


def test_a_stray_write_lands_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_streams() as (out, _):
        out.write("meant\n")
        os.write(1, b"stray\n")
    os.write(1, b"after it\n")
    assert capfd.readouterr() == ("meant\nafter it\n", "stray\n")


def test_missing_streams_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_missing_descriptors()
    opened: list[Any] = [sys.stdout, sys.stderr]
    assert [stream.fileno() for stream in opened] == [1, 2]
    for stream in opened:
        stream.close()
    for number in range(3):
        os.fstat(number)


def test_a_failed_stdout_is_reported_and_a_closed_pipe_is_not() -> None:
    err = io.StringIO()
    report_stdout_failure(BrokenPipeError(32, "Broken pipe"), err)
    assert err.getvalue() == ""
    report_stdout_failure(OSError(28, "No space left on device"), err)
    assert err.getvalue() == "comfyreport: stdout can't be written: No space left on device\n"
