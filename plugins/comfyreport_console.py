"""The `console` reporter: plain lines for logs and pipes, and one redrawn line on a terminal.

What is told is decided by `Console`; where it goes by a screen: `Lines` writes it, `Live` writes it above a region
that it draws over. What stands in the region is `frame`, a pure function of the run, the time and the terminal.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from comfyreport import (
    ConnectionChanged,
    Event,
    Heartbeat,
    NodeCached,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    NodeText,
    NodeView,
    OutputSaved,
    QueueChanged,
    RunFinished,
    RunQueued,
    RunStarted,
    RunView,
    Stream,
    Warning,  # noqa: A004  the event's name
    cell_width,
    color_tag,
    describe_event,
    describe_waiting,
    fit,
    format_seconds,
    format_steps,
    hookimpl,
    percentage,
    printable,
    stderr,
)

# All in seconds of the events' clock.
DRAW_EVERY = 0.1
TELL_AFTER = 5.0
TELL_SILENCE_AFTER = 30.0

TELL_AFTER_PERCENT = 5.0
SMALLEST_TITLE = 8
LONGEST_TITLE = 120

# Ticks and heartbeats come on a timer of their own; one that is a moment early still counts.
_SLACK = 1e-3


# --- the frame


def frame(run: RunView, elapsed: float, width: int, *, unicode: bool, color: bool) -> list[str]:
    """What stands in the region at *elapsed* seconds: no line wider than *width* - 1 columns.

    The last column stays free, since terminals differ in what they do when it is filled.
    """
    room = max(1, width - 1)
    if run.result is not None:
        return []
    if run.status == "running":
        return [_running(run, elapsed, room, unicode=unicode, color=color)]
    if run.status == "queued":
        words = describe_waiting(run.position)
        seconds = _since(run.queued_at, elapsed)
        return [fit(" ".join([words, *_connection(run), f"[{format_seconds(seconds, 0)}]"]), room)]
    words = "Submitting the workflow" if run.connection == "connected" else "Connecting"
    return [fit(f"{words} [{format_seconds(elapsed, 0)}]", room)]


def _running(run: RunView, elapsed: float, room: int, *, unicode: bool, color: bool) -> str:
    node = _shown(run)
    parts = {
        "bar": _bar(run.fraction, 30 if room >= 100 else 20 if room >= 60 else 10, unicode=unicode),
        "percent": f"{percentage(run.fraction):3d}%",
        "title": _activity(run, node),
        "steps": "",
        "eta": "",
        "more": f"+{len(run.active) - 1} more" if len(run.active) > 1 else "",
        "connection": "".join(_connection(run)),
        "left": _run_eta(run),
        "time": f"[{format_seconds(_since(run.queued_at, elapsed), 0)}]",
    }
    if node is not None and node.step is not None and node.max_steps is not None:
        parts["steps"] = format_steps(node.step, node.max_steps)
        parts["eta"] = f"ETA {format_seconds(node.eta_seconds or 0.0, 0)}"
    elif node is not None:
        parts["steps"] = format_seconds(_since(node.started, elapsed), 0)
    # The title gives way first, down to a few columns; then what matters least goes, one after the other.
    smallest = min(cell_width(parts["title"]), SMALLEST_TITLE)
    short_bar = _bar(run.fraction, 10, unicode=unicode)
    yielding = ("time", ""), ("more", ""), ("bar", short_bar), ("bar", ""), ("left", ""), ("eta", "")
    for name, shorter in (*yielding, ("connection", ""), ("steps", "")):
        if _columns(parts) - cell_width(parts["title"]) + smallest <= room:
            break
        parts[name] = shorter
    spare = room - (_columns(parts) - cell_width(parts["title"]))
    parts["title"] = _shorten(parts["title"], spare, unicode=unicode)
    line = fit(" ".join(part for part in parts.values() if part), room)
    if color and parts["bar"] and line.startswith(parts["bar"]):
        return f"\x1b[36m{parts['bar']}\x1b[0m{line[len(parts['bar']) :]}"
    return line


def _columns(parts: dict[str, str]) -> int:
    shown = [part for part in parts.values() if part]
    return sum(cell_width(part) for part in shown) + len(shown) - 1


def _shown(run: RunView) -> NodeView | None:
    """The node that the line is about: the latest one with a bar, else the latest."""
    candidates = [node for node in run.active if node.step is not None] or run.active
    return candidates[-1] if candidates else None


def _activity(run: RunView, node: NodeView | None) -> str:
    if node is None:
        return "Finishing" if 0 < run.total <= run.done else "Working" if run.done else "Starting"
    title = printable(node.title, LONGEST_TITLE)
    if node.pass_number > 1:
        title += f" (pass {node.pass_number})"
    return f"{title}: {printable(node.text.strip(), LONGEST_TITLE)}" if node.text.strip() else title


def _run_eta(run: RunView) -> str:
    """The whole run's estimate: as a range where its ends differ when shown."""
    if run.run_eta_seconds is None:
        return ""
    low = format_seconds(run.run_eta_seconds if run.run_eta_low is None else run.run_eta_low, 0)
    high = format_seconds(run.run_eta_seconds if run.run_eta_high is None else run.run_eta_high, 0)
    return f"({low} left)" if low == high else f"({low} to {high} left)"


