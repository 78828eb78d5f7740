"""One job from its asking to its end: what is asked for, made into a run that is followed, saved and told."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.access.address import DEFAULT_SERVER, Address, parse_address
from comfyreport.access.credentials import Access, certificate_files
from comfyreport.engine.loop import Loop
from comfyreport.engine.options import RunOptions
from comfyreport.errors import UsageError
from comfyreport.files import current_folder, resolve
from comfyreport.inputs.finishing import finish
from comfyreport.inputs.local_files import Given
from comfyreport.inputs.uploads import Uploads, plan_uploads
from comfyreport.jobs.converting import convert_for_simulator, converter, no_conversion
from comfyreport.jobs.learning import NO_LEARN, Learner
from comfyreport.jobs.run_context import RunContext
from comfyreport.jobs.simulating import SIMULATED, start_simulator
from comfyreport.jobs.workflow import inputs_set, load_workflow
from comfyreport.net.client import Client
from comfyreport.protocol.ui_outputs import SAVERS
from comfyreport.recording.recorder import Recorder
from comfyreport.run import Run
from comfyreport.saving.origin import Origin
from comfyreport.saving.target import Target, usable
from comfyreport.saving.template import read_output
from comfyreport.text import printable
from comfyreport.workflow.files import STDIN, Converter, Workflow
from comfyreport.workflow.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that is asked for: a workflow to submit, or the id of a prompt that was submitted already.

    `files` are for the workflow's loaders. `access`: None for what the environment tells. `folder`: the one that
    relative paths start at, whatever the current folder is later. `prepare` changes or refuses the workflow that is to
    be submitted; it may block. `learn`: what earlier runs took may be read, and what this one takes be kept. `loaded`:
    what `workflow` holds, where it was read before. `begun`: it was submitted already, as `prompt_id`. `simulated`: the
    server that was started already for `sim`.
    """

    server: str = ""
    workflow: str | os.PathLike[str] | Mapping[str, Any] | None = None
    prompt_id: str = ""
    client_id: str = ""
    settings: Settings = field(default_factory=Settings)
    files: tuple[Given, ...] = ()
    output: str | os.PathLike[str] | None = None
    overwrite: bool = False
    sidecar: bool = False
    record: str | os.PathLike[str] | None = None
    access: Access | None = None
    options: RunOptions = field(default_factory=RunOptions)
    folder: str = field(default_factory=current_folder)
    prepare: Callable[[Workflow], Workflow] | None = None
    learn: bool = True
    loaded: Workflow | None = None
    begun: bool = False
    simulated: Address | None = None

    @property
    def server_text(self) -> str:
        """The server that was asked for, else that of the environment, else the default."""
        return self.server or os.environ.get("COMFYREPORT_SERVER") or DEFAULT_SERVER

    @property
    def shown_server(self) -> str:
        """The server for people and events: nothing secret in it, empty where the address is none."""
        if self.server_text == SIMULATED:
            return SIMULATED
        try:
            return parse_address(self.server_text).base
        except UsageError:
            return ""


class _Prepared(NamedTuple):
    access: Access
    workflow: Workflow | None
    uploads: Uploads
    target: Target | None
    address: Address
    recorder: Recorder | None


def run_job(
    session: RunContext,
    job: Job,
    *,
    preparing: AbstractContextManager[object] | None = None,
    on_loop: Callable[[Loop], None] = lambda loop: None,
) -> ev.RunFinished:
    """Do *job* to its end, which is told on every path; raises nothing but KeyboardInterrupt.

    :param preparing: is entered for what may block before there is a loop: files are read and opened.
    :param on_loop: is given the loop before it begins, so that it can be stopped.
    """
    with ExitStack() as stack:
        run: Run | None = None
        try:
            with preparing or nullcontext():
                prepared = _prepare(session, job, stack)
            access, workflow, recorder = prepared.access, prepared.workflow, prepared.recorder
            run = _run(session, job, workflow, prepared.address)
            client = _client(session, prepared, stack)
            learner = _learner(session, job, prepared)
            loop = _loop(session, job, run, client, prepared, learner)
            if access.insecure:
                message = "the server's certificate is not checked (--insecure)"
                session.publish(run.emit(ev.Warning, session.clock(), code="insecure", message=message))
            if workflow is not None and workflow.wrapping.left_out and not job.begun:
                names = ", ".join(printable(name, 80) for name in workflow.wrapping.left_out[:20])
                message = f"the workflow's file holds what isn't submitted: {names}"
                session.publish(run.emit(ev.Warning, session.clock(), code="not_submitted", message=message))
            on_loop(loop)
            if job.begun and workflow is not None:
                _note_origin(prepared, workflow)
                loop.execute(None)
            elif workflow is not None and (prepared.uploads or workflow.settings):
                loop.execute(partial(_finished_body, client, prepared, workflow, run))
            else:
                loop.execute(_body(access, workflow, run))
            loop.save()
            learner.keep(run.observations())
            for line in learner.take_warnings():
                session.publish(run.emit(ev.Warning, session.clock(), code="timings_unusable", message=line))
            session.hurry = session.hurry or loop.hurry
            if recorder is not None:
                recorder.hurry = lambda: loop.stops > 1
                recorder.flush()
            _finish(session, run, recorder)
        except Exception as error:  # noqa: BLE001  whatever it is, the run has an end
            session.fail(error, run)
        except KeyboardInterrupt as error:
            # Only while a plugin has put Python's own handler back.
            if run is None or not run.finished:
                session.fail(error, run)
            raise
        return session.results[-1]


