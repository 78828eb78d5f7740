"""Runs against a hostile server: in this process with all reporters, or as a process on a terminal or measured."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import comfyreport_console
import jsonschema

from comfyreport import events as ev
from comfyreport.engine.options import RunOptions
from comfyreport.events.schema import json_schema
from comfyreport.inputs.local_files import Given
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.session import Session
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.text import is_safe
from comfyreport.timing import Timing
from tests.e2e.installation import NOTHING_LEARNED
from tests.hostile.server import WORKFLOW, Hostile
from tests.plugins.terminal import Plain, Terminal

LIMIT = 25.0
# A machine that stands still for a moment makes no reporter a slow one.
QUICK = replace(Timing().scaled(0.05), hook_limit=Timing.hook_limit, close_limit=Timing.close_limit)

_SCHEMA = json_schema()
_SHARED = {key: value for key, value in _SCHEMA.items() if key not in ("oneOf", "required", "properties")}
_VALIDATORS: dict[str, jsonschema.Draft202012Validator] = {}


class Told(NamedTuple):
    """What a run told: its end, the lines of jsonl, what stands in the log, and on plain and redrawn consoles."""

    result: ev.RunFinished
    lines: list[dict[str, Any]]
    log: str
    plain: str
    terminal: Terminal
    complaints: list[str]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The JSON lines of one type."""
        return [line for line in self.lines if line["type"] == kind]

    def codes(self) -> list[str]:
        """The codes of all warnings."""
        return [line["code"] for line in self.of("warning")]


def follow(
    server: Hostile,
    folder: Path,
    *,
    output: str | None = None,
    workflow: Any = None,
    timing: Timing = QUICK,
    ping_interval: float | None = None,
    files: tuple[Given, ...] = (),
) -> Told:
    """Run a workflow in this process, told to all reporters; what holds for every run is checked."""
    plain, terminal = Plain(), Terminal(100)
    plugins = Plugins(StandardStreams(Plain(), Plain()))
    plugins.add_spec(f"jsonl={folder / 'events.jsonl'},rate=0")
    plugins.add_spec(f"filelog={folder / 'run.log'}")
    plugins.add_object(comfyreport_console.console(plain), "plain")
    plugins.add_object(comfyreport_console.console(terminal), "terminal")
    complaints: list[str] = []
    session = Session(plugins, command="run", server=server.url, timing=timing, complain=complaints.append)
    # No run may last for ever; one that does shows as this limit.
    options = RunOptions(timeout=LIMIT, ping_interval=ping_interval)
    job = Job(server=server.url, workflow=workflow or WORKFLOW, output=output, options=options, files=files)
    result = run_job(session, job)
    session.finish()
    told = Told(
        result,
        read_lines((folder / "events.jsonl").read_bytes()),
        (folder / "run.log").read_text(encoding="utf-8"),
        plain.text,
        terminal,
        complaints,
    )
    check(told)
    return told


def read_lines(data: bytes) -> list[dict[str, Any]]:
    """JSON lines, each valid by itself, from the stream's first to its last."""
    lines: list[dict[str, Any]] = []
    for raw in data.decode("utf-8").splitlines():
        line = json.loads(raw, parse_constant=_no_constant)
        kind = line["type"]
        if kind not in _VALIDATORS:
            _VALIDATORS[kind] = jsonschema.Draft202012Validator({**_SHARED, "$ref": f"#/$defs/{kind}"})
        _VALIDATORS[kind].validate(line)
        lines.append(line)
    assert (lines[0]["type"], lines[-1]["type"]) == ("stream_started", "stream_finished")
    assert [line["type"] for line in lines].count("run_finished") == 1
    return lines


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def check(told: Told) -> None:
    """What holds for every run, whatever a server says."""
    assert told.result.status not in ("internal", "timeout"), told.result
    assert told.complaints == []
    assert told.lines[-1]["reporter_failures"] == []
    assert_printable(told.plain)
    assert_printable(told.log)
    assert "".join(told.terminal.screen)


def assert_printable(text: str) -> None:
    """Nothing in *text* but the ends of lines can move a cursor, colour anything, or turn the direction of text."""
    bad = {each for each in text if each != "\n" and not is_safe(each)}
    assert not bad, (bad, text)


# --- processes

# What redrawing and colours are made of.
_ALLOWED = re.compile(rb"\x1b\[(?:[0-9;]*[mAJK]|\?7[hl])|\r|\n")

_MEASURED = """
import os, sys
from comfyreport.cli.main import main
code = main(sys.argv[2:])
with open("/proc/self/status") as status, open(sys.argv[1], "w") as out:
    out.write("".join(line for line in status if line.startswith("VmHWM")))
sys.stdout.flush()
os._exit(code)
"""


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process: quick, and nothing of the test run's own settings."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COMFYREPORT_") and name not in ("CI", "NO_COLOR", "FORCE_COLOR")
    }
    usual = {"TERM": "xterm-256color", "COMFYREPORT_TIME_SCALE": "0.05", "PYTHONUTF8": "1"}
    return {**ours, **usual, **NOTHING_LEARNED, **(more or {})}


def on_terminal(server: Hostile, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command with all its streams on a terminal; its exit code, and what came there without redrawing."""
    workflow = folder / "workflow.json"
    workflow.write_text(json.dumps(WORKFLOW))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "comfyreport", "--workflow", str(workflow), "--server", server.url, *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ(), cwd=folder)
    os.close(theirs)
    data, deadline = b"", time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1.0)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            data += piece
    os.close(ours)
    code = process.wait(LIMIT)
    return code, _ALLOWED.sub(b" ", data).decode("utf-8")


def measured(server: Hostile, folder: Path, *arguments: str) -> tuple[int, float, list[dict[str, Any]]]:
    """Run the command; its exit code, the most memory that it had in MiB, and its event stream."""
    workflow, peak = folder / "workflow.json", folder / "peak"
    workflow.write_text(json.dumps(WORKFLOW))
    command = [
        sys.executable, "-c", _MEASURED, str(peak), "--workflow", str(workflow), "--server", server.url,
        "--reporter", "console", "--reporter", f"jsonl={folder / 'events.jsonl'},rate=0", *arguments,
    ]  # fmt: skip
    # At the usual pace, so that HTTP doesn't decide before a large frame has come.
    usual = environ({"COMFYREPORT_TIME_SCALE": "1"})
    done = subprocess.run(command, env=usual, cwd=folder, timeout=LIMIT, capture_output=True, check=False)
    assert peak.exists(), done.stderr.decode()
    lines = read_lines((folder / "events.jsonl").read_bytes())
    return done.returncode, int(peak.read_text().split()[1]) / 1024, lines
