"""The checks of every request: its id, the name of the host, the origin, the token."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offmap.serve.refusals import Refusal
from offmap.serve.settings import HOST, Settings

_LOGGER = logging.getLogger("offmap.serve")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(rf"(?P<name>{HOST.pattern})(?::[0-9]{{1,5}})?")
# Without a token: the page, which asks for one, and whether the service lives.
_OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """Lets permitted requests through, and answers those that are refused or fail.

    Args:
        app: behind it.
        settings: of the service.
        count: gets the path, status and seconds of each answer.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, count: Callable[[str, int, float], None]
    ) -> None:
        self._app, self._count = app, count
        self._hosts = settings.hosts
        token = settings.token
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, start = Headers(scope=scope), time.perf_counter()
        header = headers.get("x-request-id", "")
        request_id = header if _ID.fullmatch(header) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-Id"] = request_id
                for name, value in _ALWAYS.items():
                    answer.setdefault(name, value)
            await send(message)

        try:
            self._check(scope["path"], headers)
            await self._app(scope, receive, stamped)
        except Refusal as refusal:
            await _refuse(stamped, refusal)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not scope["state"].get("gone"):  # else nobody is there to be answered
                raise
        except Exception as error:  # its text is not for clients
            _LOGGER.error("request %s failed", request_id, exc_info=error)
            if status == 0:
                await _refuse(stamped, Refusal(500, "internal error"))
        finally:
            if status:
                self._count(scope["path"], status, time.perf_counter() - start)

    def _check(self, path: str, headers: Headers) -> None:
        hosts = headers.getlist("host")
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None or not (self._hosts & {match["name"].lower(), "*"}):
            raise Refusal(400, "the service is not called by this name (see --allow-host)")
        netloc = None
        with suppress(ValueError):  # such as a bracket without an end
            netloc = urlsplit(headers.get("origin", "")).netloc.lower()
        if "origin" in headers and netloc != hosts[0].lower():
            raise Refusal(403, "pages of other origins may not use the service")
        if self._token is not None and path not in _OPEN:
            credentials = headers.get("authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(credentials, self._token):
                raise Refusal(401, "give the token: Authorization: Bearer ...", {
                    "WWW-Authenticate": "Bearer"
                })  # fmt: skip


async def _refuse(send: Any, refusal: Refusal) -> None:
    body = json.dumps({"error": refusal.reason}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    raw = [(k.lower().encode(), v.encode()) for k, v in (headers | refusal.headers).items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
