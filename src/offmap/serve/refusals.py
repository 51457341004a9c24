"""The answer to a request that gets no verdict."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """A status, and words that hold nothing but what the client sent.

    Args:
        status: of HTTP, 400 or above.
        reason: what is wrong, and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def busy(reason: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """The refusal of a service that is full."""
    return Refusal(503, reason, {"Retry-After": "1", **(headers or {})})
