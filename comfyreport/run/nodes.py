"""The nodes of a run: which there are, which run, how far their bars are. Pure; times are passed in as seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from comfyreport.events import NodeRef, Output
from comfyreport.run.eta import Bar, Bars, Estimate, estimate_run, rounded


class Node:
    """One node of the submitted workflow, with the bars and outputs of the nodes that it expands to.

    `start_seen`: the beginning of its current run was seen, so that its time is known; `timed`: that of any run was.
    """

    __slots__ = (
        "active_bar",
        "bars",
        "finished",
        "outputs",
        "passes",
        "ref",
        "running",
        "seconds",
        "start_seen",
        "started",
        "timed",
    )

    def __init__(self, ref: NodeRef) -> None:
        self.ref = ref
        self.running = False
        self.finished = False
        self.started = 0.0
        self.start_seen = False
        self.timed = False
        self.seconds = 0.0
        self.passes = 0
        self.bars: dict[str, Bars] = {}
        self.active_bar: Bar | None = None
        self.outputs: list[Output] = []

    def start(self, at: float, *, start_seen: bool) -> None:
        """Begin to run; *start_seen*: this is the real beginning, not the first message after it."""
        self.running = True
        self.started = at
        self.start_seen = start_seen
        self.timed = self.timed or start_seen
        self.passes = 0
        self.bars.clear()
        self.active_bar = None
        self.outputs = []

    def stop(self, at: float) -> float | None:
        """End; the seconds that it ran, None where its beginning wasn't seen."""
        self.running = False
        self.finished = True
        if not self.start_seen:
            return None
        seconds = max(0.0, at - self.started)
        self.seconds += seconds
        return seconds

    def observe(self, raw_id: str, value: float, maximum: float, at: float) -> Bar | None:
        """Take in that the bar of *raw_id* moved; the bar, or None if that only set its baseline."""
        bars = self.bars.get(raw_id)
        if bars is None:
            start = self.started if self.start_seen else None
            if start is not None and self.active_bar is not None and raw_id != self.ref.id:
                start = at if self.active_bar.last_at is None else self.active_bar.last_at
            self.passes += 1
            bars = self.bars[raw_id] = Bars(Bar(start, self.passes))
        bar = bars.select(value, maximum, at, self.passes + 1)
        self.passes = max(self.passes, bar.pass_number)
        self.active_bar = bar
        return bar if bar.observe(value, maximum, at) else None

    @property
    def expected_silence(self) -> float:
        """Seconds of silence that are usual at the pace of its bar; 0 if nothing is known of that."""
        return 0.0 if self.active_bar is None else self.active_bar.expected_silence


