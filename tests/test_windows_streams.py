"""Standard streams as Windows has them: a console's that write to nothing else, code pages, numbers never given."""

from __future__ import annotations

import io
import os
import sys

import pytest

from comfyreport import process
from comfyreport.process import open_missing_descriptors, redirect_stray_output, standard_streams, write_utf8


class _ConsoleFile(io.TextIOWrapper):
    """What `sys.stdout` is on a console: it fails where its descriptor leads anywhere else."""

    def write(self, text: str) -> int:
        raise OSError(6, "Invalid handle")


@pytest.fixture
def _console_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WINDOWS", True)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, _ConsoleFile(io.BytesIO(), encoding="utf-8"))


@pytest.mark.usefixtures("_console_streams")
def test_a_stray_print_goes_where_its_descriptor_leads(capfd: pytest.CaptureFixture[str]) -> None:
    streams, shown = (sys.stdout, sys.stderr), list[str]()
    with standard_streams() as (out, _):
        early = sys.stderr
        print("first ü")
        with redirect_stray_output(shown.append):
            print("under the live view")
            print("by what was there before it", file=early)
        out.write("meant\n")
    assert (sys.stdout, sys.stderr) == streams
    assert "".join(shown).splitlines() == ["under the live view", "by what was there before it"]
    assert capfd.readouterr() == ("meant\n", "first ü\n")


def test_stdout_is_utf8_where_it_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for windows, expected in ((True, "utf-8"), (False, "cp1252")):
        monkeypatch.setattr(process, "WINDOWS", windows)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
        write_utf8()
        assert sys.stdout.encoding == expected


def test_an_encoding_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setattr(process, "WINDOWS", True)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    write_utf8()
    assert sys.stdout.encoding == "cp1252"


def test_a_number_that_is_not_given_by_itself_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pythonw, where what is opened first has the number 3."""
    saved, real = os.dup(0), os.open

    def give_another(path: str, flags: int) -> int:
        lowest, another = real(path, flags), real(path, flags)
        os.close(lowest)
        return another

    os.close(0)
    try:
        monkeypatch.setattr(os, "open", give_another)
        open_missing_descriptors()
        assert os.path.samestat(os.fstat(0), os.stat(os.devnull))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
