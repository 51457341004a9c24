"""Study C: ensembles that disagree on what they do not know, and systems put together.

Two ensembles of the same members: one trained with cross entropy alone, and one whose members are
besides rewarded for disagreeing on images without meaning. Both have seen the data equally often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offmap import data
from offmap.activations import HasMembers
from offmap.errors import ArgumentError
from offmap.evaluation import Results, evaluate
from offmap.studies._candidates import Candidate
from offmap.studies._data import Data, at_hand, embedded_ood
from offmap.studies._disagreement_figures import draw
from offmap.studies._disagreement_tables import report
from offmap.studies._disagreement_training import NETWORKS, Training, given
from offmap.studies._running import Running, check_names, keep_report

SCORES = ["maxprobability", "totalentropy", "expectedentropy", "mutualinformation"]
FEATURES = ["mahalanobis", "knn", "vim"]
SINGLE = "single"
NOISE_SAMPLES = 2000


@dataclass(frozen=True)
class Study:
    """What the study found.

    Args:
        results: of the plain and the disagreeing ensemble, and of networks alone.
        labels: of the evaluated ID images.
        sources: where each network comes from.
        seed: of what is held out.
    """

    results: Mapping[str, Results]
    labels: Any
    sources: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def report(self) -> str:
        """All tables, as text."""
        return report(self.results, self.labels, self.sources, self.seed)


def run(
    out: str | Path,
    *,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Study:
    """Train or load both ensembles, evaluate, and write tables and figures into ``out``.

    Args:
        out: a folder; a study that was interrupted goes on there.
        budget: smoke (embedded digits, seconds), cpu or full; of the training, and of the data.
        weights: for "plain", "disagreement", "single" and any "single-NAME": ``zoo:NAME``, the
            folder of a run or a checkpoint; or the members of an ensemble, such names between
            commas. Ensembles that are missing are trained; without any single network, the first
            member of the plain ensemble is one.
        changes: to both recipes, but for the seed and the data.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Running`.

    Raises:
        UnknownNameError: no such budget or network.
        StoreError, DataNotFoundError: a network, or which member of one, cannot be loaded.
        ShapeError: members of different classes.
    """
    out, weights = Path(out), weights or {}
    alone = [name for name in weights if name == SINGLE or name.startswith(f"{SINGLE}-")]
    check_names(weights, [*NETWORKS, *(alone or [SINGLE, f"{SINGLE}-NAME"])])
    running = Running("disagreement", budget, seed, changes or {}, **options)
    candidates = {name: given(name, spec) for name, spec in weights.items()}
    found = embedded_data(seed) if budget == "smoke" else cifar_data(seed)
    training = Training(running)
    if missing := [name for name in NETWORKS if name not in candidates]:
        candidates |= training.networks(out, found, missing)
    if not alone:
        candidates[SINGLE] = _first_member(candidates["plain"])
    order = (*NETWORKS, *(alone or [SINGLE]))
    results = {name: _evaluated(candidates[name], found, running.options) for name in order}
    for name, each in results.items():
        each.save(out / name)
    sources = {name: each.source for name, each in candidates.items()}
    study = Study(results, found.test.labels.numpy(), sources, seed)
    draw(study.results, candidates, found, out)
    keep_report(study.report(), out)
    return study


def cifar_data(seed: int = 0) -> Data:
    """CIFAR-10 and the study's OOD sets; thresholds are chosen on parts of these."""
    test = data.load("cifar10:test")
    near = ("tiny_imagenet", "cifar100")
    far = (at_hand("svhn", "svhn370"), at_hand("lsun", "places"), "textures")
    noise = data.noise("gaussian", NOISE_SAMPLES, test.shape, seed=seed)
    return Data(
        data.load("cifar10:train"),
        None,
        test,
        {
            "near": {name: data.load_like(name, test) for name in near},
            "far": {name: data.load_like(name, test) for name in far} | {"noise": noise},
        },
    )


def embedded_data(seed: int = 0) -> Data:
    """Small digits in the place of CIFAR-10, and embedded sets as OOD."""
    train, test = data.embedded("digits").split(0.6, seed=seed)
    return Data(train, None, test, embedded_ood(test, seed))


def _first_member(plain: Candidate) -> Candidate:
    if not isinstance(plain.network, HasMembers):
        raise ArgumentError(
            f"plain is one {type(plain.network).__name__}: give an ensemble, or its members "
            "between commas"
        )
    return Candidate(
        plain.network.members[0], plain.normalization, "the first member of the plain ensemble"
    )


def _evaluated(each: Candidate, found: Data, options: Mapping[str, Any]) -> Results:
    """An ensemble by its own scores and its members' features; one network by its own."""
    of_members = [*SCORES, *(f"membermean({d})" for d in ("energy", *FEATURES))]
    of_one = ["msp", "energy", *FEATURES]
    return evaluate(
        each.network,
        train=found.train,
        id_test=found.test,
        ood=found.ood,
        detectors=of_members if isinstance(each.network, HasMembers) else of_one,
        spare=True,
        normalization=each.normalization,
        settings={"id": found.test.name, "source": each.source},
        **options,
    )