def workflow_of(job: Job, convert: Converter) -> Workflow | None:
    """The workflow that *job* submits, with what is set in it, prepared.

    Raises UsageError or WorkflowError, and what *convert* raises.
    """
    if job.workflow is None:
        return None
    workflow = load_workflow(job.loaded or job.workflow, job.folder, job.settings, convert)
    return workflow if job.prepare is None else job.prepare(workflow)


def prepared(job: Job) -> Job:
    """*job* with its workflow changed by its plugins, which are called here and now. Raises what `workflow_of` does."""
    if job.prepare is None:
        return job
    return replace(job, loaded=workflow_of(job, no_conversion), settings=Settings(), prepare=None)


def _prepare(session: RunContext, job: Job, stack: ExitStack) -> _Prepared:
    """All that may block before there is a loop."""
    workflow = workflow_of(job, _converter(session, job))
    access = _access(job, workflow)
    # What was submitted has the server's names of its files.
    uploads = Uploads() if workflow is None or job.begun else plan_uploads(workflow, job.files, job.folder)
    target = target_of(session, job, workflow, stack)
    address = _address(job, stack)
    recorder = _recorder(session, job, address.base, access.secrets(address), stack)
    return _Prepared(access, workflow, uploads, target, address, recorder)


def _converter(session: RunContext, job: Job) -> Converter:
    """What asks the job's server how to convert what the editor saved. It isn't recorded: it comes before the run."""
    if job.server_text == SIMULATED:
        return convert_for_simulator
    wait = min(job.options.wait_for_server, job.options.timeout or math.inf)
    return converter(job.server_text, _access(job, None), session.timing, job.folder, wait=wait)


def _client(session: RunContext, prepared: _Prepared, stack: ExitStack) -> Client:
    tap = None if prepared.recorder is None else prepared.recorder.tap
    client = Client(prepared.address, timing=session.timing, access=prepared.access, tap=tap)
    stack.callback(client.close)
    return client


def _learner(session: RunContext, job: Job, prepared: _Prepared) -> Learner:
    server = SIMULATED if job.server_text == SIMULATED else prepared.address.base
    learner = Learner(server, wanted=job.learn, folder=job.folder, patience=session.timing.store_wait)
    if job.options.max_eta and not learner.learns:
        raise UsageError(
            "--max-eta rests on what earlier runs took, and nothing is learned from them",
            hint=f"leave out --no-learn and {NO_LEARN}, or limit the time with --timeout",
        )
    return learner


def _loop(session: RunContext, job: Job, run: Run, client: Client, prepared: _Prepared, learner: Learner) -> Loop:
    return Loop(
        run,
        client,
        client_id=run.client_id or uuid.uuid4().hex,
        publish=session.publish,
        watch=session.watch,
        clock=session.clock,
        learner=learner,
        recorder=prepared.recorder,
        target=prepared.target,
        options=job.options,
    )


def target_of(session: RunContext, job: Job, workflow: Workflow | None, stack: ExitStack) -> Target | None:
    """Where outputs are to be saved; UsageError where nothing can be written there, or not as much as there will be."""
    if job.output is None:
        if job.sidecar:
            raise UsageError("--sidecar writes beside files that are saved", hint="name them with --output")
        return None
    wanted = read_output(job.output)
    with usable("--output", wanted.path):
        target = Target(
            wanted.path,
            session.streams.locate(resolve(wanted.path, job.folder)),
            template=wanted.template,
            overwrite=job.overwrite,
            origin=_origin(job) if job.sidecar else None,
            claims=session.claims,
            found_again=job.begun,
            patience=session.timing.held_file,
        )
        stack.callback(target.close)
        target.prepare()
    if target.single and workflow is not None:
        savers = [f"{node.id} ({node.class_type})" for node in workflow.manifest() if node.class_type in SAVERS]
        if len(savers) > 1:
            raise UsageError(
                f"--output {target} takes one file, and the workflow saves several: nodes {', '.join(savers)}",
                hint="name a folder",
            )
    return target


