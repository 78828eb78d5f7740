"""The order of hooks among reporters, and which reporters are chosen."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import hookimpl
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import selected
from tests.packages import make_plugins
from tests.reporting.deliveries import HookCall, Session, many_steps, one_of_each, spy


def marked(name: str, calls: list[HookCall], **marks: Any) -> Any:
    """A reporter whose hooks are marked: `event={"tryfirst": True}`."""
    reporter = spy(name, calls, {PREFIX + hook for hook in marks})
    for hook, mark in marks.items():
        function = vars(type(reporter))[PREFIX + hook]
        setattr(type(reporter), PREFIX + hook, hookimpl(**mark)(function))
    return reporter


FIRST, LAST, PLAIN = {"tryfirst": True}, {"trylast": True}, dict[str, bool]()


@pytest.mark.parametrize("hook", ["event", "run_finished", "tick", "close"])
def test_marks_come_before_the_order_of_the_command_line(hook: str) -> None:
    calls: list[HookCall] = []
    plugins = make_plugins()
    marks = {"a": LAST, "b": PLAIN, "c": FIRST, "d": PLAIN, "e": FIRST, "f": LAST}
    for name, mark in marks.items():
        plugins.add_object(marked(name, calls, **{hook: mark}), name)
    session = Session(plugins)
    if hook == "tick":
        session.delivery.publish(many_steps(1).events)
        session.until(lambda: len(calls) >= 6)
    else:
        session.delivery.publish(one_of_each())
    session.delivery.close(everybody=True, hurry=lambda: False)
    assert [call.name for call in calls[:6]] == ["c", "e", "b", "d", "a", "f"]


def test_each_event_is_told_as_such_before_its_own_hook() -> None:
    calls: list[HookCall] = []
    plugins = make_plugins()
    plugins.add_object(marked("a", calls, event=PLAIN, run_started=FIRST), "a")
    plugins.add_object(marked("b", calls, event=LAST, run_started=PLAIN), "b")
    session = Session(plugins)
    session.delivery.publish([event for event in one_of_each() if getattr(event, "type", "") == "run_started"])
    session.delivery.close(everybody=True, hurry=lambda: False)
    told = [(call.name, call.hook.removeprefix(PREFIX)) for call in calls]
    assert told == [("a", "event"), ("b", "event"), ("a", "run_started"), ("b", "run_started")]


@pytest.mark.parametrize(
    ("specs", "default", "wanted"),
    [
        ([], ["console"], ["console"]),
        (["jsonl"], ["console"], ["jsonl"]),
        (["+jsonl"], ["console"], ["console", "jsonl"]),
        (["+jsonl=x,rate=0", "+quiet"], ["a", "b"], ["a", "b", "jsonl=x,rate=0", "quiet"]),
        (["+jsonl", "quiet"], ["console"], ["jsonl", "quiet"]),
    ],
)
def test_a_plus_adds_to_the_default(specs: list[str], default: list[str], wanted: list[str]) -> None:
    assert selected(specs, default) == wanted
