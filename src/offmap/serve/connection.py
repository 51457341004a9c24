"""A connection with a time limit for the head of a request, and for an unread rest of a body."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the head of a request, from its first byte or the connection's opening; and for the rest of a
# body that was answered before it was all there.
SECONDS = 10.0


class Connection(H11Protocol):
    """That of uvicorn, which limits only the pause between requests, and not slow bytes."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._awaits_client:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    @property
    def _awaits_client(self) -> bool:
        """Whether the client has to send: a request, or the rest of one that has its answer."""
        return self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE

    def on_response_complete(self) -> None:
        self._stop_timer()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(SECONDS, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self._awaits_client and not self.transport.is_closing():
            self.transport.close()


def settings_of(connections: int) -> dict[str, Any]:
    """Settings of uvicorn for connections; its parser in Python is always installed."""
    return {"http": Connection, "ws": "none", "limit_concurrency": connections}
