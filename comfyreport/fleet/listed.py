"""Runs that a program lists one by one, made ready: through an executor or an engine, or on servers by this process."""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace

from comfyreport.access.credentials import Access
from comfyreport.access.secret_keys import hide_inputs
from comfyreport.batch.batch import Batch
from comfyreport.batch.command import files_of
from comfyreport.batch.manners import Manners
from comfyreport.batch.pool import Server, server_of
from comfyreport.batch.scheduler import Item
from comfyreport.fleet.dask import connect
from comfyreport.fleet.engine import PoolEngine
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.converting import convert_for_simulator, converter
from comfyreport.jobs.job import Job
from comfyreport.jobs.many import Work
from comfyreport.jobs.session import Session
from comfyreport.jobs.simulating import SIMULATED, start_simulator
from comfyreport.jobs.workflow import read_workflow
from comfyreport.ledger.ledger import Ledger
from comfyreport.ledger.manifest import Manifest
from comfyreport.ledger.state import State
from comfyreport.net.same_server import check_apart
from comfyreport.planning.checking import check_outputs
from comfyreport.planning.plan import PlannedRun
from comfyreport.saving.clashes import check_uses
from comfyreport.timing import Timing
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The runs that are asked for. `executor`: a pool, or an engine's address; None: this process makes them."""

    jobs: tuple[Job, ...]
    servers: tuple[str, ...] = ()
    executor: Executor | str | None = None
    keep_going: bool = True
    retries: int = 2
    state: str | os.PathLike[str] | None = None
    manifest: str | os.PathLike[str] | None = None
    timing: Timing

    @property
    def shown_server(self) -> str:
        """The servers, or the engine, for people and events."""
        if isinstance(self.executor, str):
            return self.executor
        named = [job.server for job in self.jobs if job.server or not self.servers]
        return ", ".join(dict.fromkeys(Job(server=text).shown_server for text in (*self.servers, *named)))

    def prepare(self, stack: ExitStack) -> ListedRuns:
        """Read and check them all; what is opened, *stack* closes. Blocks. Raises ComfyReportError."""
        servers: list[Server] = []
        if self.executor is None:
            servers = self._servers(stack)
        state = State(self.state, entropy=random.SystemRandom().getrandbits(64), patience=self.timing.store_wait)
        stack.callback(state.close)
        plan = _planned(self.jobs, servers, self.timing)
        several = len(servers) > 1 or self.executor is not None
        check_outputs(plan, "", strict=several and any(job.overwrite for job in self.jobs))
        state.check(_fingerprint(plan), len(plan))
        manifest = None if self.manifest is None else Manifest(self.manifest, state)
        if manifest is not None:
            stack.callback(manifest.close)
        return ListedRuns(self, plan, servers, state, manifest)

    def _servers(self, stack: ExitStack) -> list[Server]:
        """The servers that this process gives the runs to. UsageError where one is none, or is named twice."""
        named = [job.server_text for job in self.jobs if job.server or not self.servers]
        texts = dict.fromkeys([*self.servers, *named])
        simulated = start_simulator(stack) if SIMULATED in texts else None
        servers = [server_of(text, simulated if text == SIMULATED else None) for text in texts]
        check_apart([server.address for server in servers], limit=self.timing.connect_timeout)
        return servers


class ListedRuns:
    """Runs that are ready: those that the state file doesn't know as done. `total` is how many."""

    def __init__(
        self,
        listed: Listed,
        plan: Sequence[PlannedRun],
        servers: list[Server],
        state: State,
        manifest: Manifest | None,
    ) -> None:
        self._listed = listed
        self._plan = plan
        self._servers = servers
        self._state = state
        self._manifest = manifest
        self._todo = state.todo()
        self._begun = state.open_attempts()
        self.total = len(self._todo) + len(self._begun)

    def work(self, session: Session, stack: ExitStack) -> Work:
        """What makes them. Connecting to an engine blocks. Raises ComfyReportError."""
        listed = self._listed
        check_uses((run.output for run in self._plan), files_of(self._plan), session.claims, own=None)
        ledger = Ledger(
            self._plan,
            self._state,
            self._manifest,
            keep_going=listed.keep_going,
            on_trouble=session.fail_beside_run,
        )
        if listed.executor is None:
            return self._batch(session, ledger)
        command = uuid.uuid4().hex
        executor = listed.executor
        engine = connect(executor, command) if isinstance(executor, str) else PoolEngine(executor)
        stack.callback(engine.close)
        return Fleet(
            session,
            engine,
            ledger,
            self._job,
            command=command,
            todo=self._todo,
            begun=self._begun,
            retries=listed.retries,
        )

    def _job(self, index: int) -> Job:
        return replace(self._listed.jobs[index - 1], loaded=self._plan[index - 1].loaded)

    def _batch(self, session: Session, ledger: Ledger) -> Batch:
        jobs = self._listed.jobs
        access = next((job.access for job in jobs if job.access is not None), None) or Access.of(os.environ)
        names = {server.text: server.load.name for server in self._servers}
        return Batch(
            session,
            self._job,
            ledger,
            self._servers,
            todo=(Item(index, only=names.get(jobs[index - 1].server, "")) for index in self._todo),
            begun=self._begun,
            access=access,
            manners=Manners.of((job.options for job in jobs), self._listed.retries),
        )


def _planned(jobs: Sequence[Job], servers: Sequence[Server], timing: Timing) -> list[PlannedRun]:
    """The runs, each workflow read once."""
    loaded: dict[object, Workflow] = {}

    def load(job: Job) -> Workflow:
        key = id(job.workflow) if isinstance(job.workflow, Mapping) else os.fspath(job.workflow or "")
        if key not in loaded:
            text = servers[0].text if servers else job.server_text
            access = job.access or Access.of(os.environ)
            convert = convert_for_simulator if text == SIMULATED else converter(text, access, timing, job.folder)
            loaded[key] = read_workflow(job.workflow or "", job.folder, convert)
        return loaded[key]

    return [
        PlannedRun(
            index=index, workflow=job.workflow or "", loaded=load(job), settings=job.settings, files=job.files,
            output=job.output, inputs=_inputs(job.settings), model="",
        )
        for index, job in enumerate(jobs, 1)
    ]  # fmt: skip


def _inputs(settings: Settings) -> tuple[tuple[str, str], ...]:
    """What is set in a run, for people."""
    named = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name != "inputs"}
    given = {name: value for name, value in named.items() if value not in (None, ())}
    return tuple((name, str(value)) for name, value in hide_inputs({**given, **settings.inputs}).items())


def _fingerprint(plan: Sequence[PlannedRun]) -> str:
    """What is another where the runs are others."""
    digest = hashlib.sha256()
    for run in plan:
        digest.update(repr((run.loaded.graph, run.settings, run.files, run.output)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
