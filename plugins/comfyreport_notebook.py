"""The `notebook` reporter: one bar of plain HTML that is drawn over in place, and the pictures at the end.

A notebook runs what stands in HTML, and titles, texts and names come from a server: all of them are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, Protocol

from comfyreport import (
    Countdown,
    Fleet,
    NodeView,
    Output,
    ReporterError,
    RunFinished,
    RunQueued,
    RunView,
    StreamStarted,
    Warning,  # noqa: A004  the event's name
    describe_event,
    describe_fleet,
    describe_in_run,
    describe_progress,
    describe_waiting,
    describe_work,
    format_seconds,
    format_speed,
    format_steps,
    hookimpl,
    percentage,
    printable,
    run_name,
    server_name,
    web_address,
)

_DRAW_SECONDS = 0.25
"""Between two draws, on the events' clock: each is a message to the browser."""
_MOST_NODES, _MOST_LINES, _MOST_SERVERS = 4, 5, 16
_TITLE_LIMIT, _LINE_LIMIT = 80, 500
_MOST_BYTES = 10_000_000
"""Of one picture: it becomes part of the notebook's file."""
_FORMATS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
_COLORS = {"success": "#2e9e4f", "running": "#2f7ed8"}
_OTHER_COLOR = "#d64545"


class Handle(Protocol):
    """What was displayed, and can be replaced."""

    def update(self, obj: Any) -> None:
        """Show *obj* in its place."""


class Display(Protocol):
    """Shows things in the notebook."""

    def html(self, text: str) -> Handle:
        """Show HTML."""

    def picture(self, data: bytes, kind: str, name: str) -> None:
        """Show a picture of a kind that notebooks know."""


class _IPythonDisplay:
    """The display of the notebook that this process is the kernel of."""

    def html(self, text: str) -> Handle:
        from IPython.display import HTML, display

        handle: Any = display(HTML(text), display_id=True)  # type: ignore[no-untyped-call]
        return _HtmlHandle(handle)

    def picture(self, data: bytes, kind: str, name: str) -> None:
        from IPython.display import Image, display

        display(Image(data=data, format=kind, alt=name))  # type: ignore[no-untyped-call]


class _HtmlHandle:
    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def update(self, obj: Any) -> None:
        from IPython.display import HTML

        self._handle.update(HTML(obj))  # type: ignore[no-untyped-call]


# --- the bar


def bar_html(run: RunView, lines: Iterable[str], elapsed: float, left: str = "") -> str:
    """The bar of a run at *elapsed* seconds, with what it does above, and *lines* below; a pure function."""
    result = run.result
    ended = result is not None
    status = run.status if ended else "running"
    rows = [
        _bar("<br>".join(_activity(run, elapsed)), run.fraction, left, status, f"comfyreport: {printable(run.status)}"),
        *(f'<div style="white-space:pre-wrap">{_text(line, _LINE_LIMIT)}</div>' for line in lines),
    ]
    return f'<div style="font-family:monospace;font-size:13px;max-width:60em">{"".join(rows)}</div>'


def _bar(activity: str, fraction: float, left: str, status: str, name: str) -> str:
    """A bar with *activity*, in HTML, above it."""
    percent = percentage(fraction)
    color = _COLORS.get(status, _OTHER_COLOR)
    right = " ".join(filter(None, (f"{percent}%", left)))
    label = escape(printable(name, _LINE_LIMIT))
    return (
        f'<div style="display:flex;justify-content:space-between;gap:1em"><span>{activity}'
        f'</span><span style="white-space:nowrap">{escape(right)}</span></div>'
        f'<div role="progressbar" aria-label="{label}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        f'style="height:8px;border-radius:4px;background:rgba(128,128,128,.3);overflow:hidden;margin:4px 0">'
        f'<div style="width:{percent}%;height:100%;background:{color}"></div></div>'
    )


def _text(text: str, limit: int = _TITLE_LIMIT) -> str:
    return escape(printable(text, limit))


def _activity(run: RunView, elapsed: float) -> list[str]:
    """What goes on, as lines of HTML."""
    if run.result is not None:
        return [_text(run.status)]
    connection = {"lost": " (connection lost)", "polling": " (polling)"}.get(run.connection, "")
    if run.status == "queued":
        return [_text(describe_waiting(run.position) + connection)]
    if run.status != "running":
        return ["Submitting the workflow" if run.connection == "connected" else "Connecting"]
    nodes = [_node(node, elapsed) for node in run.active[-_MOST_NODES:]]
    hidden = len(run.active) - len(nodes)
    return [*nodes, *([f"+{hidden} running"] if hidden else [])] or [f"Working{connection}"]


def _node(node: NodeView, elapsed: float) -> str:
    if node.step is None or node.max_steps is None:
        seconds = max(0.0, elapsed - (elapsed if node.started is None else node.started))
        return f"{_text(node.title)} {seconds:.0f}s"
    return " ".join(
        filter(None, (_text(node.title), format_steps(node.step, node.max_steps), format_speed(node.steps_per_second)))
    )


