"""Batches of an evaluation, joined to a size that is worth scoring."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from offmap.activations import Activations, Batch

_ROWS = 1024


def gathered(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches joined to ``_ROWS`` samples: a score costs more to start than to compute."""
    held: list[Batch] = []
    for batch in batches:
        held.append(batch)
        if sum(len(acts) for acts, _ in held) >= _ROWS:
            yield _joined(held)
            held.clear()
    if held:
        yield _joined(held)


def _joined(held: list[Batch]) -> Batch:
    labels = [labels for _, labels in held if labels is not None]
    whole = torch.cat(labels) if len(labels) == len(held) else None
    return Activations.joined([acts for acts, _ in held]), whole
