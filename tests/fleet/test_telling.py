"""What a worker tells, and when: in batches, thinned, in order; what can't be told goes with the end."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from comfyreport.fleet.assignment import Assignment, Message, Note
from comfyreport.fleet.channel import Stop
from comfyreport.fleet.telling import Teller
from comfyreport.jobs.job import Job
from comfyreport.timing import Timing
from tests.fleet.fakes import run_event

SAMPLER = ev.NodeRef(id="3", class_type="KSampler")
NOTE = Note("http://127.0.0.1:8188", "p", "c")


class Noted:
    """A channel that keeps what it is told, unless it is broken."""

    pause = 0.05

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.broken = False
        self.looks = 0
        self.stopping: Stop = ""
        self.kept: list[Note | None] = []

    def send(self, message: Message) -> None:
        if self.broken:
            raise OSError("the engine is gone")
        self.messages.append(message)

    def note(self) -> Note | None:
        return self.kept[-1] if self.kept else None

    def keep(self, note: Note | None) -> None:
        if self.broken:
            raise OSError("the engine is gone")
        self.kept.append(note)

    def stop(self) -> Stop:
        self.looks += 1
        return self.stopping


def teller(channel: Noted) -> Teller:
    return Teller(channel, Assignment("c", 3, Job(), Timing()), "a", "gpu1")


def step(number: int) -> ev.Event:
    return run_event(
        ev.NodeProgress, 3, number / 10, step=number, max_steps=20, eta_seconds=1.0, node=SAMPLER, pass_number=1
    )


def test_events_go_together_and_steps_between_two_messages_are_left_out() -> None:
    channel = Noted()
    one = teller(channel)
    one.add([run_event(ev.NodeStarted, 3, 0.0, node=SAMPLER), step(1)])
    one.add([step(2), step(3)])
    one.add([run_event(ev.NodePreview, 3, 0.3, media_type="image/png", image=b"x" * 100_000)])
    one.flush()
    one.flush()
    (message,) = channel.messages
    assert [event.type for event in message.events] == ["node_started", "node_progress"]  # type: ignore[attr-defined]
    assert message.events[-1] == step(3)
    assert (message.command, message.index, message.attempt, message.number, message.worker) == ("c", 3, "a", 1, "gpu1")


def test_a_note_goes_at_once_even_alone() -> None:
    channel = Noted()
    one = teller(channel)
    one.flush(NOTE)
    assert (channel.messages[0].note, channel.messages[0].events, one.told) == (NOTE, (), 1)


@pytest.mark.parametrize("recovers", [True, False])
def test_what_cant_be_sent_goes_with_the_end(recovers: bool) -> None:
    channel = Noted()
    channel.broken = True
    one = teller(channel)
    one.add([step(1)])
    one.flush()
    channel.broken = not recovers
    one.add([step(2)])
    one.flush()
    untold = one.take_untold()
    assert sorted(each.number for each in (*untold, *channel.messages)) == [1, 2]
    assert len(untold) == (1 if recovers else 2)
    assert one.told == 2
