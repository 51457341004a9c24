"""What a service allows its clients, and how it gathers what they send."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")  # an address of version 6 in brackets
_TOKEN = re.compile(r"[!-~]{16,}")  # what a header can hold
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Settings:
    """Limits of a service; all of them hold for each worker process by itself.

    Args:
        name: of the model, in the paths of the Open Inference Protocol.
        max_batch: rows that the network is given at once.
        max_wait_ms: how long a row waits for others, in milliseconds.
        max_bytes: of a request's body; eight times as much of all bodies that are read at once.
        max_pixels: of an image, before and after it is brought to the network's size.
        queue: rows that may wait; a request that finds no place is answered 503.
        timeout: seconds for a body to arrive, and for a verdict to be given.
        allow_hosts: names by which the service may be called beside those of the loopback; ``*``
            for any.
        token: that requests must bear; those for the page and the health do not.
        allow_alarm_rate: whether a request may choose its alarm rate.
        explain: say why, in words, of each sample of ``/score``; may name training samples.
        log: folder of logs, one for each guard and worker, see :class:`offmap.guard.Log`.
        monitor_state: folder of the states of the monitors, likewise.
        workers: processes that share the two folders.

    Raises:
        ArgumentError: a value is out of range.
    """

    name: str = "guard"
    max_batch: int = 64
    max_wait_ms: float = 2.0
    max_bytes: int = 16 << 20
    max_pixels: int = 25_000_000
    queue: int = 1024
    timeout: float = 30.0
    allow_hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    allow_alarm_rate: bool = False
    explain: bool = False
    log: Path | None = None
    monitor_state: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_bytes", "max_pixels", "queue", "workers"):
            whole(name, getattr(self, name))
        if self.max_batch > self.queue:
            raise ArgumentError(
                f"queue must hold a batch: seen {self.queue}, with max_batch {self.max_batch}"
            )
        if not 0 <= self.max_wait_ms <= 60_000:
            raise ArgumentError(f"max_wait_ms must lie in 0 to 60,000; seen {self.max_wait_ms}")
        if not 0 < self.timeout <= 86_400:
            raise ArgumentError(f"timeout must lie in (0, 86400] seconds; seen {self.timeout}")
        if not _NAME.fullmatch(self.name):
            raise ArgumentError(
                f"name must be letters, digits, dots and dashes, as it stands in paths; seen "
                f"{self.name!r}"
            )
        if isinstance(self.allow_hosts, str):  # else its letters would be the names, and * any name
            raise ArgumentError(
                f"allow_hosts must be a list of names; seen the text {self.allow_hosts!r}"
            )
        for name in self.allow_hosts:
            if name != "*" and not HOST.fullmatch(name):
                raise ArgumentError(
                    f"a service is called by a name without a scheme and a port; seen {name!r}"
                )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ArgumentError(
                "a token must have at least 16 characters, all of ASCII and without spaces"
            )

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which it may be called, without ports."""
        return frozenset(name.lower() for name in (*LOOPBACK, *self.allow_hosts))