def _origin(job: Job) -> Origin:
    """What the files beside the outputs tell of."""
    include_temp = job.options.include_temp
    return Origin(
        server=job.shown_server, workflow=_workflow_file(job), output=job.output or "", include_temp=include_temp
    )


def _workflow_file(job: Job) -> str | None:
    """The workflow's file as it was named, where it came from one."""
    return None if isinstance(job.workflow, Mapping) or job.workflow in (None, STDIN) else os.fspath(job.workflow)


def _access(job: Job, workflow: Workflow | None) -> Access:
    access = job.access or Access.of(os.environ)
    # What the workflow's file holds of extra data is as secret as what the flags do.
    own = {} if workflow is None else workflow.wrapping.extra_data
    cacert, *certificate = [
        name and os.path.join(job.folder, name) for name in (access.cacert, *certificate_files(access.client_cert))
    ]
    return replace(access, extra_data={**own, **access.extra_data}, cacert=cacert, client_cert=",".join(certificate))


def _address(job: Job, stack: ExitStack) -> Address:
    if job.server_text != SIMULATED:
        return parse_address(job.server_text)
    if job.simulated is not None:
        return job.simulated
    if job.workflow is None:
        raise UsageError(
            f"a server that is simulated for one command has no prompt to follow (--server {SIMULATED})",
            hint="start one that stays with: comfyreport simulate",
        )
    return start_simulator(stack)


def _run(session: RunContext, job: Job, workflow: Workflow | None, address: Address) -> Run:
    # The client of a prompt that is there already is told by the queue or by history.
    client_id = job.client_id or (None if workflow is None else uuid.uuid4().hex)
    run = Run(
        job.prompt_id or str(uuid.uuid4()),
        () if workflow is None else workflow.manifest(),
        base_url=address.base,
        client_id=client_id,
        seed=None if workflow is None else workflow.seed(),
        sequence=session.sequence,
        run_index=session.run_index,
        previews=session.wants("node_preview"),
    )
    run.inputs = () if workflow is None else inputs_set(workflow)
    run.workflow = _workflow_file(job)
    run.attached = run.attached or job.begun
    return run


def _recorder(session: RunContext, job: Job, server: str, secrets: Iterable[str], stack: ExitStack) -> Recorder | None:
    if job.record is None:
        return None
    lost = f"the recording {os.fspath(job.record)} is not whole: "
    with usable("--record", job.record):
        place = session.streams.locate(resolve(job.record, job.folder))
    recorder = Recorder(
        place.path,
        server=server,
        secrets=secrets,
        on_failure=lambda why: session.fail_beside_run(lost + why),
        timing=session.timing,
    )
    stack.callback(recorder.close)
    return recorder


def _finished_body(client: Client, prepared: _Prepared, workflow: Workflow, run: Run) -> Any:
    """What is submitted, once the server has the files and has said what it takes. Blocks."""
    workflow = finish(client, workflow, prepared.uploads)
    run.inputs = inputs_set(workflow)
    _note_origin(prepared, workflow)
    return _body(prepared.access, workflow, run)


def _note_origin(prepared: _Prepared, workflow: Workflow) -> None:
    """Let the files beside the outputs tell what was set."""
    target = prepared.target
    if target is not None and target.origin is not None:
        told = {f"{place.node}.{place.name}": setting.value for place, setting in workflow.settings.items()}
        files = {
            f"{loader.node}.{loader.name}": (loader.kind, file.shown)
            for loader, file in (*prepared.uploads.placed, *prepared.uploads.literals)
        }
        origin = replace(target.origin, settings=told, files=files)
        target.origin = replace(origin, workflow=None) if workflow.rebuilt else origin


def _body(access: Access, workflow: Workflow | None, run: Run) -> dict[str, Any] | None:
    if workflow is None:
        return None
    # ComfyUI makes none unless it is started so, or the prompt asks (execution.py, since 0.3.76); others ignore it.
    extra = ({"preview_method": "auto"} if run.previews else {}) | dict(access.extra_data)
    return workflow.body(extra) | {"client_id": run.client_id, "prompt_id": run.prompt_id}


def _finish(session: RunContext, run: Run, recorder: Recorder | None) -> None:
    if recorder is not None and recorder.failure is not None:
        message = f"the recording is not whole: {recorder.failure}"
        session.publish(run.emit(ev.Warning, session.clock(), code="record_failed", message=message))
    session.publish(run.finish(session.clock()))
    if recorder is None:
        return
    result = session.results[-1]
    error = result.error
    recorder.end(
        status=result.status,
        prompt_state=result.prompt_state,
        submitted=result.submitted,
        retryable=result.retryable,
        error=None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
    )
