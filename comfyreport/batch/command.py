"""A command with many runs, made ready: its servers, its plan, what of that is done already, and where it is kept."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from comfyreport.access.credentials import Access
from comfyreport.batch.batch import Batch, Changes
from comfyreport.batch.manners import Manners
from comfyreport.batch.pool import Server, changed_at, server_of
from comfyreport.batch.probing import first_answers
from comfyreport.batch.scheduler import Item
from comfyreport.batch.servers import read_servers
from comfyreport.errors import UnreachableError, UsageError
from comfyreport.inputs.checking import asking
from comfyreport.jobs.converting import convert_for_simulator, converter
from comfyreport.jobs.job import Job, target_of
from comfyreport.jobs.session import Session
from comfyreport.jobs.simulating import SIMULATED, start_simulator
from comfyreport.jobs.workflow import read_workflow
from comfyreport.ledger.ledger import Ledger
from comfyreport.ledger.manifest import Manifest
from comfyreport.ledger.state import Attempt, State
from comfyreport.net.client import Client
from comfyreport.net.same_server import check_apart
from comfyreport.planning.checking import check_outputs, check_plan, check_with_server
from comfyreport.planning.making import Load, make_plan, reading
from comfyreport.planning.plan import Plan, PlannedRun, Wanted
from comfyreport.planning.source import File
from comfyreport.saving.clashes import check_uses
from comfyreport.timing import Timing
from comfyreport.workflow.files import Converter, Workflow

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class ManyJobs:
    """The runs that are asked for. `job` is what they have in common; `servers` and `servers_file` name the servers.

    `only_failed`: of the runs in the `state` file, those that ended, and with no success. `keep_going`: a failure
    doesn't stop the others. `retries`: how often a run that was lost is begun anew. `engine`: another one than this
    process makes them, each on a server of its own. `check` raises UsageError where the
    plan doesn't go with what else was asked for.
    """

    job: Job
    wanted: Wanted
    servers: tuple[str, ...] = ()
    servers_file: str | None = None
    state: FilePath | None = None
    manifest: FilePath | None = None
    only_failed: bool = False
    keep_going: bool = False
    retries: int = 2
    engine: bool = False
    check: Callable[[Plan], None] = lambda plan: None


@dataclass(kw_only=True)
class Prepared:
    """What can be made: `todo` are the indexes of the runs of `plan` that are left, `begun` what an earlier
    command has begun. `shown_server` names the servers for people and events."""

    many: ManyJobs
    job: Job
    plan: Plan
    state: State
    servers: list[Server]
    todo: Sequence[int]
    begun: list[Attempt] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many runs are left."""
        return len(self.todo) + len(self.begun)

    @property
    def shown_server(self) -> str:
        """The servers, for people and events."""
        return ", ".join(server.load.name for server in self.servers)

    def check_files(self, session: Session) -> None:
        """UsageError where outputs can't be written, or would replace what this command uses itself."""
        self._check_uses(session)
        if len(self.plan) > 1 and not self.many.engine:
            with ExitStack() as stack:
                # A folder that can't be written to would end each run by itself.
                target_of(session, replace(self.job, sidecar=False), None, stack)

    def check_inputs(self, session: Session) -> None:
        """UsageError where no server takes what all runs set. Asks the servers; blocks."""
        refusal: UsageError | None = None
        access = self.job.access or Access()
        for server in first_answers([server.address for server in self.servers], access, session.timing):
            with closing(Client(server, timing=session.timing, access=access)) as client:
                try:
                    check_with_server(self.plan, asking(client))
                except UsageError as error:
                    # Another may have what this one lacks.
                    refusal = refusal or error
                else:
                    return
        if refusal is not None:
            raise refusal

    def _check_uses(self, session: Session) -> None:
        columns = {name for row in (self.plan.parts.rows.rows if self.plan.parts.rows else ()) for name in row.names}
        if "output" not in columns:
            # The one of all runs is claimed already.
            return
        outputs = (run.output for run in self.plan)
        check_uses(outputs, files_of(self.plan), session.claims, own=self.job.output, folder=self.job.folder)

    def open(self, stack: ExitStack) -> Manifest | None:
        """Make the files that are kept, now that all runs are known to be possible; the manifest, if there is one.

        Raises UsageError where one can't be made. What is opened, *stack* closes.
        """
        many = self.many
        if not self.state.goes_on:
            self.state.check(self.plan.fingerprint, len(self.plan))
        if many.manifest is None:
            return None
        manifest = Manifest(many.manifest, self.state, only_failed=many.only_failed, folder=self.job.folder)
        stack.callback(manifest.close)
        return manifest

    def job_of(self, index: int) -> Job:
        """The job of a run, which names no server."""
        run = self.plan[index - 1]
        return replace(
            self.job,
            server="",
            workflow=run.workflow,
            loaded=run.loaded,
            settings=run.settings,
            files=run.files,
            output=run.output,
        )

    def ledger(self, session: Session, manifest: Manifest | None) -> Ledger:
        """The books of what becomes of the runs."""
        return Ledger(
            self.plan, self.state, manifest, keep_going=self.many.keep_going, on_trouble=session.fail_beside_run
        )

    def batch(self, session: Session, ledger: Ledger) -> Batch:
        """What makes the runs on the servers."""
        return Batch(
            session,
            self.job_of,
            ledger,
            self.servers,
            changes=_changes(self.many, self.servers),
            todo=(Item(index, self.plan[index - 1].model) for index in self.todo),
            begun=self.begun,
            access=self.job.access or Access(),
            manners=Manners.of([self.job.options], self.many.retries),
        )


