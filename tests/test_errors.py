"""What an exception means."""

from __future__ import annotations

import errno
import os

import pytest

from comfyreport.errors import is_closed_pipe

EINVAL = OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize(
    ("error", "windows", "expected"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), False, True),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), True, True),
        (EINVAL, True, True),
        (EINVAL, False, False),
        (OSError(errno.EINVAL, "Invalid argument", "a?b"), True, False),
        (OSError(errno.ENOSPC, "No space left on device"), True, False),
        (ValueError("x"), True, False),
    ],
)
def test_a_pipe_without_a_reader(
    monkeypatch: pytest.MonkeyPatch, error: Exception, windows: bool, expected: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt" if windows else "posix")
        found = is_closed_pipe(error)
    assert found is expected
