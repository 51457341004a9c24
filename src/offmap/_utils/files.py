"""Files that are written completely or not at all, and by one process at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from offmap.errors import StoreError


@contextmanager
def atomic(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    An error, a kill or a power cut inside the block leaves what was at ``path`` before.

    Args:
        path: the file.
        sync: wait until its bytes are on the disk; not for large files that can be made again.
    """
    path = Path(path)
    if path.is_symlink():  # its target is replaced, not the link
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # By chance, as in containers on one volume every process may be number 1. The suffix stays,
    # because writers such as matplotlib choose the format by it.
    temporary = path.with_name(f".{os.urandom(8).hex()}-{path.name}")
    # The mode of new files here: the umask can be read only by changing it.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        temporary.unlink()
    try:
        yield temporary
        if sync:
            put_on_disk(temporary)
        with suppress(OSError):  # some mounts give every file one mode, and refuse another
            temporary.chmod(mode)  # some writers make files that only their owner reads
        os.replace(temporary, path)
        if sync:
            with suppress(OSError):  # Windows opens no folder, and some mounts put none on disk
                put_on_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def put_on_disk(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on disk.

    A power cut may else leave a new name without its bytes, or bring the old file back.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder for the block, against other threads and processes."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows does not have it
        yield
        return
    with ExitStack() as stack:
        with suppress(OSError):  # some mounts know no locks, and some folders are not to be read
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Closing is not enough: a child that was forked meanwhile holds it, too.
            stack.callback(fcntl.flock, handle, fcntl.LOCK_UN)
        yield


def expanded(path: str | Path) -> Path:
    """A path with ``~`` replaced by the user's home; other names that begin with it stay.

    >>> str(expanded("~scan.png"))
    '~scan.png'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no user is called that
        return Path(path)


def as_text(name: str) -> str:
    r"""A file name as text that can be written and shown: names need not be UTF-8.

    >>> as_text("caf\udce9.png")
    'caf\\xe9.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cache_folder() -> Path:
    """The folder for files that can be made again: ``$OFFMAP_CACHE``, or the user's cache."""
    if folder := os.environ.get("OFFMAP_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offmap"


def reason_of(error: Exception) -> str:
    """The message of an error: system errors without their number, a missing key in words."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"there is no {os.fsdecode(error.filename)}"
    if isinstance(error, OSError) and error.strerror:
        prefix = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return prefix + error.strerror
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity, which JSON lacks, are refused.

    Names of files that are not UTF-8 are written as :func:`as_text` shows them, as no reader takes
    the halves of characters by which Python stands for their bytes.
    """
    with atomic(path) as temporary:
        text = json.dumps(_readable(value), indent=1, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, Mapping):
        return {_readable(name): _readable(item) for name, item in value.items()}
    return list(map(_readable, value)) if isinstance(value, list | tuple) else value


def claimed(path: Path) -> TextIO:
    """The file, open for appending, and locked until it is closed.

    Raises:
        StoreError: another process has it.
    """
    while True:
        file = path.open("a", encoding="utf-8")
        # Windows has no such locks, and lets no open file be deleted.
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise StoreError(
                    f"another process is writing {path}: wait for it, or write another file"
                ) from None
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass  # another process finished, and removed it, just before this one had it
        file.close()
