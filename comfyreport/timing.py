"""Every wait and time limit in one value, so that tests can scale all of them at once. All fields are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Timing:
    """How long comfyreport waits for what."""

    tick: float = 0.1
    """between two ticks of the reporters"""
    hook_limit: float = 10.0
    """a reporter's hook call that lasts longer costs it the rest of the run"""
    close_limit: float = 5.0
    """the same while closing; and how long a backlog may take then before the slowest reporter is dropped. Once one
    was given up, the others share as much again"""
    slow_hook: float = 2.0
    """a hook call that lasts longer is warned of"""
    stderr_write: float = 0.5
    """for a line on stderr to be written, before nobody waits for it any more"""
    connect: float = 10.0
    """to open a connection"""
    answer: float = 20.0
    """for an answer over HTTP, and between two pieces of a download"""
    whole_answer: float = 60.0
    """for an answer over HTTP from its beginning to its end; downloads may take longer"""
    submit_answer: float = 60.0
    """for the answer to the POST, which validates the whole workflow"""
    poll_first: float = 1.0
    """until the second look over HTTP"""
    poll_most: float = 10.0
    """between two looks over HTTP, at most"""
    request_pause: float = 1.8
    """between two requests on average, where many are wanted: with a few at once, fewer than 60 in a minute"""
    silence: float = 5.0
    """without a message before HTTP is asked, and between two heartbeats"""
    ended_poll: float = 0.05
    """until the second look into history once the socket said that the prompt is over"""
    handover: float = 1.5
    """twice this long a prompt may be in neither queue nor history, while the server hands it over"""
    unreadable: float = 15.0
    """a server may answer in a way that doesn't tell where the prompt is, before the run is given up"""
    stall_warn: float = 30.0
    """of silence until a warning"""
    queue_refresh: float = 2.0
    """between two looks at the queue for the prompt's place, at least"""
    backpressure: float = 0.25
    """that a thread waits for the next one to take what is there, before messages are merged"""
    batch_pause: float = 0.001
    """that a thread rests behind what came, so that what comes quickly is taken together"""
    lost_after: float = 60.0
    """of unbroken time without any answer before a run, or the saving of what it made, is given up"""
    lost_after_refused: float = 15.0
    """the same where connections to loopback are refused"""
    reconnect_first: float = 0.5
    """until the second attempt to reconnect"""
    reconnect_most: float = 10.0
    """between two attempts to reconnect, at most"""
    cancel: float = 10.0
    """for the server to confirm that a prompt was cancelled"""
    ping: float = 20.0
    """between two pings of a socket that isn't on loopback, so that no proxy takes it for idle; 0: none"""
    pong: float = 60.0
    """without anything from a socket that is pinged, not even a pong, until it is taken for lost; long, for a server
    that is busy may be slow with pongs"""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Timing:
        """The usual waits, times `COMFYREPORT_TIME_SCALE`, which tests use to make them short."""
        try:
            factor = float(environ.get("COMFYREPORT_TIME_SCALE") or 1)
        except ValueError:
            factor = 1.0
        return cls() if factor == 1 else cls().scaled(factor)

    def scaled(self, factor: float) -> Timing:
        """All waits times *factor*."""
        return replace(self, **{field.name: getattr(self, field.name) * factor for field in fields(self)})
