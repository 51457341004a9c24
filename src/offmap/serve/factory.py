"""The application, for any ASGI server."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offmap.errors import ArgumentError, MissingExtraError
from offmap.serve.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from torch import nn

    from offmap.guard import Guard

_LIBRARIES = ("starlette", "uvicorn", "python_multipart", "prometheus_client")


def app(
    guard: Guard | str | Path | Callable[[], Guard],
    network: nn.Module | None = None,
    *,
    settings: Settings | None = None,
    reload_on_hangup: bool = False,
    **limits: Any,
) -> Starlette:
    """A guard as an ASGI application: ``uvicorn --factory mine:make_app``, or any other server.

    Args:
        guard: calibrated; its folder; or a function that opens it, and is called again to reload.
        network: of the guard in a folder; not needed for one of this library whose weights the
            folder keeps. It is copied.
        settings: limits of the service; by default those of ``limits``.
        reload_on_hangup: whether SIGHUP opens the guard again, where the server runs in the main
            thread.
        **limits: see :class:`Settings`.

    Raises:
        MissingExtraError: starlette, or another library of the extra ``serve``, is not installed.
        ArgumentError: a limit is out of range, or the network is needed.
        NotFittedError: the guard has no threshold.
        StoreError: the folder is damaged, or another process writes the log or the state.
    """
    check_extra()
    from offmap.serve.application import application
    from offmap.serve.service import Service

    paths = {name: Path(limits[name]) for name in ("log", "monitor_state") if limits.get(name)}
    if settings is not None and limits:
        raise ArgumentError(f"give settings, or {', '.join(limits)} by name, not both")
    service = Service(opener(guard, network), settings or Settings(**limits | paths))
    return application(service, reload_on_hangup=reload_on_hangup)


def check_extra() -> None:
    """Refuse to go on without the libraries of the extra.

    Raises:
        MissingExtraError: one is not installed.
    """
    for name in _LIBRARIES:
        try:
            import_module(name)
        except ImportError as error:
            raise MissingExtraError(name.replace("_", "-"), "serve") from error


def opener(
    guard: Guard | str | Path | Callable[[], Guard], network: nn.Module | None
) -> Callable[[], Guard]:
    """A function that opens a guard, now and when it is reloaded."""
    from offmap.guard import Guard, load

    if isinstance(guard, Guard):
        return lambda: guard
    if isinstance(guard, str | Path):
        folder = Path(guard)
        return lambda: load(folder, None if network is None else deepcopy(network))
    return guard
