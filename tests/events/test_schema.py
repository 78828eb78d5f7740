"""The JSON Schema: valid itself, complete, and matched by every event."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator

from comfyreport import events as ev
from comfyreport.events.jsonlines import to_dict, to_line
from comfyreport.events.schema import STATUSES, json_schema
from tests.plugins.events import SAMPLER, failed, fully_cached, txt2img

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

# Values of fields whose type says too little.
VALUES: dict[tuple[str, str], Any] = {
    ("RunFinished", "exit_code"): 8,
    ("StreamFinished", "exit_code"): 5,
    ("StreamFinished", "status"): "partial",
    ("ErrorInfo", "code"): "node_error",
    ("Warning", "code"): "stalled",
    ("NodeProgress", "step"): 2.4e-07,
    ("Output", "value"): {"any": ["thing", 1, None]},
    ("InputValue", "value"): {"any": ["thing", 1, None]},
}


def sample(hint: Any, *, full: bool) -> Any:
    """A value of a type; *full* ones leave nothing None or empty."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return sample(arguments[0], full=full)
    if origin in (typing.Union, types.UnionType):
        return sample(arguments[0], full=full) if full else None
    if origin is Literal:
        return arguments[-1]
    if origin is tuple:
        return (sample(arguments[0], full=full),) * 2 if full else ()
    if origin is not None and issubclass(origin, Mapping):
        return {"3": 0.5} if full else {}
    plain = {str: "text", int: 1, float: 1.0, bool: True, bytes: b"\xff\xd8"}
    return plain[hint] if hint in plain else build(hint, full=full)


def build(cls: type, *, full: bool) -> Any:
    """An instance of a dataclass: with every field, or with those alone that have no default."""
    hints = typing.get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for field in fields(cls):
        included = full or (field.default is field.default_factory)  # both MISSING: the field has no default
        if field.init and included:
            name = (cls.__name__, field.name)
            values[field.name] = VALUES[name] if name in VALUES else sample(hints[field.name], full=full)
    return cls(**values)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_it_is_made_anew_each_time() -> None:
    json_schema()["$defs"].clear()
    assert json_schema() == SCHEMA


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("cls", ev.EVENT_CLASSES, ids=lambda cls: cls.__name__)
def test_every_event_is_valid(cls: type[ev.Event], full: bool) -> None:
    event = build(cls, full=full)
    data = json.loads(to_line(event))
    VALIDATOR.validate(data)
    definition = SCHEMA["$defs"][data["type"]]
    Draft202012Validator({**definition, "$defs": SCHEMA["$defs"]}).validate(data)
    if full:
        described = {key for key, value in definition["properties"].items() if value is not False}
        assert set(data) == described
    else:
        assert set(definition["required"]) <= set(data)


@pytest.mark.parametrize("make", [txt2img, fully_cached, failed])
def test_every_line_of_a_run_is_valid(make: typing.Callable[[], list[ev.Event]]) -> None:
    for event in make():
        VALIDATOR.validate(json.loads(to_line(event)))


def test_there_is_a_definition_for_each_type() -> None:
    assert [each["$ref"] for each in SCHEMA["oneOf"]] == [f"#/$defs/{name}" for name in ev.EVENT_TYPES]
    assert set(ev.EVENT_TYPES) <= set(SCHEMA["$defs"])


def invalid_lines() -> dict[str, dict[str, Any]]:
    step = to_dict(next(event for event in txt2img() if isinstance(event, ev.NodeProgress)))
    end = to_dict(next(event for event in failed() if isinstance(event, ev.RunFinished)))
    started = to_dict(txt2img()[0])
    warning = to_dict(ev.Warning(seq=1, time=0.0, elapsed=0.0, code="stalled", message=""))
    return {
        "no type": {key: value for key, value in step.items() if key != "type"},
        "unknown type": {**step, "type": "node_progressed"},
        "step 0": {**step, "step": 0},
        "text for a step": {**step, "step": "5"},
        "no eta": {key: value for key, value in step.items() if key != "eta_seconds"},
        "null": {**step, "raw_id": None},
        "nested node": {**step, "node": {"id": "3"}},
        "fraction over 1": {**step, "fraction": 1.01},
        "step elsewhere": {**started, "step": 1},
        "seq as text": {**started, "seq": "1"},
        "unknown status": {**end, "status": "failed"},
        "unknown exit code": {**end, "exit_code": 9},
        "unknown error code": {**end, "error": {**end["error"], "code": "boom"}},
        "error without message": {**end, "error": {"code": "node_error"}},
        "unknown warning code": {**warning, "code": "odd"},
        "not an object": typing.cast("dict[str, Any]", [1]),
    }


@pytest.mark.parametrize("name", invalid_lines())
def test_an_invalid_line_is_refused(name: str) -> None:
    assert not VALIDATOR.is_valid(invalid_lines()[name])


def test_unknown_fields_are_allowed() -> None:
    VALIDATOR.validate({**to_dict(txt2img()[0]), "new_in_1_1": [1]})


def test_a_summary_is_valid() -> None:
    for event in txt2img():
        VALIDATOR.validate(json.loads(to_line(event, without=("nodes", "node_seconds", "node_times"))))


def test_every_field_has_a_description() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition["description"], name
        for key, value in definition["properties"].items():
            assert value is False or value.get("description"), f"{name}.{key}"


def test_closed_lists() -> None:
    def listed(name: str, key: str) -> dict[str, str]:
        return {each["const"]: each["description"] for each in SCHEMA["$defs"][name]["properties"][key]["oneOf"]}

    assert set(listed("run_finished", "status")) == set(typing.get_args(ev.Status)) == set(STATUSES)
    assert set(listed("stream_finished", "status")) == set(STATUSES)
    assert listed("error_info", "code") == ev.ERROR_CODES
    assert listed("warning", "code") == ev.WARNING_CODES
    assert listed("run_finished", "status")["lost"].endswith("(exit code 6)")
    assert set(ev.EXIT_CODES) == set(STATUSES)


def test_the_description_has_the_promises_to_readers() -> None:
    for word in ("stream_started", "stream_finished", "run_finished", "seq", "ignore"):
        assert word in SCHEMA["description"]


def test_a_node_without_class_is_named_by_its_id() -> None:
    event = replace(build(ev.NodeStarted, full=False), node=replace(SAMPLER, class_type="", title=""))
    data = to_dict(event)
    assert (data["node"], data["title"]) == ("3", "")
    VALIDATOR.validate(data)
