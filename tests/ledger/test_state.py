"""The state of a command: what is done and what was begun, across processes that end in whatever way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.events.types import PromptState, Status
from comfyreport.ledger.state import DONE, Attempt, Counts, State, stays_open
from comfyreport.ledger.state_file import StateError, companions

ROOT = Path(__file__).resolve().parents[2]
ENTROPY = 2**100 + 7
SERVER = "http://10.0.0.7:8188"


@contextlib.contextmanager
def opened(path: Path | None, total: int = 5, *, entropy: int = ENTROPY, fingerprint: str = "ab") -> Iterator[State]:
    """The state of a command, checked."""
    with contextlib.closing(State(path, entropy=entropy, patience=0.05)) as state:
        state.check(fingerprint, total)
        yield state


def attempt(index: int, number: int = 1) -> Attempt:
    return Attempt(index, number, SERVER, f"prompt-{index}-{number}", f"client-{index}")


def record(index: int, status: str = "success", **more: Any) -> dict[str, Any]:
    return {"index": index, "status": status, **more}


def end(state: State, index: int, status: str = "success", **more: Any) -> None:
    state.end(index, status, record(index, status, **more))


@pytest.fixture(params=["file", "memory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    with opened(tmp_path / "runs.db" if request.param == "file" else None) as one:
        yield one


# --- what is to be done


def test_at_first_all_is_to_be_done(state: State) -> None:
    assert (list(state.todo()), list(state.todo(only_failed=True))) == ([1, 2, 3, 4, 5], [])
    assert (state.open_attempts(), list(state.ended()), state.counts()) == ([], [], Counts(0, 0))
    assert (state.goes_on, state.entropy) == (False, ENTROPY)


def test_what_is_begun_is_open_and_not_to_be_done(state: State) -> None:
    state.begin(attempt(4))
    state.begin(attempt(2))
    assert state.open_attempts() == [attempt(2), attempt(4)]
    assert list(state.todo()) == [1, 3, 5]
    state.give_up(4)
    assert (state.open_attempts(), list(state.todo())) == ([attempt(2)], [1, 3, 4, 5])


def test_a_run_has_one_attempt(state: State) -> None:
    state.begin(attempt(2))
    state.begin(attempt(2, 2))
    assert state.open_attempts() == [attempt(2, 2)]


def test_an_attempt_gets_the_id_that_the_server_gave(state: State) -> None:
    state.begin(attempt(2))
    state.renamed(2, "other")
    assert state.open_attempts() == [Attempt(2, 1, SERVER, "other", "client-2")]


@pytest.mark.parametrize("status", Status.__args__)  # type: ignore[attr-defined]
def test_what_is_done(status: str) -> None:
    with opened(None) as state:
        state.begin(attempt(2))
        end(state, 2, status)
        assert state.open_attempts() == []
        assert list(state.todo()) == ([1, 3, 4, 5] if status in DONE else [1, 2, 3, 4, 5])
        failed = status not in ("success", "cancelled", "detached")
        assert list(state.todo(only_failed=True)) == ([2] if failed else [])
        assert state.counts() == Counts(int(status in DONE), int(failed))
        assert state.failed_status() == (status if failed and status in DONE else None)
        assert state.has_ended(2)
        assert not state.has_ended(1)


def test_what_failed_and_was_stopped_when_it_was_made_again_has_failed_still(state: State) -> None:
    end(state, 1, "error")
    state.begin(attempt(1))
    end(state, 1, "cancelled")
    assert (list(state.todo(only_failed=True)), state.open_attempts()) == ([1], [])
    end(state, 2, "lost")
    end(state, 2, "cancelled")
    assert list(state.todo(only_failed=True)) == [1]


def test_what_is_about_to_be_cancelled_is_kept_as_that(state: State) -> None:
    state.begin(attempt(1))
    state.stopping()
    assert [each.stopped for each in state.open_attempts()] == [True]
    state.begin(attempt(1))
    assert [each.stopped for each in state.open_attempts()] == [False]


def test_records_come_in_the_order_of_the_ends(state: State) -> None:
    for index, status in ((3, "success"), (1, "error"), (5, "lost"), (2, "success")):
        end(state, index, status)
    assert [each["index"] for each in state.ended()] == [3, 1, 5, 2]
    end(state, 1, "success", attempts=2)
    assert list(state.ended())[-1] == record(1, "success", attempts=2)
    assert [each["index"] for each in state.ended()] == [3, 5, 2, 1]
    assert state.counts() == Counts(3, 1)


def test_the_lines_that_stay_are_those_of_runs_that_are_not_done_again(state: State) -> None:
    for index, status in ((3, "success"), (1, "error"), (5, "lost")):
        end(state, index, status)
    assert list(state.kept_lines()) == ['{"index":3,"status":"success"}', '{"index":1,"status":"error"}']
    assert list(state.kept_lines(only_failed=True)) == ['{"index":3,"status":"success"}']


def test_reading_goes_on_while_ends_are_written() -> None:
    with opened(None, 3000) as state:
        for index in range(1, 1202):
            end(state, index)
        seen = []
        for each in state.ended():
            seen.append(each["index"])
            if len(seen) <= 10:
                end(state, 2000 + len(seen))
        assert seen == [*range(1, 1202), *range(2001, 2011)]


@pytest.mark.parametrize(
    ("status", "prompt", "is_open"),
    [
        ("detached", "running", True), ("timeout", "pending", True), ("timeout", "finished", True),
        ("lost", "unknown", True), ("cancelled", "unknown", True), ("internal", "unknown", True),
        ("cancelled", "cancelled", False), ("unreachable", "none", False), ("lost", "none", False),
        ("success", "finished", False), ("error", "finished", False), ("interrupted", "finished", False),
    ],
)  # fmt: skip
def test_a_prompt_that_may_be_there_stays_open(status: Status, prompt: PromptState, is_open: bool) -> None:
    assert stays_open(status, prompt) is is_open
    with opened(None) as state:
        state.begin(attempt(2))
        state.end(2, status, record(2, status), prompt_state=prompt)
        assert state.open_attempts() == ([attempt(2)] if is_open else [])
        assert (2 in state.todo()) is (not is_open and status not in DONE)


def test_an_end_may_leave_its_attempt_open(state: State) -> None:
    state.begin(attempt(2))
    state.end(2, "detached", record(2, "detached"), prompt_state="running")
    assert (state.open_attempts(), list(state.todo())) == ([attempt(2)], [1, 3, 4, 5])
    assert list(state.todo(only_failed=True)) == []


@pytest.mark.parametrize("value", ["\udcff\ud800", "a\x1b\u2028", 2**70, float("nan"), [[1], {"a": None}]], ids=repr)
def test_records_hold_what_a_workflow_may(state: State, value: object) -> None:
    end(state, 1, inputs={"3.text": value})
    (found,) = state.ended()
    assert found["index"] == 1
    assert len(list(state.kept_lines())) == 1


# --- going on


def test_another_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "runs.db"
    with opened(path) as state:
        end(state, 3, "error")
        state.begin(attempt(1))
    assert [each.name for each in path.parent.iterdir()] == ["runs.db"]
    with opened(path, entropy=1) as state:
        assert (state.goes_on, state.entropy) == (True, ENTROPY)
        assert (list(state.todo()), list(state.todo(only_failed=True))) == ([2, 4, 5], [3])
        assert state.open_attempts() == [attempt(1)]
        assert list(state.ended()) == [record(3, "error")]


def test_nothing_is_made_before_the_plan_is_known(tmp_path: Path) -> None:
    state = State(tmp_path / "runs.db", entropy=1)
    state.close()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_starts_at_the_folder(tmp_path: Path) -> None:
    with contextlib.closing(State("runs.db", entropy=1, folder=os.fspath(tmp_path))) as state:
        state.check("ab", 1)
    assert (tmp_path / "runs.db").exists()


def test_an_empty_file_is_none_yet(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    with opened(tmp_path / "runs.db") as state:
        assert not state.goes_on
    with opened(tmp_path / "runs.db") as state:
        assert state.goes_on


WRITER = """
import sys
from comfyreport.ledger.state import Attempt, State
state = State(sys.argv[1], entropy=1)
state.check("ab", 100000)
for index in state.todo():
    state.begin(Attempt(index, 1, "s", f"p{index}", "c"))
    print("begun", index, flush=True)
    state.end(index, "success", {"index": index, "status": "success", "more": "x" * 1000})
    print("ended", index, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="no kill -9 there")
