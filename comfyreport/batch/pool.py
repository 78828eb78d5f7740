"""The servers of a command: which can be used, how long their queues are, and what was left on those that can't."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from comfyreport import events as ev
from comfyreport.access.address import Address, parse_address
from comfyreport.access.credentials import Access
from comfyreport.batch.merging import Merger
from comfyreport.batch.probing import Probe, probe
from comfyreport.batch.scheduler import ServerLoad, keeps_failing
from comfyreport.errors import UnreachableError
from comfyreport.timing import Timing


class Server:
    """One server: its `load`, and what it takes to speak to it. `text` is as `--server` takes it.

    `moved` are prompts that it may still have and that were given to other servers since.
    """

    def __init__(self, text: str, address: Address, name: str) -> None:
        self.text = text
        self.address = address
        self.load = ServerLoad(name)
        self.moved: set[str] = set()
        self.probing = False
        self.error: UnreachableError | None = None
        self.was_usable = False


class Probed(NamedTuple):
    """A server was asked."""

    server: Server
    probe: Probe
    moved: frozenset[str]


class Pool:
    """The servers, asked in the background where they must be.

    :param access: credentials for all of them.
    :param put: takes what came of asking, from another thread.
    :param now: monotonic seconds.
    """

    def __init__(
        self,
        access: Access,
        timing: Timing,
        merger: Merger,
        *,
        put: Callable[[Probed], None],
        now: Callable[[], float],
    ) -> None:
        self.servers: list[Server] = []
        self._access = access
        self._timing = timing
        self._merger = merger
        self._put = put
        self._now = now
        self._answered_at = now()

    @property
    def loads(self) -> list[ServerLoad]:
        """What the scheduler needs to know of them."""
        return [server.load for server in self.servers]

    def named(self, name: str) -> Server | None:
        """The server of that name."""
        return next((server for server in self.servers if server.load.name == name), None)

    def use(self, servers: Sequence[Server]) -> None:
        """These are the servers from now on: new ones are asked first, and others get no more runs."""
        names = {server.load.name for server in servers}
        for known in self.servers:
            known.load.retired = known.load.name not in names
        self.servers += [server for server in servers if self.named(server.load.name) is None]

    def add_retired(self, server: Server) -> None:
        """One that is given no runs, and that has one of an earlier command."""
        server.load.retired = True
        self.servers.append(server)

    def look(self) -> None:
        """Ask those whose turn it is."""
        now = self._now()
        for server in self.servers:
            load = server.load
            # Where no run tells of it, the queue of others is asked for.
            blocked = load.usable and not load.own and load.others
            if not server.probing and not load.retired and (not load.usable or blocked) and now >= load.look_at:
                moved = frozenset(server.moved)
                thread = threading.Thread(
                    target=self._probe, args=(server, moved), name="comfyreport-probe", daemon=True
                )
                # Where the machine gives no thread, it is tried again.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    server.probing = True

    def _probe(self, server: Server, moved: frozenset[str]) -> None:
        self._put(Probed(server, probe(server.address, self._access, self._timing, moved), moved))

    def take(self, probed: Probed) -> None:
        """A server answered, or didn't."""
        server, load = probed.server, probed.server.load
        server.probing = False
        load.look_at = self._now() + self._timing.poll_max / 2
        if probed.probe.error is not None:
            first = server.error is None and not server.was_usable
            server.error = probed.probe.error
            self.set_aside(server, probed.probe.error.message, told=not first or len(self.servers) > 1)
            return
        self._answered_at = self._now()
        server.moved -= probed.moved
        load.others = max(0, probed.probe.remaining - load.own)
        if not load.usable:
            load.usable = True
            if server.error is not None or server.was_usable:
                self._merger.emit(ev.Warning, code="server_back", message=f"{load.name} is given runs again")
            server.error, server.was_usable = None, True

    def set_aside(self, server: Server, why: str, *, told: bool = True, answers: bool = False) -> None:
        """Give it no runs for a while, longer each time; *answers*: it can be reached, so that asking tells nothing."""
        load, timing = server.load, self._timing
        was_usable, load.usable = load.usable, False
        pause, load.pause = load.pause, min(max(timing.silence, 2 * load.pause), timing.lost_after)
        # At first it is asked at once: it may be there again.
        load.look_at = self._now() + (load.pause if answers else pause)
        load.failed = 0
        if told and (was_usable or load.pause == timing.silence):
            message = f"{load.name} is given no runs for a while: {why}"
            self._merger.emit(ev.Warning, code="server_set_aside", message=message)

    def ended(self, server: Server, result: ev.RunFinished) -> None:
        """A run came to its own end there."""
        load = server.load
        self._answered_at = self._now()
        if result.exit_code == 0:
            load.succeeded, load.failed, load.pause = load.succeeded + 1, 0, 0.0
        elif result.status == "error":
            load.succeeded, load.failed = 0, load.failed + 1
            if keeps_failing(load, self.loads):
                why = f"{load.failed} runs in a row failed there, and others do better elsewhere"
                self.set_aside(server, why, answers=True)

    def note_queue(self, server: Server, remaining: int) -> None:
        """So many prompts are in its queue, ours included."""
        server.load.others = max(0, remaining - server.load.own)

    def hopeless(self, wait: float) -> UnreachableError | None:
        """Why no server can be used and waiting makes no sense any more; None while one may come.

        :param wait: seconds that servers which never answered are waited for.
        """
        servers = [server for server in self.servers if not server.load.retired]
        if any(server.load.usable or server.error is None for server in servers):
            return None
        errors = [server.error for server in servers if server.error is not None]
        timing = self._timing
        local = all(server.address.loopback for server in servers)
        limit = timing.lost_after_refused if local else timing.lost_after
        limit = max(wait, limit if any(server.was_usable for server in servers) else 0.0)
        if any(error.retryable for error in errors) and self._now() - self._answered_at < limit:
            return None
        if len(errors) == 1:
            return errors[0]
        lines = [f"none of the {len(servers)} servers can be used:", *(f"  {error.message}" for error in errors[:20])]
        hint = "start them, or name others with --server"
        return UnreachableError("\n".join(lines), hint=hint, code="servers_unusable", retryable=True)


def server_of(text: str, simulated: Address | None = None) -> Server:
    """The server that *text* names, as `--server` takes it. UsageError where it is no address."""
    if simulated is not None:
        return Server(text, simulated, text)
    address = parse_address(text)
    return Server(text, address, address.base)


def changed_at(path: str | os.PathLike[str]) -> tuple[float, int]:
    """What is another where a file was changed."""
    try:
        status = os.stat(path)
    except OSError:
        return 0.0, 0
    return status.st_mtime, status.st_size
