"""The studies as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINES = 45  # of one screen


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports in this process are as wide as those of the command."""
    monkeypatch.setenv("COLUMNS", "200")


def run_study(name: str, out: Path) -> str:
    """The report of ``offmap study NAME --budget smoke``, with no data but the embedded."""
    environment = {
        **os.environ,
        "COLUMNS": "200",
        "OFFMAP_DATA": "",
        "OFFMAP_CACHE": str(out / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "offmap", "study", name, "--budget", "smoke"]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= LINES, done.stdout
    assert f"All tables: {out}/report.txt" in done.stdout
    return (out / "report.txt").read_text()
