"""The `github` reporter: the log of a run for GitHub Actions, with groups, annotations and a step summary.

The runner acts on lines of the log: those that begin, behind spaces, with `::` are commands, and so is whatever stands
behind `##[` anywhere in a line (ActionCommand.cs of actions/runner). No text of a server may become either. In the
summary such text stands as `<code>` within blocks of HTML: Markdown has no say in there.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator
from contextlib import closing

from comfyreport import (
    AnyEvent,
    Event,
    Fleet,
    Heartbeat,
    NodeCached,
    NodeRef,
    NodeTime,
    Output,
    ReporterError,
    RunFinished,
    RunQueued,
    RunView,
    Stream,
    Thinner,
    Warning,  # noqa: A004  the event's name
    color_tag,
    describe_event,
    describe_fleet,
    describe_in_run,
    describe_inputs,
    describe_result,
    describe_running,
    describe_slowest,
    format_bytes,
    format_seconds,
    format_speed,
    hookimpl,
    printable,
    server_name,
    stderr,
)

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""It names the file of the step summary; where it isn't set there is none."""

HEARTBEAT_SECONDS = 30.0
"""A heartbeat is written when no line was for so long, in seconds of the events' clock."""
# One progress line in ten seconds for each node, beside the first and the last of each pass.
_RATE = 0.1
# GitHub takes no summary over a mebibyte, and shows ten annotations of a kind.
_SUMMARY_LIMIT = 1_000_000
_ROWS, _ANNOTATIONS = 200, 10
# Of several runs, so many are told of in full, beside those that failed; and lines of the log that are kept of one.
_DETAILED, _RUN_LINES = 20, 2_000
_NAME_LIMIT, _MESSAGE_LIMIT = 200, 4_000
_LOGGED = frozenset(
    {"connection_changed", "run_started", "node_started", "node_progress", "node_finished", "output_saved"}
)


class _Log:
    """What is known of a run that is open; `lines` are those of one of several, to be written together at its end."""

    def __init__(self) -> None:
        self.nodes = self.cached = 0
        self.lines: list[str] = []
        self.warnings: list[str] = []


