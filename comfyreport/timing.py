"""Every wait and time limit in one value, so that tests can scale all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Timing:
    """How long comfyreport waits for what; all fields are in seconds.

    The defaults suit a real server. Change one with `Timing(lost_after=300.0)`, all of them with `scaled`.
    """

    # --- reporters

    tick: float = 0.1
    """Between two calls of `comfyreport_tick`, with which reporters redraw."""
    hook_limit: float = 10.0
    """For one call of a hook. A reporter that takes longer is switched off, so that it can't block the others."""
    close_limit: float = 5.0
    """For one call of a hook while reporters are closed, and for the events that are still queued then, before the
    slowest reporter is switched off. Behind one that was switched off, the rest share as much time again."""
    slow_hook_warn: float = 2.0
    """For one call of a hook, before its reporter is warned of once."""
    stderr_write: float = 0.5
    """For a line to be written to stderr, before it is left to a thread: a pipe may have no reader."""
    terminal_limit: float = 30.0
    """At the end, for a terminal that takes no text to take it again, before what waits for it is given up."""
    backpressure: float = 0.25
    """For which a thread that adds to a full queue waits for the one that empties it, before entries are merged."""
    batch_pause: float = 0.001
    """Between two takes from a queue under load: waking a thread for each entry would cost more than the entry."""

    # --- many runs

    leave_wait: float = 0.4
    """From the second wish to stop until no run's end is waited for any more."""

    # --- files

    held_file: float = 1.0
    """For which a file that another program has open is tried again, before a name beside it is taken. On Windows no
    such file can be replaced; virus scanners and indexers hold each new one for a moment."""

    store_wait: float = 1.0
    """For other processes to be done with the store of learned durations, before the run goes on without it."""

    # --- the recording

    record_limit: float = 5.0
    """For one write to a recording, and for the rest of it at the end, before it is given up: the run goes on."""

    # --- HTTP

    connect_timeout: float = 10.0
    """For a connection to open."""
    read_timeout: float = 20.0
    """For the beginning of an HTTP response, and for each further chunk of a download."""
    response_timeout: float = 60.0
    """For an HTTP response from its beginning to its end, however slowly its bytes come; not for downloads."""
    submit_timeout: float = 60.0
    """For the response to the POST of a prompt: the server validates the whole workflow first."""
    request_interval: float = 1.8
    """Between two polling requests on average, once a few were made at once: fewer than 60 in a minute."""

    # --- polling

    silence: float = 5.0
    """Without a message on the socket before HTTP is polled; also between two `heartbeat` events."""
    poll_first: float = 1.0
    """Between the first two polls of a prompt; the pause grows up to `poll_max`."""
    poll_max: float = 10.0
    """Between two polls of a prompt, at most."""
    history_poll: float = 0.05
    """Between the first two polls of `/history` once the socket said that the prompt is over: its entry comes a moment
    later. The pause doubles up to `poll_first`."""
    queue_refresh: float = 2.0
    """Between two polls of `/queue` for the prompt's position, at least."""
    handover: float = 1.5
    """Between two polls that both find the prompt in neither queue nor history, before it counts as gone: the server
    hands it from one to the other, and for a moment it is in neither."""

    # --- silence and loss

    stall_warn: float = 30.0
    """Without any message before the `stalled` warning."""
    lost_after: float = 60.0
    """Without any answer, or none that tells of the run, without a break, before the run is lost; also from the
    socket's word of an end until history must have it (twice as long), and before outputs are saved no more."""
    lost_after_refused: float = 15.0
    """The same where loopback refuses connections: no network is in between, so the server is gone."""
    cancel_timeout: float = 10.0
    """For the server to confirm that a prompt was cancelled."""

    # --- the estimate

    eta_look: float = 1.0
    """Between two looks at when the run will be done, where that has a limit: two in a row must find it too late."""

    # --- the socket

    reconnect_first: float = 0.5
    """Between the first two attempts to reconnect; the pause doubles up to `reconnect_max`."""
    reconnect_max: float = 10.0
    """Between two attempts to reconnect, at most."""
    ping_interval: float = 20.0
    """Between two pings of a socket that isn't on loopback, so that no proxy closes it as idle; 0: no pings."""
    pong_timeout: float = 60.0
    """Without anything from a socket that is pinged, not even a pong, before it counts as lost. Long, for a busy
    server is slow with its pongs."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Timing:
        """The default waits times `COMFYREPORT_TIME_SCALE`, with which tests make them short."""
        try:
            factor = float(environ.get("COMFYREPORT_TIME_SCALE") or 1)
        except ValueError:
            factor = 1.0
        return cls() if factor == 1 else cls().scaled(factor)

    def scaled(self, factor: float) -> Timing:
        """All waits times *factor*."""
        return replace(self, **{field.name: getattr(self, field.name) * factor for field in fields(self)})
