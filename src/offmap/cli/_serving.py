"""What ``offmap serve`` does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from offmap.guard import Guard
    from offmap.serve import Settings

_EVERYWHERE = ("", "0.0.0.0", "::")


@dataclass(frozen=True)
class Opening:
    """How a guard is opened, now, in other workers, and when it is reloaded."""

    folder: Path
    model: str | None
    weights: Path | None
    detectors: tuple[str, ...]
    device: str | None
    normalization: str | None
    size: int | None
    channels: int | None
    alarm_rate: float | None
    transform: str | None

    def __call__(self) -> Guard:
        """The guard."""
        from offmap.cli._guards import open_guard

        return open_guard(
            self.folder, self.model, self.weights, self.detectors, device=self.device,
            normalization=self.normalization, size=self.size, channels=self.channels,
            alarm_rate=self.alarm_rate,
        )  # fmt: skip


def make(opening: Opening, settings: Settings) -> Any:
    """The application of one worker."""
    from offmap.data import OwnTransform
    from offmap.serve.application import application
    from offmap.serve.service import Service

    own = None if opening.transform is None else OwnTransform.of(opening.transform)
    return application(Service(opening, settings, own), reload_on_hangup=True)


def serve_guard(opening: Opening, settings: Settings, host: str, port: int) -> None:
    """Serve until a signal ends it."""
    from offmap.serve.running import run

    if host not in _EVERYWHERE:
        name = f"[{host}]" if ":" in host else host
        settings = replace(settings, allow_hosts=(*settings.allow_hosts, name))
    if settings.token is None and not _is_loopback(host):
        typer.echo(
            f"offmap: warning: whoever reaches {host} can use this service: give --token-file",
            err=True,
        )
    run(partial(make, opening), settings, host, port, lambda at: _tell(opening, at))


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _tell(opening: Opening, address: str) -> None:
    typer.echo(f"Serving {opening.folder} at {address}")
