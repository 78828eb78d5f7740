"""The folder by which workers of one machine and their command hear of one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyreport.fleet.assignment import Message, Note
from comfyreport.fleet.channel import FolderChannel

NOTE = Note("http://127.0.0.1:8188", "p", "c", "gpu1", "host1")


def message(index: int, number: int) -> Message:
    return Message("c", index, "a", number, "gpu1", 0.0)


def test_messages_come_once_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    worker, command = FolderChannel(str(tmp_path), 7), FolderChannel(str(tmp_path))
    for number in (2, 1, 10):
        worker.send(message(7, number))
    assert [each.number for each in command.receive()] == [1, 2, 10]
    assert command.receive() == []
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_there_for_the_next_attempt_at_the_same_run(tmp_path: Path) -> None:
    FolderChannel(str(tmp_path), 7).keep(NOTE)
    assert FolderChannel(str(tmp_path), 7).note() == NOTE
    assert FolderChannel(str(tmp_path), 8).note() is None
    FolderChannel(str(tmp_path), 7).keep(None)
    assert FolderChannel(str(tmp_path), 7).note() is None


def test_a_wish_to_stop_grows(tmp_path: Path) -> None:
    worker, command = FolderChannel(str(tmp_path), 7), FolderChannel(str(tmp_path))
    seen = [worker.stop()]
    for stop in ("", "waiting", "all"):
        command.ask_to_stop(stop)
        seen.append(worker.stop())
    assert seen == ["", "", "waiting", "all"]


def test_a_worker_without_the_folder_has_no_notes_and_can_tell_nothing(tmp_path: Path) -> None:
    worker = FolderChannel(str(tmp_path / "elsewhere"), 7)
    worker.keep(NOTE)
    assert (worker.note(), worker.stop()) == (None, "")
    with pytest.raises(OSError, match="No such file"):
        worker.send(message(7, 1))
