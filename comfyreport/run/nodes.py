"""The nodes of a run: which there are, which run, how far their bars are. Pure; times are passed in as seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from comfyreport.estimates.bars import Bar, Bars
from comfyreport.estimates.estimator import Estimate, Estimator
from comfyreport.estimates.expected import Duration, Expected, Observation
from comfyreport.estimates.priors import unknown
from comfyreport.events import NodeRef, Output


class Node:
    """One node of the submitted workflow, with the bars and outputs of the nodes that it expands to.

    `start_seen`: the beginning of its current run was seen, so that its time is known; `timed`: that of any run was.
    `runs`: how often it ran to its end; `gap`: what happened during a run isn't known, so that nothing is learned;
    `passed`: the run was past it when it was first seen, whether it ran or not.
    `expected`: how long it may take; `loading`: how many of the loaders above it aren't cached. `observation`: how long
    it took. `speed`: steps a second of its bar, as of its last step; known when it has ended.
    """

    __slots__ = (
        "active_bar",
        "bars",
        "expected",
        "finished",
        "gap",
        "loading",
        "observation",
        "outputs",
        "passed",
        "passes",
        "ref",
        "running",
        "runs",
        "seconds",
        "speed",
        "start_seen",
        "started",
        "timed",
    )

    def __init__(self, ref: NodeRef) -> None:
        self.ref = ref
        self.expected = unknown(ref.class_type)
        self.loading = 0
        self.observation: Observation | None = None
        self.runs = 0
        self.gap = False
        self.passed = False
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
        self.speed: float | None = None

    @property
    def duration(self) -> Duration:
        """How long it is expected to take, as things stand with its models."""
        return self.expected.cold if self.loading else self.expected.warm

    @property
    def usual(self) -> float | None:
        """The seconds that it usually takes, where that was learned of this very node."""
        return self.duration.seconds if self.duration.basis == "history" else None

    @property
    def paced(self) -> bool:
        """Whether it is faster on a faster server."""
        return self.expected.paced

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
        bar = self.active_bar
        if bar is not None and bar.last_at is not None:
            self.speed = bar.speed(bar.last_at)
        if not self.start_seen:
            return None
        seconds = max(0.0, at - self.started)
        self.seconds += seconds
        self.runs += 1
        # One that runs once more within a run, such as a part of a loop, has a time but no steps that are known.
        lead, step, steps, tail = self._parts(seconds) if self.runs == 1 else (0.0, 0.0, 0.0, self.seconds)
        passes = float(self.passes) if steps else float(self.runs)
        self.observation = Observation(self.ref.id, self.loading > 0, lead, step, steps, tail, passes)
        return seconds

    @property
    def rest(self) -> Duration | None:
        """What is expected of its further runs within this run, where it is a part of a loop."""
        duration = self.duration
        if duration.basis == "prior" or duration.steps or not 0 < self.runs < duration.passes:
            return None
        seconds = duration.seconds * (1.0 - self.runs / duration.passes)
        return duration._replace(tail=seconds, passes=duration.passes - self.runs)

    def _parts(self, seconds: float) -> tuple[float, float, float, float]:
        """Its time: seconds before the first step, of a step, how many steps, and seconds behind the last one.

        Where several bars tell of it, nothing is known of their steps together.
        """
        bar = self.active_bar
        first = None if bar is None else bar.first_of_all
        if bar is None or first is None or bar.last_at is None:
            return 0.0, 0.0, 0.0, seconds
        if len(self.bars) > 1 or not all(bars.single for bars in self.bars.values()):
            return 0.0, 0.0, 0.0, seconds
        steps = (bar.pass_number - 1) * bar.maximum + bar.value
        timed, took = bar.timed_steps
        value, at = first
        pace = took / timed if timed > 0 else bar.step_before or 0.0
        lead = min(max(0.0, at - self.started - value * pace), seconds)
        work = min(max(0.0, bar.last_at - self.started - lead), seconds - lead)
        return lead, work / steps, steps, seconds - lead - work

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
        self.done = 0
        self.total = 0
        self.active: dict[str, Node] = {}
        self.cached: dict[str, None] = {}
        self.executed: dict[str, None] = {}
        self.estimator = Estimator()
        self._dependents: dict[str, list[Node]] = {}
        self.set_manifest(manifest)

    def set_manifest(self, manifest: Iterable[NodeRef]) -> None:
        """Say which nodes were submitted."""
        for ref in manifest:
            self.total += ref.id not in self._submitted
            self._submitted.add(ref.id)
            node = self._nodes.get(ref.id)
            if node is None:
                node = self._nodes[ref.id] = Node(ref)
                self._change_waiting(node, 1)
            else:
                node.ref = ref

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """Take in how long nodes are expected to take, also while some of them run or have run."""
        self.estimator.forget_waiting()
        self._dependents = {}
        for key, node in self._nodes.items():
            node.expected = expected.get(key, node.expected)
            loaders = [each for each in node.expected.loaders if each not in self.cached]
            node.loading = len(loaders)
            for loader in loaders:
                self._dependents.setdefault(loader, []).append(node)
            if self._waits(key, node):
                self._change_waiting(node, 1)
            elif not node.running:
                self._change_rest(node, 1)
        for key in self.executed:
            self._pass_above(self._nodes[key])

    def _pass_above(self, node: Node) -> None:
        """Where the run was followed late: *node* runs, so that what stands above it ran, or is cached."""
        todo = list(node.expected.above) if self.estimator.late else []
        while todo:
            key = todo.pop()
            above = self._nodes.get(key)
            if above is None or above.passed:
                continue
            waited = self._waits(key, above)
            if waited:
                self._change_waiting(above, -1)
            above.passed = True
            if waited:
                self._is_warm(key)
            todo += above.expected.above

    def _waits(self, key: str, node: Node) -> bool:
        return not node.running and not node.finished and not node.passed and key not in self.cached

    def _change_waiting(self, node: Node, sign: int) -> None:
        if node.ref.id in self._submitted:
            self.estimator.change_waiting(node, node.duration, sign)

    def _change_rest(self, node: Node, sign: int) -> None:
        rest = node.rest
        if rest is not None and node.ref.id in self._submitted and node.ref.id not in self.cached:
            self.estimator.change_waiting(node, rest, sign)

    def lose_track(self) -> None:
        """What happens now isn't seen: nothing is learned of how long the nodes take that run."""
        for node in self.active.values():
            node.gap = True

    def _is_warm(self, loader: str) -> None:
        """The result of *loader* is cached: the nodes below it needn't wait for its model."""
        for node in self._dependents.pop(loader, ()):
            waits = self._waits(node.ref.id, node)
            if waits:
                self._change_waiting(node, -1)
            node.loading -= 1
            if waits:
                self._change_waiting(node, 1)

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
        node = self._nodes.get(display_id)
        if node is not None and self._waits(display_id, node):
            self._change_waiting(node, -1)
        self.cached[display_id] = None
        self.total -= display_id in self._submitted
        self._is_warm(display_id)
        return True

    def start(self, display_id: str, at: float, *, start_seen: bool = True) -> Node:
        """The node begins to run."""
        node = self.node(display_id)
        if self._waits(display_id, node):
            self._change_waiting(node, -1)
        elif not node.running:
            self._change_rest(node, -1)
        self.estimator.begin(at, seen=start_seen)
        node.start(at, start_seen=start_seen)
        self._pass_above(node)
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
        self.estimator.finished(node, seconds, at)
        self._change_rest(node, 1)
        return seconds

    def estimate(self, at: float) -> Estimate | None:
        """How long the whole run still takes, as seen at *at* seconds; None where that can't be said yet."""
        return self.estimator.estimate(at, self.active.values())

    @property
    def fraction(self) -> float:
        """The done part of the run as of the last estimate. Never falls, below 1."""
        return self.estimator.fraction

    def observations(self) -> list[Observation]:
        """What was seen of the submitted nodes that ran to their end, from their beginning on, all the time."""
        nodes = (self._nodes[key] for key in self.executed if key in self._submitted)
        return [node.observation for node in nodes if node.observation is not None and not node.gap]

    def seconds(self) -> dict[str, float]:
        """How long each node ran, by id; of one that still ran at the end, until the end.

        A node none of whose beginnings was seen is left out: its time isn't known.
        """
        executed = ((key, self._nodes[key]) for key in self.executed)
        return {key: round(node.seconds, 3) for key, node in executed if node.timed}
