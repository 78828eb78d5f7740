"""What a test needs that not every system has."""

from __future__ import annotations

import os

import pytest


def needs_posix(what: str) -> pytest.MarkDecorator:
    """Skip the test on Windows, which hasn't *what*."""
    return pytest.mark.skipif(os.name != "posix", reason=f"not on Windows: {what}")
