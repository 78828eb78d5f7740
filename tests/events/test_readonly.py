"""Dicts and lists in events can't be changed, and are like ordinary ones in all other ways."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from comfyreport import events as ev
from comfyreport.events.jsonlines import to_dict, to_line
from comfyreport.events.readonly import read_only

VALUE: dict[str, Any] = {"a": [1, {"b": [2, (3, [4])]}], "c": {"d": {}}, "e": None}


def output(value: Any) -> ev.Output:
    return ev.Output(node=ev.NodeRef(id="1"), index=0, kind="value", value=value)


def finished(**details: Any) -> ev.RunFinished:
    return ev.RunFinished(seq=1, time=0.0, elapsed=0.0, status="success", exit_code=0, **details)


def holders(value: Any) -> list[Any]:
    """All dicts and lists in *value*, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value] * isinstance(value, (dict, list)) + [each for item in inner for each in holders(item)]


CHANGES: list[Callable[[Any], Any]] = [
    lambda held: held.clear(),
    lambda held: held.pop(),
    lambda held: held.__setitem__(0, 1),
    lambda held: held.__delitem__(0),
    lambda held: held.update(a=1) if isinstance(held, dict) else held.append(1),
    lambda held: held.setdefault("z", 1) if isinstance(held, dict) else held.extend([1]),
    lambda held: held.popitem() if isinstance(held, dict) else held.insert(0, 1),
    lambda held: held.__ior__({}) if isinstance(held, dict) else held.__iadd__([1]),
    lambda held: held.pop("a", None) if isinstance(held, dict) else held.sort(),
    lambda held: held.update({}) if isinstance(held, dict) else held.__imul__(2),
    lambda held: held.clear() if isinstance(held, dict) else held.reverse(),
    lambda held: held.clear() if isinstance(held, dict) else held.remove(1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed_all_the_way_down(change: Callable[[Any], Any]) -> None:
    told = output(VALUE).value
    every = holders(told)
    assert len(every) == 7
    for held in every:
        with pytest.raises(TypeError, match="read-only"):
            change(held)
    assert told == VALUE


def test_every_method_that_changes_a_dict_or_a_list_is_refused() -> None:
    safe = {"copy", "count", "fromkeys", "get", "index", "items", "keys", "values"}
    for kind, plain in ((type(read_only({})), dict), (type(read_only([])), list)):
        for name in set(dir(plain)) - safe:
            if not name.startswith("_"):
                assert getattr(kind, name) is not getattr(plain, name), name


def test_it_is_like_an_ordinary_one() -> None:
    told = output(VALUE).value
    assert told == VALUE
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(VALUE))
    assert orjson.dumps(told) == orjson.dumps(VALUE)
    for same in (copy.copy(told), copy.deepcopy(told), pickle.loads(pickle.dumps(told))):
        assert same == VALUE
        with pytest.raises(TypeError):
            same["x"] = 1
    ordinary = told.copy()
    ordinary["x"] = 1
    assert repr(told) == repr(VALUE)


def test_events_take_part() -> None:
    seconds = {"3": 1.5}
    event: Any = finished(outputs=(output(VALUE),), node_seconds=seconds)
    with pytest.raises(TypeError):
        event.node_seconds["3"] = 9.0
    with pytest.raises(TypeError):
        finished().node_seconds["3"] = 9.0  # type: ignore[index]
    seconds["3"] = 7.0
    assert event.node_seconds == {"3": 1.5}, "it holds a copy"
    assert pickle.loads(pickle.dumps(event)) == event
    assert dataclasses.replace(event, exit_code=1).node_seconds == {"3": 1.5}
    assert dataclasses.asdict(event)["outputs"][0]["value"] == VALUE
    assert json.loads(to_line(event))["outputs"][0]["value"] == json.loads(json.dumps(VALUE))
    assert to_dict(event)["node_seconds"] == {"3": 1.5}


def test_endless_nesting_is_left_as_it_is() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert output(deep).value
