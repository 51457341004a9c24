"""Study D: neural collapse, and what it says about OOD.

One network is trained past the point from which it classifies all of its training images correctly.
Its features are measured over the epochs, and how well detectors do meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from offmap import data
from offmap._utils.arguments import whole
from offmap.detectors import ordinary
from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.evaluation.collapse import Collapse
from offmap.evaluation.measure import measure
from offmap.networks import build, load_weights
from offmap.studies import _collapse_tables as tables
from offmap.studies._collapse_figures import draw_cosines, draw_plane
from offmap.studies._collapse_tables import RECORDED
from offmap.studies._study import Data, Setup, embedded_ood, first_local, id_of, write_report
from offmap.training import Recipe, kept
from offmap.training.recording import record_run
from offmap.training.records import Records
from offmap.training.sets import Named, known
from offmap.training.trained import Checkpoint, Trained, open_epoch, open_trained

QUESTION = "What do features do as a network collapses, and what does that say about OOD?"
IDS = ("cifar100", "cifar10", "digits")
# What the published code changes by backbone: see NECO.preset.
VARIANTS = ["NECO(times_max_logit=False)", "NECO(denominator='raw')", "NECO(scale=False)"]
NEAR = {"cifar100": ("cifar10", "tiny_imagenet"), "cifar10": ("cifar100", "tiny_imagenet")}
FAR = ("mnist", "textures", "places")
# Epochs between two records, by budget.
EVERY = {"smoke": 2, "cpu": 2, "full": 10}
RECORDED_SAMPLES = 2000  # of each OOD set in a record


@dataclass(frozen=True)
class Study:
    """The outcome of the study.

    Args:
        results: evaluations by network: of single epochs, or those of the user.
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
        return tables.report(self.results, self.collapse, self.records, self.sources)

    def summary(self) -> str:
        """The question and the main tables, on one screen."""
        text = tables.summary(self.results, self.collapse, self.records, self.sources)
        return f"{QUESTION}\n\n{text}"


def run(
    out: str | Path,
    *,
    id: str | None = None,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    every: int | None = None,
    limit: int | None = None,
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
        every: epochs between two records, by default 2, for full 10; where a training goes on, from
            there on.
        limit: with ``weights``, a seeded N of each set, for a quick look.
        precision: of the networks where they are measured, fp32 or bf16.
        changes: to the recipe, but for its seed.
        seed: of training and noise.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Setup`.

    Raises:
        UnknownNameError: no such budget or ID set.
        ArgumentError: the smoke budget of another set than the embedded one; ``every`` or ``limit``
            below 1; a ``limit`` without ``weights``, or ``every`` beside them.
        StoreError, DataNotFoundError: a network cannot be loaded.
    """
    out = Path(out)
    id = id_of(id, budget, IDS)
    arguments: dict[str, Any] = {"id": id, "weights": weights, "every": every, "limit": limit}
    arguments |= {} if precision == "fp32" else {"precision": precision}
    setup = Setup("collapse", budget, seed, changes or {}, arguments, **options)
    recipe = setup.recipe(f"collapse_{id}", fixed=())
    if limit is not None and not weights:
        raise ArgumentError(
            "a limit is for a look at trained networks: name them as weights, or change the limit "
            "of the recipe to train on fewer images"
        )
    if every is not None and weights:
        raise ArgumentError(
            "every is how often a training is recorded, and nothing is trained where weights are "
            "given: leave it out"
        )
    sets = study_data(id, recipe, seed, None if limit is None else whole("limit", limit))
    measure_options = {"precision": precision, **setup.options}
    records = None
    if weights:
        checkpoint = Checkpoint(
            lambda path: load_weights(build(recipe.network), path),
            recipe.normalization,
            "give zoo:NAME, the folder of a run, or a checkpoint",
        )
        networks = {name: open_trained(spec, checkpoint) for name, spec in weights.items()}
    else:
        every = whole("every", EVERY[budget] if every is None else every)
        records, networks = _train(setup, recipe, sets, out, every, measure_options)
    study = _evaluate(setup, networks, sets, records, out, measure_options)
    if limit is not None:
        note = f"; at most {limit:,} images of each set"
        sources = {name: source + note for name, source in study.sources.items()}
        study = replace(study, sources=sources)
    write_report(study.report(), out)
    return study


def study_data(id: str, recipe: Recipe, seed: int = 0, limit: int | None = None) -> Data:
    """The ID set of a recipe, and the OOD sets of the study; at most ``limit`` samples of each."""
    train, test = known(recipe)
    ood: Mapping[str, Any]
    if id == "digits":
        ood = embedded_ood(test, seed)
    else:
        far = (*FAR, first_local("svhn", "svhn370"))
        ood = {
            group: {name: data.load_like(name, test) for name in names}
            for group, names in (("near", NEAR[id]), ("far", far))
        }
    if limit is not None:
        train, test = (part.take(limit, seed) for part in (train, test))
        ood = _take(ood, limit, seed)
    return Data(train, None, test, ood)


def _take(ood: Mapping[str, Any], count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """A seeded part of each OOD set."""
    return {
        group: {name: images.take(count, seed) for name, images in of_group.items()}
        for group, of_group in ood.items()
    }


def _train(
    setup: Setup, recipe: Recipe, sets: Data, out: Path, every: int, options: Mapping[str, Any]
) -> tuple[Records, dict[str, Trained]]:
    """Records of a training, on a part of each OOD set, and three of its networks."""
    run = out / "run"
    setup.train(recipe, run, Named.of(recipe, sets.train, sets.test), keep_every=every)
    records = record_run(
        run,
        train=sets.train,
        id_test=sets.test,
        ood=_take(sets.ood, RECORDED_SAMPLES),
        detectors=RECORDED,
        out=out / "records",
        **options,
    )
    weights = kept(run)
    middle = min(weights, key=lambda epoch: abs(2 * epoch - recipe.epochs))
    epochs = {"early": min(weights), "middle": middle, "last": max(weights)}
    networks = {
        name: replace(
            open_epoch(weights[epoch]),
            source=f"{recipe.network}, epoch {epoch} of {recipe.epochs} ({setup.budget})",
        )
        for name, epoch in epochs.items()
    }
    return records, networks


def _evaluate(
    setup: Setup,
    networks: Mapping[str, Trained],
    sets: Data,
    records: Records | None,
    out: Path,
    measure_options: Mapping[str, Any],
) -> Study:
    """Evaluate each network with the whole catalogue, and draw it."""
    results, collapses = {}, {}
    classes = len(sets.train.classes) or int(sets.train.labels.max()) + 1
    activations = out / "activations"
    for name, trained in networks.items():
        options = {"cache": activations, "normalization": trained.normalization, **measure_options}
        measurement = measure(
            trained.network,
            sets.train,
            id_test=sets.test,
            ood=sets.ood,
            detectors=[*ordinary(), f"NECO(dim={classes - 1})", *VARIANTS],
            **options,
        )
        assert measurement.results is not None
        kept_settings = measurement.results.settings | setup.settings(trained, sets)
        results[name] = replace(measurement.results, settings=kept_settings)
        results[name].save(out / name)
        collapses[name] = measurement.collapse
        figure = out / name / "plane.png"
        draw_plane(trained, sets, measurement.collapse, figure, name, options)
    draw_cosines(collapses, out)
    shutil.rmtree(activations)
    sources = {name: trained.source for name, trained in networks.items()}
    return Study(results, collapses, records, sources)
