"""What is said of a response that isn't ComfyUI's holds no secret."""

from __future__ import annotations

import pytest

from comfyreport.protocol.statuses import status_error

SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    "location",
    [f"https://u:{SECRET}@other/login?x={SECRET}#{SECRET}", f"//u:{SECRET}@other/login#{SECRET}", f"/login?{SECRET}"],
)
def test_a_redirect_target_is_shown_without_secrets(location: str) -> None:
    error = status_error(302, location, "http://host")
    assert SECRET not in error.message
    assert "login" in error.message
