"""Events in words: the lines that console, quiet and file log have in common, for any reporter that writes text.

Every line is plain text that begins with a tag (`[INFO]`, `[PROGRESS]`, `[OK]`, `[WARN]`, `[ERROR]`) or, where it
belongs to the line above, with spaces. All that comes from a server or a workflow has gone through `printable`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyreport import events as ev
from comfyreport.render.countdown import describe_time_left
from comfyreport.render.formats import format_seconds, format_speed, format_steps, format_usual, percentage
from comfyreport.shell import quote
from comfyreport.text import printable

# Characters of text from a server or a workflow in a line: a title, a message, a detail such as a list of all models.
_TITLE = 80
_MESSAGE = 500
_DETAIL = 300

_MESSAGE_LINES = 4
_TRACEBACK_LINES = 4
_NODE_ERRORS = 20

# Seconds in the queue that don't make a run's whole time differ from that in which it ran.
_SHORT_WAIT = 0.5

_COLORS = {"OK": "32", "WARN": "33", "ERROR": "31", "PROGRESS": "36", "INFO": "34"}


def describe_event(event: ev.Event) -> list[str]:
    """*event* in words: at least one line, the first one tagged. Of an unknown type, its name."""
    describe = _DESCRIBERS.get(type(event))
    if describe is None:
        return [f"[INFO] {printable(getattr(event, 'type', type(event).__name__), _TITLE)}"]
    words: str | list[str] = describe(event)
    return [words] if isinstance(words, str) else words


def describe_result(event: ev.RunFinished) -> list[str]:
    """How a run ended: one tagged line, then indented lines with node errors, traceback and the next step."""
    if event.status == "success":
        return [_success(event)]
    error = event.error or ev.ErrorInfo(code=event.status, message="")
    tag = "WARN" if event.status in ("cancelled", "detached") else "ERROR"
    message = _message_lines(error)
    lines = [f"[{tag}] {_headline(event, error, message[0] if message else '')}"]
    lines += [f"  {line}" for line in message[1:]]
    lines += _node_error_lines(error)
    lines += _traceback_lines(error)
    lines += _prompt_state_lines(event)
    hint = printable(error.hint, _MESSAGE) or _usual_hint(event, error)
    return lines + ([f"  Hint: {hint}"] if hint else [])


def _usual_hint(event: ev.RunFinished, error: ev.ErrorInfo) -> str:
    hint = _HINTS.get(error.code) or _HINTS.get(event.status, "")
    if event.submitted == "no" and "{prompt_id}" in hint:
        return ""
    # Only ours have a place for it: an error's own hint may be about braces.
    return hint.replace("{prompt_id}", printable(quote(event.prompt_id or "PROMPT_ID"), _TITLE))


def summarize_result(event: ev.RunFinished, *, hints: bool = True) -> str:
    """How a run ended, on one line without a tag, with the next step if *hints* are wanted."""
    first, *more = describe_result(event)
    hint = next((line.partition("Hint: ")[2] for line in more if hints and line.startswith("  Hint: ")), "")
    reasons = event.error.node_errors if event.error is not None else ()
    line = first.partition("] ")[2]
    if reasons:
        reason = reasons[0]
        what = ": ".join(part for part in (reason.message, reason.details) if part)
        line += f": {_label(reason.node)}: {printable(what, _DETAIL)}"
        line += f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return line + (f" ({hint})" if hint else "")


def describe_node_time(time: ev.NodeTime) -> str:
    """What a node took, on one line without a tag: `KSampler (node 3): 12.3s (56%), 8.1 it/s, usually 11.9s`."""
    return f"{_label(time.node)}: {', '.join(part for part in _node_time_parts(time) if part)}"


def _node_time_parts(time: ev.NodeTime) -> list[str]:
    if time.cached:
        took = "cached"
    elif time.seconds is None:
        took = "not seen from its start"
    else:
        took = format_seconds(time.seconds) + ("" if time.share is None else f" ({time.share:.0%})")
    return [took, format_speed(time.steps_per_second), format_usual(time.usual_seconds)]


def describe_waiting(position: int | None) -> str:
    """A place in the queue in words, without tag; *position* counts the prompts before this one."""
    if not position or position < 0:
        return "Waiting in the queue"
    return f"Waiting in the queue: {position} before this one"


def color_tag(line: str) -> str:
    """*line* with its tag coloured by ANSI escapes; a line without a known tag as it is."""
    tag, bracket, rest = line.partition("]")
    color = _COLORS.get(tag[1:]) if bracket and tag.startswith("[") else None
    return line if color is None else f"\x1b[{color}m{tag}]\x1b[0m{rest}"


# --- nodes


def _title(ref: ev.NodeRef) -> str:
    return printable(ref.title or ref.name, _TITLE)


def _label(ref: ev.NodeRef) -> str:
    """A node such that it can be found in the workflow: title, class where it differs, id."""
    parts = [printable(ref.class_type, _TITLE)] if ref.class_type and ref.class_type != ref.title else []
    parts.append(f"node {printable(ref.id, _TITLE)}")
    return f"{_title(ref)} ({', '.join(parts)})"


# --- the end of a run

_HEADLINES = {
    "error": "Generation failed",
    "interrupted": "Interrupted",
    "usage": "Not submitted",
    "unreachable": "ComfyUI is unreachable",
    "rejected": "Workflow rejected",
    "lost": "Lost",
    "timeout": "Stopped following",
    "partial": "Incomplete",
    "cancelled": "Cancelled",
    "detached": "Left before the end",
    "internal": "Internal error",
}
_TIMED_STATUSES = ("error", "interrupted", "lost", "timeout", "partial", "cancelled", "detached")

# The next step where the error itself names none: by code, else by status.
_HINTS = {
    "node_error": "the server's log has the whole traceback",
    "out_of_memory": "try a smaller size or batch, or start ComfyUI with --lowvram",
    "missing_node": "install the custom nodes that the workflow needs, then restart ComfyUI",
    "missing_model": "put the file into the server's model folder, or choose one that it has",
    "refused": "start ComfyUI, or name its address with --server",
    "no_answer": "look whether the server is busy or behind a firewall, then try again",
    "name_unknown": "check the host name that --server was given",
    "tls": "use --cacert FILE for a private certificate, or http:// where there is none",
    "auth": "give credentials with COMFYREPORT_TOKEN or --header",
    "not_comfyui": "check the port and the path that --server was given",
    "interrupted": "run it again if the interrupt was not meant for it",
    "deleted": "somebody removed it from the queue; submit it again if it is still wanted",
    "server_gone": "look at the server's log: running out of memory is the usual cause",
    "download_failed": "the files are still on the server, at the URLs of the outputs",
    "error": "the server's log may tell more",
    "rejected": "correct these inputs in the workflow, or export it anew from ComfyUI in API format",
    "usage": "see comfyreport --help",
    "unreachable": "check that ComfyUI runs and that --server names it",
    "lost": "look at the server's log, then submit it again",
    "timeout": "follow it with: comfyreport attach {prompt_id}",
    "partial": "the server's log may tell why; what was made is kept",
    "detached": "follow it with: comfyreport attach {prompt_id}",
    "cancelled": "",
    "internal": "please report this together with what stderr says",
}

_PROMPT_STATES = {
    "pending": "The prompt {prompt_id} is still in the queue",
    "running": "The prompt {prompt_id} goes on on the server",
    "cancelled": "The prompt was cancelled",
    "unknown": "Whether the prompt {prompt_id} goes on isn't known",
}


def _success(event: ev.RunFinished) -> str:
    text = f"[OK] Generation complete in {format_seconds(event.seconds)}"
    if event.cached and not event.executed:
        text += f" (0 executed, {len(event.cached)} cached: same inputs as before)"
    elif event.usual_seconds is not None:
        waited = event.queue_seconds or 0.0
        ran = "" if waited < _SHORT_WAIT else f"{format_seconds(event.seconds - waited)} without the queue, "
        text += f" ({ran}{format_usual(event.usual_seconds)})"
    return text


def _headline(event: ev.RunFinished, error: ev.ErrorInfo, message: str) -> str:
    lead = _HEADLINES.get(event.status, printable(event.status, _TITLE))
    lead = "The engine can't be used" if error.code == "engine" else lead
    if (event.status == "usage" or error.code == "machine_limit") and message:
        # The message of such an error is the whole headline.
        lead = ""
    if lead and message.casefold().startswith(lead.casefold()):
        lead, message = message[:1].upper() + message[1:], ""
    if event.status in _TIMED_STATUSES:
        lead += f" after {format_seconds(event.seconds)}"
    if event.status == "error" and error.node is not None:
        lead += f" in {_label(error.node)}"
    if message and error.exception_type and not message.startswith(error.exception_type):
        message = f"{printable(error.exception_type, _TITLE)}: {message}"
    return ": ".join(part for part in (lead, message) if part)


def _message_lines(error: ev.ErrorInfo) -> list[str]:
    """The message's first lines, else the meaning of its code; nothing for a bare status."""
    lines = [line for line in error.message.splitlines() if line.strip()]
    if not lines:
        lines = [ev.ERROR_CODES[error.code]] if error.code in ev.ERROR_CODES and error.code not in _HEADLINES else []
    return [
        printable(line.strip() if index == 0 else line, _MESSAGE) for index, line in enumerate(lines[:_MESSAGE_LINES])
    ]


