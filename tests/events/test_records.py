"""Records do what frozen dataclasses do: each promise is checked against one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.events.records import Record, record


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
class Like:
    """What a `Child` would be."""

    number: int
    kind: str = field(default="child", init=False)
    text: str = "usual"
    names: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize("values", [{"number": 1}, {"number": 2, "text": "x"}, {"number": 3, "names": {"a": 1}}])
def test_a_record_is_what_a_frozen_dataclass_is(values: dict[str, Any]) -> None:
    made, like = Child(**values), Like(**values)
    assert repr(made) == repr(like).replace("Like", "Child")
    assert dataclasses.asdict(made) == dataclasses.asdict(like)
    assert dataclasses.replace(made, number=9) == Child(**values | {"number": 9})
    assert made == Child(**values) != Base(number=values["number"])
    assert copy.copy(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.text = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.text
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("values", [{}, {"number": 1, "other": 2}, {"number": 1, "kind": "x"}])
def test_what_a_frozen_dataclass_refuses(values: dict[str, Any]) -> None:
    for cls in (Child, Like):
        with pytest.raises(TypeError):
            cls(**values)
    with pytest.raises(TypeError):
        Child(1)  # type: ignore[call-arg]


def test_defaults_that_are_made_are_not_shared() -> None:
    assert Child(number=1).names is not Child(number=1).names


def test_a_base_that_was_used_first_leaves_its_children_theirs() -> None:
    assert Base(number=1).kind == "base"
    assert Child(number=1, text="own").text == "own"


def test_records_are_hashed_by_what_is_in_them() -> None:
    refs = {ev.NodeRef(id="1"), ev.NodeRef(id="1"), ev.NodeRef(id="2")}
    assert len(refs) == 2
    with pytest.raises(TypeError):
        hash(Child(number=1))
