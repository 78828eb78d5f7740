"""Which of many runs something is about, in words."""

from __future__ import annotations

from dataclasses import replace

from comfyreport import events as ev
from comfyreport.render.wording import describe_event
from comfyreport.text import printable

_VALUE, _INPUTS, _SERVER = 40, 160, 60


def run_name(index: int | None, total: int = 0) -> str:
    """A run of many: `Run 3 of 24`, or `Run 30` where that many weren't announced; empty for the only one."""
    if index is None:
        return ""
    return f"Run {index} of {total}" if index <= total else f"Run {index}"


def server_name(server: str | None) -> str:
    """A server as it is told in a line, `host:port`: its address without the scheme."""
    return printable((server or "").partition("://")[2] or server or "", _SERVER)


def describe_inputs(inputs: tuple[ev.InputValue, ...] | None) -> str:
    """The inputs that were set for a run, on one line: `seed=7, text=a cat`; empty where none was."""
    words = (f"{printable(each.name, _VALUE)}={printable(each.value, _VALUE)}" for each in inputs or ())
    return printable(", ".join(words), _INPUTS)


def describe_in_run(event: ev.Event, total: int = 0) -> list[str]:
    """*event* in words as `describe_event` has it, with the run that it is about, of *total*; as it is for no run.

    The end of a run tells its server, too, and how long it ran there: it waited behind others of the same command.
    """
    name = run_name(event.run_index, total)
    if not name:
        return describe_event(event)
    if isinstance(event, ev.RunFinished):
        event = replace(event, seconds=max(0.0, event.seconds - (event.queue_seconds or 0.0)), queue_seconds=None)
    lines = describe_event(event)
    tag, bracket, text = lines[0].partition("] ")
    if not isinstance(event, ev.RunFinished):
        return [f"{tag}{bracket}{name}: {text}", *lines[1:]]
    server = server_name(event.server)
    if event.status == "success":
        text = name + text.removeprefix("Generation")
        details = f", {server})" if text.endswith(")") else f" ({server})"
        text = text.removesuffix(")") + (details if server else ")" * text.endswith(")"))
    else:
        text = f"{name}{f' ({server})' if server else ''}: {text}"
    return [f"{tag}{bracket}{text}", *lines[1:]]