def _node_error_lines(error: ev.ErrorInfo) -> list[str]:
    lines = []
    for each in error.node_errors[:_NODE_ERRORS]:
        parts = [printable(part.strip(), _DETAIL) for part in (each.message or each.type, each.details) if part.strip()]
        lines.append(f"  {_label(each.node)}: {': '.join(parts)}")
    left_out = len(error.node_errors) - _NODE_ERRORS
    if left_out > 0:
        lines.append(f"  and {left_out} more")
    return lines


def _traceback_lines(error: ev.ErrorInfo) -> list[str]:
    """The innermost frames, each a place and its code; the lines that only underline code are left out."""
    lines = [line for entry in error.traceback for line in entry.splitlines() if line.strip(" ^~")]
    lines = lines[-_TRACEBACK_LINES:]
    places = [index for index, line in enumerate(lines) if line.lstrip().startswith("File ")]
    return [f"    {printable(line, _DETAIL)}" for line in lines[places[0] if places else 0 :]]


def _prompt_state_lines(event: ev.RunFinished) -> list[str]:
    """One line where the prompt may go on, or was cancelled, after the command stopped following it."""
    if event.status not in ("timeout", "cancelled", "detached", "internal") or event.submitted == "no":
        return []
    if event.status == "cancelled" and event.prompt_state == "cancelled":
        return []
    words = _PROMPT_STATES.get(event.prompt_state)
    if words is None:
        return []
    prompt_id = printable(event.prompt_id or "", _TITLE)
    return ["  " + " ".join(words.replace("{prompt_id}", prompt_id).split())]