def prepare(many: ManyJobs, timing: Timing, stack: ExitStack) -> Prepared:
    """Make *many* ready: all that may fail before anything is submitted, but what servers say. What it opens, *stack*
    closes.

    Reads files, and asks a server where a workflow must be converted; blocks. Raises UsageError, WorkflowError or
    UnreachableError.
    """
    texts = read_servers(
        many.servers or (many.job.server_text,) * (many.servers_file is None), many.servers_file, folder=many.job.folder
    )
    simulated = start_simulator(stack) if SIMULATED in texts else None
    servers = [server_of(text, simulated) for text in texts]
    check_apart([server.address for server in servers], limit=timing.connect_timeout)
    job = replace(many.job, simulated=simulated, access=many.job.access or Access.of(os.environ))
    entropy = random.SystemRandom().getrandbits(64)
    state = State(many.state, entropy=entropy, folder=job.folder, patience=timing.store_wait)
    stack.callback(state.close)
    plan = plan_of(many, _loader(job, servers, timing), state.entropy)
    prepared = Prepared(many=many, job=job, plan=plan, state=state, servers=servers, todo=range(1, len(plan) + 1))
    if state.goes_on:
        state.check(plan.fingerprint, len(plan))
        prepared.todo = state.todo(only_failed=many.only_failed)
        open_attempts = state.open_attempts()
        prepared.begun = [each for each in open_attempts if not many.only_failed or state.has_ended(each.index)]
    elif many.only_failed:
        raise UsageError(
            f"--only failed needs the state of an earlier command, and {many.state} isn't there",
            hint="give the --state that the command had whose runs failed",
        )
    return prepared


def plan_of(many: ManyJobs, load: Load, entropy: int) -> Plan:
    """The runs that are asked for, each checked as far as that needs no server.

    Raises UsageError, WorkflowError, and what *load* raises.

    :param entropy: what random seeds are made from.
    """
    folder = many.job.folder
    plan = make_plan(many.wanted, load=load, read=reading(folder), entropy=entropy)
    many.check(plan)
    check_plan(plan, folder)
    # Servers choose names, and two of them the same one.
    several = len(many.servers) > 1 or many.servers_file is not None or many.engine
    check_outputs(plan, folder, strict=several and many.job.overwrite)
    return plan


def files_of(runs: Iterable[PlannedRun]) -> set[str]:
    """The files that *runs* read: their workflows, and what they upload."""
    files: set[str] = set()
    for run in runs:
        files.update(file.path for file in run.files)
        if not isinstance(run.workflow, Mapping):
            files.add(os.fspath(run.workflow))
    return files


def _loader(job: Job, servers: Sequence[Server], timing: Timing) -> Callable[[File], Workflow]:
    """What reads a workflow, and has it converted where the editor saved it: by the first server that answers."""
    access = job.access or Access()

    def convert_by(server: Server) -> Converter:
        if server.text == SIMULATED:
            return convert_for_simulator
        return converter(server.text, access, timing, job.folder, wait=job.options.wait_for_server)

    def load(file: File) -> Workflow:
        def attempt(server: Server) -> Workflow:
            return read_workflow(file, job.folder, convert_by(server))

        for server in servers[:-1]:
            try:
                return attempt(server)
            except UnreachableError:
                continue
        return attempt(servers[-1])

    return load


def _changes(many: ManyJobs, first: Iterable[Server]) -> Changes:
    """What tells of the servers of a file, which may change while the runs are made."""
    file = many.servers_file
    if file is None:
        return lambda: None
    path = os.path.join(many.job.folder, file)
    seen = [changed_at(path)]
    known = {server.text: server for server in first}

    def changes() -> list[Server] | None:
        now = changed_at(path)
        if now in (seen[0], (0.0, 0)):
            return None
        seen[0] = now
        texts = read_servers(many.servers, file, folder=many.job.folder)
        if SIMULATED in texts and SIMULATED not in known:
            raise UsageError(
                f"--servers {file}: {SIMULATED} came in later", hint="start one with: comfyreport simulate"
            )
        found = [known.get(text) or server_of(text) for text in texts]
        check_apart([server.address for server in found])
        return found

    return changes
