"""The folder of a run's files on one machine, and those that earlier runs have left there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TextIO

from offmap._utils.files import claimed
from offmap.errors import StoreError

_PREFIX, _LOCK = "offmap-ray-", ".lock"


def folder_of(run: str) -> Path:
    """The folder of a run, in the temporary folder of this machine."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{run}"


def held(folder: Path) -> TextIO | None:
    """A folder is in use until the file is closed, by this process and any others; made if absent.

    ``None`` on Windows, which has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / _LOCK).open("a", encoding="utf-8")
        except FileNotFoundError:
            continue  # another run removed the folder just now
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            if os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat()):
                return file
        except FileNotFoundError:
            pass  # likewise, before this process had the lock
        file.close()


def remove_abandoned() -> None:
    """Remove the folders whose processes have all ended: those of runs that were killed."""
    if os.name == "nt":  # without locks, a run that goes on looks like one that has ended
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with claimed(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)
        except (StoreError, OSError):
            continue  # in use, or of another user
