"""The Hugging Face hub, asked once: without an answer, only the copies on this disk are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from offmap.errors import OffmapError, UnknownNameError

SECONDS = 2.0  # for the first answer


@contextmanager
def reached(repository: str) -> Iterator[None]:
    """Ask the hub for a repository of weights, before a block that downloads from it.

    By themselves, its libraries try for half a minute before they report a missing repository.

    Raises:
        UnknownNameError: the hub has no such repository; or the block failed, with the answer of
            the hub, or that there was none.
    """
    answer: Exception | None = None  # the error that the hub gives, if any
    if not Path(repository).is_dir():
        try:
            import_module("huggingface_hub").HfApi().model_info(repository, timeout=SECONDS)
        except Exception as error:  # each version of the client has its own types
            if type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError"):
                raise UnknownNameError(
                    f"the hub has no {repository!r}, or not for everyone: look at "
                    "huggingface.co/models"
                ) from error
            answer = error
    with offline(*[import_module("huggingface_hub").constants] if answer else ()):
        try:
            yield
        except (OffmapError, TypeError):  # TypeError: arguments that a network does not take
            raise
        except Exception as error:  # of network, hub, cache or files, each with its own types
            reason = first_line(error)
            if answer is not None:
                reason = (
                    f"the hub gave no answer within {SECONDS:g} seconds ({first_line(answer)}), "
                    f"and no copy is in its cache here ({reason})"
                )
            raise UnknownNameError(f"{repository} cannot be loaded: {reason}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def offline(*settings: Any) -> Iterator[None]:
    """Set the hub's libraries offline: they read their settings at every request."""
    values = [module.HF_HUB_OFFLINE for module in settings]
    try:
        for module in settings:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(settings, values, strict=True):
            module.HF_HUB_OFFLINE = value
