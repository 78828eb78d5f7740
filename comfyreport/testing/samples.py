"""Event streams to try reporters with: an event of each type, hostile values, a newer version, an early end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any, Literal

from comfyreport import events as ev
from comfyreport.events.records import record

EVIL = "\x1b[31mevil\x1b]0;evil\x07\x9b2J\r\n\u202e\u2066"
"""What a hostile server may send as any text: escape sequences, line ends, marks that reverse its direction."""

_TIME = 1772600767.25
_SERVER = "http://127.0.0.1:8188"


@record
class UnknownEvent(ev.Event):
    """An event of a type that this version doesn't know, as a newer one may have it."""

    type: Literal["something_new"] = field(default="something_new", init=False)
    news: str = "unheard of"


class EventScript:
    """Builds a stream event by event; from each to the next are *step* seconds."""

    def __init__(self, step: float = 0.25) -> None:
        self.events: list[ev.Event] = []
        self._step = step
        self._sequence = itertools.count(1)
        self._prompt_id: str | None = None

    def add(self, cls: Callable[..., ev.Event], **details: Any) -> None:
        """Add an event of *cls*."""
        if cls is ev.RunQueued and "prompt_id" not in details:
            self._prompt_id = "3f7f4e6e-0000-4000-8000-000000000000"
        elapsed = self._step * len(self.events)
        common = {"time": _TIME + elapsed, "elapsed": elapsed, "prompt_id": self._prompt_id, "source": "client"}
        self.events.append(cls(seq=next(self._sequence), **(common | details)))

    def begin(self, runs: int = 1) -> None:
        """Add the stream's start."""
        self.add(ev.StreamStarted, comfyreport="9.9.9", server=_SERVER, reporters=("this",), runs_total=runs)

    def end(self, status: str, **details: Any) -> list[ev.Event]:
        """Add the run's end and the stream's; returns the whole stream."""
        code = ev.EXIT_CODES.get(status, 99)
        self.add(ev.RunFinished, status=status, exit_code=code, **details)
        self.add(ev.StreamFinished, status=status, exit_code=code, failed=int(code != 0))
        return self.events


def each_type() -> list[ev.Event]:
    """An event of each type, in a possible order."""
    loader = ev.NodeRef(id="4", class_type="VAELoader", title="Load VAE")
    node = ev.NodeRef(id="3", class_type="KSampler", title="KSampler")
    output = ev.Output(
        node=node, index=0, kind="image", filename="a.png", subfolder="", folder="output", url=f"{_SERVER}/view",
        media_type="image/png",
    )  # fmt: skip
    script = EventScript()
    script.begin()
    script.add(ev.ConnectionChanged, state="connected")
    script.add(ev.RunQueued, client_id="c", nodes=(node,), position=1, seed=7)
    script.add(ev.QueueChanged, position=1, remaining=2)
    script.add(ev.RunStarted)
    script.add(ev.NodeCached, node=loader, nodes_total=1)
    script.add(ev.NodeStarted, node=node, nodes_total=1)
    script.add(
        ev.NodeProgress, step=1, max_steps=2, eta_seconds=0.5, node=node, steps_per_second=2.0, fraction=0.5,
        nodes_total=1,
    )  # fmt: skip
    script.add(ev.NodeText, node=node, text="half way")
    script.add(ev.NodePreview, node=node, media_type="image/png", image=b"\x89PNG")
    script.add(
        ev.Heartbeat, node=node, silent_seconds=5.0, node_seconds=6.0, state="running", fraction=0.5,
        run_eta_seconds=8.0, run_eta_low=6.0, run_eta_high=11.0, eta_basis="history",
    )  # fmt: skip
    script.add(ev.Warning, code="stalled", message="nothing heard for 30 s")
    script.add(ev.NodeFinished, node=node, seconds=1.5, outputs=(output,), fraction=0.99, nodes_done=1, nodes_total=1)
    script.add(ev.OutputReady, output=output)
    script.add(ev.OutputSaved, output=output)
    times = (
        ev.NodeTime(node=loader, seconds=0.0, share=0.0, cached=True),
        ev.NodeTime(node=node, seconds=1.5, share=1.0, steps_per_second=2.0, usual_seconds=1.4),
    )
    return script.end(
        "success", outputs=(output,), executed=("3",), cached=("4",), node_seconds={"3": 1.5}, node_times=times,
        usual_seconds=3.0, seconds=3.5,
    )  # fmt: skip


def hostile_values() -> list[ev.Event]:
    """Values at the edge of what the contract allows: hostile text, nothing where something may be absent, extremes."""
    long = "x" * 5_000
    nodes = tuple(
        ev.NodeRef(id=id_, class_type=class_type, title=title, raw_id=raw_id)
        for id_, class_type, title, raw_id in (
            ("", "", "", None),
            (EVIL, EVIL, EVIL, EVIL),
            ("10", long, long, "10.0.0.4"),
            ("12", "KSampler", "雪山の夕焼け 👩\u200d🎨 e\u0301 \ud800", None),
        )
    )
    script = EventScript()
    script.begin()
    script.add(ev.ConnectionChanged, state="lost", detail=EVIL)
    script.add(ev.ConnectionChanged, state="polling")
    script.add(ev.Warning, code=EVIL, message=EVIL, node=nodes[1])
    script.add(ev.RunQueued)
    script.add(ev.QueueChanged)
    script.add(ev.QueueChanged, position=123_456, remaining=123_457)
    script.add(ev.RunStarted)
    script.add(ev.NodeCached, node=ev.NodeRef(id="c", class_type=EVIL, title=EVIL))
    for node in nodes:
        script.add(ev.NodeStarted, node=node)
    for node in nodes:
        for step, most in ((2.4e-07, 1.5003), (1, 1), (1e15, 1e15), (1, 2**53)):
            steps = {"step": step, "max_steps": most, "eta_seconds": 1e9, "pass_number": 9, "run_eta_seconds": 1e9}
            script.add(ev.NodeProgress, node=node, **steps)
        script.add(ev.NodeText, node=node, text=EVIL + long)
    script.add(ev.NodePreview, media_type=EVIL, image=b"")
    script.add(ev.NodePreview, node=nodes[1], media_type=EVIL, image=b"")
    script.add(ev.Heartbeat)
    outputs = (
        ev.Output(node=nodes[0], index=0, kind="file"),
        ev.Output(node=nodes[1], index=0, kind="image", filename=EVIL, subfolder=EVIL, url=EVIL, path=EVIL, bytes=0),
        ev.Output(node=nodes[2], index=0, kind="value", value={"a": [1, None, EVIL]}),
        ev.Output(node=nodes[3], index=0, kind="text", value=long, filename=long, media_type=EVIL, bytes=2**62),
    )
    for output in outputs:
        script.add(ev.OutputReady, output=output)
    # Two nodes have ended, the others are still open when the run is over.
    script.add(ev.NodeFinished, node=nodes[0], outputs=outputs)
    script.add(ev.NodeFinished, node=nodes[1], seconds=1e9)
    error = ev.ErrorInfo(
        code="a_newer_code",
        message=EVIL + long,
        hint=EVIL,
        node=nodes[1],
        exception_type=EVIL,
        traceback=(EVIL, ""),
        node_errors=(ev.NodeError(node=nodes[2], type=EVIL, message=EVIL, details=EVIL),),
    )
    times = (
        ev.NodeTime(node=nodes[1], seconds=1e9, steps_per_second=1e-9),
        *(ev.NodeTime(node=node) for node in nodes),
    )
    return script.end(
        "error", error=error, outputs=outputs, executed=("", EVIL, "10", "12"), node_seconds={EVIL: 1e9},
        node_times=times, usual_seconds=0.0,
    )  # fmt: skip


def newer_version() -> list[ev.Event]:
    """A stream of a newer version: another event type, another status, other codes."""
    script = EventScript()
    script.begin()
    script.add(UnknownEvent)
    script.add(ev.RunQueued)
    script.add(UnknownEvent)
    script.add(ev.Warning, code="a_newer_code", message="")
    return script.end("a_newer_status", error=ev.ErrorInfo(code="a_newer_code", message=""))


def early_end() -> list[ev.Event]:
    """A run that ended before anything was submitted."""
    script = EventScript()
    script.begin()
    return script.end("usage", error=ev.ErrorInfo(code="workflow", message="there is no such file"))