def _connection(run: RunView) -> list[str]:
    return {"lost": ["(connection lost)"], "polling": ["(polling)"]}.get(run.connection, [])


def _since(start: float | None, elapsed: float) -> float:
    return 0.0 if start is None else max(0.0, elapsed - start)


def _bar(fraction: float, width: int, *, unicode: bool) -> str:
    """A bar of *width* columns; it is full only when *fraction* is 1."""
    inner = width if unicode else width - 2
    full = inner * percentage(fraction) // 100
    return "█" * full + "░" * (inner - full) if unicode else f"[{'#' * full}{'-' * (inner - full)}]"


def _shorten(text: str, width: int, *, unicode: bool) -> str:
    if cell_width(text) <= width:
        return text
    ellipsis = "…" if unicode else "..."
    return fit(fit(text, max(0, width - len(ellipsis))) + ellipsis, max(0, width))


# --- where it goes


class Screen(Protocol):
    """Where a console's lines go."""

    def tell(self, lines: list[str], run: RunView, elapsed: float, *, urgent: bool = False) -> None:
        """Write *lines*, for good; *urgent* ones at once."""

    def draw(self, run: RunView, elapsed: float) -> None:
        """Show how the run stands at *elapsed* seconds, if this screen draws over what it has shown."""

    def close(self) -> None:
        """Leave the place as an ordinary one: nothing of the drawing stays, nothing told is lost."""


class Lines:
    """A screen that only ever adds lines: files, pipes, CI, dumb terminals."""

    def __init__(self, out: Stream) -> None:
        self._out = out

    def tell(self, lines: list[str], run: RunView, elapsed: float, *, urgent: bool = False) -> None:
        """Write *lines* at once, urgent or not."""
        if lines:
            self._out.write(_text(lines, color=self._out.color))
            self._out.flush()

    def draw(self, run: RunView, elapsed: float) -> None:
        """Nothing: what is written here stays."""

    def close(self) -> None:
        """Close the file, if it is one."""
        self._out.close()


class Live:
    """A screen with a region at its end that is drawn over, at most every `DRAW_EVERY` seconds.

    The cursor rests at the region's beginning: wherever a resize leaves it, to clear from there to the end of the
    screen removes the region and nothing else. It is never hidden, so it can't stay hidden. Each draw is one write.
    """

    def __init__(self, out: Stream) -> None:
        self._out = out
        self._pending: list[str] = []
        self._shown: list[str] = []
        self._drawn = -math.inf

    def tell(self, lines: list[str], run: RunView, elapsed: float, *, urgent: bool = False) -> None:
        """Write *lines* above the region, with the next draw; *urgent* ones at once."""
        self._pending += lines
        if urgent:
            self._paint(run, elapsed)
        else:
            self.draw(run, elapsed)

    def draw(self, run: RunView, elapsed: float) -> None:
        """Bring the region up to date, unless that was done a moment ago."""
        if not 0 <= elapsed - self._drawn < DRAW_EVERY - _SLACK:
            self._paint(run, elapsed)

    def close(self) -> None:
        """Remove the region."""
        self._write([])
        self._out.close()

    def _paint(self, run: RunView, elapsed: float) -> None:
        self._drawn = elapsed
        out = self._out
        self._write(frame(run, elapsed, out.width(), unicode=out.unicode, color=out.color))

    def _write(self, lines: list[str]) -> None:
        if lines == self._shown and not self._pending:
            return
        text = "\r\x1b[J" if self._shown else ""
        text += _text(self._pending, color=self._out.color) + "\n".join(lines)
        if lines:
            text += "\r" if len(lines) == 1 else f"\r\x1b[{len(lines) - 1}A"
        self._pending = []
        self._shown = lines
        self._out.write(text)
        self._out.flush()


def _text(lines: list[str], *, color: bool) -> str:
    return "".join(f"{color_tag(line) if color else line}\n" for line in lines)


# --- what is told


