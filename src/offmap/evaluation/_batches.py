"""Batches of an evaluation: joined to a size that is worth scoring, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from offmap.activations import Activations, Batch, Sample
from offmap.errors import LabelError

_ROWS = 1024


@dataclass
class Count:
    """Counts samples, and right answers where all have labels, as batches go by."""

    samples: int = 0
    right: int = 0
    members: list[int] = field(default_factory=list)
    labelled: bool = True

    def through(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches themselves, counted as they go by."""
        for batch, labels in batches:
            self.samples += len(batch)
            self.labelled = self.labelled and labels is not None
            if labels is not None and self.labelled:
                self._add(batch.acts if isinstance(batch, Sample) else batch, labels)
            yield batch, labels

    def _add(self, acts: Activations, labels: Tensor) -> None:
        if labels.shape != (len(acts),):
            raise LabelError(
                f"labels must be {len(acts)} class indices, one a sample; seen shape "
                f"{tuple(labels.shape)}"
            )
        self.right += _right(acts, labels)
        members = acts.members if acts.classifier_logits is None else ()  # those that answer
        each = [_right(member, labels) for member in members]
        self.members = [a + b for a, b in zip(self.members or [0] * len(each), each, strict=True)]


def _right(acts: Activations, labels: Tensor) -> int:
    return int((acts.predictions == labels).sum())


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
