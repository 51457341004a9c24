"""The work of ``offmap serve``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from offmap.cli._guards import open_guard
from offmap.cli._messages import in_words, speak, spoken

if TYPE_CHECKING:
    from offmap.guard import Guard, Opening
    from offmap.serve import Settings

_EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Served:
    """Opens a guard: now, in other workers, and when it is reloaded."""

    folder: Path
    opening: Opening
    transform: str | None

    def __call__(self) -> Guard:
        """The guard."""
        return open_guard(self.folder, self.opening)


def make(served: Served, settings: Settings, words: Mapping[str, str]) -> Any:
    """The application of one worker, which may be a process without the words of the command."""
    from offmap.data import OwnTransform
    from offmap.errors import OffmapError
    from offmap.serve.application import application
    from offmap.serve.service import Service

    own = None if served.transform is None else partial(OwnTransform.of, served.transform)
    try:
        return application(Service(served, settings, own), reload_on_hangup=True)
    except OffmapError as error:
        speak(words)
        error.args = (in_words(str(error)),)
        raise


def serve_guard(served: Served, settings: Settings, host: str, port: int) -> None:
    """Serve until a signal ends it."""
    from offmap.serve.running import run

    if host not in _EVERYWHERE:
        name = f"[{host.partition('%')[0]}]" if ":" in host else host  # without its zone
        settings = replace(settings, allow_hosts=(*settings.allow_hosts, name))
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    if settings.token is None and not loopback:
        typer.echo(
            f"offmap: warning: whoever reaches {host} can use this service: give --token-file",
            err=True,
        )
    app = partial(make, served, words=spoken())
    run(app, settings, host, port, lambda at: typer.echo(f"Serving {served.folder} at {at}"))
