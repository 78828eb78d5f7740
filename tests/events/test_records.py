"""Records behave like frozen dataclasses: each property is checked against one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.events.records import Record, positional, record


@record
class Base(Record):
    """A record."""

    number: int
    kind: str = field(default="base", init=False)


@record
class Child(Base):
    """A record that adds to another."""

    kind: str = field(default="child", init=False)
    text: str = "usual"
    names: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDataclass:
    """What a `Child` would be as a plain dataclass."""

    number: int
    kind: str = field(default="child", init=False)
    text: str = "usual"
    names: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize("values", [{"number": 1}, {"number": 2, "text": "x"}, {"number": 3, "names": {"a": 1}}])
def test_a_record_behaves_like_a_frozen_dataclass(values: dict[str, Any]) -> None:
    child, expected = Child(**values), ChildDataclass(**values)
    assert repr(child) == repr(expected).replace("ChildDataclass", "Child")
    assert dataclasses.asdict(child) == dataclasses.asdict(expected)
    assert dataclasses.replace(child, number=9) == Child(**values | {"number": 9})
    assert child == Child(**values) != Base(number=values["number"])
    assert copy.copy(child) == copy.deepcopy(child) == pickle.loads(pickle.dumps(child)) == child
    with pytest.raises(dataclasses.FrozenInstanceError):
        child.text = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del child.text
    assert not hasattr(child, "__dict__")


@pytest.mark.parametrize("values", [{}, {"number": 1, "other": 2}, {"number": 1, "kind": "x"}])
def test_a_record_refuses_what_a_frozen_dataclass_refuses(values: dict[str, Any]) -> None:
    for cls in (Child, ChildDataclass):
        with pytest.raises(TypeError):
            cls(**values)
    with pytest.raises(TypeError):
        Child(1)  # type: ignore[call-arg]


def test_values_of_default_factories_are_not_shared() -> None:
    assert Child(number=1).names is not Child(number=1).names


def test_a_base_that_is_used_first_does_not_change_its_children() -> None:
    assert Base(number=1).kind == "base"
    assert Child(number=1, text="own").text == "own"


def test_a_record_is_made_from_its_values_in_order() -> None:
    assert positional(Child)(1, "own", {"a": 2}) == Child(number=1, text="own", names={"a": 2})
    with pytest.raises(TypeError):
        positional(Child)(1)


def test_records_are_hashed_by_their_fields() -> None:
    refs = {ev.NodeRef(id="1"), ev.NodeRef(id="1"), ev.NodeRef(id="2")}
    assert len(refs) == 2
    with pytest.raises(TypeError):
        hash(Child(number=1))
