"""The verdict: which witness is believed for what."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.events import ErrorInfo, NodeRef
from comfyreport.protocol.messages import ExecutionError, ExecutionInterrupted
from comfyreport.protocol.responses import History
from comfyreport.run.nodes import Nodes
from comfyreport.run.verdict import Outcome as Told, Verdict, blocked, end_of, from_history, without_history

NODES = Nodes([NodeRef(id="3", class_type="KSampler", title="Sampler")])
RAISED = ExecutionError("p", "3", "KSampler", "boom", "RuntimeError", ("a", "b"), ())
STOPPED = ExecutionInterrupted("p", "3", ())


def history(end: str = "success", **fields: Any) -> History:
    return History("p", end, **{"error": None, "interrupted": None, "cached": (), "outputs": (), **fields})  # type: ignore[arg-type]


def told(**fields: Any) -> Told:
    return Told(**fields)


def ask(fact: History, testimony: Told, files: int = 1) -> Verdict:
    return from_history(fact, testimony, NODES, files)


def code(verdict: Verdict) -> str:
    assert verdict.error is not None
    return verdict.error.code


@pytest.mark.parametrize("testimony", [told(), told(success=True), told(over=True)])
def test_success(testimony: Told) -> None:
    assert ask(history(), testimony) == Verdict("success", None, "finished", "yes")


def test_history_beats_the_socket() -> None:
    assert ask(history("error", error=RAISED), told(success=True)).status == "error"
    assert ask(history(), told(error=RAISED)).status == "success"
    assert ask(history("interrupted", interrupted=STOPPED), told(error=RAISED)).status == "interrupted"


def test_an_error() -> None:
    verdict = ask(history("error", error=RAISED), told())
    assert (verdict.status, verdict.exit_code, code(verdict)) == ("error", 1, "node_error")
    assert verdict.error is not None
    assert verdict.error.node == NodeRef(id="3", class_type="KSampler", title="Sampler")
    assert (verdict.error.message, verdict.error.traceback) == ("boom", ("a", "b"))


def test_an_error_that_only_the_socket_described() -> None:
    assert code(ask(history("error"), told(error=RAISED))) == "node_error"
    verdict = ask(history("error"), told())
    assert verdict.error is not None
    assert verdict.error.node is None
    assert verdict.error.message


def test_history_that_only_says_error_may_mean_an_interrupt() -> None:
    """There is no interrupted among history's statuses; its messages would tell, where they are."""
    assert ask(history("error"), told(interrupted=STOPPED)).status == "interrupted"
    assert ask(history("error"), told(interrupted=STOPPED, cancelling=True)).status == "cancelled"
    assert ask(history("error", error=RAISED), told(interrupted=STOPPED)).status == "error"


@pytest.mark.parametrize(
    ("testimony", "end"),
    [
        (told(), "success"),
        (told(success=True), "success"),
        (told(error=RAISED), "error"),
        (told(interrupted=STOPPED), "interrupted"),
        (told(error=RAISED, interrupted=STOPPED), "interrupted"),
    ],
)
def test_old_history_states_no_status_and_the_socket_is_asked(testimony: Told, end: str) -> None:
    assert end_of(history(stated=False), testimony) == end
    assert ask(history(stated=False), testimony).status == end


def test_an_interrupt() -> None:
    verdict = ask(history("interrupted", interrupted=STOPPED), told())
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
    verdict = ask(history("interrupted", interrupted=STOPPED), told(cancelling=True))
    assert (verdict.status, verdict.exit_code, verdict.prompt_state) == ("cancelled", 130, "cancelled")
    late = ask(history(), told(cancelling=True))
    assert (late.status, late.prompt_state) == ("cancelled", "finished")
    assert ask(history("error", error=RAISED), told(cancelling=True)).status == "error"


def test_partial() -> None:
    dropped = ErrorInfo(code="outputs_dropped", message="m")
    below = ErrorInfo(code="blocked", message="m")
    assert ask(history(), told(dropped=dropped, blocked=[below])) == Verdict("partial", dropped, "finished", "yes")
    assert ask(history(), told(blocked=[below, dropped])) == Verdict("partial", below, "finished", "yes")
    assert ask(history("error", error=RAISED), told(dropped=dropped)).status == "error"


def test_fewer_files_than_expected() -> None:
    assert code(ask(history(), told(expected=2), files=1)) == "too_few_outputs"
    assert ask(history(), told(expected=2), files=2).status == "success"


def lost(testimony: Told, why: str = "server_gone") -> Verdict:
    return without_history(testimony, NODES, why, "the server is gone", "start it")


def test_without_history_a_typed_end_is_believed() -> None:
    assert lost(told(error=RAISED, over=True)).status == "error"
    assert lost(told(interrupted=STOPPED, error=RAISED)).status == "interrupted"
    assert lost(told(interrupted=STOPPED, cancelling=True)).status == "cancelled"


def test_without_history_a_success_is_not_believed() -> None:
    for testimony in (told(), told(over=True), told(blocked=[ErrorInfo(code="blocked", message="m")])):
        verdict = lost(testimony)
        assert (verdict.status, verdict.exit_code, code(verdict)) == ("lost", 6, "server_gone")
        assert (verdict.prompt_state, verdict.submitted) == ("unknown", "yes")
    verdict = lost(told(success=True))
    assert verdict.error is not None
    assert verdict.status == "lost"
    assert "succeeded" in verdict.error.message


def test_a_cancel_that_nobody_confirmed() -> None:
    verdict = lost(told(cancelling=True))
    assert (verdict.status, verdict.prompt_state) == ("cancelled", "unknown")


@pytest.mark.parametrize(
    ("why", "retryable"), [("server_gone", True), ("server_restarted", True), ("prompt_vanished", False)]
)
def test_whether_a_lost_run_may_be_tried_again(why: str, retryable: bool) -> None:
    assert lost(told(), why).retryable is retryable


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
    verdict = ask(history("error", error=raised), told())
    assert code(verdict) == ("out_of_memory" if memory else "node_error")
    assert verdict.error is not None
    assert verdict.error.message


def test_what_a_server_says_of_an_error_is_kept_short() -> None:
    lines = tuple("x" * 100_000 for _ in range(100))
    raised = RAISED._replace(message="m" * 100_000, traceback=lines)
    for info in (ask(history("error", error=raised), told()).error, blocked(raised, NODES)):
        assert info is not None
        assert len(info.message) <= 4000
        assert len(info.traceback) <= 12
        assert all(len(line) <= 1000 for line in info.traceback)


def test_a_node_that_nobody_knows_is_named_as_the_server_does() -> None:
    raised = RAISED._replace(node="77", node_type="Odd")
    verdict = ask(history("error", error=raised), told())
    assert verdict.error is not None
    assert verdict.error.node == NodeRef(id="77", class_type="Odd", title="Odd")


def test_each_status_has_an_exit_code_and_each_code_is_listed() -> None:
    for status, number in ev.EXIT_CODES.items():
        assert Verdict(status).exit_code == number  # type: ignore[arg-type]
    for verdict in (lost(told()), lost(told(error=RAISED)), lost(told(cancelling=True)), ask(history("error"), told())):
        assert code(verdict) in ev.ERROR_CODES