def test_what_was_told_is_there_after_kill_9(tmp_path: Path) -> None:
    """In the midst of writing, and in the midst of making the file."""
    path = tmp_path / "runs.db"
    for lines in (0, 1, 2, 333, 1000):
        # The imports have no part in it.
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process, contextlib.closing(process.stdout):
            told = [process.stdout.readline() for _ in range(lines)]
            while not lines and not path.exists() and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            told += process.stdout.readlines()
        began = {int(line.split()[1]) for line in told if line.startswith("begun")}
        ended = {int(line.split()[1]) for line in told if line.startswith("ended") and line.endswith("\n")}
        with opened(path, 100000) as state:
            left, waiting = set(state.todo()), {each.index for each in state.open_attempts()}
            assert not ended & (left | waiting)
            assert not began & left
            assert len(waiting) <= 1
            for index in waiting:
                state.give_up(index)


def test_one_use_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with opened(path), pytest.raises(StateError, match="this process uses it already"):
        State(path, entropy=1)
    with opened(path) as state:
        assert state.goes_on


@pytest.mark.parametrize("first", ["new", "goes on"])
def test_another_process_is_refused_as_long_as_one_lives(tmp_path: Path, first: str) -> None:
    path = tmp_path / "runs.db"
    if first == "goes on":
        with opened(path):
            pass
    code = "import sys; from comfyreport.ledger.state import State; State(sys.argv[1], entropy=1, patience=0.05)"
    with opened(path) as state:
        # What reads the file here takes no lock away.
        with pytest.raises(StateError):
            State(path, entropy=1)
        done = subprocess.run(
            [sys.executable, "-c", code, path], check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        assert f"--state {path} can't be used: another process uses it" in done.stderr
        end(state, 1)
    assert subprocess.run([sys.executable, "-c", code, path], check=False, cwd=ROOT).returncode == 0


def test_two_that_make_it_at_once(tmp_path: Path) -> None:
    first, second = (State(tmp_path / "runs.db", entropy=each, patience=0.05) for each in (1, 2))
    with contextlib.closing(first), contextlib.closing(second):
        first.check("ab", 5)
        with pytest.raises(StateError, match="another process uses it"):
            second.check("ab", 5)
        end(first, 1)
    third, fourth = (State(tmp_path / "runs2.db", entropy=each) for each in (1, 2))
    with contextlib.closing(third):
        third.check("ab", 5)
    with contextlib.closing(fourth), pytest.raises(StateError, match="has just made it") as raised:
        fourth.check("ab", 5)
    assert raised.value.hint == "run the command again to go on with it"


def test_it_may_be_opened_by_one_thread_and_used_by_another(tmp_path: Path) -> None:
    with opened(tmp_path / "runs.db") as state:
        thread = threading.Thread(target=end, args=(state, 1))
        thread.start()
        thread.join()
        assert list(state.todo()) == [2, 3, 4, 5]


def test_many_runs(tmp_path: Path) -> None:
    total = 100_000
    with opened(tmp_path / "runs.db", total) as state:
        assert state.todo()[-1] == total
        assert len(state.todo()) == total
        assert state.todo().itemsize * total < 2**20


def test_its_companions() -> None:
    assert companions("a/runs.db") == ("a/runs.db-journal", "a/runs.db-wal", "a/runs.db-shm")
