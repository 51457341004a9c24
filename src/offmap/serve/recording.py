"""The thread that keeps verdicts: counted, logged, and watched by a monitor, in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offmap.errors import OffmapError
from offmap.guard import Verdict
from offmap.serve.monitors import Book, Shown, Slot, shown_together
from offmap.serve.settings import Settings

if TYPE_CHECKING:
    from offmap.serve.metrics import Metrics
    from offmap.serve.served import Served

_LOGGER = logging.getLogger("offmap.serve")
_LENGTH = 64  # batches that may wait to be kept; the network then waits, too
_TICK = 0.25  # seconds


@dataclass(frozen=True)
class _Entry:
    served: Served
    verdict: Verdict
    names: list[str]


class Recorder:
    """Keeps verdicts in a thread of its own, so that nobody waits for it.

    A log that cannot be written costs its lines, which are counted, and never the service.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._books: dict[str, Book] = {}
        self._closed: set[str] = set()  # guards that are served no longer
        self._lock = threading.Lock()  # of the books
        self._entries: queue.Queue[_Entry | None] = queue.Queue(_LENGTH)
        self._slot: Slot | None = None
        self._thread = threading.Thread(target=self._run, name="offmap-records", daemon=True)
        self.metrics: Metrics | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def open(self, served: Served) -> None:
        """Open the log and the monitor of a guard, or continue them.

        Raises:
            StoreError: another process writes them, or the state cannot be read.
        """
        with self._lock:
            self._slot = self._slot or Slot(self._settings)
            self._book_of(served)
            self._closed.discard(served.certified.guard)

    def close(self, served: Served) -> None:
        """Close those of a guard that is served no longer.

        A verdict that comes later still, as its request has passed the deadline or waits in the
        queue, is kept, and they are closed again.
        """
        with self._lock:
            self._closed.add(served.certified.guard)
            self._close_book(served.certified.guard)

    def _close_book(self, guard: str) -> None:
        if (book := self._books.pop(guard, None)) is not None:
            _write_safely(book.close)

    def record(self, served: Served, verdict: Verdict, names: list[str]) -> None:
        """Keep a verdict; waits while the queue is full."""
        self._entries.put(_Entry(served, verdict, names))

    def stop(self) -> None:
        """Keep the verdicts in the queue, and end."""
        if self._thread.is_alive():
            self._entries.put(None)
            self._thread.join()
        with self._lock:
            for book in self._books.values():
                _write_safely(book.close)
            self._books.clear()
            if self._slot is not None:
                self._slot.free()

    def shown(self, served: Served) -> Shown | None:
        """What the monitor shows, or those of all workers together."""
        folder = self._settings.monitor_state
        if self._settings.workers > 1 and folder is not None:
            return shown_together(folder, served.certified)
        with self._lock:
            book = self._books.get(served.certified.guard)
            return None if book is None else book.shown

    def _book_of(self, served: Served) -> Book:
        certified, slot = served.certified, self._slot.number if self._slot else 0
        book = self._books.get(certified.guard)
        if book is None:
            book = Book(certified, self._settings, slot)
            self._books[certified.guard] = book
        return book

    def _run(self) -> None:
        while True:
            try:
                entry = self._entries.get(timeout=_TICK)
            except queue.Empty:
                self._save()
                continue
            if entry is None:
                return
            self._keep(entry)
            self._save()

    def _keep(self, entry: _Entry) -> None:
        assert self.metrics is not None
        try:
            self.metrics.count(entry.verdict)
            with self._lock:
                book = self._book_of(entry.served)
                try:
                    book.go_on_with(entry.served.certified)
                    book.add(entry.verdict, entry.names)
                finally:
                    if book.certified.guard in self._closed:
                        self._close_book(book.certified.guard)
        except Exception as error:  # else the service would stop with its log
            self.metrics.lost.inc(len(entry.verdict))
            _LOGGER.error("%d samples were not recorded: %s", len(entry.verdict), error)

    def _save(self) -> None:
        with self._lock:
            for book in self._books.values():
                _write_safely(book.save_now_and_then)


def _write_safely(write: Callable[[], None]) -> None:
    """Write the state of a monitor; a failure is logged, and does not stop other states."""
    try:
        write()
    except (OSError, OffmapError) as error:
        _LOGGER.error("the state of a monitor was not written: %s", error)
