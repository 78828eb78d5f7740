"""What is known of one run, and the steps that several messages make it take. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from comfyreport import events as ev
from comfyreport.protocol import messages, responses
from comfyreport.protocol.ui_outputs import OutputCollection
from comfyreport.run.emitter import Emitter
from comfyreport.run.node_events import NodeEvents
from comfyreport.run.nodes import Nodes
from comfyreport.run.verdict import Outcome, Verdict


class RunState:
    """The data of a `Run`, which the handlers of messages change.

    `attached`: the workflow is not known, for somebody else submitted the prompt. `sent` is to be set when the POST
    leaves: before that, events bear no prompt id. `missed_messages`: the socket was lost, or is opened only after
    the submission (`miss_messages`): what was not received is then filled in. `accepted`: the server has answered
    which id the prompt has; messages under other ids are kept in `early_messages` until then. `finished`: its end is
    emitted, and nothing follows. `include_temp`: temporary outputs count as results. `pictures` are those that came
    over the socket since they were taken, where `keep_pictures` is set; `saved_early` is what was saved before history
    told of it. `graph` is the workflow of a prompt that somebody else submitted, until it is taken.

    :param prompt_id: the id that the client chose; the server's answer may change it.
    :param manifest: the nodes of the submitted workflow.
    :param base_url: the server's address without credentials, for the URLs of outputs.
    :param sequence: where the events' `seq` comes from; shared by all runs of a command.
    :param previews: whether `node_preview` events are wanted.
    :param run_index: which run it is, from 1, where a command makes several.
    """

    def __init__(
        self,
        prompt_id: str,
        manifest: Iterable[ev.NodeRef] = (),
        *,
        base_url: str = "",
        client_id: str | None = None,
        seed: int | None = None,
        sequence: Iterator[int] | None = None,
        previews: bool = False,
        run_index: int | None = None,
    ) -> None:
        self.prompt_id = prompt_id
        self.manifest = tuple(manifest)
        self.attached = not self.manifest
        self.graph: messages.Json | None = None
        self.client_id = client_id
        self.seed = seed
        self.run_index = run_index
        self.output_nodes: frozenset[str] = frozenset()
        self.inputs: tuple[ev.InputValue, ...] = ()
        self.workflow: str | None = None
        self.previews = previews
        self.sent = False
        self.accepted = False
        self.early_messages: list[messages.Message] = []
        self.missed_messages = False
        self.queued_at: float | None = None
        self.started_at: float | None = None
        self.position: int | None = None
        self.remaining: int | None = None
        self.queue_changed_at = -math.inf
        self.server_queue_seconds: float | None = None
        self.server_seconds: float | None = None
        self.malformed_reasons: set[str] = set()
        self.nodes = Nodes(self.manifest)
        self.output_collection = OutputCollection(base_url)
        self.include_temp = False
        self.keep_pictures = False
        self.pictures: list[tuple[ev.Output, bytes]] = []
        self.saved_early: list[ev.Output] = []
        self.emitter = Emitter(self.nodes, itertools.count(1) if sequence is None else sequence, run_index)
        self.node_events = NodeEvents(self.nodes, self.emitter, base_url)
        self.outcome = Outcome(submitted="unknown")
        self.verdict: Verdict | None = None
        self.finished = False

    @property
    def outputs(self) -> list[ev.Output]:
        """The outputs that history lists, and before it those that came over the socket itself."""
        return self.output_collection.outputs

    @property
    def queued(self) -> bool:
        """Whether the server is known to have taken the prompt."""
        return self.queued_at is not None

    @property
    def started(self) -> bool:
        """Whether the server is known to have started the prompt."""
        return self.started_at is not None

    @property
    def ending(self) -> bool:
        """Whether the socket said that the prompt is over, so that history should be asked."""
        return self.outcome.ended and self.verdict is None

    def ensure_queued(self) -> None:
        """The server has the prompt: emit `run_queued`, once."""
        if self.queued_at is None:
            self.queued_at = self.emitter.at.elapsed
            self.emitter.prompt_id = self.prompt_id
            self.outcome.submitted = "yes"
            self.emitter.emit(
                ev.RunQueued,
                client_id=self.client_id,
                nodes=self.manifest,
                position=self.position,
                seed=self.seed,
            )

    def ensure_started(self) -> None:
        """The prompt runs: emit `run_started`, once, after `run_queued`."""
        self.ensure_queued()
        if self.started_at is None:
            self.started_at = self.emitter.at.elapsed
            self.position = 0
            self.emitter.emit(ev.RunStarted)

    def miss_messages(self) -> None:
        """The socket tells nothing for a while: what it would have told is filled in, and no time is learned of it."""
        self.missed_messages = True
        self.nodes.lose_track()

    def merge_saved_early(self) -> None:
        """Note in the outputs which of them are saved; what nobody else tells of is one of them all the same."""
        saved, self.saved_early = self.saved_early, []
        self.output_collection.merge_saved(saved)

    def change_queue(self, position: int | None, remaining: int | None) -> None:
        """Take in the prompt's place in the queue and the queue's length; emit `queue_changed` if they differ."""
        if (position, remaining) == (self.position, self.remaining):
            return
        self.position, self.remaining = position, remaining
        if self.queued_at is not None and not self.outcome.ended:
            self.queue_changed_at = self.emitter.at.elapsed
            self.emitter.emit(ev.QueueChanged, position=position, remaining=remaining)

    def learn_workflow(self, graph: messages.Json, client_id: str | None) -> None:
        """Take in the workflow of a prompt that somebody else submitted."""
        if not self.manifest and self.queued_at is None:
            self.graph = graph
            self.client_id = self.client_id or client_id
            self.manifest = responses.manifest_of(graph)
            self.nodes.set_manifest(self.manifest)
