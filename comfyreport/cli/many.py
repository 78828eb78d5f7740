"""`comfyreport run` where it makes many runs: the flags as what is asked for, and the session in which it is made."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from comfyreport.batch.batch import Batch
from comfyreport.batch.command import ManyJobs, Prepared, prepare
from comfyreport.cli.loaded_plugins import LoadedPlugins
from comfyreport.cli.running import STOPPING, claims_of, job_of, may_block
from comfyreport.cli.session_runner import Many, run_session, timing_of
from comfyreport.cli.signals import Signals
from comfyreport.errors import ComfyReportError
from comfyreport.flags.batch_flags import check_flags, wanted_of
from comfyreport.flags.credentials import access_of, parse_extra_data
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import Session
from comfyreport.ledger.ledger import Ledger
from comfyreport.listings.many import describe_done, describe_failures, describe_rest

# Loaded where an engine makes the runs.
if TYPE_CHECKING:
    from comfyreport.fleet.fleet import Fleet


def run_many_command(arguments: argparse.Namespace, signals: Signals, loaded: LoadedPlugins | None) -> int:
    """Make the runs that the flags ask for; the exit code."""
    error: ComfyReportError | None
    claims, error = claims_of(arguments, loaded)
    loading = None if loaded is None else loaded.loading
    command = _Command(arguments, signals)
    with ExitStack() as stack:
        if error is None:
            try:
                with may_block(arguments, "", signals, loaded):
                    command.prepare(loaded, stack)
            except ComfyReportError as raised:
                error = raised
        return run_session(
            arguments,
            "run",
            command.shown_server,
            signals,
            work=command.work,
            error=error,
            claims=claims,
            loading=loading,
            many=Many(command.total, command.planned, command.summary),
        )


def many_of(arguments: argparse.Namespace, job: Job) -> ManyJobs:
    """The runs that the flags ask for; *job* is what they have in common."""
    return ManyJobs(
        job=job,
        wanted=wanted_of(arguments),
        servers=arguments.servers,
        servers_file=arguments.servers_file,
        state=arguments.state,
        manifest=arguments.manifest,
        only_failed=arguments.only == "failed",
        keep_going=arguments.keep_going,
        retries=arguments.retries,
        engine=arguments.engine is not None,
        check=lambda plan: check_flags(arguments, len(plan)),
    )


class _Command:
    """One command of many runs."""

    def __init__(self, arguments: argparse.Namespace, signals: Signals) -> None:
        self._arguments = arguments
        self._signals = signals
        self._prepared: Prepared | None = None
        self._ledger: Ledger | None = None

    @property
    def total(self) -> int:
        """How many runs are to be made."""
        return 0 if self._prepared is None else self._prepared.total

    @property
    def planned(self) -> int | None:
        """How many runs there are in all, where an earlier command has made some."""
        prepared = self._prepared
        return len(prepared.plan) if prepared is not None and prepared.state.goes_on else None

    @property
    def shown_server(self) -> str:
        """The servers, or the engine, for people and events."""
        if self._arguments.engine is not None:
            return str(self._arguments.engine)
        return "" if self._prepared is None else self._prepared.shown_server

    def prepare(self, loaded: LoadedPlugins | None, stack: ExitStack) -> None:
        """All that may block or fail before there is a session. Raises ComfyReportError."""
        arguments = self._arguments
        job = replace(job_of(arguments), access=access_of(arguments, parse_extra_data(arguments.extra_data)))
        if loaded is not None:
            job = replace(job, prepare=loaded.prepare(arguments, job.shown_server))
        self._prepared = prepare(many_of(arguments, job), timing_of(arguments), stack)

    def work(self, session: Session, preparing: AbstractContextManager[None]) -> None:
        """Make the runs."""
        prepared = self._prepared
        assert prepared is not None
        with ExitStack() as stack:
            try:
                with preparing:
                    prepared.check_files(session)
                    # The servers of an engine's workers are known to them alone.
                    if self._arguments.engine is None or self._arguments.servers:
                        prepared.check_inputs(session)
                    ledger = prepared.ledger(session, prepared.open(stack))
                    batch = self._batch(session, prepared, ledger, stack)
            except ComfyReportError as error:
                session.fail(error)
                return
            self._ledger = ledger
            for line in describe_done(prepared.state.counts(), len(prepared.plan)) if prepared.state.goes_on else []:
                session.announce(line)
            self._signals.use(self._stopper(session, batch))
            batch.run()
            session.earlier = prepared.state.failed_status()

    def _batch(self, session: Session, prepared: Prepared, ledger: Ledger, stack: ExitStack) -> Batch | Fleet:
        """What makes the runs. Connecting to an engine blocks. Raises ComfyReportError."""
        engine: str | None = self._arguments.engine
        if engine is None:
            return prepared.batch(session, ledger)
        from comfyreport.fleet.command import fleet

        return fleet(session, prepared, ledger, engine, stack)

    def _stopper(self, session: Session, batch: Batch | Fleet) -> Callable[[], None]:
        stops = 0

        def stop() -> None:
            nonlocal stops
            stops += 1
            batch.stop()
            if stops == 1:
                session.announce(STOPPING[self._arguments.on_interrupt])

        return stop

    def summary(self, has_seen: Callable[[str], bool]) -> list[str]:
        """What is said of the runs at the end, without the failures that a person has seen."""
        ledger = self._ledger
        if ledger is None:
            return []
        seen = all(has_seen(f"Run {failure.index} ") for failure in ledger.failures)
        state: str | None = self._arguments.state
        unbegun = max(0, self.total - ledger.ended_count)
        lines = [] if seen else describe_failures(ledger.failures, ledger.failed, ledger.ended_count)
        return lines + describe_rest(
            sys.argv[1:], os.fspath(state) if state else None, failed=ledger.failed, unbegun=unbegun
        )
