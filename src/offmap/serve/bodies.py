"""Bodies of requests, read within limits of size and time, for clients that are still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from offmap.serve.refusals import Refusal, busy
from offmap.serve.settings import Settings

_CLOSE = {"Connection": "close"}  # the rest of the body is not waited for
_AT_ONCE = 8  # bodies of the largest size that are held at once


class Bodies:
    """Reads bodies, and knows how many bytes of them are held.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_bytes, self.timeout = settings.max_bytes, settings.timeout
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """The body in full, which counts as held until the block ends.

        The block is cancelled when the client goes: nobody would read its answer.

        Raises:
            Refusal: it is too large, too slow, encoded, or there is no place for it.
            ClientDisconnect: the client has gone.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "bodies are not decompressed: send them as they are", _CLOSE)
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):  # a server checks it, another may not
            raise Refusal(400, "Content-Length is no number", _CLOSE)
        self._check_place(int(length[:20]), 0)
        body = bytearray()
        try:
            await self._fill(body, request)
            async with _until_disconnect(request):
                yield body
        finally:
            self.held -= len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                async for chunk in request.stream():
                    self._check_place(len(body) + len(chunk), len(chunk))
                    self.held += len(chunk)
                    body += chunk
        except TimeoutError:
            words = f"the body did not arrive within {self.timeout:g} seconds"
            raise Refusal(408, words, _CLOSE) from None

    def _check_place(self, size: int, growth: int) -> None:
        if size > self.max_bytes:
            raise Refusal(413, f"a body may have {self.max_bytes:,} bytes: send less", _CLOSE)
        if self.held + growth > _AT_ONCE * self.max_bytes:
            raise busy("too many large requests at once: try again", _CLOSE)


@asynccontextmanager
async def _until_disconnect(request: Request) -> AsyncIterator[None]:
    """A block that is cancelled when the client goes.

    Raises:
        ClientDisconnect: it went.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.ensure_future(_await_disconnect(request, task.cancel))
    try:
        yield
    except asyncio.CancelledError:
        if not request.scope["state"].get("gone"):
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        watcher.cancel()


async def _await_disconnect(request: Request, then: Callable[[], Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    request.scope["state"]["gone"] = True
    then()
