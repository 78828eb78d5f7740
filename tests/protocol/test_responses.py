"""HTTP responses: bodies of any shape, read into typed values."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport.events import NodeRef
from comfyreport.protocol import responses
from tests import recordings

SAMPLER = NodeRef(id="3", class_type="KSampler", title="My sampler")


def nested(depth: int) -> list[Any]:
    """A list in a list in a list: as deep as a body that orjson accepts can be."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


DEEP = nested(sys.getrecursionlimit())


def posts(name: str) -> list[tuple[int, Any]]:
    """Status and body of each answer to POST /prompt."""
    return [
        (record["status"], record.get("response"))
        for record in recordings.load(name)
        if record.get("path") == "/prompt" and record["dir"] == "in" and record["kind"] == "http"
    ]


def refusals() -> dict[str, Any]:
    """The refused submissions of the recording of validation errors, by the note that stands before each."""
    bodies: dict[str, Any] = {}
    note = ""
    for record in recordings.load("e_validation_error"):
        if record["kind"] == "note":
            note = record["note"]
        elif record.get("path") == "/prompt" and record["dir"] == "in":
            bodies[note] = record.get("response")
    return bodies


def test_an_accepted_prompt() -> None:
    [(status, body)] = posts("c_partial_cache")
    assert status == 200
    assert responses.read_accepted(body, {}) == responses.Accepted(body["prompt_id"], ())


def test_an_accepted_prompt_with_a_dropped_output() -> None:
    body = refusals()["one_output_good_one_bad_200"]
    response = responses.read_accepted(body, {"3": SAMPLER})
    assert response is not None
    assert response.node_errors
    assert all(error.node.id and error.type and error.message for error in response.node_errors)


@pytest.mark.parametrize("body", [None, [], "ok", 7, {}, {"error": "x"}])
def test_a_200_that_isnt_comfyuis(body: Any) -> None:
    assert responses.read_accepted(body, {}) is None


def test_an_answer_with_an_id_of_the_wrong_type() -> None:
    assert responses.read_accepted({"prompt_id": ["x"], "node_errors": [1]}, {}) == responses.Accepted(None, ())


@pytest.mark.parametrize(
    ("note", "code"),
    [
        ("missing_node_class", "missing_node"),
        ("no_class_type", "invalid_workflow"),
        ("required_input_missing", "invalid_input"),
        ("value_not_in_list", "missing_model"),
        ("value_not_in_list_sampler", "invalid_input"),
        ("invalid_input_type", "invalid_input"),
        ("value_smaller_than_min", "invalid_input"),
        ("bad_linked_input", "invalid_input"),
        ("link_to_missing_node", "invalid_input"),
        ("no_outputs", "invalid_workflow"),
        ("empty_prompt", "invalid_workflow"),
        ("cycle", "invalid_workflow"),
        ('no "prompt" key', "invalid_workflow"),
        ("prompt is a UI-format workflow", "invalid_workflow"),
        ("prompt is a list", "invalid_workflow"),
    ],
)
def test_refusals_of_the_real_server(note: str, code: str) -> None:
    response = responses.read_refused(refusals()[note], {})
    assert response is not None
    assert response.error.code == code
    assert response.error.message
    assert response.error.hint


def test_the_nodes_of_a_refusal_have_the_titles_of_the_workflow() -> None:
    response = responses.read_refused(refusals()["value_not_in_list_sampler"], {"3": SAMPLER})
    assert response is not None
    assert SAMPLER in [error.node for error in response.error.node_errors]
    untitled = responses.read_refused(
        {"error": {"message": "m"}, "node_errors": {"7": {"errors": [{"message": "x"}]}}}, {}
    )
    assert untitled is not None
    assert [error.node for error in untitled.error.node_errors] == [NodeRef(id="7", title="7")]


@pytest.mark.parametrize("body", [None, [], {}, {"error": None}, {"error": []}, "Internal Server Error"])
def test_a_400_that_isnt_comfyuis(body: Any) -> None:
    assert responses.read_refused(body, {}) is None


def test_a_refusal_in_one_word() -> None:
    response = responses.read_refused({"error": "no prompt"}, {})
    assert response is not None
    assert response.error.message == "no prompt"


def test_the_queue_is_sorted_and_positions_are_counted() -> None:
    body = {
        "queue_running": [[5, "a", {"1": {}}, {"client_id": "me"}, ["9"]]],
        "queue_pending": [[9, "d", {}, {}, []], [-45, "b", {}, {}, []], [7, "c"], "junk", [8], [1, ["x"]]],
    }
    queue = responses.read_queue(body)
    assert queue is not None
    assert [entry.prompt_id for entry in queue.pending] == ["b", "c", "d"]
    assert queue.running == (responses.QueueEntry(5, "a", "me", {"1": {}}, ("9",)),)
    assert [queue.position(name) for name in "abcdx"] == [0, 1, 2, 3, None]
    assert queue.remaining == 4


@pytest.mark.parametrize("body", [None, [], {}, {"queue_running": []}, {"queue_running": {}, "queue_pending": []}])
def test_what_is_no_queue(body: Any) -> None:
    assert responses.read_queue(body) is None


def history_of(name: str) -> responses.History:
    """The first history answer of a recording that has its prompt in it."""
    for record in recordings.load(name):
        response = record.get("response")
        if str(record.get("path", "")).startswith("/history/") and isinstance(response, dict) and response:
            [prompt_id] = response
            history = responses.read_history(response, prompt_id)
            assert history is not None
            return history
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("c_partial_cache", "success"),
        ("b_fully_cached", "success"),
        ("d_node_error", "error"),
        ("f_interrupt_midway", "interrupted"),
        ("d5_execution_blocked", "success"),
        ("o_websocket_output", "success"),
    ],
)
def test_history_has_the_end(name: str, end: str) -> None:
    history = history_of(name)
    assert history.end == end
    assert history.has_status
    assert (history.error is not None) == (end == "error")
    assert (history.interrupted is not None) == (end == "interrupted")


def test_history_has_the_outputs_the_cache_and_the_workflow() -> None:
    history = history_of("c_partial_cache")
    assert history.cached == ("4", "5", "6", "7")
    assert [(output.node, list(output.ui)) for output in history.outputs] == [("9", ["images"])]
    assert {ref.id for ref in responses.manifest_of(history.graph)} == set("3456789")
    assert history_of("o_websocket_output").outputs == ()


def test_an_expanded_nodes_output_is_the_display_nodes() -> None:
    body = {"p": {"outputs": {"2.0.0.2": {"images": []}}, "meta": {"2.0.0.2": {"display_node": "2"}}}}
    history = responses.read_history(body, "p")
    assert history is not None
    assert [output.node for output in history.outputs] == ["2"]


def test_an_entry_without_a_status_is_an_end_without_status() -> None:
    history = responses.read_history({"p": {"outputs": {}}}, "p")
    assert history is not None
    assert (history.end, history.has_status) == ("success", False)


@pytest.mark.parametrize("body", [None, [], {}, {"q": {}}, {"p": None}, {"p": []}])
def test_a_prompt_that_history_doesnt_have(body: Any) -> None:
    assert responses.read_history(body, "p") is None


def test_nodes_without_class_or_title_are_called_by_what_is_left() -> None:
    graph = {
        "1": {"class_type": "KSampler", "_meta": {"title": " "}},
        "2": {"class_type": None},
        "3": {"class_type": ["x"], "_meta": {"title": 7}},
        "4": "junk",
        "5": {"class_type": "A", "_meta": {"title": "T"}},
    }
    assert responses.manifest_of(graph) == (
        NodeRef(id="1", class_type="KSampler", title="KSampler"),
        NodeRef(id="2", title="2"),
        NodeRef(id="3", title="3"),
        NodeRef(id="5", class_type="A", title="T"),
    )
    assert responses.manifest_of([1]) == ()


def test_needed_nodes_come_after_those_they_need() -> None:
    graph = {
        "9": {"inputs": {"images": ["8", 0]}},
        "8": {"inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "3": {"inputs": {"model": ["4", 0], "seed": 7}},
        "4": {"inputs": {}},
        "5": {"inputs": {"x": ["9", 0]}},
        "a": {"inputs": {"x": ["b", 0]}},
        "b": {"inputs": {"x": ["a", 0], "y": ["none", 0]}},
    }
    order = responses.needed_nodes(graph, ["9"])
    assert sorted(order) == ["3", "4", "8", "9"]
    assert order.index("4") < order.index("3") < order.index("8") < order.index("9")
    assert sorted(responses.needed_nodes(graph, ["a", "nowhere"])) == ["a", "b"]
    assert responses.needed_nodes(None, ["9"]) == []


def test_bodies_nested_to_the_limit_are_read() -> None:
    """Python's own str() of such a value raises RecursionError."""
    assert responses.read_queue({"queue_running": [[1, DEEP, DEEP, DEEP]], "queue_pending": [[DEEP, "p"]]}) is not None
    status = {"status_str": DEEP, "messages": [[DEEP, {}], ["execution_cached", {"nodes": [DEEP]}]]}
    body = {"p": {"status": status, "outputs": {"1": {"x": DEEP}}, "prompt": [1, "p", DEEP, DEEP, [DEEP]]}}
    assert responses.read_history(body, "p") is not None
    assert responses.manifest_of({"1": {"class_type": DEEP, "_meta": DEEP}}) == (NodeRef(id="1", title="1"),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "status_str": JSON | st.just("error"),
        "messages": JSON
        | st.lists(
            st.tuples(
                st.sampled_from(["execution_error", "execution_interrupted", "execution_cached"]) | JSON,
                JSON | st.fixed_dictionaries({"nodes": JSON, "node_id": JSON, "traceback": JSON}),
            ).map(list),
            max_size=3,
        ),
    },
)
ENTRY = st.fixed_dictionaries({}, optional={"status": STATUS | JSON, "outputs": JSON, "meta": JSON, "prompt": JSON})


@given(JSON, ENTRY)
def test_bodies_of_any_shape_are_read(body: Any, entry: Any) -> None:
    responses.read_queue(body)
    responses.read_queue({"queue_running": [body, [body, body, body, body]], "queue_pending": [[body, "p"], [1, body]]})
    history = responses.read_history({"p": entry}, "p")
    assert history is not None
    responses.needed_nodes(history.graph, history.output_nodes)
    responses.needed_nodes(body, ["1"])
    responses.read_accepted({"prompt_id": body, "node_errors": {"1": body, "2": {"errors": [body]}}}, {})
    responses.read_refused({"error": {"type": body, "message": body, "details": body}, "node_errors": body}, {})
    responses.manifest_of({"1": body, "2": {"class_type": body, "_meta": {"title": body}}})


def test_a_submission_is_found_in_history_by_its_client() -> None:
    others = {"prompt": [1, "a", {}, {"client_id": "somebody"}, []]}
    own = {"prompt": [2, "b", {}, {"client_id": "me"}, []]}
    history = {"x": "odd", "y": {}, "a": others, "b": own}
    assert responses.find_submission(history, "me") == "b"
    assert responses.find_submission(history, "nobody") is None
    assert responses.find_submission([history], "me") is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"jobs": None},
        {"jobs": {}},
        {"jobs": [None, 1, "x", [], {}, {"id": 1}, {"id": "a"}, {"id": "b", "status": []}]},
    ],
)
def test_jobs_of_any_form(body: Any) -> None:
    found = responses.read_jobs(body)
    assert found is None or found.all == ()
