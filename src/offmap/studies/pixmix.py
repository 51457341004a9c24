"""Study A: post-hoc scores on CIFAR-10, and whether training with PixMix helps them.

Two networks of equal architecture, one trained with crop and flip and one with PixMix besides. The
statistics are those of un-augmented training images; no score depends on its batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offmap import data, plots
from offmap._utils.arguments import whole
from offmap.detectors import ordinary
from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.networks import WideResNet
from offmap.studies import _pixmix_tables as tables
from offmap.studies._pixmix_features import NORM, Norm
from offmap.studies._pixmix_tables import SCORES
from offmap.studies._study import (
    DATA_FIELDS,
    Data,
    Setup,
    check_names,
    first_local,
    write_report,
)
from offmap.training import Sets
from offmap.training.trained import Checkpoint, Trained, open_trained

QUESTION = "Does training with PixMix help detection?"
_HINT = "the authors publish {} at {}; or give zoo:NAME, or the folder of a run"
NETWORKS = {
    "plain": Checkpoint(
        WideResNet.like,
        "cifar10",
        _HINT.format(
            "cifar10_wrn_baseline_epoch_99.pt",
            "github.com/hendrycks/outlier-exposure (CIFAR/snapshots/baseline)",
        ),
    ),
    "pixmix": Checkpoint(
        WideResNet.like,
        "0.5/0.5",
        _HINT.format("checkpoint.pth.tar", "github.com/andyzoujm/pixmix"),
    ),
}
CALIBRATION_SHARE, NOISE_SAMPLES = 0.1, 2000


@dataclass(frozen=True)
class Study:
    """The outcome of the study.

    Args:
        results: of each network, on all samples.
        sources: where each network comes from.
        notes: what a reader must know of them.
    """

    results: Mapping[str, Results]
    sources: Mapping[str, str]
    notes: Sequence[str] = ()

    def report(self) -> str:
        """All tables, as text."""
        return "\n\n".join([*self.notes, tables.report(self.results, self.sources)])

    def summary(self) -> str:
        """The question and the main table, on one screen."""
        return "\n\n".join([QUESTION, *self.notes, tables.summary(self.results, self.sources)])


def run(
    out: str | Path,
    *,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    only: str | None = None,
    limit: int | None = None,
    cache: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Study:
    """Train or load both networks, evaluate, and write tables and figures into ``out``.

    Args:
        out: a folder; a study that was interrupted goes on there.
        budget: smoke (embedded data, seconds), cpu or full; of the training, and of the data.
        weights: ``zoo:NAME``, the folder of a run or a checkpoint for "plain" and "pixmix", of
            whatever network; see :func:`offmap.training.trained.open_trained`. Those that are
            missing are trained.
        only: "plain" or "pixmix", to train and evaluate one of them.
        limit: a seeded number of samples of each set to evaluate on; without effect on training.
        cache: folder for activations, see :func:`offmap.evaluate`.
        changes: to both recipes, but for the seed.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Setup`.

    Raises:
        UnknownNameError: no such budget or network.
        ArgumentError: a ``limit`` below 1, or with the smoke budget; weights of the other network
            than ``only``; or changes where nothing is trained.
        StoreError, DataNotFoundError: a network cannot be loaded.
    """
    out, weights = Path(out), weights or {}
    check_names({*weights, *([only] if only else [])}, list(NETWORKS))
    if limit is not None:
        whole("limit", limit)
        if budget == "smoke":
            raise ArgumentError("the smoke budget has few samples as it is: leave limit out")
    names = [name for name in NETWORKS if only in (None, name)]
    if unread := [name for name in weights if name not in names]:
        raise ArgumentError(f"only {only} is evaluated: leave {unread[0]} out of the weights")
    arguments = {"weights": weights, "only": only, "limit": limit}
    setup = Setup("pixmix", budget, seed, changes or {}, arguments, **options)
    setup.check_trains([name for name in names if name not in weights])
    networks = {name: open_trained(spec, NETWORKS[name]) for name, spec in weights.items()}
    is_smoke = budget == "smoke"
    sets = embedded_data(seed) if is_smoke else cifar_data(seed, limit)
    for name in (name for name in names if name not in weights):
        # Other budgets than smoke read the data that the recipe names.
        recipe = setup.recipe(name, fixed=DATA_FIELDS if is_smoke else ())
        run_sets = Sets.of(recipe, sets.train, sets.test) if is_smoke else None
        epochs = f"trained for {recipe.epochs} epochs"
        networks[name] = setup.train(recipe, out / name, run_sets, epochs=epochs)
    networks = {name: networks[name] for name in names}  # in the order of the tables
    detectors = {name: name for name in [*SCORES, *ordinary()]} | {NORM: Norm()}
    more = {"train": sets.train, "on_error": "skip", "cache": cache}
    results = {}
    for name, network in networks.items():
        results[name] = setup.evaluate(network, sets, detectors, **more)
        results[name].save(out / name)
    draw(results, out)
    sources = {name: network.source for name, network in networks.items()}
    notes = _notes(networks)
    if limit is not None:
        notes.append(f"Note: at most {limit:,} seeded samples of each set were used.")
    study = Study(results, sources, notes)
    write_report(study.report(), out)
    return study


def cifar_data(seed: int = 0, limit: int | None = None) -> Data:
    """CIFAR-10, a seeded tenth of its test split held out, and the study's OOD sets."""
    part: dict[str, Any] = {"limit": limit, "seed": seed}
    calibration, test = data.load("cifar10:test", **part).split(CALIBRATION_SHARE, seed=seed)
    count = NOISE_SAMPLES if limit is None else min(limit, NOISE_SAMPLES)
    noise = data.noise("rademacher", count, test.shape, seed=seed)
    names = (first_local("svhn", "svhn370"), "textures", "cifar100")
    ood = {"rademacher": noise} | {name: data.load_like(name, test, **part) for name in names}
    return Data(data.load_like("cifar10:train", test, **part), calibration, test, ood)


def embedded_data(seed: int = 0) -> Data:
    """Patches of nine photographs in the place of CIFAR-10, and embedded sets as OOD."""
    photographs = data.embedded("photographs", channels=3)
    train, holdout = photographs.split(0.6, seed=seed)
    calibration, test = holdout.split(0.375, seed=seed)
    ood = {"rademacher": data.noise("rademacher", 200, test.shape, seed=seed)}
    for name in ("textures", "text", "digits"):
        ood[name] = data.embedded(name, size=32, channels=3, limit=200, seed=seed)
    return Data(train, calibration, test, ood)


def draw(results: Mapping[str, Results], out: Path) -> None:
    """Histograms of the study's scores and ROC curves of all; how the two networks differ."""
    for network, of_network in results.items():
        for detector in (d for d in SCORES if d in of_network.detectors):
            name = detector.partition("(")[0].lower()
            figure = plots.histograms(of_network, detector)
            plots.save(figure, out / network / f"histograms-{name}.png")
        plots.save(plots.roc_curves(of_network), out / network / "roc.png")
    if len(results) > 1:
        title = "PixMix minus plain, 95 % intervals of the paired test"
        tests = tables.mean_tests(results)
        figure = plots.differences(tests, title, "mean AUROC over the OOD sets, in points")
        plots.save(figure, out / "differences.png")


def _notes(networks: Mapping[str, Trained]) -> list[str]:
    """Whether the architectures confound the comparison."""
    shapes = {
        name: (trained.network.depth, trained.network.width)
        for name, trained in networks.items()
        if isinstance(trained.network, WideResNet)
    }
    if len(set(shapes.values())) < 2:
        return []
    words = ", ".join(f"{name} is WRN-{d}-{w}" for name, (d, w) in shapes.items())
    note = f"the architectures differ ({words}): width and augmentation are confounded"
    warnings.warn(note, stacklevel=3)
    return [f"Note: {note}."]
