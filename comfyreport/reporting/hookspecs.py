"""The hooks: one for each event type, `comfyreport_event` for all of them, the tick, and the close.

A reporter implements any of them with `hookimpl` and names only the arguments that it wants. Hooks are
notifications: nothing is returned, and wrappers are refused. (The last two, which belong to plugins of `-p`, are none.)
They are called from one thread, one at a time, in the
order of the events; among reporters in the order of the command line, but those marked `tryfirst` before and those
marked `trylast` behind the others. What they are given is read-only. A reporter that raises is switched off and named
on stderr; the run and the other reporters go on.

The life of a stream::

    stream_started
      run_queued → run_started → node_cached* (node_started (node_progress | node_text | node_preview)*
      node_finished)* → output_ready* → output_saved* → run_finished
    stream_finished → close

An output that is saved while the run goes on has its `output_ready` and its `output_saved` among the node events.
`connection_changed`, `queue_changed`, `heartbeat` and `warning` come anywhere in between. `run_queued` and
what follows it is absent if the run ended before; `run_finished` is told exactly once for each run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from comfyreport import events as ev
    from comfyreport.events import RunView

PROJECT = "comfyreport"
PREFIX = f"{PROJECT}_"
PLUGIN_HOOKS = frozenset((f"{PREFIX}addoption", f"{PREFIX}prepare"))
"""They are for plugins of `-p` alone: a reporter is chosen when the command line is parsed, and changes no run."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# --- the stream


@hookspec
def comfyreport_stream_started(event: ev.StreamStarted, run: RunView) -> None:
    """The command began. The first event of every stream.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_stream_finished(event: ev.StreamFinished, run: RunView) -> None:
    """The command is over. The last event of every stream; `exit_code` is the process's.

    Reporters that implement neither this hook nor `comfyreport_event` are closed before it is told, so
    that their failures are in it.

    .. versionadded:: 0.1
    """


# --- the run


@hookspec
def comfyreport_run_queued(event: ev.RunQueued, run: RunView) -> None:
    """The server has taken the prompt; `nodes` is the manifest of the workflow.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_queue_changed(event: ev.QueueChanged, run: RunView) -> None:
    """The prompt's place in the queue, or the queue's length, changed.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_run_started(event: ev.RunStarted, run: RunView) -> None:
    """The server began to work on the prompt (ComfyUI's `execution_start`).

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_run_finished(event: ev.RunFinished, run: RunView) -> None:
    """The run is over: told exactly once for each run, on every path.

    .. versionadded:: 0.1
    """


# --- its nodes


@hookspec
def comfyreport_node_cached(event: ev.NodeCached, run: RunView) -> None:
    """A node's result came from the server's cache (one event a node of ComfyUI's `execution_cached`).

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_node_started(event: ev.NodeStarted, run: RunView) -> None:
    """A node began. Closed by `node_finished` or by the end of the run; a loop may start a node again.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_node_progress(event: ev.NodeProgress, run: RunView) -> None:
    """A node's own bar moved; 0 < step <= max_steps always holds.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_node_text(event: ev.NodeText, run: RunView) -> None:
    """A node sent a line of text about its work.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_node_preview(event: ev.NodePreview, run: RunView) -> None:
    """A picture of work in progress. The event exists only if a selected reporter implements this very hook.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_node_finished(event: ev.NodeFinished, run: RunView) -> None:
    """A node came to its end.

    .. versionadded:: 0.1
    """


# --- what it made


@hookspec
def comfyreport_output_ready(event: ev.OutputReady, run: RunView) -> None:
    """An output is known, with its URL.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_output_saved(event: ev.OutputSaved, run: RunView) -> None:
    """An output is on disk, with its path.

    .. versionadded:: 0.1
    """


# --- how it is with the server


@hookspec
def comfyreport_connection_changed(event: ev.ConnectionChanged, run: RunView) -> None:
    """The connection is there, lost, restored, or replaced by polling. Never by itself a failure.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_heartbeat(event: ev.Heartbeat, run: RunView) -> None:
    """Nothing was heard for a while; silence is normal while models load.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_warning(event: ev.Warning, run: RunView) -> None:
    """Something that a person should know and that doesn't end the run.

    .. versionadded:: 0.1
    """


# --- all of them, and time


@hookspec
def comfyreport_event(event: ev.AnyEvent, run: RunView) -> None:
    """Every event, before its own hook. A reporter with this hook carries the event stream.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_tick(elapsed: float, run: RunView) -> None:
    """Time passed: at most 10 times a second from the stream's start to the end of the run, on the same clock as
    `event.elapsed`.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_close() -> None:
    """The end: flush and close. Called once; it has 5 seconds.

    .. versionadded:: 0.1
    """


# --- before there is a run, for plugins of -p alone


class FlagParser(Protocol):
    """What a plugin adds its flags to."""

    def add_argument(self, *flags: str, **settings: Any) -> None:
        """Add a flag, with the arguments of `argparse`'s method of that name."""


@hookspec
def comfyreport_addoption(parser: FlagParser) -> None:
    """The command line is about to be parsed: `parser.add_argument` adds a flag of the plugin's own.

    .. versionadded:: 0.1
    """


@hookspec
def comfyreport_prepare(workflow: dict[str, Any], options: Namespace) -> Mapping[str, Any] | None:
    """The workflow is about to be submitted: change it in place, or return another. `UsageError` refuses it.

    .. versionadded:: 0.1
    """
