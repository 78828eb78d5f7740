"""Which run goes to which server, and what follows from its end. Pure: time is passed in, and nothing is asked."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from comfyreport import events as ev

WINDOW = 200
"""Runs that are looked at together: one of the model that a server has loaded may come before its turn among them."""

KEPT = 2
"""Runs that a server is given at once: one that runs, and one that waits, so that it is never idle."""

UNREACHED = 3
"""So often a run is begun where the server answers, and then it can't be submitted."""

FAILURES = 3
"""Runs that fail on a server one after the other before it is set aside, where others do better."""


_OTHERS_MAY_TAKE = (
    ("rejected", "missing_node"),
    ("rejected", "missing_model"),
    ("rejected", "invalid_input"),
    # What was set isn't among what the server can choose from.
    ("usage", "usage"),
)


@dataclass
class ServerLoad:
    """What is known of one server. `name` is its address without credentials; times are in seconds.

    `own` runs were given to it and haven't ended, `remaining` prompts are in its queue, as it told last, and `others`
    are those of other people. `model` is what its last run loads. `usable`: runs may be given to it; one that was set
    aside is asked again at `look_at`. `failed` runs ended in an error, without a success since, and `succeeded` did
    not.
    """

    name: str
    own: int = 0
    others: int = 0
    model: str = ""
    usable: bool = False
    look_at: float = 0.0
    pause: float = 0.0
    failed: int = 0
    succeeded: int = 0
    retired: bool = False

    @property
    def load(self) -> int:
        """Prompts before one that is given to it now."""
        return self.own + self.others


@dataclass(frozen=True, slots=True)
class Item:
    """A run that waits: `tried` are the servers that are not to be given it again, `only` the one that it is for."""

    index: int
    model: str = ""
    tried: frozenset[str] = frozenset()
    only: str = ""

    def fits(self, server: str, names: Collection[str]) -> bool:
        """Whether *server*, one of *names*, may be given it: where all have tried it, any may."""
        return self.only in ("", server) and (server not in self.tried or self.tried.issuperset(names))


@dataclass
class Waiting:
    """The runs that wait, in order; of very many only the first are held.

    :param source: those that weren't begun yet.
    """

    source: Iterable[Item]
    _window: list[Item] = field(default_factory=list)
    _passed: int = 0

    def put_back(self, item: Item) -> None:
        """One that was begun is to be begun again, before the others."""
        self._window.insert(0, item)

    def first(self) -> Item | None:
        """The next one, None where none waits."""
        self._fill()
        return self._window[0] if self._window else None

    def models(self) -> set[str]:
        """What the next ones load."""
        self._fill()
        return {item.model for item in self._window}

    def take(self, server: ServerLoad, loaded: Collection[str], names: Collection[str]) -> Item | None:
        """The run for *server*: one of the model that it has, else one whose model no other has, else the next.

        The next one is passed over `WINDOW` times at most.

        :param loaded: what other servers have loaded.
        :param names: the servers that can be used.
        """
        self._fill()
        fitting = [item for item in self._window if item.fits(server.name, names)]
        if not fitting:
            return None
        chosen = fitting[0]
        if self._passed < WINDOW and server.model and chosen.model != server.model:
            same = (item for item in fitting if item.model == server.model)
            free = (item for item in fitting if item.model not in loaded)
            chosen = next(same, None) or next(free, chosen)
        self._passed = self._passed + 1 if chosen is not fitting[0] else 0
        self._window.remove(chosen)
        return chosen

    def __post_init__(self) -> None:
        self._source = iter(self.source)

    def _fill(self) -> None:
        self._window += itertools.islice(self._source, max(0, WINDOW - len(self._window)))


def choose(servers: Sequence[ServerLoad], waiting: Waiting, kept: int = KEPT) -> tuple[ServerLoad, Item] | None:
    """The next run to begin, and its server: the one that comes to it first. None where none is to begin now.

    A server in whose queue others wait is given one run at a time, and none while another server will be free sooner.
    """
    usable = [server for server in servers if server.usable and not server.retired]
    names = {server.name for server in usable}
    least = min((server.load for server in usable), default=0)
    models = waiting.models()
    for server in sorted(usable, key=lambda each: (each.load, each.others, each.model not in models)):
        limit = min(kept, 1) if server.others else kept
        if server.own >= limit or server.load > least + kept:
            continue
        others = {each.model for each in usable if each is not server and each.own}
        item = waiting.take(server, others, names)
        if item is not None:
            return server, item
    return None


class Next(NamedTuple):
    """What follows from the end of an attempt.

    `again`: the run is tried once more; `elsewhere`: on another server. `aside`: the server is set aside. `unsure`: the
    server may still make what was given to it.
    """

    again: bool
    elsewhere: bool = False
    aside: bool = False
    unsure: bool = False


def after(
    result: ev.RunFinished,
    *,
    attempts: int,
    retries: int,
    others: int,
    unreached: int = 0,
    adopted: bool = False,
    stopped: bool = False,
) -> Next:
    """What follows from *result*, the end of an attempt.

    :param adopted: the prompt was submitted by an earlier command, and *stopped*: which was about to cancel it.
    :param attempts: how often the run was submitted.
    :param unreached: how often beside these nothing was.
    :param others: servers that haven't tried it.
    """
    code = "" if result.error is None else result.error.code
    if result.status == "unreachable":
        # Nothing was submitted, but by an earlier command: it doesn't count. A server may refuse just this for ever.
        lasting = adopted and not result.retryable
        return Next(again=unreached <= UNREACHED and not lasting, aside=True, unsure=adopted)
    if result.status == "interrupted" and stopped:
        return Next(again=True)
    if result.status == "lost" and code not in ("deleted", "auth", "no_history"):
        unsure = code == "server_gone" and result.submitted != "no"
        if adopted:
            # Whatever it was lost by, this command hasn't begun it yet.
            return Next(again=True, aside=unsure, unsure=unsure)
        died = code in ("server_gone", "server_restarted")
        return Next(again=attempts <= retries, aside=died, unsure=unsure)
    if others and (result.status, code) in _OTHERS_MAY_TAKE:
        return Next(again=True, elsewhere=True)
    return Next(again=False)


def keeps_failing(server: ServerLoad, servers: Iterable[ServerLoad]) -> bool:
    """Whether *server* is to be set aside because its runs fail, where those of others don't."""
    others = (each for each in servers if each is not server and each.usable)
    return server.failed >= FAILURES and any(each.succeeded and not each.failed for each in others)
