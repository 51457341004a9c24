"""A connection that waits for ever neither for the head of a request, nor for its rest."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the head of a request, from its first byte or the connection's opening; and for the rest of a
# body that was answered before it was all there.
SECONDS = 10.0


class Connection(H11Protocol):
    """That of uvicorn, which times the pause between requests and not what dribbles in."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._waits:
            self._end()
        elif self._patience is None:
            self._begin()

    @property
    def _waits(self) -> bool:
        """Whether it is the client's turn: to ask, or to end what has its answer already."""
        return self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE

    def on_response_complete(self) -> None:
        self._end()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._patience = self.loop.call_later(SECONDS, self._give_up)

    def _end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self._waits and not self.transport.is_closing():
            self.transport.close()


def settings_of(connections: int) -> dict[str, Any]:
    """What uvicorn is told of connections; the parser in Python is always there."""
    return {"http": Connection, "ws": "none", "limit_concurrency": connections}
