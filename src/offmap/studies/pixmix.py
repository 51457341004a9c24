"""Study A: post-hoc scores on CIFAR-10, and whether training with PixMix helps them.

Two networks of equal architecture, one trained with crop and flip and one with PixMix besides. The
statistics are those of un-augmented training images; no score depends on its batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offmap import data, plots
from offmap.detectors import ordinary
from offmap.evaluation import Results, evaluate
from offmap.networks import WideResNet
from offmap.studies._candidates import Candidate, Origin, candidate
from offmap.studies._data import Data, at_hand
from offmap.studies._running import DATA, Running, check_names, keep_report
from offmap.studies._tables import VIM, differences, tables
from offmap.training import Recipe, Sets, normalization

# The scores of the source study, in its order.
SCORES = ("maxlogit", "msp", "kluniform", VIM)
_WHERE = "the authors publish {} at {}; or give zoo:NAME, or the folder of a run"
NETWORKS = {
    "plain": Origin(
        WideResNet.like,
        "cifar10",
        _WHERE.format(
            "cifar10_wrn_baseline_epoch_99.pt",
            "github.com/hendrycks/outlier-exposure (CIFAR/snapshots/baseline)",
        ),
    ),
    "pixmix": Origin(
        WideResNet.like,
        "0.5/0.5",
        _WHERE.format("checkpoint.pth.tar", "github.com/andyzoujm/pixmix"),
    ),
}
CALIBRATION_SHARE, NOISE_SAMPLES = 0.1, 2000


@dataclass(frozen=True)
class Study:
    """What the study found.

    Args:
        results: of each network, on all samples.
        sources: where each network comes from.
        notes: what a reader must know of them.
    """

    results: Mapping[str, Results]
    sources: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    def report(self) -> str:
        """All tables, as text."""
        parts = [
            tables(name, self.sources[name], found, SCORES) for name, found in self.results.items()
        ]
        compared = differences(self.results) if len(self.results) > 1 else []
        return "\n\n".join([*self.notes, *parts, *compared])


def run(
    out: str | Path,
    *,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    only: str | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Study:
    """Train or load both networks, evaluate, and write tables and figures into ``out``.

    Args:
        out: a folder; a study that was interrupted goes on there.
        budget: smoke (embedded data, seconds), cpu or full; of the training, and of the data.
        weights: ``zoo:NAME``, the folder of a run or a checkpoint for "plain" and "pixmix"; those
            that are missing are trained.
        only: "plain" or "pixmix", to train and evaluate one of them.
        changes: to both recipes, but for the seed.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Running`.
    """
    out, weights = Path(out), weights or {}
    check_names({*weights, *([only] if only else [])}, list(NETWORKS))
    running = Running("pixmix", budget, seed, changes or {}, **options)
    found = embedded_data(seed) if budget == "smoke" else cifar_data(seed)
    candidates = {}
    for name, origin in NETWORKS.items():
        if only not in (None, name):
            continue
        if name in weights:
            candidates[name] = candidate(weights[name], origin)
        else:
            declared = running.recipe(name, fixed=DATA if budget == "smoke" else ())
            candidates[name] = _trained(declared, out / name, found, running)
    results = {
        name: _evaluated(each, found, **running.options) for name, each in candidates.items()
    }
    for name, each in results.items():
        each.save(out / name)
        _draw(each, out / name)
    sources = {name: each.source for name, each in candidates.items()}
    study = Study(results, sources, _notes(candidates))
    keep_report(study.report(), out)
    return study


def cifar_data(seed: int = 0) -> Data:
    """CIFAR-10, a seeded tenth of its test split held out, and the study's OOD sets."""
    calibration, test = data.load("cifar10:test").split(CALIBRATION_SHARE, seed=seed)
    sets = (at_hand("svhn", "svhn370"), "textures", "cifar100")
    ood = {name: data.load_like(name, test) for name in sets}
    noise = data.noise("rademacher", NOISE_SAMPLES, test.shape, seed=seed)
    return Data(data.load("cifar10:train"), calibration, test, {"rademacher": noise, **ood})


def embedded_data(seed: int = 0) -> Data:
    """Patches of nine photographs in the place of CIFAR-10, and embedded sets as OOD."""
    photographs = data.embedded("photographs", channels=3)
    train, rest = photographs.split(0.6, seed=seed)
    calibration, test = rest.split(0.375, seed=seed)
    ood = {
        name: data.embedded(name, size=32, channels=3, limit=200, seed=seed)
        for name in ("textures", "text", "digits")
    }
    noise = data.noise("rademacher", 200, test.shape, seed=seed)
    return Data(train, calibration, test, {"rademacher": noise, **ood})


def _trained(declared: Recipe, folder: Path, found: Data, running: Running) -> Candidate:
    """The network of a recipe, trained in its folder; other budgets read what the recipe names."""
    smoke = Sets.of(declared, found.train, found.test) if running.budget == "smoke" else None
    network = running.train(declared, folder, smoke)
    source = f"{declared.network}, trained for {declared.epochs} epochs ({running.budget})"
    return Candidate(network, normalization(declared.normalization), source)


def _evaluated(each: Candidate, found: Data, **options: Any) -> Results:
    rest = [name for name in ordinary() if name not in SCORES]
    return evaluate(
        each.network,
        train=found.train,
        id_test=found.test,
        calibration=found.calibration,
        ood={"ood": found.ood},
        detectors=[*SCORES, *rest],
        spare=True,
        normalization=each.normalization,
        settings={"id": found.test.name.partition("[")[0], "source": each.source},
        **options,
    )


def _notes(candidates: Mapping[str, Candidate]) -> list[str]:
    """What confounds the comparison."""
    shapes = {
        name: (each.network.depth, each.network.width)
        for name, each in candidates.items()
        if isinstance(each.network, WideResNet)
    }
    if len(set(shapes.values())) < 2:
        return []
    listed = ", ".join(f"{name} is WRN-{d}-{w}" for name, (d, w) in shapes.items())
    note = f"the architectures differ ({listed}): width and augmentation are confounded"
    warnings.warn(note, stacklevel=3)
    return [f"Note: {note}."]


def _draw(found: Results, folder: Path) -> None:
    """Histograms of the study's scores, and ROC curves of all."""
    for detector in (d for d in SCORES if d in found.detectors):
        name = detector.partition("(")[0].lower()
        plots.save(plots.histograms(found, detector), folder / f"histograms-{name}.png")
    plots.save(plots.roc_curves(found), folder / "roc.png")
