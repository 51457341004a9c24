"""The public names and signatures are those that were agreed on."""

from __future__ import annotations

import difflib
import inspect

import pytest
from scripts.api import PATH, api


def test_the_public_interface_is_the_one_that_is_written_down() -> None:
    known, now = PATH.read_text(), api()
    if known != now:
        lines = difflib.unified_diff(
            known.splitlines(), now.splitlines(), "agreed", "now", n=0, lineterm=""
        )
        pytest.fail(
            "the public interface changed: update by `python scripts/api.py`, and say in "
            "CHANGELOG.md what to write instead\n" + "\n".join(lines)
        )


def test_signatures_stand_there_with_their_defaults() -> None:
    lines = PATH.read_text().splitlines()
    assert "  ViM(dim=None) is 'vim'" in lines
    start = lines.index("offmap")
    assert (
        "  class Guard(network, detectors='auto', *, classes=(), normalization=None, **probe)"
        in (lines[start:])
    )
    assert any(line.startswith("    .calibrate(self, data, alarm_rate=None, *, ") for line in lines)
    assert not [line for line in lines if " at 0x" in line]
    assert {"  Batch", "  Heads", "  Objective"} <= set(lines)  # aliases, the same in each Python
    assert inspect.cleandoc(api()) == "\n".join(lines)
