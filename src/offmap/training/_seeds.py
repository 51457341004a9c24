"""Randomness as a function of seed and step, so that there is no state to save."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *place: str | int) -> int:
    """A seed for one place in a run, such as ``("step", 391)``."""
    digest = hashlib.sha256(repr((seed, *place)).encode()).digest()
    return int.from_bytes(digest[:7])


@contextmanager
def seeded(device: torch.device, seed: int, *place: str | int) -> Iterator[None]:
    """The global generators of CPU and device, seeded for this place and then as they were.

    Dropout and kornia use no others. Because each step seeds them anew, a run that is resumed at
    any step draws the same as an uninterrupted one.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, *place))
        yield


def generator(device: torch.device, seed: int, *place: str | int) -> torch.Generator:
    """A generator for this place alone."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *place))
