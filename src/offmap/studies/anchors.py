"""Study B: open-set recognition by class anchors, on MNIST.

From one network, trained for a while, two go on for as long again: one with cross entropy, one
under an anchor head with the class-anchor loss. So both have seen the data equally often. The
threshold comes from held-out known images alone; no unknown image takes part in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offmap import data
from offmap.evaluation import Results
from offmap.guard import Guard
from offmap.networks import build, load_weights
from offmap.studies._anchors_figures import draw
from offmap.studies._anchors_systems import ALARM_RATE, Training, evaluated
from offmap.studies._anchors_tables import report
from offmap.studies._candidates import Candidate, Origin, candidate
from offmap.studies._data import Data, at_hand
from offmap.studies._running import Running, check_names, keep_report
from offmap.studies._six_of_ten import Splits, six_of_ten

HELD_OUT, UNKNOWN = 5000, 500
_WHERE = "give zoo:NAME, the folder of a run, or a checkpoint of the study's network"
_SPECS = {"plain": "mnist_cnn", "anchors": "anchor_head(network='mnist_cnn')"}


def _origin(name: str) -> Origin:
    return Origin(lambda path: load_weights(build(_SPECS[name]), path), "mnist", _WHERE)


NETWORKS = {name: _origin(name) for name in _SPECS}


@dataclass(frozen=True)
class Study:
    """What the study found.

    Args:
        results: of the plain network, of the anchor network, and of the same with its anchors
            estimated anew, all on the same samples.
        labels: of the evaluated known images.
        sources: where each network comes from.
        splits: six known digits against four, where that was asked for.
        notes: what a reader must know of the networks.
    """

    results: Mapping[str, Results]
    labels: Any
    sources: Mapping[str, str]
    splits: Splits | None = None
    notes: Sequence[str] = ()

    def report(self) -> str:
        """All tables, as text."""
        found = report(self.results, self.labels, self.sources, self.splits)
        return "\n\n".join([*self.notes, found])


def run(
    out: str | Path,
    *,
    budget: str = "cpu",
    weights: Mapping[str, str] | None = None,
    splits: int | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Study:
    """Train or load both networks, evaluate, and write tables, figures and a guard into ``out``.

    Args:
        out: a folder; a study that was interrupted goes on there.
        budget: smoke (embedded digits, seconds), cpu or full; of the training, and of the data.
        weights: ``zoo:NAME``, the folder of a run or a checkpoint for "plain" and "anchors"; those
            that are missing are trained.
        splits: how many times six random classes are held against the other four, each with
            networks of their own; by default 5, for the smoke budget 1; 0 for none.
        changes: to both recipes, but for the seed, the data and the network.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Running`.

    Raises:
        UnknownNameError: no such budget or network.
        LabelError: the known data has no labels, or labels beyond the networks' classes.
    """
    out, weights = Path(out), weights or {}
    check_names(weights, list(NETWORKS))
    running = Running("anchors", budget, seed, changes or {}, **options)
    candidates = {name: candidate(spec, NETWORKS[name]) for name, spec in weights.items()}
    found = embedded_data(seed) if budget == "smoke" else mnist_data(seed)
    notes = _notes(candidates, found)
    training = Training(running)
    if missing := [name for name in NETWORKS if name not in candidates]:
        candidates |= training.networks(out, found, missing)
    results = evaluated(candidates, found, **running.options)
    for name, each in results.items():
        each.save(out / name)
    sources = {name: each.source for name, each in candidates.items()}
    count = (1 if budget == "smoke" else 5) if splits is None else splits
    against = six_of_ten(out / "splits", found, training, count) if count else None
    study = Study(results, found.test.labels.numpy(), sources, against, notes)
    guard = _guard(candidates["anchors"], found, running.options["device"])
    guard.save(out / "guard", weights=True)
    draw(results, found, guard, out)
    keep_report(study.report(), out)
    return study


def mnist_data(seed: int = 0) -> Data:
    """MNIST, 5,000 of its training images held out, and unknown images of the same shape."""
    whole = data.load("mnist:train")
    calibration, train = whole.split(HELD_OUT / len(whole), seed=seed)
    test = data.load("mnist:test")
    cifar10 = data.load_like("cifar10:test", test, limit=UNKNOWN, seed=seed)
    fashion = at_hand("fashion_mnist", "fashion_mnist_partial")
    names = ("notmnist", "emnist_letters", "omniglot", fashion)
    far = {"cifar10": cifar10} | {name: data.load_like(name, test) for name in names}
    far["noise"] = data.noise("gaussian", 2000, test.shape, seed=seed)
    # Digits by other hands: their labels are right, and to refuse them is no success.
    return Data(
        train,
        calibration,
        test,
        {"unknown": far, "shifted": {"usps": data.load_like("usps", test)}},
    )


def embedded_data(seed: int = 0) -> Data:
    """Small digits in the place of MNIST, and embedded sets as unknown images."""
    train, rest = data.embedded("digits").split(0.6, seed=seed)
    calibration, test = rest.split(0.375, seed=seed)
    size = test.shape[1:]
    far = {name: data.embedded(name, size=size, limit=200, seed=seed) for name in ("faces", "text")}
    far["noise"] = data.noise("gaussian", 200, test.shape, seed=seed)
    return Data(train, calibration, test, {"unknown": far})


def _notes(given: Mapping[str, Candidate], found: Data) -> list[str]:
    """Which networks may have been trained on what the threshold comes from."""
    notes = [
        f"Note: {name} was trained on other images than those that this seed leaves for it, so "
        "those of the threshold may be among them, and the share of known images kept is not "
        "vouched for: give the --seed of its training."
        for name, each in given.items()
        if each.trained_on not in (None, found.train.fingerprint)
    ]
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return notes


def _guard(each: Candidate, found: Data, device: str | None) -> Guard:
    """The decision as a thing to keep: the anchor network, its score and its threshold."""
    guard = Guard(
        each.network,
        "anchordistance",
        classes=found.train.classes,
        normalization=each.normalization,
        device=device,
    )
    guard.fit(found.train.take(256), show_progress=False)
    return guard.calibrate(found.calibration, ALARM_RATE, show_progress=False)
