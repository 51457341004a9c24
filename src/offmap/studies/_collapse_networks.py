"""The networks of study D: single epochs of a training, or what the user has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offmap.networks import build, load_weights
from offmap.studies._candidates import Candidate, Origin, candidate
from offmap.studies._data import Data
from offmap.studies._running import Running
from offmap.studies.recording import network_of, record_run
from offmap.studies.records import Records
from offmap.training import Recipe, Sets, kept, normalization

RECORDED = ["msp", "maxlogit", "energy", "mahalanobis", "vim", "neco"]
WATCHED = 2000  # samples of each set in a record
_WHERE = "give zoo:NAME, the folder of a run, or a checkpoint"


def given(of: Recipe, weights: Mapping[str, str]) -> dict[str, Candidate]:
    """Networks that the user has, under their names."""
    origin = Origin(lambda path: load_weights(build(of.network), path), of.normalization, _WHERE)
    return {name: candidate(spec, origin) for name, spec in weights.items()}


def trained(
    of: Recipe, running: Running, found: Data, out: Path, every: int, how: Mapping[str, Any]
) -> tuple[Records, dict[str, Candidate]]:
    """Records of a training, and its early, middle and last network."""
    folder = out / "run"
    running.train(of, folder, Sets.of(of, found.train, found.test), keep_every=every)
    records = record_run(
        folder,
        train=found.train,
        id_test=found.test,
        ood={group: _some(sets) for group, sets in found.ood.items()},
        detectors=RECORDED,
        out=out / "records",
        **how,
    )
    weights = kept(folder)
    epochs = {"early": min(weights), "last": max(weights)}
    epochs["middle"] = min(weights, key=lambda epoch: abs(2 * epoch - of.epochs))
    return records, {
        name: Candidate(
            network_of(of, weights[epochs[name]]),
            normalization(of.normalization),
            f"{of.network}, epoch {epochs[name]} of {of.epochs} ({running.budget})",
        )
        for name in ("early", "middle", "last")
    }


def _some(sets: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each.take(WATCHED) for name, each in sets.items()}
