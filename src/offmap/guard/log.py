"""Verdicts as they were given, one JSON line each, only ever added to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from offmap._utils.files import claimed
from offmap.guard.certified import Certified
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.cascade import Cascade
    from offmap.guard.guard import Guard

Row = dict[str, Any]


class Log:
    """A file that verdicts are added to, for ``offmap watch`` and for people.

    First, at each opening, stands what the guard's calibration set certifies; then a line a sample:
    ``time``, ``guard`` (a hash), ``input``, ``label``, ``score``, ``p_value``, ``is_ood``,
    ``error``. Lines are written whole; one that was torn by a crash is ended, and read by nobody.

    Args:
        path: of the file, which may exist; one process at a time adds to it.
        guard: calibrated, or a cascade.

    Raises:
        NotFittedError: the guard has no threshold.
        StoreError: another process is writing it.
    """

    def __init__(self, path: str | Path, guard: Guard | Cascade) -> None:
        self.certified = Certified.of(guard)
        self._file = claimed(Path(path))
        if self._is_torn(Path(path)):
            self._file.write("\n")
        self._write([{"certified": msgspec.to_builtins(self.certified)}], None)

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
        # JSON in ASCII, as a path need not be UTF-8; one write, so that lines are whole.
        self._file.write("".join(json.dumps(stamp | line) + "\n" for line in lines))
        self._file.flush()

    def close(self) -> None:
        """Let others have the file."""
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
