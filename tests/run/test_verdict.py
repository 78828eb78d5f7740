"""The verdict: whether history or the socket decides what."""

from __future__ import annotations

import math
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.estimates.estimator import Estimate
from comfyreport.events import ErrorInfo, NodeRef
from comfyreport.protocol.messages import ExecutionError, ExecutionInterrupted
from comfyreport.protocol.responses import History
from comfyreport.run.nodes import Nodes
from comfyreport.run.verdict import (
    BY_USER,
    Outcome,
    Verdict,
    blocked_node,
    end_of,
    exceeds,
    from_history,
    over_limit,
    without_history,
)
from tests.playing import history

NODES = Nodes([NodeRef(id="3", class_type="KSampler", title="Sampler")])
RAISED = ExecutionError("p", "3", "KSampler", "boom", "RuntimeError", ("a", "b"), ())
STOPPED = ExecutionInterrupted("p", "3", ())


def decide(ended: History, outcome: Outcome, files: int = 1) -> Verdict:
    return from_history(ended, outcome, NODES, files)


def code(verdict: Verdict) -> str:
    assert verdict.error is not None
    return verdict.error.code


@pytest.mark.parametrize("outcome", [Outcome(), Outcome(success=True), Outcome(worker_done=True)])
def test_success(outcome: Outcome) -> None:
    assert decide(history(), outcome) == Verdict("success", None, "finished", "yes")


def test_history_decides_against_the_socket() -> None:
    assert decide(history("error", error=RAISED), Outcome(success=True)).status == "error"
    assert decide(history(), Outcome(error=RAISED)).status == "success"
    assert decide(history("interrupted", interrupted=STOPPED), Outcome(error=RAISED)).status == "interrupted"


def test_an_error() -> None:
    verdict = decide(history("error", error=RAISED), Outcome())
    assert (verdict.status, verdict.exit_code, code(verdict)) == ("error", 1, "node_error")
    assert verdict.error is not None
    assert verdict.error.node == NodeRef(id="3", class_type="KSampler", title="Sampler")
    assert (verdict.error.message, verdict.error.traceback) == ("boom", ("a", "b"))


def test_an_error_that_only_the_socket_described() -> None:
    assert code(decide(history("error"), Outcome(error=RAISED))) == "node_error"
    verdict = decide(history("error"), Outcome())
    assert verdict.error is not None
    assert verdict.error.node is None
    assert verdict.error.message


def test_history_that_only_says_error_may_mean_an_interrupt() -> None:
    """There is no interrupted among history's statuses; its messages would tell, where they are."""
    assert decide(history("error"), Outcome(interrupted=STOPPED)).status == "interrupted"
    assert decide(history("error"), Outcome(interrupted=STOPPED, cancel=BY_USER)).status == "cancelled"
    assert decide(history("error", error=RAISED), Outcome(interrupted=STOPPED)).status == "error"


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Outcome(), "success"),
        (Outcome(success=True), "success"),
        (Outcome(error=RAISED), "error"),
        (Outcome(interrupted=STOPPED), "interrupted"),
        (Outcome(error=RAISED, interrupted=STOPPED), "interrupted"),
    ],
)
def test_where_history_has_no_status_the_socket_decides(outcome: Outcome, end: str) -> None:
    assert end_of(history(has_status=False), outcome) == end
    assert decide(history(has_status=False), outcome).status == end


def test_an_interrupt() -> None:
    verdict = decide(history("interrupted", interrupted=STOPPED), Outcome())
    assert (verdict.status, verdict.exit_code, code(verdict), verdict.retryable) == (
        "interrupted",
        1,
        "interrupted",
        True,
    )
    assert verdict.error is not None
    assert verdict.error.node is not None
    assert verdict.error.node.id == "3"


