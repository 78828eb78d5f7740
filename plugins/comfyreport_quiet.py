"""The `quiet` reporter: nothing on success, otherwise what went wrong."""

from __future__ import annotations

from comfyreport import RunFinished, Stream, StreamStarted, color_tag, describe_in_run, hookimpl, stderr


class Quiet:
    """Writes the end of a run that isn't a success, in the console's words."""

    def __init__(self, out: Stream) -> None:
        self._out = out
        self._total = 0

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted) -> None:
        """Note how many runs there will be."""
        self._total = event.runs_planned or event.runs_total

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished) -> None:
        """Write what went wrong and the next step."""
        if event.status == "success":
            return
        lines = describe_in_run(event, self._total)
        if self._out.color:
            lines = [color_tag(line) for line in lines]
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()

    @hookimpl
    def comfyreport_close(self) -> None:
        """Close the file, if it is one."""
        self._out.close()


def quiet(out: Stream = stderr) -> Quiet:
    """Nothing on success, the error and the next step otherwise; no warnings."""
    return Quiet(out)