class Nodes:
    """All nodes of a run, by the id of the display node.

    `total` counts the submitted nodes that aren't cached, `done` those of them that ran to their end.
    """

    def __init__(self, manifest: Iterable[NodeRef]) -> None:
        self._nodes: dict[str, Node] = {}
        self._display_ids: dict[str, str] = {}
        self._submitted: set[str] = set()
        self._fraction = 0.0
        self.done = 0
        self.total = 0
        self.active: dict[str, Node] = {}
        self.cached: dict[str, None] = {}
        self.executed: dict[str, None] = {}
        # By class: submitted nodes that have not run yet; how many have run, and for how many seconds in all.
        self._waiting: Counter[str] = Counter()
        self._ran: dict[str, tuple[int, float]] = {}
        # Seconds of the longest node without a bar.
        self._longest = 0.0
        self._waiting_work: tuple[float, int] | None = None
        self.set_manifest(manifest)

    def set_manifest(self, manifest: Iterable[NodeRef]) -> None:
        """Say which nodes were submitted."""
        for ref in manifest:
            self.total += ref.id not in self._submitted
            self._submitted.add(ref.id)
            node = self._nodes.get(ref.id)
            if node is None:
                self._nodes[ref.id] = Node(ref)
                self._count_waiting(ref, 1)
            else:
                node.ref = ref

    def _count_waiting(self, ref: NodeRef, count: int) -> None:
        if ref.id in self._submitted:
            self._waiting[ref.class_type] += count
            self._waiting_work = None

    def display_id(self, raw_id: str, reported: str | None = None) -> str:
        """The display node of *raw_id*: as *reported*, else as reported before, else as the id's form says.

        Ids of expanded nodes are `OUTER.CALL.INDEX.NAME` (ComfyUI graph_utils.py).
        """
        if reported is not None:
            self._display_ids[raw_id] = reported
            return reported
        earlier = self._display_ids.get(raw_id)
        if earlier is not None:
            return earlier
        if raw_id not in self._submitted:
            outer = raw_id.partition(".")[0]
            if outer in self._submitted:
                return outer
        return raw_id

    def node(self, display_id: str) -> Node:
        """The node with that id, added if it is new."""
        node = self._nodes.get(display_id)
        if node is None:
            node = self._nodes[display_id] = Node(NodeRef(id=display_id, title=display_id))
        return node

    def is_submitted(self, display_id: str) -> bool:
        """Whether the node was submitted."""
        return display_id in self._submitted

    def refs(self) -> dict[str, NodeRef]:
        """The submitted nodes."""
        return {key: self._nodes[key].ref for key in self._nodes if key in self._submitted}

    def mark_cached(self, display_id: str) -> bool:
        """The node's result is cached; False if that was known."""
        if display_id in self.cached:
            return False
        self.cached[display_id] = None
        self.total -= display_id in self._submitted
        node = self._nodes.get(display_id)
        if node is not None and not node.running and not node.finished:
            self._count_waiting(node.ref, -1)
        return True

    def start(self, display_id: str, at: float, *, start_seen: bool = True) -> Node:
        """The node begins to run."""
        node = self.node(display_id)
        if not node.running and not node.finished and display_id not in self.cached:
            self._count_waiting(node.ref, -1)
        node.start(at, start_seen=start_seen)
        self.active[display_id] = node
        self.executed[display_id] = None
        if display_id in self.cached:
            del self.cached[display_id]
            self.total += display_id in self._submitted
        return node

    def stop(self, node: Node, at: float) -> float | None:
        """The node ends; the seconds that it ran, None where its beginning wasn't seen."""
        self.active.pop(node.ref.id, None)
        self.done += not node.finished and node.ref.id in self._submitted
        seconds = node.stop(at)
        if seconds is not None:
            count, total = self._ran.get(node.ref.class_type, (0, 0.0))
            self._ran[node.ref.class_type] = count + 1, total + seconds
            self._waiting_work = None
            if node.active_bar is None:
                self._longest = max(self._longest, seconds)
        return seconds

    def estimate(self, at: float) -> Estimate | None:
        """How long the whole run still takes, as seen at *at* seconds; None where that can't be said yet."""
        now = -1.0
        # Written as a loop, for it runs with each step.
        for node in self.active.values():
            bar = node.active_bar
            if bar is not None and bar.steady and (eta := bar.eta(at)) > now:
                now = eta
        if now < 0:
            return None
        if self._waiting_work is None:
            known_seconds, unknown_nodes = 0.0, 0
            for class_type, waiting in self._waiting.items():
                count, total = self._ran.get(class_type, (0, 0.0))
                known_seconds += waiting * total / count if count else 0.0
                unknown_nodes += 0 if count else waiting
            self._waiting_work = known_seconds, unknown_nodes
        return estimate_run(now, *self._waiting_work, self._longest)

    def fraction(self) -> float:
        """The done part of the run: nodes weigh alike, running ones count by their bars. Never falls, below 1."""
        running = 0.0
        # Written as a loop, for it runs with each step.
        for key, node in self.active.items():
            bar = node.active_bar
            if bar is not None and bar.maximum > 0 and not node.finished and key in self._submitted:
                running += bar.value / bar.maximum if bar.value < bar.maximum else 1.0
        now = (self.done + running) / self.total if self.total > 0 else 0.0
        if now > self._fraction:
            self._fraction = max(self._fraction, min(rounded(now, 10_000), 0.999))
        return self._fraction

    def seconds(self) -> dict[str, float]:
        """How long each node ran, by id; of one that still ran at the end, until the end.

        A node none of whose beginnings was seen is left out: its time isn't known.
        """
        executed = ((key, self._nodes[key]) for key in self.executed)
        return {key: round(node.seconds, 3) for key, node in executed if node.timed}
