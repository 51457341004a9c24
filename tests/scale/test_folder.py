"""Folders of runs: those of runs that were killed go when another starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from offmap.scale._folder import folder_of, held, remove_abandoned

pytestmark = pytest.mark.skipif(os.name == "nt", reason="without locks none is removed")

_RUN = """
import sys, time
from offmap.scale._folder import folder_of, held
lock = held(folder_of(sys.argv[1]))
(folder_of(sys.argv[1]) / "train-0").mkdir()
print("there", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_files_of_a_run_that_was_killed_go_when_another_starts(temporary: Path) -> None:
    """They stayed behind for good."""
    killed = subprocess.Popen([sys.executable, "-c", _RUN, "killed"], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    with killed.stdout:
        assert killed.stdout.readline() == b"there\n"
        remove_abandoned()
        assert (folder_of("killed") / "train-0").is_dir()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    remove_abandoned()
    assert not list(temporary.iterdir())


def test_a_folder_stays_while_one_of_its_processes_holds_it(temporary: Path) -> None:
    other = temporary / "offmap-other"  # of whatever else writes there
    other.mkdir()
    first, second = held(folder_of("run")), held(folder_of("run"))
    assert first is not None
    assert second is not None
    first.close()
    remove_abandoned()
    assert folder_of("run").is_dir()
    second.close()
    remove_abandoned()
    assert list(temporary.iterdir()) == [other]
