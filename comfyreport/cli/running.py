"""The commands that write an event stream: `run` and `attach`, and `replay`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from comfyreport.access.credentials import certificate_files
from comfyreport.cli.session_runner import run_session
from comfyreport.errors import ComfyReportError, UsageError
from comfyreport.flags.credentials import access_of, parse_extra_data
from comfyreport.flags.input_flags import files_of, given_files, settings_of
from comfyreport.jobs.file_claims import FilePath, claim_files, input_reads

# What one of the commands alone needs is imported where it is used.
if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from comfyreport.cli.loaded_plugins import LoadedPlugins
    from comfyreport.cli.signals import Signals
    from comfyreport.engine.loop import Loop
    from comfyreport.files import Claims
    from comfyreport.jobs.job import Job
    from comfyreport.jobs.session import Session

STOPPING = {
    "cancel": "cancelling… (Ctrl-C again to leave at once)",
    "detach": "leaving… (Ctrl-C again to leave at once)",
}
"""What is said at the first signal, by what `--on-interrupt` wants."""


def run(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    """`run` and `attach`, which differ only in where the prompt comes from."""
    from dataclasses import replace
    from functools import partial

    from comfyreport.jobs.job import run_job

    attach = arguments.command == "attach"
    claims, error = claims_of(arguments, loaded)
    job = job_of(arguments)
    try:
        with may_block(arguments, job.shown_server, signals, loaded):
            access = access_of(arguments, {} if attach else parse_extra_data(arguments.extra_data))
        job = replace(job, access=access)
        if loaded is not None:
            job = replace(job, prepare=loaded.prepare(arguments, job.shown_server))
    except UsageError as raised:
        error = error or raised

    def work(session: Session, preparing: AbstractContextManager[None]) -> None:
        def stop(loop: Loop) -> None:
            loop.stop()
            if loop.stops == 1:
                session.announce(STOPPING[arguments.on_interrupt])

        # Where a plugin has put Python's own handler back; the run's end is told by then.
        with contextlib.suppress(KeyboardInterrupt):
            run_job(session, job, preparing=preparing, on_loop=lambda loop: signals.use(partial(stop, loop)))

    loading = None if loaded is None else loaded.loading
    server = job.shown_server
    return run_session(
        arguments, arguments.command, server, signals, work=work, error=error, claims=claims, loading=loading
    )


def job_of(arguments: argparse.Namespace) -> Job:
    """The job that the flags of `run` or `attach` ask for, but for how one gets in and what plugins prepare."""
    from comfyreport.engine.options import RunOptions
    from comfyreport.jobs.job import Job
    from comfyreport.workflow.settings import Settings

    attach = arguments.command == "attach"
    return Job(
        server=arguments.server,
        workflow=None if attach else arguments.workflow,
        prompt_id=arguments.prompt_id if attach else "",
        settings=Settings() if attach else settings_of(arguments),
        files=given_files(arguments),
        output=arguments.output,
        overwrite=arguments.overwrite,
        sidecar=arguments.sidecar,
        record=arguments.record,
        learn=not arguments.no_learn,
        options=RunOptions(
            timeout=arguments.timeout,
            max_eta=arguments.max_eta,
            wait_for_server=arguments.wait_for_server or 0.0,
            on_interrupt=arguments.on_interrupt,
            take_over=attach and arguments.take_over,
            expect_outputs=arguments.expect_outputs,
            ping_interval=arguments.ping_interval,
            include_temp=arguments.include_temp,
        ),
    )


def replay(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    from comfyreport.jobs.replay import Stop, replay
    from comfyreport.recording.player import Recording
    from comfyreport.recording.shipped import find_recording

    recording: Recording | None = None
    error: ComfyReportError | None = None
    try:
        with may_block(arguments, "", signals, loaded):
            recording = find_recording(arguments.recording)
    except ComfyReportError as raised:
        error = raised

    def work(session: Session, preparing: AbstractContextManager[None]) -> None:
        assert recording is not None
        stop = Stop()
        signals.use(stop.set)
        replay(session, recording, speed=arguments.speed, stop=stop)

    server = "" if recording is None else recording.server
    claims = claims_of(arguments, loaded)[0]
    loading = None if loaded is None else loaded.loading
    return run_session(arguments, "replay", server, signals, work=work, error=error, claims=claims, loading=loading)


def may_block(
    arguments: argparse.Namespace, server: str, signals: Signals, loaded: LoadedPlugins | None
) -> AbstractContextManager[None]:
    """For what may block before there is a session; one that only tells that it was cancelled takes its place."""
    loading = None if loaded is None else loaded.loading
    return signals.may_block(
        lambda: run_session(arguments, arguments.command, server, signals, error=KeyboardInterrupt(), loading=loading)
    )


def claims_of(arguments: argparse.Namespace, loaded: LoadedPlugins | None) -> tuple[Claims, UsageError | None]:
    """The files that the flags name, and the error if two flags name one."""
    headers = [value[1:] for value in getattr(arguments, "header", ()) if value.startswith("@")]
    # One file may hold them all.
    certificates = [
        getattr(arguments, "cacert", None), *certificate_files(getattr(arguments, "client_cert", None) or "")
    ]  # fmt: skip
    workflows: tuple[str, ...] = getattr(arguments, "workflows", ())
    reads: list[tuple[str, FilePath | None]] = [
        *(("--workflow", path) for path in workflows),
        *files_of(arguments),
        ("--prompts", getattr(arguments, "prompts", None)),
        ("--servers", getattr(arguments, "servers_file", None)),
        *(("--header", path) for path in dict.fromkeys(headers)),
        *(("--cacert, --client-cert", path) for path in dict.fromkeys(certificates)),
        ("the recording", getattr(arguments, "recording", None)),
        *input_reads(given_files(arguments), workflows),
    ]
    return claim_files(
        [(use, path) for use, path in reads if path],
        writes=[
            ("--record", getattr(arguments, "record", None)),
            *_state_files(getattr(arguments, "state", None)),
            ("--manifest", getattr(arguments, "manifest", None)),
        ],
        output=getattr(arguments, "output", None),
        claims=None if loaded is None else loaded.claims,
    )


def _state_files(path: str | None) -> list[tuple[str, FilePath | None]]:
    """The file of `--state`, and those that are made beside it."""
    if path is None:
        return []
    from comfyreport.ledger.state_file import companions

    return [("--state", each) for each in (path, *companions(path))]
