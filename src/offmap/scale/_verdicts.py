"""Verdicts as columns, with a row for what could not be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.data import Skipped, groups_of
from offmap.errors import DataError
from offmap.guard import Guard, Verdict
from offmap.guard.reading import REFUSED, as_batch, why_refused


def columns_of(guard: Guard, samples: list[Any]) -> dict[str, NDArray[Any]]:
    """Label, score, p, is_ood and reason of each sample, or why it could not be read."""
    indices = [i for i, sample in enumerate(samples) if not isinstance(sample, Skipped)]
    n = len(samples)
    columns: dict[str, NDArray[Any]] = {
        "label": np.full(n, -1, np.int64),
        "score": np.full(n, np.nan),
        "p": np.full(n, np.nan),
        "is_ood": np.ones(n, bool),
        "reason": np.array([getattr(sample, "reason", "") for sample in samples], object),
    }
    if guard.control_ is not None:
        columns["accepted"] = np.zeros(n, bool)
    if not indices:
        return columns
    rows = [samples[i] for i in indices]
    are_tensors = torch.is_tensor(rows[0])
    groups = groups_of(samples, guard.input_names)
    if are_tensors:  # pixels and floats in one batch are normalised in different ways
        types = dict.fromkeys(row.dtype for row in rows)
        groups = [[i for i in indices if samples[i].dtype == each] for each in types]
    if len(groups) > 1:
        for group in groups:
            for name, values in _columns_of_group(guard, [samples[i] for i in group]).items():
                columns[name][group] = values
        return columns
    try:
        verdict = guard(torch.stack(rows) if are_tensors else as_batch(guard, rows))
    except REFUSED as error:
        if are_tensors:
            raise
        if n > 1:  # one by one, to find the row that is refused
            parts = [columns_of(guard, [sample]) for sample in samples]
            return {name: np.concatenate([part[name] for part in parts]) for name in columns}
        columns["reason"][0] = why_refused(error)
        return columns
    for name, values in _values(verdict).items():
        columns[name][indices] = values
    return columns


def _columns_of_group(guard: Guard, samples: list[Any]) -> dict[str, NDArray[Any]]:
    """The columns of rows of one kind; where the guard refuses that kind, with the reason."""
    try:
        return columns_of(guard, samples)
    except DataError as error:
        return columns_of(guard, [Skipped("", str(error))] * len(samples))


def _values(verdict: Verdict) -> dict[str, Any]:
    reasons = [reason or "" for reason in verdict.reasons or [None] * len(verdict)]
    accepted = {} if verdict.accepted is None else {"accepted": verdict.accepted.cpu().numpy()}
    return {
        "label": verdict.labels.cpu().numpy(),
        "score": verdict.scores.double().cpu().numpy(),
        "p": verdict.p_values.cpu().numpy(),
        "is_ood": verdict.is_ood.cpu().numpy(),
        "reason": np.array(reasons, object),
        **accepted,
    }
