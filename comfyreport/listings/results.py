"""What a command prints of its runs' results, behind what its reporters wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial

from comfyreport.errors import is_closed_pipe
from comfyreport.events import Output, RunFinished
from comfyreport.files import STDOUT
from comfyreport.jobs.session import Session
from comfyreport.render.wording import summarize_result
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.reporting.streams import Stream
from comfyreport.saving.target import worth_saving
from comfyreport.text import printable
from comfyreport.worker import Worker

LINES_PER_WRITE = 20
"""So few lines of results are written at once, so that a slow reader can be told from one that reads no more."""


def print_results(
    session: Session,
    plugins: Plugins,
    streams: StandardStreams,
    *,
    include_temp: bool = False,
    summary: Callable[[Callable[[str], bool]], list[str]] | None = None,
) -> None:
    """Print the outputs to stdout unless a reporter writes there; and a failure that no person has seen to stderr.

    :param summary: what is told of the failures of many runs, in place of each of them, by whether a person has seen a
        text already.
    """
    used = [reporter.stream for reporter in plugins.reporters if reporter.stream is not None]
    visible = [stream for stream in used if stream is streams.stderr or stream.tty]

    def has_seen(text: str) -> bool:
        return any(stream.has_written(text) for stream in visible)

    told: list[Output] = []
    for result in session.results:
        indexes = worth_saving(result.outputs, include_temp=include_temp)
        told += [result.outputs[index] for index in indexes]
        told_together = summary is not None and result.run_index is not None
        if result.exit_code and not told_together and not has_seen(_message_start(result)):
            session.complain(summarize_result(result))
    if streams.stdout not in used and not session.claims.has_descriptor(STDOUT):
        same = [stream for stream in used if streams.stdout.tty and stream.shares_terminal(streams.stdout)]
        _print_outputs(session, told, streams.stdout, told_by=same)
    for line in [] if summary is None else summary(has_seen):
        session.complain(line)


def _print_outputs(session: Session, outputs: Sequence[Output], stdout: Stream, told_by: Sequence[Stream]) -> None:
    """Print where *outputs* are, one a line: their paths, or URLs where they weren't saved.

    What one of *told_by* has told as saved, on the same terminal, isn't told twice.
    """
    # A picture that came over the socket, and wasn't saved, is nowhere.
    outputs = [output for output in outputs if output.path is not None or output.url is not None]
    if told_by:
        outputs = [each for each in outputs if not any(_has_told(stream, each) for stream in told_by)]
    timing = session.timing
    limit = timing.terminal_limit if stdout.tty else timing.close_limit
    failure = _write_lines(stdout, [_line(output) for output in outputs], limit)
    if failure:
        session.fail_beside_run(f"stdout can't be written: {failure}")


def _line(output: Output) -> bytes:
    """A path as the file system has it, whatever the stream's encoding: what is printed must open."""
    return str(output.url).encode("utf-8", "replace") if output.path is None else os.fsencode(output.path)


def _has_told(stream: Stream, output: Output) -> bool:
    """Whether a reporter has written where *output* was saved, in the words that reporters have in common."""
    told = f"Saved: {output.path}"
    return output.path is not None and (stream.has_written(f"{told} (") or stream.has_written(f"{told}\n"))


def _message_start(result: RunFinished) -> str:
    """What every reporter that shows the failure has written: the beginning of its message."""
    message = result.error.message if result.error is not None else ""
    return re.split(r'["\\\n]', printable(message.strip()))[0][:30].strip() or str(result.status)


def _write_lines(stream: Stream, lines: Sequence[bytes], limit: float) -> str:
    """Write *lines*; why that failed, or nothing. A write has *limit* seconds; a closed pipe is no failure."""
    worker = Worker()

    def write(data: bytes) -> None:
        stream.write_bytes(data)
        stream.flush()
        stream.drain()

    for start in range(0, len(lines), LINES_PER_WRITE):
        data = b"".join(line + b"\n" for line in lines[start : start + LINES_PER_WRITE])
        try:
            if not worker.run(partial(write, data), limit):
                return "nobody reads it"
        except (OSError, ValueError) as error:
            return "" if is_closed_pipe(error) else getattr(error, "strerror", None) or str(error)
    return ""