def test_our_own_interrupt_is_a_cancel() -> None:
    verdict = decide(history("interrupted", interrupted=STOPPED), Outcome(cancel=BY_USER))
    assert (verdict.status, verdict.exit_code, verdict.prompt_state) == ("cancelled", 130, "cancelled")
    late = decide(history(), Outcome(cancel=BY_USER))
    assert (late.status, late.prompt_state) == ("cancelled", "finished")
    assert decide(history("error", error=RAISED), Outcome(cancel=BY_USER)).status == "error"


@pytest.mark.parametrize(
    ("limit", "elapsed", "estimate", "late"),
    [
        (60, 10, Estimate(60, 51, 70, "history"), True),
        (60, 10, Estimate(60, 51, 70, "similar"), True),
        # In time to the very second; only the middle, or the worst, is too late.
        (60, 10, Estimate(60, 50, 70, "history"), False),
        (60, 10, Estimate(55, 45, 70, "history"), False),
        # What only this run showed says nothing, nor does what isn't known, though the time be over.
        (60, 10, Estimate(600, 500, 700, "steps"), False),
        (60, 61, Estimate(1, 0.1, 2, "steps"), False),
        (60, 61, None, False),
        (60, 61, Estimate(1, 0, 2, "history"), True),
        (60, 10, Estimate(math.nan, math.nan, math.nan, "history"), False),
    ],
)
def test_whether_a_run_will_be_done_too_late(
    limit: float, elapsed: float, estimate: Estimate | None, late: bool
) -> None:
    assert exceeds(limit, elapsed, estimate) is late


@pytest.mark.parametrize(("basis", "words"), [("history", "of this workflow"), ("similar", "of similar workflows")])
def test_what_is_said_of_a_run_that_would_be_done_too_late(basis: Any, words: str) -> None:
    cancel = over_limit(60, 12.34, Estimate(80, 75, 90.06, basis))
    error = cancel.confirmed().error
    assert error is not None
    assert error.message == (
        "the run won't be done within the 60 s of --max-eta: after 12.3 s there are 75 to 90.1 s left, "
        f"judging by earlier runs {words} (basis: {basis})"
    )
    assert error.hint == "raise --max-eta (up to 102.4 s are needed in all), or ask for less"


LIMIT = over_limit(60, 12, Estimate(80, 75, 90, "history"))


def test_a_cancel_for_a_limit_is_a_timeout() -> None:
    outcome = Outcome(cancel=LIMIT)
    verdict = decide(history("interrupted", interrupted=STOPPED), outcome)
    assert (verdict.status, verdict.exit_code, verdict.prompt_state) == ("timeout", 7, "cancelled")
    assert (code(verdict), verdict.submitted, verdict.retryable) == ("time_limit", "yes", False)
    assert verdict.error is not None
    assert verdict.error.node is not None
    assert verdict.error.message == LIMIT.reason
    assert decide(history("error", error=RAISED), outcome).status == "error"
    # Where it was done after all, that is what was wanted.
    assert decide(history(), outcome) == Verdict("success", None, "finished", "yes")
    assert decide(history(), Outcome(cancel=LIMIT, expected_outputs=2)).status == "partial"


def test_a_cancel_for_a_limit_that_nobody_confirmed() -> None:
    verdict = lost(Outcome(cancel=LIMIT))
    assert (verdict.status, verdict.prompt_state) == ("timeout", "unknown")
    assert verdict.error is not None
    assert verdict.error.message.startswith(f"{LIMIT.reason}; the prompt was to be cancelled, but")
    assert verdict.error.hint.startswith("raise --max-eta")


def test_partial() -> None:
    dropped = ErrorInfo(code="outputs_dropped", message="m")
    below = ErrorInfo(code="blocked", message="m")
    assert decide(history(), Outcome(dropped_outputs=dropped, blocked_nodes=[below])) == Verdict(
        "partial", dropped, "finished", "yes"
    )
    assert decide(history(), Outcome(blocked_nodes=[below, dropped])) == Verdict("partial", below, "finished", "yes")
    assert decide(history("error", error=RAISED), Outcome(dropped_outputs=dropped)).status == "error"


