"""What can go wrong before or around a run, as exceptions with a message for users.

`code` is one of the closed list of error codes in the event schema, `hint` the next step for the user.
"""

from __future__ import annotations

import errno
import os

_CAUSES = 20


class ComfyReportError(Exception):
    """An error for the user: its `code`, its cause (the message) and the next step (`hint`)."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code


class UsageError(ComfyReportError):
    """Bad flags, an unusable workflow or an unusable reporter: nothing was submitted (exit code 2)."""

    code = "usage"


class WorkflowError(UsageError):
    """The workflow can't be read or can't be used as it is (exit code 2)."""

    code = "workflow"


class ReporterError(UsageError):
    """A selected reporter can't be loaded or used as it was given (exit code 2)."""

    code = "reporter"


class UnreachableError(ComfyReportError):
    """No usable ComfyUI answered (exit code 3).

    `retryable` says whether trying again can help, `sent` whether the request may have reached the server.
    """

    code = "refused"

    def __init__(
        self, message: str, *, hint: str = "", code: str = "", retryable: bool = False, sent: bool = True
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retryable = retryable
        self.sent = sent


class RejectedError(ComfyReportError):
    """The server would refuse the workflow (exit code 4)."""

    code = "rejected"


class MachineLimitError(ComfyReportError):
    """The machine gives this process no file, thread or memory any more (exit code 70)."""

    code = "machine_limit"


def is_closed_pipe(error: BaseException) -> bool:
    """Whether *error* says that a pipe has no reader any more. Windows has no word for that: EINVAL, of no file."""
    if isinstance(error, BrokenPipeError):
        return True
    return os.name == "nt" and type(error) is OSError and (error.errno, error.filename) == (errno.EINVAL, None)


def machine_limit(error: BaseException | None) -> MachineLimitError | None:
    """What the machine refused, for the user, if that is *error* or what led to it."""
    for _ in range(_CAUSES):
        if error is None:
            return None
        limit = error if isinstance(error, MachineLimitError) else _limit_of(error)
        if limit is not None:
            return limit
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _limit_of(error: BaseException) -> MachineLimitError | None:
    number = error.errno if isinstance(error, OSError) else None
    # Libraries that can't be loaded, and threads, tell it in words alone.
    words = str(error) if isinstance(error, (ImportError, RuntimeError)) else ""
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "failed to map segment" in words:
        return MachineLimitError(
            "there is not enough memory",
            hint="raise the limit (ulimit -v, or that of the container), or end other programs",
        )
    if number == errno.EMFILE or f"Error {errno.EMFILE}" in words or "Too many open files" in words:
        return MachineLimitError(
            f"this process can open no more files{_files_limit()}",
            hint="raise the limit (ulimit -n 1024), or look whether a plugin leaves files open",
        )
    if number == errno.ENFILE:
        return MachineLimitError("this machine can open no more files", hint="end other programs")
    if "start new thread" in words:
        return MachineLimitError(
            "no thread can be started",
            hint="raise the limit of processes or of memory (ulimit -u, ulimit -v, those of the container), "
            "or end other programs",
        )
    return None


def _files_limit() -> str:
    try:
        import resource
    except ImportError:
        return ""
    return f": its limit is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line; the type alone where there is no message."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  an exception of a plugin may do anything here
        text = "(its message can't be told)"
    return f"{name}: {text}" if text else name


def describe_fault(error: BaseException) -> str:
    """An unexpected exception on one line, with the file and line that raised it."""
    import sys
    import traceback

    frames = traceback.extract_tb(error.__traceback__ or sys.exc_info()[2])
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return one_line(error)[:250] + place
