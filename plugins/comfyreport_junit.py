"""The `junit` reporter: runs as test results in JUnit's XML, for CI systems.

A run is a test suite. Its cases are the run itself, each node that was to make an output or made one, and each one that
failed or was refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from comfyreport import (
    ErrorInfo,
    NodeRef,
    Output,
    ReporterError,
    RunFinished,
    RunView,
    Stream,
    Warning,  # noqa: A004  the event's name
    describe_inputs,
    describe_result,
    hookimpl,
    printable,
)

if TYPE_CHECKING:
    from junitparser import Error, Failure, TestCase, TestSuite

NAME_LIMIT, LINE_LIMIT = 200, 1_000
VALUE_LIMIT, WARNINGS = 4_000, 1_000
CLASS = "comfyreport"
DETAILED = 200
"""Of so many runs each node has a case; of more, only those of a run that failed."""
FAILURES = ("error", "rejected", "partial", "timeout")
"""Statuses that tell of the workflow, a failure in JUnit's words; the others tell of what is around it, an error."""


class JUnit:
    """Keeps what the runs came to, and writes it at the end.

    :param suite: the name of the test suites.
    """

    def __init__(self, out: Stream, suite: str) -> None:
        self._out = out
        self._name = suite
        self._suites: list[tuple[TestSuite, float]] = []
        self._warnings: dict[int | None, list[str]] = {}

    @hookimpl
    def comfyreport_warning(self, event: Warning) -> None:
        """Keep it for the case of its run."""
        message = _line(f"[WARN] {event.message or event.code}")
        kept = self._warnings.setdefault(event.run_index, [])
        kept += [message] * (len(kept) < WARNINGS)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """Make the run a test suite."""
        from junitparser import TestSuite

        number = "" if event.run_index is None else f" {event.run_index}"
        suite = TestSuite(_name(self._name) + number)
        begun = datetime.fromtimestamp(event.time - event.seconds, tz=timezone.utc)
        suite.timestamp = begun.isoformat(timespec="seconds")
        facts = {
            "workflow": event.workflow,
            "server": event.server or run.server,
            "prompt_id": event.prompt_id,
            "status": event.status,
            "seed": event.seed,
        }
        for name, value in facts.items():
            if value not in (None, ""):
                suite.add_property(name, _line(value))
        inputs = "" if event.run_index is None else describe_inputs(event.inputs)
        suite.add_testcase(self._run_case(event, f"run{number}{f' ({inputs})' if inputs else ''}"))
        if event.status != "success" or len(self._suites) < DETAILED:
            suite.add_testcases(list(_node_cases(event, run)))
        self._suites.append((suite, round(event.seconds, 3)))

    @hookimpl
    def comfyreport_close(self) -> None:
        """Write the report."""
        from junitparser import JUnitXml

        report = JUnitXml(_name(self._name))
        for suite, _ in self._suites:
            report.add_testsuite(suite)
        report.update_statistics()  # type: ignore[no-untyped-call]
        # The library takes the sum of the cases, of which the first holds the others.
        for suite, seconds in self._suites:
            suite.time = seconds
        report.time = round(sum(seconds for _, seconds in self._suites), 3)
        self._out.write_bytes(report.tostring() + b"\n")  # type: ignore[no-untyped-call]
        self._out.close()

    def _run_case(self, event: RunFinished, name: str) -> TestCase:
        from junitparser import Error, Failure, TestCase

        case = TestCase(name, CLASS, round(event.seconds, 3))
        if event.status != "success":
            message = event.status if event.error is None else event.error.message or event.error.code
            problem = (Failure if event.status in FAILURES else Error)(_line(message), _line(event.status))
            problem.text = "\n".join(describe_result(event))
            case.result = [problem]
        # Those of no run, such as of the connection before it, are told with the first.
        warnings = [line for index in {None, event.run_index} for line in self._warnings.pop(index, [])]
        lines = [*_output_lines(event.outputs), *warnings]
        if lines:
            case.system_out = "\n".join(lines)
        return case


def _node_cases(event: RunFinished, run: RunView) -> Iterable[TestCase]:
    """A case for each node that was to make something or did, and for each that failed or was refused."""
    from junitparser import Error, Failure, Skipped, TestCase

    outputs: dict[str, list[Output]] = {}
    refs = {key: run.nodes[key].ref for key in event.output_nodes or () if key in run.nodes}
    problems: dict[str, Failure | Error] = {}
    for output in event.outputs:
        refs[output.node.id] = output.node
        outputs.setdefault(output.node.id, []).append(output)
    if event.error is not None:
        for ref, message, kind, text in _problems(event.error):
            refs[ref.id] = ref
            problem = (Failure if event.status in FAILURES else Error)(_line(message), _line(kind))
            problem.text = text
            problems.setdefault(ref.id, problem)
    for key, ref in refs.items():
        # Titles needn't be unique, and CI systems tell cases apart by their names.
        title = ref.title or ref.name
        case = TestCase(
            f"{_name(title)} (node {_name(key)})", f"{CLASS}.{_class(ref)}", event.node_seconds.get(key, 0.0)
        )
        if key in problems:
            case.result = [problems[key]]
        elif key not in outputs and key not in event.executed and key not in event.cached:
            case.result = [Skipped("the run ended before it")]
        if key in outputs:
            case.system_out = "\n".join(_output_lines(outputs[key]))
        yield case


def _problems(error: ErrorInfo) -> Iterable[tuple[NodeRef, str, str, str]]:
    """The nodes that an error is about, each with a message, the kind of problem, and more about it."""
    if error.node is not None:
        lines = [line for entry in error.traceback for line in entry.splitlines()]
        yield error.node, error.message, error.exception_type or error.code, "\n".join(map(_line, lines))
    for refused in error.node_errors:
        yield refused.node, f"{refused.message} {refused.details}".strip(), refused.type, _line(refused.details)


def _output_lines(outputs: Iterable[Output]) -> Iterable[str]:
    """Where each output is: its path, else its URL, else what it is."""
    for output in outputs:
        if output.kind in ("text", "value"):
            yield f"{output.kind}: {printable(output.value, VALUE_LIMIT)}"
        else:
            yield _line(output.path or output.url or output.filename or output.kind)


def _class(ref: NodeRef) -> str:
    """The class of a node, in which a dot would begin a package."""
    return _name(ref.class_type or "node").replace(".", "_")


def _name(text: object) -> str:
    return printable(text, NAME_LIMIT)


def _line(text: object) -> str:
    """*text* on one line, without characters that XML doesn't have."""
    return printable(text, LINE_LIMIT)


def junit(out: Stream, *, suite: str = "comfyreport") -> JUnit:
    """Runs as test results in JUnit's XML, for CI systems: a case for each run and each node that made something.

    :param suite: the name of the test suites
    """
    try:
        import junitparser  # noqa: F401  told now that it is missing, not at the end
    except ImportError as error:
        raise ReporterError(
            f"junit needs a package that isn't installed: {error.name or error}",
            hint='pip install "comfyreport[junit]"',
        ) from error
    return JUnit(out, suite)
