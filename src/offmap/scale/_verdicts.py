"""Verdicts as columns, with a row for what could not be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.data import Skipped, groups_of
from offmap.errors import DataError
from offmap.guard import Guard
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
            part = [samples[i] for i in group]
            try:
                of_group = columns_of(guard, part)
            except DataError as error:  # the guard refuses rows of this kind
                of_group = columns_of(guard, [Skipped("", str(error))] * len(part))
            for name, values in of_group.items():
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
    columns["label"][indices] = verdict.labels.cpu().numpy()
    columns["score"][indices] = verdict.scores.double().cpu().numpy()
    columns["p"][indices] = verdict.p_values.cpu().numpy()
    columns["is_ood"][indices] = verdict.is_ood.cpu().numpy()
    columns["reason"][indices] = [reason or "" for reason in verdict.reasons or [""] * len(indices)]
    if verdict.accepted is not None:
        columns["accepted"][indices] = verdict.accepted.cpu().numpy()
    return columns
