"""The table of conversions is printed, with our row at least."""

from __future__ import annotations

import pytest

from tests.benchmarks.converting import main
from tests.workflow.convert.files import pairs


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    head, own, *others = capsys.readouterr().out.splitlines()
    assert head.split() == ["pairs", "identical", "refused", "different"]
    name, count, identical, _, different = own.split()
    assert (name, int(count), int(different)) == ("comfyreport", len(pairs()), 0)
    assert int(identical) >= 0.97 * len(pairs())
    assert [line.split(",")[0] for line in others] == ["comfyui-autograph"] * 2