def fleet_html(fleet: Fleet, lines: Iterable[str], elapsed: float) -> str:
    """A bar for all runs at *elapsed* seconds, one for each server above it, and *lines* below; a pure function."""
    servers = [row for row in fleet.servers(elapsed) if row.runs]
    rows = []
    for server in servers[:_MOST_SERVERS]:
        run = server.runs[0]
        what = f"{server_name(server.server)} · {run_name(run.run_index) or 'Run'} · {run.doing}"
        left = "" if run.seconds_left is None else f"ETA {format_seconds(run.seconds_left, 0)}"
        rows.append(_bar(_text(what, _LINE_LIMIT), run.fraction, left, "running", what))
    if len(servers) > _MOST_SERVERS:
        rows.append(f"<div>+{len(servers) - _MOST_SERVERS} servers</div>")
    done = fleet.done / fleet.total if fleet.total else 0.0
    ended = not servers and bool(fleet.done)
    status = "error" if fleet.failed else "success" if ended else "running"
    words = describe_fleet(fleet)[0].partition("] ")[2] if ended else describe_progress(fleet, elapsed)
    rows.append(_bar(_text(words, _LINE_LIMIT), min(1.0, done), "", status, "comfyreport: all runs"))
    rows += [f'<div style="white-space:pre-wrap">{_text(line, _LINE_LIMIT)}</div>' for line in lines]
    return f'<div style="font-family:monospace;font-size:13px;max-width:60em">{"".join(rows)}</div>'


# --- the reporter


class Notebook:
    """Draws the bar of a run over what it drew before, and shows its pictures below it.

    Of several runs there is one bar for each server and one for all, which stay until the end.
    """

    def __init__(self, display: Display, pictures: int) -> None:
        self._display, self._pictures = display, pictures
        self._countdown = Countdown()
        self._lines: list[str] = []
        self._fleet, self._several = Fleet(), False
        self._shown = 0
        self._drawn_at = -math.inf
        # At once, and on the thread that runs the cell: what is shown later replaces it, whatever runs then.
        self._handle: Handle | None = display.html(bar_html(RunView(), [], 0.0))

    def _draw(self, run: RunView, elapsed: float) -> None:
        if self._several:
            text = fleet_html(self._fleet, self._lines, elapsed)
        else:
            left = self._countdown.words(run, elapsed) if run.result is None else ""
            text = bar_html(run, self._lines, elapsed, left)
        self._drawn_at = elapsed
        if self._handle is None:
            self._handle = self._display.html(text)
        else:
            self._handle.update(text)

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        """Bring the bar up to date."""
        if not 0 <= elapsed - self._drawn_at < _DRAW_SECONDS:
            self._draw(run, elapsed)

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted, run: RunView) -> None:
        """Note how many runs there will be."""
        self._fleet.apply(event, run)
        self._several = self._fleet.several

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued, run: RunView) -> None:
        """Note on which server a run is."""
        self._fleet.apply(event, run)
        self._several = self._several or event.run_index is not None

    @hookimpl
    def comfyreport_warning(self, event: Warning, run: RunView) -> None:
        """Keep it, to stand below the bar."""
        self._fleet.apply(event, run)
        self._lines = [*self._lines, *describe_in_run(event, self._fleet.planned)][-_MOST_LINES:]

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """How it ended, and what it made; another command has another bar."""
        self._fleet.apply(event, run)
        if event.run_index is not None:
            self._finish_one(event, run)
            return
        self._lines += [*describe_event(event), *describe_work(run)]
        images = _images(event)
        if len(images) > self._pictures:
            self._lines.append(f"  {len(images) - self._pictures} more pictures are not shown here")
        self._draw(run, event.elapsed)
        for output in images[: self._pictures]:
            self._show(output)
        self._handle, self._lines, self._countdown = None, [], Countdown()

    def _finish_one(self, event: RunFinished, run: RunView) -> None:
        """How one of several runs ended, if it is no success, and its pictures, while there is room for more."""
        self._several = True
        if event.status != "success":
            self._lines = [*self._lines, *describe_in_run(event, self._fleet.planned)[:2]][-_MOST_LINES:]
        self._draw(run, event.elapsed)
        for output in _images(event)[: max(0, self._pictures - self._shown)]:
            self._shown += 1
            self._show(output)

    def _show(self, output: Output) -> None:
        """Show a picture as it is on disk, else from the server, if the browser gets there; else its name."""
        data = _read(Path(output.path)) if output.path else b""
        kind = next((kind for magic, kind in _FORMATS if data.startswith(magic)), "")
        name = printable(output.filename or output.path, _TITLE_LIMIT)
        if kind:
            self._display.picture(data, kind, name)
        elif not output.path and output.url:
            self._display.html(f'<img src="{escape(output.url)}" alt="{escape(name)}" style="max-width:100%">')
        else:
            self._display.html(f"<div>{escape(name)} can't be shown here</div>")


def _images(event: RunFinished) -> list[Output]:
    """The pictures that can be shown."""
    return [each for each in event.outputs if each.kind == "image" and (each.path or web_address(each.url or ""))]


def _read(path: Path) -> bytes:
    """The file, or nothing where it is too large or can't be read: it may be gone by now."""
    try:
        return path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except (OSError, ValueError):
        return b""


def notebook(*, pictures: int = 12) -> Notebook:
    """In a notebook: one bar that is drawn over in place, and at the end the pictures that were saved.

    :param pictures: how many are shown of a run, at most; of several runs, of all of them
    """
    try:
        from IPython.core.getipython import get_ipython
    except ImportError as error:
        raise ReporterError("notebook needs IPython", hint='pip install "comfyreport[notebook]"') from error
    if getattr(get_ipython(), "kernel", None) is None:
        raise ReporterError("this is no notebook", hint="elsewhere there is --reporter console")
    return Notebook(_IPythonDisplay(), pictures)
