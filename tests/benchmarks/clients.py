"""The clients that are measured: comfyreport, the bare script, and others; each is checked to have done its work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.running import BARE, Bench, BenchError, Server, Spent, comfyreport

Client = Callable[[], Spent]


def ours(bench: Bench, server: Server, *reporters: object, lines: int | None = None, **options: Any) -> Client:
    """comfyreport with *reporters*, else with JSON lines in a file; *lines* of progress must be in that file."""
    out = bench.folder / "ours.jsonl"
    chosen = reporters or (f"jsonl={out}" + ("" if lines is None else ",rate=0"),)
    command = [*comfyreport(), "--server", server.url, "--workflow", server.workflow]
    for reporter in chosen:
        command += ["--reporter", reporter]

    def client() -> Spent:
        out.unlink(missing_ok=True)
        spent = bench.run(command, server=server, **options)
        if not reporters:
            check_lines(out, lines)
        return spent

    return client


def check_lines(out: Path, lines: int | None = None) -> None:
    """See that a file of JSON lines is that of a good run, to its last step, with *lines* of progress."""
    progress, step, end = 0, b"", b"{}"
    # One by one: a process that is large makes its children look large (see `weights`).
    with out.open("rb") as file:
        for end in file:
            if end.startswith(b'{"step":'):
                progress, step = progress + 1, end
    last = orjson.loads(end)
    if last.get("type") != "stream_finished" or last.get("exit_code") != 0:
        raise BenchError(f"the last line is {end!r}")
    if lines is not None and progress != lines:
        raise BenchError(f"{progress} lines of progress instead of {lines}")
    if step:
        told = orjson.loads(step)
        if told["step"] != told["max_steps"]:
            raise BenchError(f"the last step told is {told['step']} of {told['max_steps']}")


def bare(bench: Bench, server: Server, *, lines: int | None = None, script: Path = BARE, **options: Any) -> Client:
    """The bare script, which writes a line for each progress message."""
    out = bench.folder / "bare.jsonl"

    def client() -> Spent:
        spent = bench.run([sys.executable, script, server.url, server.workflow, out], server=server, **options)
        with out.open("rb") as file:
            made = sum(1 for _ in file)
        if lines is not None and made != lines:
            raise BenchError(f"the bare script wrote {made} lines instead of {lines}")
        return spent

    return client


def plain(bench: Bench, *command: object) -> Client:
    """Any command that ends well by itself."""
    return partial(bench.run, list(command))
