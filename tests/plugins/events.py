"""Event streams of made-up runs, and what delivers them to a reporter as the core does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from comfyreport import events as ev
from comfyreport.events import RunView, RunViews

# 2026-03-04 05:06:07.250 UTC, so that times in files are easy to check.
EPOCH = 1772600767.25
PROMPT_ID = "c0ffee00-1111-4222-8333-444455556666"
SERVER = "http://127.0.0.1:8188"

_E = TypeVar("_E", bound=ev.Event)

LOADER = ev.NodeRef(id="4", class_type="CheckpointLoaderSimple", title="Load Checkpoint")
LATENT = ev.NodeRef(id="5", class_type="EmptyLatentImage", title="Empty Latent Image")
POSITIVE = ev.NodeRef(id="6", class_type="CLIPTextEncode", title="Positive prompt")
NEGATIVE = ev.NodeRef(id="7", class_type="CLIPTextEncode", title="Negative prompt")
SAMPLER = ev.NodeRef(id="3", class_type="KSampler", title="KSampler")
DECODER = ev.NodeRef(id="8", class_type="VAEDecode", title="VAE Decode")
SAVER = ev.NodeRef(id="9", class_type="SaveImage", title="Save Image")
TXT2IMG = (LOADER, LATENT, POSITIVE, NEGATIVE, SAMPLER, DECODER, SAVER)

# Step, and seconds since the sampler began: the numbers of the project's requirement.
REQUIRED_STEPS = ((1, 1.0), (5, 4.0), (10, 8.0), (15, 12.0), (20, 16.0))
# Twenty steps of 0.8 s.
ALL_STEPS = tuple((step, step * 0.8) for step in range(1, 21))


class EventBuilder:
    """A run's events: `at` sets the clock, `add` appends an event with that time and the next `seq`."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self.now = 0.0
        self.prompt_id: str | None = None

    def at(self, elapsed: float) -> EventBuilder:
        """Set the clock to *elapsed* seconds."""
        self.now = elapsed
        return self

    def add(self, cls: Callable[..., _E], source: ev.Source = "ws", **details: Any) -> _E:
        """Append an event of class *cls*."""
        event = cls(
            seq=len(self.events) + 1,
            time=round(EPOCH + self.now, 6),
            elapsed=self.now,
            prompt_id=self.prompt_id,
            source=source,
            **details,
        )
        self.events.append(event)
        return event

    def begin(self, nodes: tuple[ev.NodeRef, ...] = TXT2IMG, position: int | None = 0) -> EventBuilder:
        """The command's start, the connection, and the prompt in the queue at 0.1 s."""
        self.add(ev.StreamStarted, "client", comfyreport="0.1.0", server=SERVER, reporters=("console",))
        self.at(0.05).add(ev.ConnectionChanged, "client", state="connected")
        self.prompt_id = PROMPT_ID
        self.at(0.1).add(ev.RunQueued, "http", client_id="f" * 32, nodes=nodes, position=position, seed=42)
        return self

    def node(self, ref: ev.NodeRef, seconds: float, done: int, total: int = 7) -> EventBuilder:
        """A node without a bar: it runs for *seconds*, as the last of *done* nodes."""
        self.add(ev.NodeStarted, node=ref, **progress(done - 1, total))
        self.at(self.now + seconds)
        self.add(ev.NodeFinished, node=ref, seconds=seconds, **progress(done, total))
        return self

    def step(self, ref: ev.NodeRef, step: float, maximum: float, taken: float, **details: Any) -> ev.NodeProgress:
        """A step of a bar, *taken* seconds after its pass began."""
        details = {"eta_seconds": (maximum - step) * (taken / step), "steps_per_second": step / taken, **details}
        return self.add(ev.NodeProgress, step=step, max_steps=maximum, node=ref, **details)

    def end(self, status: ev.Status = "success", error: ev.ErrorInfo | None = None, **details: Any) -> list[ev.Event]:
        """The run's end and the stream's; returns the whole stream."""
        code = ev.EXIT_CODES[status]
        seconds = round(max(0.0, self.now - 0.1), 6)
        details = {"seconds": seconds, "submitted": "yes", "prompt_state": "finished", **details}
        self.add(ev.RunFinished, "http", status=status, exit_code=code, error=error, **details)
        self.at(self.now + 0.01).add(
            ev.StreamFinished, "client", status=status, exit_code=code, failed=int(status != "success")
        )
        return self.events


def progress(done: float, total: int) -> dict[str, Any]:
    """The fields of a progress event after *done* of *total* nodes; a part of a node counts as such."""
    return {"fraction": min(done / total, 0.99), "nodes_done": int(done), "nodes_total": total}