# --- one function for each event type


def _stream_started(event: ev.StreamStarted) -> str:
    place = f" on {printable(event.server, _DETAIL)}" if event.server else ""
    return f"[INFO] comfyreport {printable(event.comfyreport, _TITLE)} {printable(event.command, _TITLE)}{place}"


def _run_queued(event: ev.RunQueued) -> str:
    position = f", {event.position} before it" if event.position else ""
    return f"[INFO] Queued as {printable(event.prompt_id or '', _TITLE)}: {_count(len(event.nodes), 'node')}{position}"


def _queue_changed(event: ev.QueueChanged) -> str:
    if event.position:
        return f"[INFO] {describe_waiting(event.position)}"
    if event.remaining is None:
        return "[INFO] Queue changed"
    return f"[INFO] {_count(event.remaining, 'prompt')} in the queue"


def _node_progress(event: ev.NodeProgress) -> str:
    name = "Sampling" if "sampler" in event.node.class_type.casefold() else _title(event.node)
    if event.pass_number > 1:
        name += f" (pass {event.pass_number})"
    steps = f"{format_steps(event.step, event.max_steps)} steps ({percentage(event.step, event.max_steps)}%)"
    return f"[PROGRESS] {name}: {steps} - ETA: {format_seconds(event.eta_seconds, 0)}"


