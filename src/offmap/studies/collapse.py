"""Study D: neural collapse, and what it says about OOD.

One network is trained past the point from which it answers all of its training images rightly.
What its features do over the epochs is recorded, and how well detectors do meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offmap import data
from offmap._utils.arguments import whole
from offmap.detectors import ordinary
from offmap.errors import ArgumentError, UnknownNameError
from offmap.evaluation import Results
from offmap.evaluation.collapse import Collapse
from offmap.studies._candidates import Candidate
from offmap.studies._collapse_figures import draw_cosines, draw_plane
from offmap.studies._collapse_networks import given, trained
from offmap.studies._collapse_tables import report
from offmap.studies._data import Data, at_hand, embedded_ood
from offmap.studies._running import Running, keep_report
from offmap.studies.measuring import measure
from offmap.studies.records import Records
from offmap.training import Recipe
from offmap.training.sets import known

IDS = ("cifar100", "cifar10", "digits")
# What the published code changes by backbone: see NECO.preset.
VARIANTS = ["NECO(times_max_logit=False)", "NECO(denominator='raw')", "NECO(scale=False)"]
NEAR = {"cifar100": ("cifar10", "tiny_imagenet"), "cifar10": ("cifar100", "tiny_imagenet")}
FAR = ("mnist", "textures", "places")
# Epochs between two records, by budget.
EVERY = {"smoke": 2, "cpu": 2, "full": 10}


@dataclass(frozen=True)
class Study:
    """What the study found.

    Args:
        results: evaluations by network: of single epochs, or those that were given.
        collapse: their neural collapse.
        records: of the training, if there was one.
        sources: where each network comes from.
    """

    results: Mapping[str, Results]
    collapse: Mapping[str, Collapse]
    records: Records | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> str:
        """All tables, as text."""
        return report(self.results, self.collapse, self.records, self.sources)


def run(
    out: str | Path,
    *,
    id: str | None = None,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    every: int | None = None,
    precision: str = "fp32",
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Study:
    """Train and record, or load, a network; evaluate; write tables and figures into ``out``.

    Args:
        out: a folder; a study that was interrupted goes on there.
        id: cifar100, cifar10 or digits (embedded); by default cifar100, for smoke digits.
        budget: smoke (seconds), cpu or full.
        weights: networks by names of your choice, earliest first: ``zoo:NAME``, the folder of a
            run, or a checkpoint; nothing is trained then.
        every: epochs between two records, by default 2, for full 10; in a training that has begun,
            those between its records from now on.
        precision: of the networks where they are measured, fp32 or bf16.
        changes: to the recipe, but for its seed.
        seed: of training and noise.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Running`.

    Raises:
        UnknownNameError: no such budget or ID set.
        ArgumentError: the smoke budget of another set than the embedded one; ``every`` below 1.
        StoreError, DataNotFoundError: a network cannot be loaded.
    """
    out = Path(out)
    id = _id(id, budget)
    running = Running(f"collapse --id {id}", budget, seed, changes or {}, **options)
    of = running.recipe(f"collapse_{id}", fixed=())
    found = study_data(id, of, seed)
    how = {"precision": precision, **running.options}
    if weights:
        records, shown = None, given(of, weights)
    else:
        every = whole("every", EVERY[budget] if every is None else every)
        records, shown = trained(of, running, found, out, every, how)
    study = _study(shown, found, records, out, how)
    keep_report(study.report(), out)
    shutil.rmtree(out / "activations")
    return study


def study_data(id: str, of: Recipe, seed: int = 0) -> Data:
    """The ID set of a recipe, and the OOD sets of the study."""
    train, test = known(of)
    if id == "digits":
        return Data(train, None, test, embedded_ood(test, seed))
    far = (*FAR, at_hand("svhn", "svhn370"))
    ood = {
        group: {name: data.load_like(name, test) for name in names}
        for group, names in (("near", NEAR[id]), ("far", far))
    }
    return Data(train, None, test, ood)


def _id(given: str | None, budget: str) -> str:
    id = given or ("digits" if budget == "smoke" else IDS[0])
    if id not in IDS:
        raise UnknownNameError(f"no ID set {id!r}: there are {', '.join(IDS)}")
    if budget == "smoke" and id != "digits":
        raise ArgumentError(f"the smoke budget is for digits, which are embedded; seen {id}")
    return id


def _study(
    shown: Mapping[str, Candidate],
    found: Data,
    records: Records | None,
    out: Path,
    how: Mapping[str, Any],
) -> Study:
    """Evaluate each network with the whole catalogue, and draw it."""
    results, measured = {}, {}
    for name, each in shown.items():
        options = {"cache": out / "activations", "normalization": each.normalization, **how}
        classes = len(found.train.classes) or int(found.train.labels.max()) + 1
        of = measure(
            each.network,
            found.train,
            id_test=found.test,
            ood=found.ood,
            detectors=[*ordinary(), f"NECO(dim={classes - 1})", *VARIANTS],
            **options,
        )
        assert of.results is not None
        of.results.save(out / name)
        results[name], measured[name] = of.results, of.collapse
        heading = f"{name}: {each.source}"
        draw_plane(each.network, found, of.collapse, out / name / "plane.png", heading, options)
    draw_cosines(measured, out)
    sources = {name: each.source for name, each in shown.items()}
    return Study(results, measured, records, sources)
