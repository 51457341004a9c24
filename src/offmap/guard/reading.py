"""From files to rows of verdicts: the same whether one process reads them or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import torch

from offmap._utils.failures import of_machine
from offmap._utils.hub import first_line
from offmap.data import OwnTransform, Skipped, Span, decoded, groups_of, padded
from offmap.data.types import Resize
from offmap.guard._partial import Row
from offmap.guard.guard import Guard
from offmap.guard.reasons import explained

COLUMNS = ("path", "answer", "label", "score", "p_value", "is_ood", "error")
ACCEPTED, REASON = "accepted", "reason"
# What networks and this library raise on rows of tokens that they refuse.
REFUSED = (ValueError, RuntimeError, IndexError)


@dataclass(frozen=True)
class Reading:
    """How images become rows, in plain values, which can be sent to another process.

    Args:
        shape: channels, height and width that they are brought to.
        resize: "crop" or "squash".
        transform: ``file.py:NAME``, of a function that makes them in the place of these.
        batch_size: images at a time.
        explain: add a column ``reason``.
    """

    shape: tuple[int, int, int]
    resize: Resize = "crop"
    transform: str | None = None
    batch_size: int = 256
    explain: bool = False

    def rows(self, guard: Guard, spans: Iterable[Span]) -> Iterator[list[Row]]:
        """The rows of each batch of these images."""
        own = None if self.transform is None else OwnTransform.of(self.transform)
        items = chain.from_iterable(span.items() for span in spans)
        images = decoded(items, self.shape, resize=self.resize, own=own)
        while batch := list(islice(images, self.batch_size)):
            yield rows_of(guard, batch, images=True, explain=self.explain)


def rows_of(guard: Guard, batch: list[Any], *, images: bool, explain: bool) -> list[Row]:
    """A row for each sample of a batch; what cannot be read costs no other its verdict."""
    groups = [] if images else groups_of([sample for _, sample in batch], guard.input_names)
    if len(groups) > 1:
        parts = [
            rows_of(guard, [batch[i] for i in group], images=False, explain=explain)
            for group in groups
        ]
        pairs = zip(chain.from_iterable(groups), chain.from_iterable(parts), strict=True)
        return [row for _, row in sorted(pairs, key=itemgetter(0))]
    names = columns_of(guard, explain=explain)
    rows = [dict.fromkeys(names) | {"path": path} for path, _ in batch]
    indices = [i for i, (_, image) in enumerate(batch) if not isinstance(image, Skipped)]
    for row, (_, image) in zip(rows, batch, strict=True):
        row["error"] = image.reason if isinstance(image, Skipped) else None
    if not indices:
        return rows
    samples = [batch[i][1] for i in indices]
    try:
        inputs = torch.stack(samples) if images else as_batch(guard, samples)
        verdict, reasons = explained(guard, inputs) if explain else (guard(inputs), ())
    except REFUSED as error:
        if images:
            raise
        if len(batch) > 1:
            parts = [rows_of(guard, [item], images=False, explain=explain) for item in batch]
            return list(chain.from_iterable(parts))
        rows[0]["error"] = why_refused(error)
        return rows
    columns = verdict.to_dict() | ({REASON: list(reasons)} if explain else {})
    for name, values in columns.items():
        for i, value in zip(indices, values, strict=True):
            rows[i][name] = value
    return rows


def as_batch(guard: Guard, rows: list[Any]) -> Any:
    """Rows of tokens or features as one batch, padded as the network of the guard has it."""
    padding = getattr(getattr(guard.probe.network, "config", None), "pad_token_id", None)
    return padded(rows, guard.input_names, padding if isinstance(padding, int) else None)


def why_refused(error: Exception) -> str:
    """Why a network refuses one row; the error is raised again if the machine is the cause."""
    if of_machine(error):
        raise error
    return f"the network refuses it: {type(error).__name__}: {first_line(error)}"


def columns_of(guard: Guard, *, explain: bool) -> tuple[str, ...]:
    """The columns, with ``accepted`` of a guard that controls its errors, and with reasons."""
    accepted = () if guard.control_ is None else (ACCEPTED,)
    return (*COLUMNS, *accepted, *([REASON] if explain else []))