class _Told(NamedTuple):
    """The progress line that was written last for a node."""

    pass_number: int
    percent: float
    elapsed: float


class Console:
    """Decides which events are worth a line, and when."""

    def __init__(self, screen: Screen, *, live: bool) -> None:
        self._screen = screen
        # What the region of a live screen shows needs no lines.
        self._live = live
        self._forget()
        self._last_line = 0.0

    def _forget(self) -> None:
        self._cached = 0
        self._position: int | None = None
        self._progress: dict[str, _Told] = {}
        self._texts: dict[str, float] = {}

    def _tell(self, event: Event, run: RunView, lines: list[str], *, urgent: bool = False) -> None:
        if self._cached:
            lines = [f"[INFO] {self._cached} node{'' if self._cached == 1 else 's'} cached", *lines]
            self._cached = 0
        if lines:
            self._last_line = event.elapsed
        self._screen.tell(lines, run, event.elapsed, urgent=urgent)

    def _tell_plain(self, event: Event, run: RunView, *, worth: bool = True) -> None:
        self._tell(event, run, describe_event(event) if worth and not self._live else [])

    @hookimpl
    def comfyreport_connection_changed(self, event: ConnectionChanged, run: RunView) -> None:
        """The connection came, went, or came back."""
        self._tell(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued, run: RunView) -> None:
        """The place in the queue, where there is one to wait in."""
        self._tell_position(event, run)

    @hookimpl
    def comfyreport_queue_changed(self, event: QueueChanged, run: RunView) -> None:
        """The new place in the queue; that others joined behind is no news."""
        self._tell_position(event, run)

    def _tell_position(self, event: RunQueued | QueueChanged, run: RunView) -> None:
        moved = event.position != self._position and bool(event.position) and run.status == "queued"
        self._position = event.position
        self._tell(event, run, [f"[INFO] {describe_waiting(event.position)}"] if moved and not self._live else [])

    @hookimpl
    def comfyreport_run_started(self, event: RunStarted, run: RunView) -> None:
        """The server began."""
        self._tell(event, run, describe_event(event))

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """Counted: they come one by one and make one line."""
        self._cached += 1

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted, run: RunView) -> None:
        """A node began."""
        self._progress.pop(event.node.id, None)
        self._tell_plain(event, run)

    @hookimpl
    def comfyreport_node_progress(self, event: NodeProgress, run: RunView) -> None:
        """A line for each 5 % or 5 s, and for the first and the last step of each pass."""
        percent = 100 * event.step / event.max_steps
        last = self._progress.get(event.node.id)
        worth = (
            last is None
            or last.pass_number != event.pass_number
            or percent - last.percent >= TELL_AFTER_PERCENT - _SLACK
            or event.elapsed - last.elapsed >= TELL_AFTER - _SLACK
            or (event.step >= event.max_steps and last.percent < percent)
        )
        if worth:
            self._progress[event.node.id] = _Told(event.pass_number, percent, event.elapsed)
        self._tell_plain(event, run, worth=worth)

    @hookimpl
    def comfyreport_node_text(self, event: NodeText, run: RunView) -> None:
        """What a node says of its work, every few seconds at most."""
        worth = event.elapsed - self._texts.get(event.node.id, -math.inf) >= TELL_AFTER and bool(event.text.strip())
        if worth:
            self._texts[event.node.id] = event.elapsed
        self._tell_plain(event, run, worth=worth)

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished, run: RunView) -> None:
        """A node ended."""
        self._tell(event, run, describe_event(event))

    @hookimpl
    def comfyreport_output_saved(self, event: OutputSaved, run: RunView) -> None:
        """A file is on disk."""
        self._tell(event, run, describe_event(event))

    @hookimpl
    def comfyreport_heartbeat(self, event: Heartbeat, run: RunView) -> None:
        """A sign of life where no line was written for a while."""
        quiet_for = event.elapsed - self._last_line
        self._tell_plain(event, run, worth=quiet_for >= TELL_SILENCE_AFTER - _SLACK)

    @hookimpl
    def comfyreport_warning(self, event: Warning, run: RunView) -> None:
        """A warning."""
        self._tell(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """How it ended, and the next step."""
        self._tell(event, run, describe_event(event), urgent=True)
        self._forget()

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        """Time passed."""
        self._screen.draw(run, elapsed)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Leave the terminal as it was."""
        self._screen.close()


def console(out: Stream = stderr, *, plain: bool = False) -> Console:
    """Lines for a person; on a terminal, one line with bar, node and ETA that is drawn over.

    :param plain: only add lines, on a terminal too
    """
    live = not plain and out.take_terminal()
    return Console(Live(out) if live else Lines(out), live=live)
