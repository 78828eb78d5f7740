"""The values of short names: what they are, and what is wrong with what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from comfyreport.workflow.values import at_least_one, seed, size


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (seed, "0", 0),
        (seed, str(2**64 - 1), 2**64 - 1),
        (seed, "random", "random"),
        (seed, "keep", "keep"),
        (at_least_one, "1", 1),
        (size, "64X32", (64, 32)),
    ],
)
def test_values(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (seed, "-1"), (seed, "1.5"), (seed, str(2**64)), (seed, "1\n"), (seed, "٣"), (at_least_one, "0"),
        (at_least_one, ""), (size, "64"), (size, "0x64"), (size, "64x"),
    ],
)  # fmt: skip
def test_what_is_none(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (seed|whole number from 1|size)"):
        read(text)
