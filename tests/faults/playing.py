"""Plays one run against a simulator on which things go wrong, and keeps all that a check needs."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from comfyreport.api import run_generation
from comfyreport.engine.loop import Loop
from comfyreport.engine.options import RunOptions
from comfyreport.events.schema import json_schema
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.session import Session
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.reporting.streams import stderr as standard_error, stdout as standard_output
from comfyreport.simulator import BegunFault, Breakpoint, Fault, RequestRecord, Script, Simulator
from comfyreport.timing import Timing
from tests.e2e.driver import Event, StreamChecker
from tests.simulator.prompts import Prompt, picture, probe

SCALE = 1 / 20
"""What the short form makes of all waits, and of the server's work."""
HANGS = 150.0
"""Seconds at full scale after which a run counts as hanging."""
NOTICED = 0.05
"""Seconds that may pass until a server sees that a client has gone."""
HARDLY = 0.3
"""Seconds within which a busy machine may do nothing."""
BLOCKER_SECONDS = 3.0
WORKFLOW = picture(steps=8)
BLOCKER = probe("ProbeProgress", count=3, delay=BLOCKER_SECONDS / 3)


@dataclass(frozen=True)
class Seen:
    """What a run showed. Times are in seconds since the epoch, `scale` is what one second of the full scale took."""

    events: list[Event]
    scale: float
    truth: str
    """The prompt's fate as the server knows it."""
    end: str = ""
    """What the work came to, also where the server has forgotten it."""
    fault: Fault | None = None
    played: list[BegunFault] = field(default_factory=list)
    asked: list[RequestRecord] = field(default_factory=list)
    taken: bool = False
    last_end: float = 0.0
    stopped: float | None = None
    """When the user wanted it to stop."""
    exit_code: int = 0
    """The process's, where it was one."""
    stderr: str = ""

    @property
    def result(self) -> Event:
        """How the run ended."""
        (event,) = self.of("run_finished")
        return event

    @property
    def status(self) -> str:
        return str(self.result["status"])

    @property
    def code(self) -> str:
        """The error's code, empty where there is none."""
        return str((self.result.get("error") or {}).get("code", ""))

    def of(self, kind: str) -> list[Event]:
        """The events of one type."""
        return [event for event in self.events if event["type"] == kind]

    def warned(self) -> list[str]:
        """The codes of the warnings."""
        return [event["code"] for event in self.of("warning")]

    def holds(self, *kinds: str) -> bool:
        """Whether a fault of one of these kinds held at the verdict, or had ended so shortly before that it hardly
        could be known."""
        verdict = float(self.result["time"])
        return any(
            played.fault.kind in kinds and played.began <= verdict < played.until + self.scale + HARDLY
            for played in self.played
        )

    def builder(self) -> str:
        """What happened, a line each."""
        start = float(self.events[0]["time"])
        told = [(float(event["time"]), _in_short(event)) for event in self.events]
        told += [(played.began, f"  fault: {played.fault}") for played in self.played]
        told += [(self.stopped, "  stop")] if self.stopped else []
        told += [(asked.began, f"  {asked.method} {asked.path}") for asked in self.asked]
        lines = [f"{(when - start) / self.scale:7.2f} {what}" for when, what in sorted(told)]
        return "\n".join([*lines, f"fate: {self.truth}", self.stderr])

    # --- times, at full scale

    @property
    def began(self) -> float:
        """When the fault did that the run is about."""
        return next(played.began for played in self.played if played.fault == self.fault)

    def seconds_since(self, moment: float) -> float:
        """Seconds from a moment to the verdict."""
        return (float(self.result["time"]) - moment) / self.scale

    def since_fault(self) -> float:
        """Seconds from the fault to the verdict."""
        return self.seconds_since(self.began)

    def since_known(self) -> float:
        """Seconds to the verdict from when it could be known: the run has ended, the faults have begun or are over."""
        verdict = float(self.result["time"])
        moments = [self.last_end, self.stopped or 0.0]
        for played in self.played:
            moments += [played.began, played.until]
        return (verdict - max(moment for moment in moments if moment <= verdict)) / self.scale

    # --- requests

    def polls(self) -> list[RequestRecord]:
        """The requests that ask how the run goes."""
        return [asked for asked in self.asked if asked.method == "GET" and not asked.path.startswith("/view")]

    def polls_after(self) -> int:
        """How many of them came after the fault."""
        return sum(1 for asked in self.polls() if asked.began >= self.began)

    def polls_in_a_minute(self) -> int:
        """The most of them in any minute."""
        came = sorted(asked.began for asked in self.polls())
        return max((sum(1 for other in came if 0 <= other - first < 60 * self.scale) for first in came), default=0)

    def polls_at_once(self) -> int:
        """The most of them without an answer at any moment; one that was given up is noticed a little later."""
        polls = self.polls()
        return max((sum(1 for other in polls if _waits(other, each.began)) for each in polls), default=0)