def _node_preview(event: ev.NodePreview) -> str:
    return f"[INFO] Preview {event.index}: {printable(event.media_type, _TITLE)}, {_count(len(event.image), 'byte')}"


def _node_finished(event: ev.NodeFinished) -> str:
    span = "" if event.seconds is None else f" in {format_seconds(event.seconds)}"
    return f"[INFO] Done: {_title(event.node)}{span}"


def _output_ready(event: ev.OutputReady) -> str:
    output = event.output
    what = output.url or output.filename or output.value
    return (
        f"[INFO] Output: {printable(output.kind, _TITLE)} {printable('' if what is None else what, _MESSAGE)}".rstrip()
    )


def _output_saved(event: ev.OutputSaved) -> str:
    return f"[INFO] Saved: {printable(event.output.path or event.output.filename or event.output.kind)}"


def _connection_changed(event: ev.ConnectionChanged) -> str:
    detail = f": {printable(event.detail, _MESSAGE)}" if event.detail else ""
    if event.state == "connected":
        return "[INFO] Connected to progress stream"
    if event.state == "restored":
        return f"[INFO] Connection restored{detail}"
    return f"[WARN] {'Connection lost' if event.state == 'lost' else 'No live progress, asking by HTTP'}{detail}"


def _heartbeat(event: ev.Heartbeat) -> str:
    # During a download bytes arrive all the time: there is no silence to mention.
    silence = f", nothing heard for {format_seconds(event.silent_seconds, 0)}" if event.silent_seconds >= 0.5 else ""
    if event.sent_bytes is not None and event.total_bytes is not None:
        return f"[INFO] Sending to the server: {event.sent_bytes / 1e6:.1f} of {event.total_bytes / 1e6:.1f} MB"
    if event.received_bytes is not None:
        total = "" if event.total_bytes is None else f" of {event.total_bytes / 1e6:.1f}"
        return f"[INFO] Fetching the outputs: {event.received_bytes / 1e6:.1f}{total} MB{silence}"
    if event.state == "queued":
        return f"[INFO] Still waiting in the queue{silence}"
    if event.state == "unknown":
        return f"[INFO] Still waiting for the server{silence}"
    node = "" if event.node is None else f": {_title(event.node)}"
    span = "" if event.node_seconds is None else f" for {format_seconds(event.node_seconds, 0)}"
    left = describe_time_left(ev.TimeLeft.told_by(event))
    return f"[INFO] Still running{node}{span}{silence}" + (f", {left}" if left else "")


def _warning(event: ev.Warning) -> str:
    message = printable(event.message or ev.WARNING_CODES.get(event.code, event.code), _MESSAGE)
    if event.node is None or _title(event.node) in message:
        return f"[WARN] {message}"
    return f"[WARN] {_label(event.node)}: {message}"


def _stream_finished(event: ev.StreamFinished) -> list[str]:
    tag = "INFO" if event.exit_code == 0 else "ERROR"
    lines = [f"[{tag}] Finished: {printable(event.status, _TITLE)}, exit code {event.exit_code}"]
    return lines + [f"  Reporter failed: {printable(each, _MESSAGE)}" for each in event.reporter_failures]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


_DESCRIBERS: dict[type[ev.Event], Callable[[Any], str | list[str]]] = {
    ev.StreamStarted: _stream_started,
    ev.RunQueued: _run_queued,
    ev.QueueChanged: _queue_changed,
    ev.RunStarted: lambda event: "[INFO] Generation started",
    ev.NodeCached: lambda event: f"[INFO] Cached: {_title(event.node)}",
    ev.NodeStarted: lambda event: f"[INFO] Node: {_title(event.node)}",
    ev.NodeProgress: _node_progress,
    ev.NodeText: lambda event: f"[INFO] {_title(event.node)}: {printable(event.text.strip(), _DETAIL)}",
    ev.NodePreview: _node_preview,
    ev.NodeFinished: _node_finished,
    ev.OutputReady: _output_ready,
    ev.OutputSaved: _output_saved,
    ev.ConnectionChanged: _connection_changed,
    ev.Heartbeat: _heartbeat,
    ev.Warning: _warning,
    ev.RunFinished: describe_result,
    ev.StreamFinished: _stream_finished,
}
