"""The execution of one prompt, message by message. Their order is the recorded one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .faults import Forgotten
from .graph import Prompt, Schedule, inputs_of, is_link, literal, signatures, sources
from .media import Picture
from .nodes import NodeError, Result, behaviour
from .specs import ASYNC, is_output

OOM_TIPS = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


class Wire(Protocol):
    """The sockets, as far as a run and the engine need them. Client None is everybody."""

    def send(self, event: str, data: dict[str, Any], client: str | None) -> None: ...
    def send_picture(self, kind: int, picture: bytes, about: dict[str, Any] | None, client: str | None) -> None: ...
    def send_text(self, node_id: str, text: str, client: str | None) -> None: ...
    def wants_metadata(self, client: str | None) -> bool: ...


class Outside(Protocol):
    """What else a run needs of the world; the engine provides it."""

    session: str
    previews: bool
    wire: Wire

    def keep(self, prefix: str, suffix: str, picture: Picture | None, temporary: bool) -> dict[str, str]: ...
    async def wait(self, seconds: float) -> None: ...
    async def pause(self, moment: str, step: float) -> None: ...


@dataclass(slots=True)
class Job:
    """A prompt that was accepted."""

    number: float
    prompt_id: str
    prompt: Prompt
    extra: dict[str, Any]
    outputs: list[str]

    @property
    def client(self) -> str | None:
        client = self.extra.get("client_id")
        return client if isinstance(client, str) else None

    def __lt__(self, other: Job) -> bool:
        return self.number < other.number

    def told(self) -> list[Any]:
        """The form in `/queue` and `/history`."""
        return [self.number, self.prompt_id, self.prompt, self.extra, self.outputs]


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """POST /interrupt took effect."""


@dataclass(slots=True)
class _Place:
    """Where an inner node stands: the node it is shown as, the one that made it, the one of the prompt."""

    display: str
    parent: str | None
    real: str


@dataclass
class Run:
    """One prompt at work. `cache` holds the results of the prompt before, by signature."""

    job: Job
    cache: dict[str, Result]
    outside: Outside
    messages: list[list[Any]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    shown: str | None = None
    """The display id of the node that was started last: what a reconnecting client is told."""
    interrupted: bool = False
    forgotten: bool = False

    def __post_init__(self) -> None:
        self.nodes: Prompt = dict(self.job.prompt)
        self.keys = signatures(self.job.prompt)
        for key in set(self.cache) - set(self.keys.values()):
            # What the new prompt doesn't have is forgotten at its start (recordings f and n).
            del self.cache[key]
        self.results: dict[str, Result] = {}
        self.places: dict[str, _Place] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self.expanded: dict[str, str] = {}
        self.tasks: dict[str, asyncio.Task[Result | None]] = {}
        self.idle = asyncio.Event()
        self.idle.set()
        self.schedule = Schedule(
            self.nodes,
            lambda node_id: node_id in self.results or self.cached(node_id) is not None,
            lambda node_id: is_output(self.nodes[node_id]["class_type"]),
            lambda node_id: self.nodes[node_id]["class_type"] in ASYNC,
        )

    def cached(self, node_id: str) -> Result | None:
        return self.cache.get(self.keys.get(node_id, ""))

    async def execute(self) -> str:
        """Runs the prompt and returns history's `status_str`."""
        self._message("execution_start", {})
        self._message("execution_cached", {"nodes": [n for n in self.job.prompt if self.cached(n) is not None]})
        for output in self.job.outputs:
            self.schedule.add(output)
        current = ""
        try:
            while self.schedule:
                for node_id, task in self.tasks.items():
                    if task.done():
                        self.schedule.resume(node_id)
                picked = self.schedule.pick()
                if picked is None:
                    await asyncio.wait(self.tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                current = picked
                await self._step(picked)
        except Interrupted:
            self._message("execution_interrupted", self._who(current), broadcast=True)
            return "error"
        except (NodeError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._message("execution_error", self._failure(current, error))
            return "error"
        finally:
            self.shown = None
            await self._drop_tasks()
        self._message("execution_success", {})
        return "success"

    async def _drop_tasks(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def _step(self, node_id: str) -> None:
        """Starts a node, or goes on with one whose own work (task or inner nodes) is done."""
        result: Result | None
        if node_id in self.tasks:
            result = self.tasks.pop(node_id).result()
        elif node_id in self.expanded:
            result = Result(blocked=self.results[self.expanded[node_id]].blocked)
        else:
            result = self.cached(node_id)
            if result is not None:
                self._tell_output(node_id, result)
                self._finish(node_id, result)
                return
            self._start(node_id)
            await self.outside.pause(node_id, 0)
            blocked = self._blocked(node_id)
            if blocked is not None:
                self._finish(node_id, blocked)
                return
            work = Work(self, node_id)
            if work.is_async:
                # Its first messages come before the next node's: the task gets its first turn here.
                self.tasks[node_id] = asyncio.ensure_future(work.run())
                self.schedule.suspend(node_id)
                await asyncio.sleep(0)
                return
            self.idle.clear()
            result = await work.run()
            self.idle.set()
        result = result or Result()
        if result.expand and node_id not in self.expanded:
            self._expand(node_id, result.expand, result.result, result.display or {})
            return
        if result.ui is not None:
            self._tell_output(node_id, result)
        self._finish(node_id, result)

    def _start(self, node_id: str) -> None:
        state = self._state(node_id)
        state.update(value=0.0, max=1.0, state="running")
        self.tell_state()
        self.shown = state["display_node_id"]
        if self.job.client is not None:
            data = {"node": node_id, "display_node": self.shown, "prompt_id": self.job.prompt_id}
            self.outside.wire.send("executing", data, self.job.client)
        self.check_interrupt()

    def _finish(self, node_id: str, result: Result) -> None:
        state = self._state(node_id)
        state.update(value=state["max"], state="finished")
        self.tell_state()
        self.results[node_id] = result
        if self.cached(node_id) is None:
            self.executed.append(node_id)
            if node_id in self.keys:
                self.cache[self.keys[node_id]] = result
        self.schedule.done(node_id)

    def _tell_output(self, node_id: str, result: Result) -> None:
        place = self.place(node_id)
        if result.ui is not None:
            self.outputs[node_id] = result.ui
            self.meta[node_id] = {
                "node_id": node_id,
                "display_node": place.display,
                "parent_node": place.parent,
                "real_node_id": place.real,
            }
        if self.job.client is not None:
            data = {"node": node_id, "display_node": place.display, "output": result.ui}
            self.outside.wire.send("executed", {**data, "prompt_id": self.job.prompt_id}, self.job.client)

    def _blocked(self, node_id: str) -> Result | None:
        """What a node behind a blocker leaves instead of running. A verbose blocker is told once, as an
        execution_error that ends nothing and that history doesn't keep (recording d5)."""
        texts = [self._result(source).blocked for source in sources(self.nodes[node_id])]
        text = next((text for text in texts if text is not None), None)
        if text and self.job.client is not None:
            told = {
                **self._who(node_id),
                "exception_message": f"Execution Blocked: {text}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            self.outside.wire.send("execution_error", {"prompt_id": self.job.prompt_id, **told}, self.job.client)
        return None if text is None else Result(blocked="")

    def _result(self, node_id: str) -> Result:
        return self.results.get(node_id) or self.cached(node_id) or Result()

    def _expand(self, node_id: str, graph: Prompt, result: str, display: dict[str, str]) -> None:
        """Puts inner nodes in the place of this one, which stays `running` until they are done (recording k6)."""
        prefix = f"{node_id}.0.0."
        outer = self.place(node_id)
        for inner, node in graph.items():
            inputs = {
                name: [prefix + value[0], value[1]] if is_link(value) and value[0] in graph else value
                for name, value in inputs_of(node).items()
            }
            self.nodes[prefix + inner] = {**node, "inputs": inputs}
            self.places[prefix + inner] = _Place(display.get(inner, outer.display), node_id, outer.real)
        self.expanded[node_id] = prefix + result
        outputs = [prefix + inner for inner, node in graph.items() if is_output(node["class_type"])]
        self.schedule.require(node_id, [prefix + result, *outputs])

    def place(self, node_id: str) -> _Place:
        return self.places.get(node_id) or _Place(node_id, None, node_id)

    def _state(self, node_id: str) -> dict[str, Any]:
        place = self.place(node_id)
        fresh = {
            "value": 1,
            "max": 1,
            "state": "pending",
            "node_id": node_id,
            "prompt_id": self.job.prompt_id,
            "display_node_id": place.display,
            "parent_node_id": place.parent,
            "real_node_id": place.real,
        }
        return self.states.setdefault(node_id, fresh)

    def tell_state(self) -> None:
        data = {"prompt_id": self.job.prompt_id, "nodes": self.states}
        self.outside.wire.send("progress_state", data, self.job.client)

    def check_interrupt(self) -> None:
        if self.interrupted:
            raise Interrupted

    def check_forgotten(self) -> None:
        if self.forgotten:
            raise Forgotten

    def _who(self, node_id: str) -> dict[str, Any]:
        """Inner nodes are blamed on the outer one, but `executed` has their own ids."""
        real = self.place(node_id).real
        return {"node_id": real, "node_type": self.nodes[real]["class_type"], "executed": list(self.executed)}

    def _failure(self, node_id: str, error: Exception) -> dict[str, Any]:
        kind = error.kind if isinstance(error, NodeError) else type(error).__name__
        class_type = self.nodes[node_id]["class_type"]
        return {
            **self._who(node_id),
            "exception_message": f"{error}\n{OOM_TIPS if kind == 'torch.OutOfMemoryError' else ''}",
            "exception_type": kind,
            "traceback": [f'  File "simulator/{class_type}.py", line 1, in run\n    raise {kind}("{error}")\n'],
            "current_inputs": {
                name: ["tensor([[[0.5000, 0.5000, 0.5000]]])" if is_link(value) else str(value)]
                for name, value in inputs_of(self.nodes[node_id]).items()
            },
            "current_outputs": list(self.nodes),
        }

    def _message(self, event: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """A message that history keeps. Without a client it goes to nobody, or to everybody."""
        told = {"prompt_id": self.job.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.messages.append([event, told])
        if self.job.client is not None or broadcast:
            self.outside.wire.send(event, told, self.job.client)


class Work:
    """One node at work: what its behaviour may read and do."""

    def __init__(self, run: Run, node_id: str) -> None:
        self._run = run
        self.node_id = node_id
        self.prompt = run.nodes
        self.class_type: str = run.nodes[node_id]["class_type"]
        self.inputs = inputs_of(run.nodes[node_id])
        self.is_async = self.class_type in ASYNC
        self.session = run.outside.session

    @property
    def prompt_text(self) -> str:
        return json.dumps(self._run.job.prompt)

    def run(self) -> Awaitable[Result | None]:
        act: Callable[[Work], Awaitable[Result | None]] = behaviour(self.class_type, self._run.nodes[self.node_id])
        return act(self)

    def real(self, name: str, default: float, node_id: str | None = None) -> float:
        """A number among the inputs, also one from a primitive node; the default for anything else."""
        inputs = inputs_of(self.prompt[node_id or self.node_id])
        try:
            return float(literal(self.prompt, inputs.get(name)))
        except (TypeError, ValueError):
            return default

    def whole(self, name: str, default: int, node_id: str | None = None) -> int:
        return int(self.real(name, default, node_id))

    async def wait(self, seconds: float) -> None:
        """Works for so long; an asynchronous node stands still while another works (one loop: recording u)."""
        await self._run.outside.wait(seconds)
        while self.is_async and not self._run.idle.is_set():
            await self._run.idle.wait()

    async def progress(self, value: float, maximum: float, picture: tuple[int, bytes] | None = None) -> None:
        """One step of a progress bar, with its preview. Here an interrupt takes effect."""
        run, job, outside = self._run, self._run.job, self._run.outside
        wire = outside.wire
        run.check_interrupt()
        value = min(value, maximum)
        state = run._state(self.node_id)
        state.update(value=value, max=maximum)
        run.tell_state()
        if picture is not None and picture[0] == 1 and not outside.previews:
            picture = None
        # A frame with metadata goes before `progress`, the old kind after it (recordings c and n).
        metadata = wire.wants_metadata(job.client)
        if picture and metadata:
            about = {key: told for key, told in state.items() if key not in ("value", "max", "state")}
            wire.send_picture(*picture, about, job.client)
        data = {"value": value, "max": maximum, "prompt_id": job.prompt_id, "node": self.node_id}
        wire.send("progress", data, job.client)
        if picture and not metadata:
            wire.send_picture(*picture, None, job.client)
        await outside.pause(self.node_id, value)

    def text(self, text: str, *, to_client: bool) -> None:
        """A text frame; one that isn't for the prompt's client goes to every socket."""
        client = self._run.job.client if to_client else None
        self._run.outside.wire.send_text(self._run.place(self.node_id).display, text, client)

    def keep(self, prefix: str, suffix: str, picture: Picture | None, *, temporary: bool) -> dict[str, str]:
        """Stores a file and returns what a client is told of it."""
        return self._run.outside.keep(prefix, suffix, picture, temporary)