def _waits(asked: RequestRecord, moment: float) -> bool:
    return asked.began == moment or asked.began < moment < asked.ended - NOTICED


def _in_short(event: Event) -> str:
    about = [str(event[key]) for key in ("state", "status", "code", "node_id", "error", "message") if key in event]
    return " ".join([event["type"], event.get("source", ""), *about])


@functools.cache
def _checker() -> StreamChecker:
    return StreamChecker(json_schema())


def play(
    faults: Sequence[Fault],
    folder: Path,
    *,
    scale: float = SCALE,
    workflow: Prompt = WORKFLOW,
    behind: bool = False,
    stop: float | None = None,
    command: bool = False,
) -> Seen:
    """Run the workflow on a simulator of its own.

    :param faults: the first is the one that the run is about.
    :param behind: another prompt runs first.
    :param stop: the user stops it after so many seconds at full scale; not in a process.
    :param command: in a process of its own, instead of through the API.
    """
    stream = folder / f"{uuid.uuid4().hex}.jsonl"
    with Simulator(speed=1 / scale) as simulator:
        hold = _submit_blocker(simulator) if behind else None
        script = simulator.play(*faults)
        over = threading.Event()
        releasing = threading.Thread(target=_release, args=(hold, script, over), daemon=True)
        releasing.start()
        reporter, exit_code, stderr, stopped = f"jsonl={stream},rate=0", 0, "", None
        if command:
            exit_code, stderr = _run_command(simulator.url, workflow, reporter, scale)
        elif stop is None:
            _run_here(simulator.url, workflow, reporter, scale)
        else:
            stopped = _run_and_stop(simulator.url, workflow, reporter, scale, stop)
        over.set()
        releasing.join()
        events = _checker().whole(stream.read_text(encoding="utf-8"))
        stream.unlink()
        prompt_id = _prompt_id(events)
        truth = simulator.prompt_status(prompt_id)
        return Seen(
            events,
            scale,
            truth,
            end=script.outcomes.get(prompt_id, ""),
            fault=faults[0] if faults else None,
            played=list(script.begun),
            asked=list(script.requests),
            taken=bool(script.accepted),
            last_end=script.last_finished,
            stopped=stopped,
            exit_code=exit_code,
            stderr=stderr,
        )


def _prompt_id(events: Sequence[Event]) -> str:
    return next((event["prompt_id"] for event in reversed(events) if event.get("prompt_id")), "")


def _submit_blocker(simulator: Simulator) -> Breakpoint:
    """Another prompt, which waits at its first step."""
    hold = simulator.pause_at("2", 1)
    with requests.Session() as session:
        body = {"prompt": BLOCKER, "client_id": "somebody"}
        assert session.post(f"{simulator.url}/prompt", json=body, timeout=10).status_code == 200
    assert hold.reached.wait(10)
    return hold


def _release(hold: Breakpoint | None, script: Script, over: threading.Event) -> None:
    """Let the other prompt go on as soon as ours waits behind it."""
    while hold is not None and not script.accepted and not over.wait(0.002):
        pass
    if hold is not None:
        hold.release()


def _run_here(url: str, workflow: Prompt, reporter: str, scale: float) -> None:
    timing = Timing().scaled(scale)
    run_generation(workflow, server=url, reporters=[reporter], timing=timing, timeout=HANGS * scale)


def _run_and_stop(url: str, workflow: Prompt, reporter: str, scale: float, seconds: float) -> float:
    """Do as the command does at the first Ctrl-C; when that was."""
    plugins = Plugins(StandardStreams(standard_output, standard_error))
    plugins.add_spec(reporter)
    session = Session(plugins, command="run", server=url, timing=Timing().scaled(scale), complain=print)
    job = Job(server=url, workflow=workflow, options=RunOptions(timeout=HANGS * scale))
    stopped = 0.0
    timers: list[threading.Timer] = []

    def on_loop(loop: Loop) -> None:
        def stop() -> None:
            nonlocal stopped
            stopped = time.time()
            loop.stop()

        timers.append(threading.Timer(seconds * scale, stop))
        timers[0].start()

    run_job(session, job, on_loop=on_loop)
    timers[0].cancel()
    timers[0].join()
    session.finish()
    return stopped


def _run_command(url: str, workflow: Prompt, reporter: str, scale: float) -> tuple[int, str]:
    file = Path(reporter.partition("=")[2].partition(",")[0]).with_suffix(".json")
    file.write_text(json.dumps(workflow), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "comfyreport", "--server", url, "--workflow", file, "--reporter", reporter],
        env={**os.environ, "COMFYREPORT_TIME_SCALE": str(scale)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 + HANGS * scale,
        check=False,
    )
    file.unlink()
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr
