"""The JUnit report: read back with the library, and as CI systems read it."""

from __future__ import annotations

import builtins
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest
from comfyreport_junit import junit

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.testing import FakeStream, conforms, play, recordings
from comfyreport.testing.conformance import DiskFullStream
from comfyreport.testing.samples import hostile_values, sample_streams
from comfyreport.text import is_safe
from tests.plugins.events import DECODER, SAVER, EventBuilder, deliver, failed, fully_cached, image, txt2img

pytest.importorskip("junitparser")

# What the schema that most readers follow has (windyroad/JUnit-Schema): element, its attributes, its children.
SCHEMA = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": (
        {"name", "timestamp", "tests", "failures", "errors", "skipped", "time"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped", "system-out", "system-err"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
    "system-out": (set(), set()),
}


def check(element: ET.Element) -> None:
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) <= attributes
    assert {child.tag for child in element} <= children
    for text in (element.text or "", *element.attrib.values()):
        assert all(is_safe(each) or each == "\n" for each in text)
    for child in element:
        check(child)


def read(text: str) -> ET.Element:
    """A report, checked: its structure, its numbers, and that cases can be told apart."""
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    check(root)
    for suite in root:
        cases = suite.findall("testcase")
        names = [(case.get("classname"), case.get("name")) for case in cases]
        assert len(set(names)) == len(names)
        assert int(suite.get("tests", -1)) == len(cases)
        assert int(suite.get("failures", -1)) == len(suite.findall("testcase/failure"))
        assert int(suite.get("errors", -1)) == len(suite.findall("testcase/error"))
        assert int(suite.get("skipped", -1)) == len(suite.findall("testcase/skipped"))
    for number in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(number, -1)) == sum(int(suite.get(number, 0)) for suite in root)
    return root


def reported(events: list[ev.Event], **options: Any) -> ET.Element:
    out = FakeStream()
    deliver(junit(out, **options), events)
    return read(out.text)


def cases(root: ET.Element) -> dict[str, ET.Element]:
    return {case.get("name", ""): case for case in root.iter("testcase")}


def test_conforms() -> None:
    conforms(junit)


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str) -> None:
    root = read(play(junit, name))
    assert len(root) == 1
    statuses = [each.get("value") for each in root.iter("property") if each.get("name") == "status"]
    run = cases(root)["run"]
    assert (len(run.findall("failure") + run.findall("error")) == 0) is (statuses == ["success"])


@pytest.mark.parametrize(("title", "events"), list(sample_streams()), ids=lambda it: it if isinstance(it, str) else "")
def test_samples(title: str, events: list[ev.Event]) -> None:
    assert len(reported(events)) == sum(isinstance(event, ev.RunFinished) for event in events)


def test_a_run_and_its_output_nodes_are_cases() -> None:
    root = reported(txt2img())
    found = cases(root)
    assert list(found) == ["run", "Save Image (node 9)"]
    assert found["run"].get("time") == "23.4"
    assert found["Save Image (node 9)"].get("classname") == "comfyreport.SaveImage"
    assert found["Save Image (node 9)"].get("time") == "0.4"
    assert found["run"].findtext("system-out") == "/tmp/sunset.png"
    (suite,) = root
    assert (suite.get("name"), suite.get("time"), root.get("time")) == ("comfyreport", "23.4", "23.4")
    assert suite.get("timestamp") == "2026-03-04T05:06:07+00:00"
    properties = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert properties["prompt_id"] == "c0ffee00-1111-4222-8333-444455556666"
    assert properties["status"] == "success"


def test_each_node_with_outputs_is_one_case() -> None:
    found = cases(read(play(junit, "video")))
    assert list(found)[1:3] == ["SaveVideo (node 3)", "PreviewImage (node 4)"]
    assert len((found["PreviewImage (node 4)"].findtext("system-out") or "").splitlines()) == 8


def test_texts_are_told() -> None:
    found = cases(read(play(junit, "video")))
    assert any("\ntext: a\ntext: b" in (case.findtext("system-out") or "") for case in found.values())


def test_a_node_that_failed_is_a_case_that_failed() -> None:
    found = cases(reported(failed()))
    assert list(found) == ["run", "KSampler (node 3)"]
    failure = found["KSampler (node 3)"].find("failure")
    assert failure is not None
    assert failure.get("type") == "RuntimeError"
    assert "line 1559, in sample\n    return common_ksampler(model)" in (failure.text or "")
    assert "Hint: the text encoder doesn't fit the model" in (found["run"].findtext("failure") or "")


def test_an_output_node_that_the_run_didnt_come_to_is_skipped() -> None:
    found = cases(read(play(junit, "node-error")))
    assert list(found) == ["run", "Save Image (node 9)", "ProbeRaise (node 10)"]
    assert found["Save Image (node 9)"].find("skipped") is not None
    assert found["ProbeRaise (node 10)"].find("failure") is not None


def test_an_output_node_that_ran_without_outputs_passed() -> None:
    found = cases(reported(EventBuilder().begin().end(executed=("9",), output_nodes=("9", "99"))))
    assert list(found) == ["run", "Save Image (node 9)"]
    assert list(found["Save Image (node 9)"]) == []


def test_each_refused_node_is_a_case_that_failed() -> None:
    refused = tuple(
        ev.NodeError(node=node, type="value_not_in_list", message="Value not in list", details=f"x {number}")
        for number, node in enumerate((SAVER, DECODER, DECODER))
    )
    error = ev.ErrorInfo(code="rejected", message="The workflow was refused", node_errors=refused)
    found = cases(reported(EventBuilder().begin().end("rejected", error)))
    assert list(found) == ["run", "Save Image (node 9)", "VAE Decode (node 8)"]
    failure = found["VAE Decode (node 8)"].find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type")) == ("Value not in list x 1", "value_not_in_list")


@pytest.mark.parametrize(
    ("status", "tag"),
    [("rejected", "failure"), ("partial", "failure"), ("timeout", "failure"), ("lost", "error"), ("usage", "error"),
     ("unreachable", "error"), ("interrupted", "error"), ("cancelled", "error"), ("internal", "error")],
)  # fmt: skip
def test_failures_and_errors(status: ev.Status, tag: str) -> None:
    run = cases(reported(EventBuilder().begin().end(status)))["run"]
    problem = run.find(tag)
    assert problem is not None
    assert problem.get("type") == status


def test_cached_outputs_passed() -> None:
    assert list(cases(reported(fully_cached()))) == ["run", "Save Image (node 9)"]


def test_warnings_are_told_with_the_run() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.Warning, code="stalled", message="nothing heard")
    assert cases(reported(builder.end()))["run"].findtext("system-out") == "[WARN] nothing heard"


def test_several_runs_are_several_suites() -> None:
    events = [replace(event, run_index=1) for event in txt2img()[:-1]]
    events += [replace(event, run_index=2) for event in failed()]
    root = reported(events, suite="nightly")
    assert [suite.get("name") for suite in root] == ["nightly 1", "nightly 2"]
    assert [suite.get("failures") for suite in root] == ["0", "2"]
    assert root.get("name") == "nightly"
    assert root.get("time") == "32.3"


def test_text_of_a_server_is_text() -> None:
    evil = 'a"b<c>&amp;]]><!-- \x00\x07\ufffe\ud800 &#x1b; </testcase>'
    node = ev.NodeRef(id=evil, class_type=evil, title=evil)
    output = replace(image(), node=node, filename=evil, url=evil, kind="image")
    error = ev.ErrorInfo(code="node_error", message=evil, node=node, exception_type=evil, traceback=(evil,))
    root = reported(EventBuilder().begin().end("error", error, outputs=(output,)))
    shown = 'a"b<c>&amp;]]><!-- \\x00\\x07\\ufffe\\ud800 &#x1b; </testcase>'
    assert root.findtext(".//testcase[2]/failure") == shown
    assert root.findtext(".//testcase[2]/system-out") == shown
    reported(hostile_values())


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "junitparser":
            raise ModuleNotFoundError("No module named 'junitparser'", name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ReporterError, match="junitparser") as caught:
        junit(FakeStream())
    assert caught.value.hint == 'pip install "comfyreport[junit]"'


def test_a_full_disk_is_raised() -> None:
    with pytest.raises(OSError, match="No space left"):
        deliver(junit(DiskFullStream()), txt2img())


def test_a_node_that_was_interrupted_has_not_failed() -> None:
    root = ET.fromstring(play(junit, "interrupted"))
    assert (root.get("failures"), root.get("errors")) == ("0", "2")