def test_fewer_files_than_expected() -> None:
    assert code(decide(history(), Outcome(expected_outputs=2), files=1)) == "too_few_outputs"
    assert decide(history(), Outcome(expected_outputs=2), files=2).status == "success"


def lost(outcome: Outcome, code: str = "server_gone") -> Verdict:
    return without_history(outcome, NODES, code, "the server is gone", "start it")


def test_without_history_an_error_or_interrupt_is_believed() -> None:
    assert lost(Outcome(error=RAISED, worker_done=True)).status == "error"
    assert lost(Outcome(interrupted=STOPPED, error=RAISED)).status == "interrupted"
    assert lost(Outcome(interrupted=STOPPED, cancel=BY_USER)).status == "cancelled"


def test_without_history_a_success_is_not_believed() -> None:
    for outcome in (
        Outcome(),
        Outcome(worker_done=True),
        Outcome(blocked_nodes=[ErrorInfo(code="blocked", message="m")]),
    ):
        verdict = lost(outcome)
        assert (verdict.status, verdict.exit_code, code(verdict)) == ("lost", 6, "server_gone")
        assert (verdict.prompt_state, verdict.submitted) == ("unknown", "yes")
    verdict = lost(Outcome(success=True))
    assert verdict.error is not None
    assert verdict.status == "lost"
    assert "succeeded" in verdict.error.message


def test_a_cancel_that_was_not_confirmed() -> None:
    verdict = lost(Outcome(cancel=BY_USER))
    assert (verdict.status, verdict.prompt_state) == ("cancelled", "unknown")


@pytest.mark.parametrize(
    ("code", "retryable"), [("server_gone", True), ("server_restarted", True), ("prompt_vanished", False)]
)
def test_whether_a_lost_run_may_be_tried_again(code: str, retryable: bool) -> None:
    assert lost(Outcome(), code).retryable is retryable


@pytest.mark.parametrize(
    ("kind", "message", "memory"),
    [
        ("torch.OutOfMemoryError", "This error means you ran out of memory on your GPU.", True),
        ("torch.cuda.OutOfMemoryError", "x", True),
        ("MemoryError", "", True),
        ("RuntimeError", "CUDA out of memory. Tried to allocate", True),
        ("RuntimeError", "x", False),
        ("", "", False),
    ],
)
def test_out_of_memory(kind: str, message: str, memory: bool) -> None:
    raised = RAISED._replace(exception_type=kind, message=message)
    verdict = decide(history("error", error=raised), Outcome())
    assert code(verdict) == ("out_of_memory" if memory else "node_error")
    assert verdict.error is not None
    assert verdict.error.message


def test_the_texts_of_an_error_have_limits() -> None:
    lines = tuple("x" * 100_000 for _ in range(100))
    raised = RAISED._replace(message="m" * 100_000, traceback=lines)
    for info in (decide(history("error", error=raised), Outcome()).error, blocked_node(raised, NODES)):
        assert info is not None
        assert len(info.message) <= 4000
        assert len(info.traceback) <= 12
        assert all(len(line) <= 1000 for line in info.traceback)


def test_a_node_that_was_not_submitted_is_named_as_by_the_server() -> None:
    raised = RAISED._replace(node="77", node_type="Odd")
    verdict = decide(history("error", error=raised), Outcome())
    assert verdict.error is not None
    assert verdict.error.node == NodeRef(id="77", class_type="Odd", title="Odd")


def test_each_status_has_an_exit_code_and_each_code_is_listed() -> None:
    for status, number in ev.EXIT_CODES.items():
        assert Verdict(status).exit_code == number  # type: ignore[arg-type]
    for verdict in (
        lost(Outcome()),
        lost(Outcome(error=RAISED)),
        lost(Outcome(cancel=BY_USER)),
        decide(history("error"), Outcome()),
    ):
        assert code(verdict) in ev.ERROR_CODES
