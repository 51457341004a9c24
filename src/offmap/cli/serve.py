"""``offmap serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from offmap.cli import _options as options

TOKEN = "OFFMAP_SERVE_TOKEN"  # of the environment


@options.opens_guard()
def serve(
    guard: Path = typer.Argument(..., help="Folder of a calibrated guard."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at."),
    port: int = typer.Option(8000, min=0, max=65535, help="0 for any that is free."),
    name: str = typer.Option("guard", help="Of the model, in the paths of the protocol."),
    workers: int = typer.Option(1, min=1, help="Processes, each with a network of its own."),
    max_batch: int = typer.Option(64, min=1, help="Rows that the network is given at once."),
    max_wait_ms: float = typer.Option(2.0, min=0, help="How long a row waits for others."),
    max_bytes: int = typer.Option(16 << 20, min=1, help="Of a request's body."),
    max_pixels: int = typer.Option(25_000_000, min=1, help="Of an image."),
    queue: int = typer.Option(1024, min=1, help="Rows that may wait; beyond, requests get 503."),
    timeout: float = typer.Option(
        30.0, min=0.01, help="Seconds for a body to arrive, and for a verdict."
    ),
    allow_host: list[str] = typer.Option(
        [], help="Names by which it may be called beside localhost; * for any."
    ),
    token_file: Path | None = typer.Option(
        None, help=f"File with a token that requests must bear; or the environment's {TOKEN}."
    ),
    allow_alarm_rate: bool = typer.Option(
        False, help="Let a request choose its alarm rate; the monitor keeps the guard's."
    ),
    explain: bool = typer.Option(
        False, help="Say why, in words, at /score; may name training samples."
    ),
    log: Path | None = typer.Option(
        None, help="Folder of JSONL that the verdicts are added to, for `offmap watch`."
    ),
    monitor_state: Path | None = typer.Option(
        None, help="Folder where the monitor goes on after a restart."
    ),
    transform: str | None = options.TRANSFORM,
    opening: Any = None,
) -> None:
    """Answer over HTTP: a page for people, /score for files and rows, the Open Inference Protocol.

    SIGTERM finishes what was taken in; SIGHUP opens the guard's folder again, without a gap.

    Examples:
        offmap serve guard/ --port 8000 --monitor-state monitor/ --log log/

        curl -F image=@photo.jpg localhost:8000/score
    """
    import os

    from offmap.cli._serving import Served, serve_guard
    from offmap.serve import Settings
    from offmap.serve.factory import check_extra

    check_extra()
    # Never on the command line, where anyone could see it.
    file = token_file
    token = os.environ.get(TOKEN) if file is None else file.read_text("utf-8", "replace")
    settings = Settings(
        name=name, workers=workers, max_batch=max_batch, max_wait_ms=max_wait_ms,
        max_bytes=max_bytes, max_pixels=max_pixels, queue=queue, timeout=timeout,
        allow_hosts=tuple(allow_host), token=token and token.strip(),
        allow_alarm_rate=allow_alarm_rate, explain=explain, log=log, monitor_state=monitor_state,
    )  # fmt: skip
    serve_guard(Served(guard, opening, transform), settings, host, port)