def image(**details: Any) -> ev.Output:
    """The image that the Save Image node wrote."""
    url = f"{SERVER}/view?filename=ComfyUI_00001_.png&subfolder=&type=output"
    return ev.Output(
        node=SAVER, index=0, kind="image", filename="ComfyUI_00001_.png", subfolder="", folder="output", url=url,
        media_type="image/png", **details,
    )  # fmt: skip


def sampling(steps: Iterable[tuple[int, float]] = REQUIRED_STEPS) -> EventBuilder:
    """A txt2img run up to the sampler's last step of *steps*; the sampler begins at 4 s."""
    builder = EventBuilder().begin()
    builder.at(0.12).add(ev.RunStarted)
    builder.node(LOADER, 2.4, 1).node(LATENT, 0.01, 2).node(POSITIVE, 1.2, 3).node(NEGATIVE, 0.2, 4)
    builder.at(4.0).add(ev.NodeStarted, node=SAMPLER, **progress(4, 7))
    for step, taken in steps:
        builder.at(4.0 + taken)
        builder.step(SAMPLER, step, 20, taken, **progress(4 + step / 20, 7))
    return builder


def txt2img(steps: Iterable[tuple[int, float]] = REQUIRED_STEPS) -> list[ev.Event]:
    """A run of twenty steps and 23.4 s that saves a picture."""
    builder = sampling(steps)
    builder.at(20.0).add(ev.NodeFinished, node=SAMPLER, seconds=16.0, **progress(5, 7))
    builder.node(DECODER, 2.6, 6).node(SAVER, 0.4, 7)
    builder.at(23.1).add(ev.OutputReady, "http", output=image())
    saved = image(bytes=123456, path="/tmp/sunset.png")
    builder.at(23.4).add(ev.OutputSaved, "client", output=saved)
    seconds = {"4": 2.4, "5": 0.01, "6": 1.2, "7": 0.2, "3": 16.0, "8": 2.6, "9": 0.4}
    return builder.at(23.5).end(
        outputs=(saved,), executed=tuple(seconds), node_seconds=seconds, node_times=times(seconds), queue_seconds=0.02
    )


def times(seconds: Mapping[str, float], **usual: float) -> tuple[ev.NodeTime, ...]:
    """What the nodes of the txt2img workflow took, of which the sampler's bar made 1.25 steps a second."""
    refs = {ref.id: ref for ref in TXT2IMG}
    whole = sum(seconds.values())
    return tuple(
        ev.NodeTime(
            node=refs[key], seconds=took, share=took / whole, steps_per_second=1.25 if refs[key] is SAMPLER else None,
            usual_seconds=usual.get(f"node_{key}"),
        )
        for key, took in seconds.items()
    )  # fmt: skip


def fully_cached() -> list[ev.Event]:
    """A run in which nothing had to be done."""
    builder = EventBuilder().begin()
    builder.at(0.12).add(ev.RunStarted)
    for ref in TXT2IMG:
        builder.add(ev.NodeCached, node=ref, **progress(0, 1))
    builder.at(0.2).add(ev.OutputReady, "http", output=image(cached=True))
    return builder.end(cached=tuple(ref.id for ref in TXT2IMG), outputs=(image(cached=True),))


def failed() -> list[ev.Event]:
    """A run whose sampler raises at its fifth step."""
    error = ev.ErrorInfo(
        code="node_error",
        message="mat1 and mat2 shapes cannot be multiplied (77x768 and 4096x320)",
        hint="the text encoder doesn't fit the model",
        node=SAMPLER,
        exception_type="RuntimeError",
        traceback=('  File "/comfy/nodes.py", line 1559, in sample\n    return common_ksampler(model)\n',),
    )
    return sampling(REQUIRED_STEPS[:2]).at(9.0).end("error", error, executed=("4", "5", "6", "7", "3"))


def deliver(reporter: object, events: Iterable[ev.Event]) -> RunView:
    """Call the hooks that *reporter* has, each with the arguments that it names; then `comfyreport_close`."""
    views = RunViews()
    for event in events:
        run = views.apply(event)
        for hook in ("event", str(getattr(event, "type", ""))):
            call_hook(reporter, hook, event=event, run=run)
    call_hook(reporter, "close")
    return views.last


def call_hook(reporter: object, hook: str, **arguments: Any) -> None:
    """Call one hook, if *reporter* has it."""
    method = getattr(reporter, f"comfyreport_{hook}", None)
    if method is not None:
        method(**{name: arguments[name] for name in inspect.signature(method).parameters})