def many_nodes(count: int = 400) -> list[ev.Event]:
    """Many nodes that run side by side, each with a bar."""
    script = EventScript(step=0.001)
    script.begin()
    nodes = [ev.NodeRef(id=str(number), class_type="Load", title="Load") for number in range(count)]
    script.add(ev.RunQueued, nodes=tuple(nodes))
    script.add(ev.RunStarted)
    for node in nodes:
        script.add(ev.NodeStarted, node=node, nodes_total=count)
        script.add(ev.NodeProgress, step=1, max_steps=3, eta_seconds=2.0, node=node, nodes_total=count)
    for done, node in enumerate(nodes, 1):
        script.add(ev.NodeFinished, node=node, fraction=0.99 * done / count, nodes_done=done, nodes_total=count)
    return script.end("success", executed=tuple(node.id for node in nodes))


def several_runs() -> list[ev.Event]:
    """Three runs side by side on two servers, of four that were announced: one is moved, one fails."""
    node = ev.NodeRef(id="3", class_type="KSampler", title="KSampler")
    one, two = _SERVER, "http://127.0.0.1:8189"
    script = EventScript()
    script.begin(runs=4)

    def tell(run: int, cls: Callable[..., ev.Event], **details: Any) -> None:
        script.add(cls, run_index=run, prompt_id=f"{run}f7f4e6e-0000-4000-8000-000000000000", **details)

    def step(run: int, done: int) -> None:
        progress = {"fraction": done / 4, "run_eta_seconds": 4.0 - done, "nodes_total": 1}
        tell(run, ev.NodeProgress, step=done, max_steps=4, eta_seconds=4.0 - done, node=node, **progress)

    script.add(ev.Warning, code="server_set_aside", message="127.0.0.1:8190 can't be reached")
    for run, server in ((1, one), (2, two), (3, one)):
        tell(run, ev.ConnectionChanged, state="connected")
        tell(run, ev.RunQueued, nodes=(node,), position=run // 3, seed=run, server=server)
    for run in (1, 2):
        tell(run, ev.RunStarted)
        tell(run, ev.NodeStarted, node=node, nodes_total=1)
    for done in (1, 2):
        step(1, done)
        step(2, done)
    tell(2, ev.ConnectionChanged, state="lost", detail="the server closed it")
    tell(2, ev.Warning, code="run_moved", message=f"lost on {two}, given to {one}")
    tell(1, ev.NodeFinished, node=node, seconds=3.0, nodes_done=1, nodes_total=1, fraction=0.99)
    tell(2, ev.RunQueued, nodes=(node,), position=1, seed=2, server=one, worker="worker-2")
    tell(1, ev.RunFinished, status="success", exit_code=0, seconds=3.5, executed=("3",), server=one)
    tell(3, ev.RunStarted)
    tell(3, ev.NodeStarted, node=node, nodes_total=1)
    step(3, 1)
    error = ev.ErrorInfo(code="out_of_memory", message="it ran out of memory", node=node)
    inputs = (ev.InputValue(node=node, name="seed", value=3),)
    tell(3, ev.RunFinished, status="error", exit_code=1, error=error, inputs=inputs, seconds=4.0, server=one)
    tell(2, ev.RunStarted)
    tell(2, ev.NodeStarted, node=node, nodes_total=1)
    step(2, 4)
    tell(2, ev.NodeFinished, node=node, seconds=1.0, nodes_done=1, nodes_total=1, fraction=0.99)
    tell(2, ev.RunFinished, status="success", exit_code=0, seconds=2.0, executed=("3",), server=one)
    script.add(ev.StreamFinished, prompt_id=None, status="error", exit_code=1, runs=3, failed=1)
    return script.events


SAMPLES: dict[str, Callable[[], list[ev.Event]]] = {
    "an event of each type": each_type,
    "odd values": hostile_values,
    "a newer version's stream": newer_version,
    "an early end": early_end,
    "a crowd of nodes": many_nodes,
    "several runs side by side": several_runs,
}


def sample_streams() -> Iterator[tuple[str, list[ev.Event]]]:
    """All samples, each with its title."""
    for title, make in SAMPLES.items():
        yield title, make()
