"""Verdicts in a file, one JSON line each, to which lines are only ever added."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

import msgspec

from offmap._utils.files import claimed
from offmap.errors import StoreError
from offmap.guard.certified import Certified
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.cascade import Cascade
    from offmap.guard.guard import Guard

Row = dict[str, Any]
_END = 1 << 16  # bytes in which the last lines are looked for first


class Log:
    """A file that verdicts are added to, for ``offmap watch`` and for people.

    First, at each opening, stands what the guard's calibration set certifies; then a line a sample:
    ``time``, ``guard`` (a hash), ``input``, ``label``, ``score``, ``p_value``, ``is_ood``,
    ``error``. The lines of a call are all written, or none where the disk is full; a line that was
    torn by a crash is ended, and readers skip it. Where the file is moved away, deleted or emptied,
    as by a rotation of logs, a new one is begun.

    Args:
        path: of the file, which may exist; one process at a time adds to it.
        guard: calibrated, or a cascade; or a :class:`Certified`.

    Raises:
        NotFittedError: the guard has no threshold.
        StoreError: another process is writing it.
    """

    def __init__(self, path: str | Path, guard: Guard | Cascade | Certified) -> None:
        self.path = Path(path).absolute()  # a program may change its folder
        self._file: TextIO | None = None
        self.go_on_with(guard)
        try:
            self._write([], None)
        except BaseException:
            self.close()
            raise

    def go_on_with(self, guard: Guard | Cascade | Certified) -> None:
        """Write before the next samples what another threshold certifies."""
        self.certified = guard if isinstance(guard, Certified) else Certified.of(guard)
        self._has_header = False

    def _open(self) -> TextIO:
        """The file that is under the path now, which need not be the one that was opened."""
        with suppress(FileNotFoundError):
            if self._file is not None:
                status = os.fstat(self._file.fileno())
                if os.path.samestat(status, self.path.stat()):
                    # A rotation that copies the file empties it.
                    self._has_header &= status.st_size > 0
                    return self._file
        fresh = claimed(self.path)
        self.close()
        self._file, self._has_header = fresh, False
        if self._is_torn(self.path):
            _add(fresh, "\n")
        return fresh

    @staticmethod
    def _is_torn(path: Path) -> bool:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return False
            file.seek(-1, 2)
            return file.read() != b"\n"

    def add(
        self,
        verdict: Verdict,
        inputs: Sequence[str] | None = None,
        *,
        time: datetime | None = None,
    ) -> None:
        """Add the samples of a verdict.

        Args:
            verdict: of the guard.
            inputs: what each sample was, such as its path; by default the keys of the verdict.
            time: of the verdict; by default now.
        """
        keys = inputs or verdict.keys or (None,) * len(verdict)
        columns = verdict.to_dict()
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        self.add_rows([row | {"path": k} for row, k in zip(rows, keys, strict=True)], time=time)

    def add_rows(self, rows: Iterable[Row], *, time: datetime | None = None) -> None:
        """Add rows as ``offmap score`` writes them."""
        names = ("label", "score", "p_value", "is_ood", "error")
        self._write([{"input": row["path"]} | {n: row[n] for n in names} for row in rows], time)

    def _write(self, lines: Iterable[Row], time: datetime | None) -> None:
        now = (time or datetime.now(UTC)).isoformat(timespec="milliseconds")
        stamp = {"time": now, "guard": self.certified.guard}
        file = self._open()
        # The first line identifies a log, and several may begin in one millisecond.
        header = {"certified": msgspec.to_builtins(self.certified), "log": uuid.uuid4().hex}
        # JSON in ASCII, as a path need not be UTF-8.
        rows = [*([] if self._has_header else [header]), *lines]
        _add(file, "".join(json.dumps(stamp | row) + "\n" for row in rows))
        self._has_header = True

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_goes_on(path: str | Path, guard: Guard | Cascade) -> None:
    """Refuse to add a guard's verdicts to the log of another: no monitor could read on.

    Raises:
        StoreError: the last complete line is of another guard.
    """
    path = Path(path)
    if not path.is_file():
        return
    rows: list[Any] = []
    with path.open("rb") as file:
        start, length = file.seek(0, 2), _END
        while start and not rows:  # the first line of a guard of many classes is longer
            start = max(file.seek(0, 2) - length, 0)
            file.seek(start)
            for line in file.read().splitlines()[1 if start else 0 :]:  # the first may be cut off
                with suppress(ValueError):
                    rows.append(json.loads(line))
            length *= 4
    guards = [row["guard"] for row in rows if isinstance(row, dict) and "guard" in row]
    if guards and guards[-1] != (now := Certified.of(guard).guard):
        raise StoreError(
            f"{path} is a log of the guard {guards[-1]}, and this is {now}, which has another "
            "network, detector or calibration set: give it a log of its own"
        )


def _add(file: TextIO, text: str) -> None:
    """Add all of a text, or nothing of it: the next line would be joined to a torn one."""
    descriptor, data = file.fileno(), text.encode()
    size = os.fstat(descriptor).st_size
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
