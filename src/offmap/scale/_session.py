"""Ray: a session that is running is joined; else one is started for as long as it is needed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

from offmap._utils.warning import warn_user
from offmap.errors import ArgumentError, MissingExtraError, OffmapWarning

_SPARE = 1  # a slot beside the workers, for the tasks that Ray itself starts


def library() -> Any:
    """Ray, which reports nothing of its use.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error


@contextmanager
def session(slots: int, gpus: int = 0) -> Iterator[Any]:
    """Ray with so many processors: that of this process, of ``$RAY_ADDRESS``, or a new session.

    A session that was running before stays; a new one ends with the block.

    Raises:
        MissingExtraError: Ray is not installed.
        ArgumentError: the cluster cannot be joined, runs another version, or is too small.
    """
    ray = library()
    joined = ray.is_initialized()
    if not joined:
        _start(ray, slots)
    try:
        # Actors that no machine has room for would wait for ever.
        resources = ray.cluster_resources()
        for name, demand in (("CPU", slots), ("GPU", gpus)):
            if (supply := resources.get(name, 0)) < demand:
                raise ArgumentError(
                    f"{demand} {name} slots are needed, and the Ray session has {supply:g}: give "
                    "fewer workers, or start it with more, as "
                    f"ray.init(num_{name.lower()}s={demand})"
                )
        yield ray
    finally:
        if not joined:
            ray.shutdown()  # of a cluster that was joined, this leaves it


def _start(ray: Any, slots: int) -> None:
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=slots + _SPARE, include_dashboard=False, **quiet)
    # Where a process of its own does not start in time, Ray raises a bare Exception.
    except Exception as error:
        lines = " ".join(str(error).split())
        if not address:
            raise ArgumentError(
                f"Ray does not start on this machine: {lines}; look at its memory and load, and "
                "try again, or work in one process, without an engine"
            ) from error
        remedy = (
            "install the same versions here and there"
            if "mismatch" in lines.lower()
            else "look at RAY_ADDRESS, or leave it unset for a session of this machine's own"
        )
        raise ArgumentError(
            f"the cluster at {address} cannot be used: {lines}; {remedy}"
        ) from error


def gpus_of(device: str | None) -> int:
    """The GPUs that each worker takes.

    Raises:
        ArgumentError: one is named by its number, which is another in each worker.
    """
    name = str(device)
    if name.startswith("cuda:"):
        raise ArgumentError(
            f"each worker has a GPU of its own, which Ray chooses; seen {name}: give cuda, and "
            "choose among the GPUs by $CUDA_VISIBLE_DEVICES"
        )
    return int(name == "cuda")


def versions() -> dict[str, str]:
    """The versions that results depend on, in this process."""
    libraries = {name: version(name) for name in ("offmap", "torch", "numpy")}
    return {"python": platform.python_version(), **libraries}


def check_versions(theirs: dict[str, str]) -> None:
    """Warn of workers with other versions than this process, or refuse them.

    Raises:
        ArgumentError: another version of this library, whose statistics may be others.
    """
    ours = versions()
    different = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    words = ", ".join(f"{name} {a} here and {b} there" for name, (a, b) in different.items())
    if "offmap" in different:
        raise ArgumentError(f"the workers run other versions ({words}): install the same on both")
    if different:
        warn_user(f"the workers run other versions ({words}): numbers may differ", OffmapWarning)
