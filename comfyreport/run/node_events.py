"""What the server tells of a run's nodes, made into events: beginnings, steps, outputs, ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from comfyreport import events as ev
from comfyreport.protocol import decode, messages
from comfyreport.protocol.ui_outputs import OutputLimit, outputs_of
from comfyreport.run.emitter import Emitter
from comfyreport.run.nodes import Node, Nodes


class NodeEvents:
    """Follows the nodes of one run through the messages of the socket.

    `settled` holds the server's ids of nodes that a `progress_state` told as finished: what a later one says of
    them is no news. `reopened` counts how often one was taken out again, because it runs once more. `cached_known`:
    it was heard which nodes are cached. Until then one that is told as finished, and whose beginning nobody heard, may
    be a cached output (ComfyUI tells of them in that way, too): it waits for `emit_held_nodes`.
    """

    def __init__(self, nodes: Nodes, emitter: Emitter, base_url: str) -> None:
        self.nodes = nodes
        self._emitter = emitter
        self._base_url = base_url
        self.settled: set[str] = set()
        self.cached_known = False
        self._held: dict[str, None] = {}
        self.reopened = 0
        self._stateful = False
        self._previews = 0
        self._output_limit = OutputLimit()

    def cache(self, node_id: str) -> None:
        """The node's result is cached."""
        display = self.nodes.display_id(node_id)
        if display not in self.nodes.executed and self.nodes.cache(display):
            self._emitter.emit(ev.NodeCached, node=self.nodes.node(display).ref)

    def progress_state(self, message: messages.ProgressState) -> None:
        """The whole state of all nodes that began; only what isn't settled yet can be news."""
        self._stateful = True
        ended: dict[str, bool] = {}
        for raw_id in [raw_id for raw_id in message.nodes if raw_id not in self.settled]:
            state = decode.node_state(raw_id, message.nodes[raw_id])
            if state is None:
                continue
            display = self.nodes.display_id(raw_id, state.display_id)
            if state.finished:
                self.settled.add(raw_id)
            ended[display] = ended.get(display, True) and state.finished
            if display in self.nodes.active:
                continue
            if state.running:
                self.start_node(display, seen=state.value == 0)
            elif state.finished and display not in self.nodes.executed and display not in self.nodes.cached:
                # It ran while nobody listened: after a reconnect, or before an attach.
                if self.cached_known:
                    self.start_node(display, seen=False)
                else:
                    self._held[display] = None
        for display, over in ended.items():
            node = self.nodes.active.get(display)
            if over and node is not None:
                self.finish_node(node)

    def executing(self, message: messages.Executing) -> None:
        """A node begins."""
        assert message.node is not None
        if message.prompt_id is None and message.node in self.nodes.executed:
            # The note that follows a reconnect names the node that began last, which may have ended.
            return
        # A node that was told as finished may run again: what the next state says of it is news then.
        if message.node in self.settled:
            self.settled.discard(message.node)
            self.reopened += 1
        display = self.nodes.display_id(message.node, message.display_node)
        if display in self.nodes.active:
            return
        if not self._stateful:
            # Servers before progress_state tell an end only by the next beginning.
            self.finish_active_nodes()
        self.start_node(display, seen=message.prompt_id is not None)

    def progress(self, message: messages.ProgressMessage) -> None:
        """A node's bar moved."""
        value, maximum = message.value, message.maximum
        display = self.nodes.display_id(message.node)
        node = self.nodes.active.get(display)
        if node is None:
            node = self.start_node(display, seen=False)
        if not 0 < value <= maximum:
            return
        elapsed = self._emitter.at.elapsed
        bar = node.observe(message.node, value, maximum, elapsed)
        if bar is None:
            return
        speed = bar.speed(elapsed)
        self._emitter.emit_progress(
            self._ref(node, message.node),
            value,
            maximum,
            round(bar.eta(elapsed), 3),
            bar.pass_number,
            None if speed is None else round(speed, 4),
        )

    def executed(self, message: messages.Executed) -> None:
        """A node told of its outputs."""
        display = self.nodes.display_id(message.node, message.display_node)
        node = self.nodes.node(display)
        cached = display in self.nodes.cached
        made = outputs_of(node.ref, message.output, self._base_url, cached=cached, limit=self._output_limit)
        node.outputs += tuple(replace(output, index=len(node.outputs) + output.index) for output in made)

    def text(self, frame: messages.TextFrame) -> None:
        """Texts are broadcast and name no prompt: only those of a node that runs here can be meant."""
        display = self.nodes.display_id(frame.node)
        if display in self.nodes.active:
            self._emitter.emit(ev.NodeText, node=self._ref(self.nodes.active[display], frame.node), text=frame.text)

    def preview(self, frame: messages.PreviewFrame) -> None:
        """A picture came; without metadata it can only be of the one node that runs."""
        ref: ev.NodeRef | None = None
        if frame.node is not None:
            ref = self._ref(self.nodes.node(self.nodes.display_id(frame.node, frame.display_node)), frame.node)
        elif len(self.nodes.active) == 1:
            ref = next(iter(self.nodes.active.values())).ref
        self._emitter.emit(
            ev.NodePreview, node=ref, media_type=frame.media_type, image=frame.image, index=self._previews
        )
        self._previews += 1

    def _ref(self, node: Node, raw_id: str) -> ev.NodeRef:
        ref = node.ref
        if raw_id == ref.id:
            return ref
        return ev.NodeRef(id=ref.id, class_type=ref.class_type, title=ref.title, raw_id=raw_id)

    def start_node(self, display: str, *, seen: bool) -> Node:
        """Tell that a node begins; *seen*: this is the real beginning."""
        node = self.nodes.start(display, self._emitter.at.elapsed, seen=seen)
        self._emitter.emit(ev.NodeStarted, node=node.ref)
        return node

    def finish_node(self, node: Node) -> None:
        """Tell that a node ended."""
        seconds = self.nodes.stop(node, self._emitter.at.elapsed)
        seconds = None if seconds is None else round(seconds, 3)
        self._emitter.emit(ev.NodeFinished, node=node.ref, seconds=seconds, outputs=node.outputs)

    def emit_missed_node(self, display: str) -> None:
        """Tell of a node that ran while nobody listened, unless that was told."""
        if display not in self.nodes.executed and display not in self.nodes.cached:
            self.finish_node(self.start_node(display, seen=False))

    def emit_missed_nodes(
        self, needed: Iterable[str], last: messages.ExecutionError | messages.ExecutionInterrupted | None
    ) -> None:
        """Tell of the nodes among *needed* that ran while nobody listened.

        Of a success those are all that the outputs rest on; which lazy inputs were left out, nobody tells. Where *last*
        failed or was interrupted, the server names those that had run; that one itself stays open.
        """
        if last is None:
            for node_id in needed:
                self.emit_missed_node(node_id)
            return
        ran = {self.nodes.display_id(raw_id) for raw_id in last.executed}
        for node_id in needed:
            if node_id == last.node or node_id not in ran:
                continue
            active = self.nodes.active.get(node_id)
            if active is None:
                self.emit_missed_node(node_id)
            else:
                self.finish_node(active)

    def emit_held_nodes(self) -> None:
        """It is known now which nodes are cached: the others that wait ran."""
        self.cached_known = True
        held, self._held = self._held, {}
        for display in held:
            self.emit_missed_node(display)

    def finish_active_nodes(self) -> None:
        """Tell that all nodes ended that still run."""
        for node in list(self.nodes.active.values()):
            self.finish_node(node)
