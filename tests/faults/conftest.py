"""What the fault tests share: the items that were selected are played together, before the first is looked at."""

from __future__ import annotations

from typing import Any

import pytest


def selected(request: pytest.FixtureRequest, argument: str) -> list[Any]:
    """The values of a parameter for which the tests of this module will run."""
    found = {}
    for item in request.session.items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and argument in values:
            found[values[argument].name] = values[argument]
    return list(found.values())
