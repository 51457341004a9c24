"""The paths of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offmap.serve.gate import Gate
from offmap.serve.page import POLICY, page
from offmap.serve.protocol import VERSION, infer, model_metadata, server_metadata
from offmap.serve.refusals import Refusal
from offmap.serve.scoring import score
from offmap.serve.service import Service


class Handler(Protocol):
    """Answers a request to a service."""

    def __call__(self, request: Request, /, service: Service) -> Awaitable[Response]: ...


def application(service: Service, *, reload_on_hangup: bool = False) -> Starlette:
    """The application around a service, which starts and stops with it."""
    model = "/v2/models/{name}"
    handlers: list[tuple[str, str, Handler]] = [
        ("GET", "/", _page),
        ("POST", "/score", score),
        ("GET", "/metrics", _metrics),
        ("GET", "/v2", _server),
        ("GET", "/v2/health/live", _live),
        ("GET", "/v2/health/ready", _ready),
    ]
    for start in (model, model + "/versions/{version}"):
        handlers.append(("GET", start, _of_model(_model)))
        handlers.append(("GET", start + "/ready", _of_model(_ready)))
        handlers.append(("POST", start + "/infer", _of_model(infer)))
    app = Starlette(
        routes=[
            Route(path, partial(handler, service=service), methods=[method])
            for method, path, handler in handlers
        ],
        middleware=[Middleware(Gate, settings=service.settings, count=service.count)],
        exception_handlers={HTTPException: _as_json},
        lifespan=lambda _: service.running(reload_on_hangup=reload_on_hangup),
    )
    app.router.redirect_slashes = False  # an address is never made of what a client sent
    app.state.service = service
    return app


def _of_model(handler: Handler) -> Handler:
    """The same handler, which refuses paths that name another model."""

    async def checked(request: Request, service: Service) -> Response:
        path = request.path_params
        if path["name"] != service.settings.name or path.get("version", VERSION) != VERSION:
            raise Refusal(404, "there is no such model, or no such version of it")
        return await handler(request, service)

    return checked


async def _as_json(_: Request, error: Exception) -> Response:
    """Errors of starlette, such as a wrong path or method."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _page(_: Request, service: Service) -> Response:
    return Response(page(service.served), media_type="text/html", headers=POLICY)


async def _metrics(_: Request, service: Service) -> Response:
    text = await asyncio.to_thread(service.metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _server(_: Request, service: Service) -> Response:
    return JSONResponse(server_metadata())


async def _live(_: Request, service: Service) -> Response:
    return _health("live", not service.judge.broken)


async def _ready(_: Request, service: Service) -> Response:
    return _health("ready", service.ready and not service.judge.broken)


def _health(name: str, good: bool) -> Response:
    return JSONResponse({name: good}, 200 if good else 503)


async def _model(_: Request, service: Service) -> Response:
    return JSONResponse(model_metadata(service.served, service.settings.name))
