"""The whole job on embedded data: digits 0 to 7 are known, and everything else is not.

Runs in seconds and without a network connection: the digits lie in scikit-learn's wheel, and the
other pictures, of 8x8 pixels, in this package, as do the weights of its classifier, which
:func:`train` made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from torch import nn

from offmap import data, plots, reporting
from offmap.data import ImageSet
from offmap.detectors import ordinary
from offmap.evaluation import Results, evaluate
from offmap.forward import Normalization
from offmap.networks import DigitsCNN, load_weights
from offmap.networks.card import Card, read

__all__ = [
    "COMMAND",
    "KNOWN",
    "NORMALIZATION",
    "SEED",
    "Digits",
    "best",
    "card",
    "digits_data",
    "draw",
    "run",
    "shipped",
    "train",
]

KNOWN = tuple(range(8))
FAR = ("faces", "textures", "photographs", "text")
NORMALIZATION = Normalization((0.305,), (0.376,))
SEED = 0
COMMAND = "offmap demo --retrain"


@dataclass(frozen=True)
class Digits:
    """The known digits in three disjoint parts, and the OOD sets by group and name."""

    train: ImageSet
    calibration: ImageSet
    test: ImageSet
    ood: dict[str, dict[str, ImageSet]]


def digits_data() -> Digits:
    """Digits 0 to 7 (60 % training, 15 % calibration, 25 % test); 8, 9 and others as OOD."""
    digits = data.embedded("digits")
    train, rest = digits.only(KNOWN).split(0.6, seed=SEED)
    calibration, test = rest.split(0.375, seed=SEED)
    far = {name: pictures(name) for name in FAR}
    far["noise"] = data.noise("gaussian", 300, digits.shape, seed=SEED)
    near = {"eights": digits.only([8]), "nines": digits.only([9])}
    return Digits(train, calibration, test, {"near": near, "far": far})


def pictures(name: str) -> ImageSet:
    """One of the sets in ``FAR``, 8x8 and grey: ``data.embedded(name, size=8, limit=300)``.

    They are kept here so that the demo needs no more than the library does;
    ``scripts/demo_pictures.py`` made them.
    """
    place = files("offmap.demo") / "pictures.safetensors"
    with as_file(place) as path, safe_open(path, "pt") as file:
        images, rows = file.get_tensor(name), file.get_tensor(f"{name}.rows")
        said = file.metadata()
    keys = tuple(map(str, rows.tolist()))
    transform = said[f"{name}.transform"]
    return ImageSet(said[name], images, transform=transform, sample_keys=keys)


def train(sets: Digits, out: str | Path, *, changes: Mapping[str, Any] | None = None) -> nn.Module:
    """Train the demo's network by the recipe ``digits``, in a folder of its own.

    Raises:
        MissingExtraError: lightning or kornia is not installed.
    """
    from offmap import training  # here: the demo itself needs none of it

    recipe = training.recipe("digits", changes=changes)
    return training.train(
        recipe,
        out,
        sets=training.Sets.of(recipe, sets.train, sets.test),
        resume=True,
        device="cpu",
        settings={"command": COMMAND},
    )


def shipped() -> DigitsCNN:
    """The network with the weights in the package."""
    network = DigitsCNN(len(KNOWN))
    with as_file(files("offmap.demo") / "weights.safetensors") as path:
        load_weights(network, path)
    return network.eval()


def card() -> Card:
    """The card of the shipped weights."""
    with as_file(files("offmap.demo") / "weights.json") as path:
        return read(path)


def run(
    out: str | Path,
    *,
    detectors: Any = None,
    retrain: bool = False,
    alarm_rate: float = 0.05,
    report: bool = False,
    show_progress: bool | None = None,
) -> Results:
    """Evaluate detectors on the digits, and write tables and figures into ``out``.

    Without ``detectors``, all for one network with a linear head. With ``report``, ``report.html``
    too.
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
    inputs = reporting.inputs_of(sets.test, sets.ood)
    draw(results, Path(out), {n: s for n, s in inputs.items() if n != "id"})
    if report:
        reporting.report(results, Path(out) / "report.html", inputs=inputs, command="offmap demo")
    return results


def best(results: Results) -> str:
    """The detector with the highest mean AUROC."""
    return max(results.detectors, key=results.mean)


def draw(results: Results, out: Path, ood: Mapping[str, ImageSet], *, worst: int = 8) -> None:
    """Histograms of the best detector, ROC curves of all, and the mistakes of the best one.

    Args:
        results: of the evaluation.
        out: folder for the figures.
        ood: OOD sets by name.
        worst: how many samples of each set are shown: those with the lowest scores.
    """
    top = best(results)
    plots.save(plots.histograms(results, top), out / "histograms.png")
    plots.save(plots.roc_curves(results), out / "roc.png")
    images, titles = [], []
    for name, images_of_set in ood.items():
        for i in np.argsort(results.scores[top][name], kind="stable")[:worst]:
            images.append(images_of_set.images[i])
            titles.append(f"{name}\n“{results.predictions[name][i]}”")
    heading = f"OOD samples with the lowest {top} scores; predictions of the network in quotes"
    plots.save(plots.image_grid(images, titles, heading=heading), out / "most_wrong.png")
