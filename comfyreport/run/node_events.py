"""The events of a run's nodes, made from messages: beginnings, steps, texts, outputs, ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from comfyreport import events as ev
from comfyreport.estimates.bars import rounded
from comfyreport.protocol import decode, messages
from comfyreport.protocol.ui_outputs import SOCKET_SAVERS, OutputLimit, outputs_of
from comfyreport.run.emitter import Emitter
from comfyreport.run.nodes import Node, Nodes


class NodeEvents:
    """Follows the nodes of one run through the messages of the socket.

    `finished_ids` holds the server's ids of nodes that are finished in a `progress_state`: later ones repeat them.
    `restarts` counts how often one was taken out again, because it runs once more. `cached_known`: the server has said
    which nodes are cached. Until then a finished node whose beginning was not received may be a cached output (ComfyUI
    lists those as finished, too): it is held for `emit_held_nodes`, unless `output_nodes`, where they are known, don't
    have it.
    """

    def __init__(self, nodes: Nodes, emitter: Emitter, base_url: str) -> None:
        self.nodes = nodes
        self._emitter = emitter
        self._base_url = base_url
        self.finished_ids: set[str] = set()
        self.cached_known = False
        self.output_nodes: frozenset[str] = frozenset()
        self._held: dict[str, None] = {}
        self.restarts = 0
        self._has_progress_state = False
        self._previews = 0
        self.output_limit = OutputLimit()

    def mark_cached(self, node_id: str) -> None:
        """The node's result is cached."""
        display = self.nodes.display_id(node_id)
        if display not in self.nodes.executed and self.nodes.mark_cached(display):
            self._emitter.emit(ev.NodeCached, node=self.nodes.node(display).ref)

    def progress_state(self, message: messages.ProgressState) -> None:
        """The state of all nodes that began; only those that weren't finished before can have changed."""
        self._has_progress_state = True
        ended: dict[str, bool] = {}
        states = {
            raw_id: decode.node_state(raw_id, message.nodes[raw_id])
            for raw_id in message.nodes
            if raw_id not in self.finished_ids
        }
        # What ran before comes before what runs.
        for raw_id, state in sorted(states.items(), key=lambda item: item[1] is not None and item[1].running):
            if state is None:
                continue
            display = self.nodes.display_id(raw_id, state.display_id)
            if state.finished:
                self.finished_ids.add(raw_id)
            ended[display] = ended.get(display, True) and state.finished
            if display in self.nodes.active:
                continue
            if state.running:
                self.start_node(display, start_seen=state.value == 0)
            elif state.finished and display not in self.nodes.executed and display not in self.nodes.cached:
                # It ran while the socket was closed: before a reconnect, or before an attach.
                if self.cached_known or (self.output_nodes and display not in self.output_nodes):
                    self.emit_missed_node(display)
                else:
                    self._held[display] = None
        for display, finished in ended.items():
            node = self.nodes.active.get(display)
            if finished and node is not None:
                self.finish_node(node)

    def executing(self, message: messages.Executing) -> None:
        """A node begins."""
        assert message.node is not None
        if message.prompt_id is None and message.node in self.nodes.executed:
            # The note that follows a reconnect names the node that began last, which may have ended.
            return
        # A finished node may run again: the next progress_state may say something new of it.
        if message.node in self.finished_ids:
            self.finished_ids.discard(message.node)
            self.restarts += 1
        display = self.nodes.display_id(message.node, message.display_node)
        if display in self.nodes.active:
            return
        if not self._has_progress_state:
            # From servers before progress_state, only the next beginning shows an end.
            self.finish_active_nodes()
        self.start_node(display, start_seen=message.prompt_id is not None)

    def progress(self, message: messages.ProgressMessage) -> None:
        """A node's bar moved."""
        value, maximum = message.value, message.maximum
        display = self.nodes.display_id(message.node)
        node = self.nodes.active.get(display)
        if node is None:
            node = self.start_node(display, start_seen=False)
        if not 0 < value <= maximum:
            return
        elapsed = self._emitter.at.elapsed
        bar = node.observe(message.node, value, maximum, elapsed)
        if bar is None:
            return
        speed = bar.speed(elapsed)
        self._emitter.emit_progress(
            node.ref if message.node == node.ref.id else self._ref(node, message.node),
            value,
            maximum,
            rounded(bar.eta(elapsed)),
            bar.pass_number,
            None if speed is None else rounded(speed, 10_000),
        )

    def executed(self, message: messages.Executed) -> None:
        """A node sent its outputs."""
        display = self.nodes.display_id(message.node, message.display_node)
        node = self.nodes.node(display)
        cached = display in self.nodes.cached
        outputs = outputs_of(node.ref, message.output, self._base_url, cached=cached, limit=self.output_limit)
        known = len(node.outputs)
        node.outputs += [replace(output, index=known + output.index) if known else output for output in outputs]

    def text(self, frame: messages.TextFrame) -> None:
        """A node sent a text. Texts are broadcast and name no prompt: only those of running nodes are taken."""
        display = self.nodes.display_id(frame.node)
        if display in self.nodes.active:
            self._emitter.emit(ev.NodeText, node=self._ref(self.nodes.active[display], frame.node), text=frame.text)

    def preview(self, frame: messages.PreviewFrame) -> None:
        """A preview came; without metadata it can only be of the one node that runs."""
        ref: ev.NodeRef | None = None
        if frame.node is not None:
            ref = self._ref(self.nodes.node(self.nodes.display_id(frame.node, frame.display_node)), frame.node)
        elif len(self.nodes.active) == 1:
            ref = next(iter(self.nodes.active.values())).ref
        self._emitter.emit(
            ev.NodePreview, node=ref, media_type=frame.media_type, image=frame.image, index=self._previews
        )
        self._previews += 1

    def socket_saver(self, frame: messages.PreviewFrame) -> ev.NodeRef | None:
        """The node whose result *frame* is, which looks like a preview; None if it is one."""
        if frame.node is not None:
            display = self.nodes.display_id(frame.node, frame.display_node)
            ref = self.nodes.node(display).ref if self.nodes.is_submitted(display) else None
            return ref if ref is not None and ref.class_type in SOCKET_SAVERS else None
        savers = [node.ref for node in self.nodes.active.values() if node.ref.class_type in SOCKET_SAVERS]
        # Samplers that run beside it send theirs as JPEG.
        return savers[0] if len(savers) == 1 and frame.media_type == "image/png" else None

    def _ref(self, node: Node, raw_id: str) -> ev.NodeRef:
        ref = node.ref
        if raw_id == ref.id:
            return ref
        return ev.NodeRef(id=ref.id, class_type=ref.class_type, title=ref.title, raw_id=raw_id)

    def start_node(self, display: str, *, start_seen: bool) -> Node:
        """Emit that a node begins; *start_seen*: this is the real beginning."""
        node = self.nodes.start(display, self._emitter.at.elapsed, start_seen=start_seen)
        self._emitter.emit(ev.NodeStarted, node=node.ref)
        return node

    def finish_node(self, node: Node) -> None:
        """Emit that a node ended."""
        seconds = self.nodes.stop(node, self._emitter.at.elapsed)
        seconds = None if seconds is None else round(seconds, 3)
        self._emitter.emit(ev.NodeFinished, node=node.ref, seconds=seconds, outputs=tuple(node.outputs))

    def emit_missed_node(self, display: str) -> None:
        """Emit that a node ended whose beginning was missed, unless that was done: one event, without times."""
        if display not in self.nodes.executed and display not in self.nodes.cached:
            self.finish_node(self.nodes.start(display, self._emitter.at.elapsed, start_seen=False))

    def emit_missed_nodes(
        self, needed: Iterable[str], last: messages.ExecutionError | messages.ExecutionInterrupted | None
    ) -> None:
        """Emit the nodes among *needed* whose messages were missed.

        After a success those are all that the outputs depend on; the server doesn't say which lazy inputs it left out.
        *last* is the error or interrupt otherwise: it names the nodes that had run; its own node stays open.
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
        """It is known now which nodes are cached: the other held ones ran."""
        self.cached_known = True
        held, self._held = self._held, {}
        for display in held:
            self.emit_missed_node(display)

    def finish_active_nodes(self) -> None:
        """Emit that all nodes ended that still run."""
        for node in list(self.nodes.active.values()):
            self.finish_node(node)
