"""The embedded study: digits 0 to 7 are known, and everything else is not.

Runs on data inside the wheels of scikit-learn and scikit-image, in seconds, without a network
connection. The network's weights ship in the package; :func:`train` made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from offmap import data, plots
from offmap.data import ImageSet
from offmap.detectors import ordinary
from offmap.evaluation import Results, evaluate
from offmap.forward import Normalization
from offmap.networks import DigitsCNN, load_weights
from offmap.networks.card import Card, read

KNOWN = tuple(range(8))
NORMALIZATION = Normalization((0.305,), (0.376,))
SEED = 0
COMMAND = "offmap demo --retrain"


@dataclass(frozen=True)
class Digits:
    """The data: known digits in three disjoint parts, and what is not known."""

    train: ImageSet
    calibration: ImageSet
    test: ImageSet
    ood: dict[str, dict[str, ImageSet]]


def digits_data() -> Digits:
    """Digits 0 to 7 cut into 60 % training, 15 % calibration and 25 % test; 8, 9 and the rest."""
    digits = data.embedded("digits")
    train, rest = digits.only(KNOWN).split(0.6, seed=SEED)
    calibration, test = rest.split(0.375, seed=SEED)
    shape = digits.shape
    size = (shape[1], shape[2])
    far = {name: data.embedded(name, size=size, limit=300) for name in _FAR}
    far["noise"] = data.noise("gaussian", 300, shape, seed=SEED)
    near = {"eights": digits.only([8]), "nines": digits.only([9])}
    return Digits(train, calibration, test, {"near": near, "far": far})


_FAR = ("faces", "textures", "photographs", "text")


def train(sets: Digits, out: str | Path, *, changes: Mapping[str, Any] | None = None) -> nn.Module:
    """Train the demo's network by the recipe ``digits``, in a folder of its own.

    Raises:
        MissingExtraError: lightning or kornia is not installed.
    """
    from offmap import training  # here: the demo itself needs none of it

    declared = training.recipe("digits", changes=changes)
    of = training.Sets.of(declared, sets.train, sets.test)
    return training.train(
        declared, out, sets=of, resume=True, device="cpu", settings={"command": COMMAND}
    )


def shipped() -> DigitsCNN:
    """The network with the weights in the package."""
    with as_file(files("offmap.studies") / "digits.safetensors") as path:
        network = DigitsCNN(len(KNOWN))
        load_weights(network, path)
    return network.eval()


def card() -> Card:
    """The card of the shipped weights."""
    with as_file(files("offmap.studies") / "digits.json") as path:
        return read(path)


def run(
    out: str | Path,
    *,
    detectors: Any = None,
    retrain: bool = False,
    alarm_rate: float = 0.05,
    show_progress: bool | None = None,
) -> Results:
    """Evaluate detectors on the digits, and write tables and figures into ``out``.

    Without ``detectors``, all for one network with a linear head.
    """
    sets = digits_data()
    network = train(sets, Path(out) / "training") if retrain else shipped()
    results = evaluate(
        network,
        train=sets.train,
        id_test=sets.test,
        calibration=sets.calibration,
        ood=sets.ood,
        detectors=ordinary() if detectors is None else detectors,
        alarm_rate=alarm_rate,
        normalization=NORMALIZATION,
        show_progress=show_progress,
        settings={"id": "digits 0 to 7", "seed": SEED, "retrained": retrain},
    )
    results.save(out)
    draw(results, Path(out), {n: s for group in sets.ood.values() for n, s in group.items()})
    return results


def best(results: Results) -> str:
    """The detector with the highest mean AUROC."""
    return max(results.detectors, key=results.mean)


def draw(results: Results, out: Path, ood: dict[str, ImageSet]) -> None:
    """Histograms of the best detector, ROC curves of all, and its worst mistakes."""
    top = best(results)
    plots.save(plots.histograms(results, top), out / "histograms.png")
    plots.save(plots.roc_curves(results), out / "roc.png")
    worst = _most_wrong(results, top, 8)
    images = [ood[name].images[i] for name, i in worst]
    titles = [f"{name}\n“{results.predicted[name][i]}”" for name, i in worst]
    heading = f"unknown, most known by {top} score first; answers of the network in quotes"
    plots.save(plots.image_grid(images, titles, heading=heading), out / "most_wrong.png")


def _most_wrong(results: Results, detector: str, each: int) -> list[tuple[str, int]]:
    """The samples of every OOD set with the lowest scores: set and index."""
    sets = [name for names in results.groups.values() for name in names]
    scores = results.scores[detector]
    return [(s, int(i)) for s in sets for i in np.argsort(scores[s], kind="stable")[:each]]