class GitHub:
    """Writes the log as the runs go on, and behind each run its part of the summary.

    :param summary: the path of the step summary.
    """

    def __init__(self, out: Stream, summary: str | None) -> None:
        self._out = out
        self._summary = summary
        self._room = _SUMMARY_LIMIT
        self._thinner = Thinner(_RATE)
        self._group_open = False
        self._last_line = 0.0
        self._fleet = Fleet()
        self._logs: dict[int | None, _Log] = {}
        self._annotations = {"warning": 0, "error": 0}
        self._rows: list[tuple[str, ...]] = []

    @hookimpl
    def comfyreport_event(self, event: AnyEvent, run: RunView) -> None:
        """Write *event*, or hold it back if it is a progress that comes too soon."""
        self._fleet.apply(event, run)
        for each in self._thinner.feed(event):
            if isinstance(each, RunQueued):
                self._begin(each)
            elif isinstance(each, NodeCached):
                self._log(each).cached += 1
            elif isinstance(each, Warning):
                self._warn(each)
            elif isinstance(each, RunFinished):
                self._finish(each, run)
            elif each.type in _LOGGED or self._is_due(each):  # type: ignore[attr-defined]
                self._write(each, describe_event(each))
        if event.run_index is not None and event.elapsed - self._last_line >= HEARTBEAT_SECONDS:
            self._last_line = event.elapsed
            self._put([f"[PROGRESS] {describe_running(self._fleet, event.elapsed)}"])
        self._out.flush()

    @hookimpl
    def comfyreport_close(self) -> None:
        """End the group of a run that didn't end, tell of several runs in a table, and close."""
        self._end_group()
        if self._rows:
            self._put(describe_fleet(self._fleet))
            self._append("\n".join(_runs_table(self._rows, self._fleet)))
        self._out.close()

    # --- the log

    def _log(self, event: Event) -> _Log:
        return self._logs.setdefault(event.run_index, _Log())

    def _is_due(self, event: Event) -> bool:
        waited = event.elapsed - self._last_line >= HEARTBEAT_SECONDS
        return isinstance(event, Heartbeat) and event.run_index is None and waited

    def _write(self, event: Event, lines: Iterable[str]) -> None:
        log = self._log(event)
        if log.cached:
            count, log.cached = log.cached, 0
            lines = [f"[INFO] {count} node{'' if count == 1 else 's'} cached", *lines]
        if event.run_index is None:
            self._last_line = event.elapsed
            self._put(lines)
        elif len(log.lines) < _RUN_LINES:
            log.lines += lines

    def _put(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._out.write((color_tag(harmless(line)) if self._out.color else harmless(line)) + "\n")

    def _begin(self, event: RunQueued) -> None:
        self._log(event).nodes = len(event.nodes)
        if event.run_index is None:
            self._begin_group(f"comfyreport run: {len(event.nodes)} nodes")

    def _begin_group(self, title: str) -> None:
        self._end_group()
        self._out.write(command("group", title))
        self._group_open = True

    def _end_group(self) -> None:
        if self._group_open:
            self._out.write(command("endgroup", ""))
            self._group_open = False

    def _warn(self, event: Warning) -> None:
        text = describe_in_run(event)[0].partition("] ")[2]
        # Those of the command as a whole come before its first run, or belong to none.
        warnings = self._log(event).warnings
        warnings += [text] * (len(warnings) < 10 * _ROWS)
        if self._annotate("warning"):
            self._out.write(command("warning", text, title="ComfyUI"))
        else:
            self._write(event, [f"[WARN] {text}"])

    def _annotate(self, kind: str) -> bool:
        """Whether there is room for one more annotation of this *kind*."""
        self._annotations[kind] += 1
        return self._annotations[kind] <= _ANNOTATIONS

    def _finish(self, event: RunFinished, run: RunView) -> None:
        self._write(event, ())
        log = self._logs.pop(event.run_index, _Log())
        if event.run_index is not None and log.nodes:
            # Of runs side by side, the lines of each stand together.
            self._begin_group(f"comfyreport run {event.run_index}: {log.nodes} nodes")
            self._put(log.lines)
        self._end_group()
        lines = describe_in_run(event, self._fleet.planned)
        self._last_line = event.elapsed
        self._put([*describe_slowest(event), *lines] if event.run_index is None else lines)
        if event.status != "success":
            message = "\n".join([lines[0].partition("] ")[2], *lines[1:]])
            node = None if event.error is None else event.error.node
            place = "" if node is None else f": {printable(node.title or node.name, _NAME_LIMIT)}"
            kind = "warning" if lines[0].startswith("[WARN]") else "error"
            if self._annotate(kind):
                self._out.write(command(kind, message[:_MESSAGE_LIMIT], title=f"ComfyUI workflow{place}"))
        self._summarize(event, run, log.warnings)

    # --- the summary

    def _summarize(self, event: RunFinished, run: RunView, warnings: list[str]) -> None:
        if event.run_index is not None and len(self._rows) < _ROWS:
            self._rows.append(_run_cells(event))
        if self._summary is None or (event.status == "success" and len(self._rows) > _DETAILED):
            return
        # The table of several runs has room in any case.
        room = self._room - (0 if event.run_index is None else _SUMMARY_LIMIT // 5)
        text = "\n".join([*_summary(event, run, warnings), "", ""])
        size = len(text.encode("utf-8", "replace"))
        if size > room:
            # The first that has no room says so, those behind it nothing.
            text, size = "## More runs\n\nThe summary has no room for them; the log tells of all.\n\n", room
        if room > 0:
            self._room -= size
            self._append(text)

    def _append(self, text: str) -> None:
        if self._summary is not None:
            with closing(Stream.to_path(self._summary, append=True)) as stream:
                stream.write(text)


def command(name: str, text: str, *, title: str = "") -> str:
    """A line that the runner acts on; neither *text* nor *title* can end it or begin another."""
    properties = f" title={escaped(title).replace(':', '%3A').replace(',', '%2C')}" if title else ""
    return f"::{name}{properties}::{escaped(text)}\n"


def escaped(text: str) -> str:
    """*text* for a command, as GitHub's own toolkit writes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def harmless(line: str) -> str:
    """*line* such that the runner takes it for text."""
    line = line.replace("##[", "##\\[")
    return f"\\{line}" if line.lstrip().startswith("::") else line


def _summary(event: RunFinished, run: RunView, warnings: list[str]) -> Iterator[str]:
    """One run in Markdown: how it ended, what it made, what it took."""
    number = "" if event.run_index is None else f" {event.run_index}"
    sign = "✅" if event.status == "success" else "❌"
    yield f"## {sign} ComfyUI run{number}: {html.escape(printable(event.status))} in {format_seconds(event.seconds)}"
    yield ""
    if event.status != "success":
        yield f"<pre>{html.escape(chr(10).join(describe_result(event)))}</pre>"
        yield ""
    took = dict(event.node_seconds)
    outputs = [output for output in event.outputs if output.kind not in ("text", "value")]
    yield from _table(
        ("File", "Node", "Size", "Node's time"),
        (_output_cells(output, took.get(output.node.id)) for output in outputs[:_ROWS]),
        len(outputs),
    )
    if event.node_times:
        yield f"<details><summary>{len(event.node_times)} nodes</summary>"
        running = {key for key, node in run.nodes.items() if node.state == "running"}
        rows = (_time_cells(time, running=time.node.id in running) for time in event.node_times[:_ROWS])
        yield from _table(("Node", "Class", "Time", "Share", "Speed", "Usually"), rows, len(event.node_times))
        yield "</details>"
        yield ""
    if warnings:
        items = "".join(f"<li>{_code(text)}</li>" for text in warnings[:_ROWS])
        yield f"<details><summary>{len(warnings)} warnings</summary><ul>{items}</ul></details>"
        yield ""
    facts = {"workflow": event.workflow, "prompt": event.prompt_id, "server": run.server, "seed": event.seed}
    shown = [f"{name} {_code(value)}" for name, value in facts.items() if value not in (None, "")]
    if shown:
        yield f"<p>{', '.join(shown)}</p>"


def _run_cells(event: RunFinished) -> tuple[str, ...]:
    """One of several runs as a row of the table."""
    files = [output for output in event.outputs if output.kind not in ("text", "value")]
    file = _code(files[0].path or files[0].filename or files[0].kind) if files else ""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    sign = "✅" if event.status == "success" else "❌"
    ended = f"{sign} {html.escape(printable(event.status))}"
    server, inputs = _code(server_name(event.server)), _code(describe_inputs(event.inputs))
    return f"{event.run_index}", ended, format_seconds(event.seconds), server, inputs, file + more


def _runs_table(rows: list[tuple[str, ...]], fleet: Fleet) -> Iterator[str]:
    """All runs in a table, as many as there is room for."""
    (line, *_) = describe_fleet(fleet)
    yield f"<p>{html.escape(line.partition('] ')[2])}</p>"
    yield ""
    kept, room = list[tuple[str, ...]](), _SUMMARY_LIMIT // 5 - 1_000
    for row in rows:
        room -= sum(len(cell.encode("utf-8", "replace")) + 10 for cell in row) + 10
        kept += [row] * (room > 0)
    yield from _table(("Run", "How it ended", "Time", "Server", "Inputs", "Outputs"), kept, fleet.done)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], count: int) -> Iterator[str]:
    """A table with cells of HTML, and a line about the rows that it leaves out; nothing without rows."""
    if not count:
        return
    yield f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    shown = list(rows)
    for row in shown:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    if count > len(shown):
        yield f"<tr><td>and {count - len(shown)} more</td></tr>"
    yield "</table>"
    yield ""


def _output_cells(output: Output, seconds: float | None) -> tuple[str, ...]:
    size = "" if output.bytes is None else format_bytes(output.bytes)
    time = "cached" if output.cached else "" if seconds is None else format_seconds(seconds)
    return (
        _code(output.path or output.filename or output.kind),
        _node(output.node),
        size,
        time,
    )


def _time_cells(time: NodeTime, *, running: bool) -> tuple[str, ...]:
    seconds = "cached" if time.cached else "" if time.seconds is None else format_seconds(time.seconds)
    seconds += " (not finished)" if running else ""
    share = "" if time.share is None or time.cached else f"{time.share:.0%}"
    usual = "" if time.usual_seconds is None else format_seconds(time.usual_seconds)
    return _node(time.node), _code(time.node.class_type), seconds, share, format_speed(time.steps_per_second), usual


def _node(node: NodeRef) -> str:
    return f"{_code(node.title or node.name)} {_code(f'#{node.id}')}"


def _code(text: object) -> str:
    """Text of a server as text, whatever it is: without links, mentions or shortcodes either."""
    shown = printable(text, _NAME_LIMIT)
    return f"<code>{html.escape(shown)}</code>" if shown else ""


def github(out: Stream = stderr) -> GitHub:
    """A log for GitHub Actions: a group for each run, annotations of errors and warnings, and a step summary."""
    path = os.environ.get(SUMMARY_VARIABLE)
    if path:
        # Whether it can be written is told now, not at the end.
        try:
            Stream.to_path(path, append=True).close()
        except OSError as error:
            message = f"github can't write the step summary {printable(path, _NAME_LIMIT)}: {error.strerror or error}"
            raise ReporterError(message, hint=f"{SUMMARY_VARIABLE} names it; unset, there is none") from error
    return GitHub(out, path or None)
