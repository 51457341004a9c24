"""Study B: open-set recognition by class anchors, on MNIST.

From one network, trained for a while, two go on for as long again: one with cross entropy, one
under an anchor head with the class-anchor loss. So both have seen the data equally often. The
threshold comes from held-out known images alone; no unknown image takes part in it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from offmap import data
from offmap._utils.arguments import whole
from offmap.errors import ArgumentError
from offmap.evaluation import Results, evaluate
from offmap.guard import Guard
from offmap.networks import AnchorHead, build, load_weights
from offmap.studies import _anchors_tables as tables
from offmap.studies._anchors_figures import draw
from offmap.studies._anchors_tables import Splits
from offmap.studies._study import (
    DATA_FIELDS,
    Data,
    Setup,
    check_names,
    first_local,
    write_report,
)
from offmap.training import Sets, with_estimated_anchors
from offmap.training.trained import Checkpoint, Trained, open_trained

QUESTION = "Which images are none of the known digits? Class anchors against cross entropy."
ALARM_RATE = 0.05
HELD_OUT, UNKNOWN = 5000, 500
SCORES = ("msp", "maxlogit", "energy")
KNOWN_CLASSES, OTHERS = 6, "others"  # of the splits
_SPECS = {"plain": "mnist_cnn", "anchors": "anchor_head(network='mnist_cnn')"}


def _checkpoint(spec: str) -> Checkpoint:
    hint = "give zoo:NAME, the folder of a run, or a checkpoint of the study's network"
    return Checkpoint(lambda path: load_weights(build(spec), path), "mnist", hint)


NETWORKS = {name: _checkpoint(spec) for name, spec in _SPECS.items()}


@dataclass(frozen=True)
class Study:
    """The outcome of the study.

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
        text = tables.report(self.results, self.labels, self.sources, self.splits)
        return "\n\n".join([*self.notes, text])

    def summary(self) -> str:
        """The question and the main tables, on one screen."""
        text = tables.summary(self.results, self.labels, self.sources, self.splits)
        return "\n\n".join([QUESTION, *self.notes, text])


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
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Setup`.

    Raises:
        UnknownNameError: no such budget or network.
        ArgumentError: ``splits`` below 0.
        LabelError: the known data has no labels, or labels beyond the networks' classes.
    """
    out, weights = Path(out), weights or {}
    check_names(weights, list(NETWORKS))
    count = whole("splits", (1 if budget == "smoke" else 5) if splits is None else splits, low=0)
    setup = Setup("anchors", budget, seed, changes or {}, **options)
    networks = {name: open_trained(spec, NETWORKS[name]) for name, spec in weights.items()}
    sets = embedded_data(seed) if budget == "smoke" else mnist_data(seed)
    notes = calibration_notes(networks, sets)
    if missing := [name for name in NETWORKS if name not in networks]:
        networks |= _trained(setup, out, sets, missing)
    results = _evaluated(networks, sets, **setup.options)
    for name, of_network in results.items():
        of_network.save(out / name)
    against_others = _splits(setup, out / "splits", sets, count) if count else None
    sources = {name: network.source for name, network in networks.items()}
    study = Study(results, sets.test.labels.numpy(), sources, against_others, notes)
    guard = _guard(networks["anchors"], sets, setup.options["device"])
    guard.save(out / "guard", weights=True)
    draw(results, sets, guard, out)
    write_report(study.report(), out)
    return study


def mnist_data(seed: int = 0) -> Data:
    """MNIST, 5,000 of its training images held out, and unknown images of the same shape."""
    mnist = data.load("mnist:train")
    calibration, train = mnist.split(HELD_OUT / len(mnist), seed=seed)
    test = data.load("mnist:test")
    cifar10 = data.load_like("cifar10:test", test, limit=UNKNOWN, seed=seed)
    fashion = first_local("fashion_mnist", "fashion_mnist_partial")
    names = ("notmnist", "emnist_letters", "omniglot", fashion)
    far = {"cifar10": cifar10} | {name: data.load_like(name, test) for name in names}
    far["noise"] = data.noise("gaussian", 2000, test.shape, seed=seed)
    # Digits by other hands: their labels are right, and to refuse them is no success.
    shifted = {"usps": data.load_like("usps", test)}
    return Data(train, calibration, test, {"unknown": far, "shifted": shifted})


def embedded_data(seed: int = 0) -> Data:
    """Small digits in the place of MNIST, and embedded sets as unknown images."""
    train, rest = data.embedded("digits").split(0.6, seed=seed)
    calibration, test = rest.split(0.375, seed=seed)
    size = test.shape[1:]
    far = {name: data.embedded(name, size=size, limit=200, seed=seed) for name in ("faces", "text")}
    far["noise"] = data.noise("gaussian", 200, test.shape, seed=seed)
    return Data(train, calibration, test, {"unknown": far})


def _trained(setup: Setup, out: Path, sets: Data, names: Sequence[str]) -> dict[str, Trained]:
    """A common start, and what becomes of it as "plain" or under "anchors"."""
    fixed = (*DATA_FIELDS, "network")  # the outputs of the network follow from the data
    plain = setup.recipe("mnist", fixed=fixed)
    network = f"{plain.network.partition('(')[0]}(classes={int(sets.train.labels.max()) + 1})"
    recipes = {
        "plain": replace(plain, network=network),
        "anchors": replace(
            setup.recipe("anchors", fixed=fixed), network=f"anchor_head(network={network!r})"
        ),
    }
    parts = {name: Sets.of(recipe, sets.train, sets.test) for name, recipe in recipes.items()}
    start = setup.train(recipes["plain"], out / "start", parts["plain"]).network
    trained = {}
    for name in names:
        begin = copy.deepcopy(start)
        trained[name] = setup.train(
            recipes[name],
            out / name,
            parts[name],
            AnchorHead(begin) if name == "anchors" else begin,
            epochs=f"{plain.epochs} + {recipes[name].epochs} epochs",
        )
    return trained


def _evaluated(networks: Mapping[str, Trained], sets: Data, **options: Any) -> dict[str, Results]:
    """Results of the plain network, the anchor network, and the same with estimated anchors."""
    anchors = networks["anchors"]
    if not isinstance(anchors.network, AnchorHead):
        raise ArgumentError(
            f"the anchor network is a {type(anchors.network).__name__}, whose logits are no "
            "distances: give one whose card says anchor_head(...)"
        )
    normalization = anchors.normalization
    moved = with_estimated_anchors(
        anchors.network, sets.train, normalization=normalization, **options
    )
    systems = {
        "plain": (networks["plain"], list(SCORES)),
        "anchors": (anchors, ["anchordistance", *SCORES]),
        "estimated": (replace(anchors, network=moved), ["anchordistance"]),
    }
    return {
        name: evaluate(
            trained.network,
            id_test=sets.test,
            calibration=sets.calibration,
            ood=sets.ood,
            detectors=detectors,
            alarm_rate=ALARM_RATE,
            normalization=trained.normalization,
            settings={"id": sets.test.name.partition("[")[0], "source": trained.source},
            **options,
        )
        for name, (trained, detectors) in systems.items()
    }


def _splits(setup: Setup, out: Path, sets: Data, count: int) -> Splits:
    """The harder protocol: six of ten classes are known; networks of their own for each split."""
    known, results = [], []
    for seed in range(count):
        order = torch.randperm(
            10, generator=torch.Generator().manual_seed(seed), device="cpu"
        ).tolist()
        classes, others = sorted(order[:KNOWN_CLASSES]), sorted(order[KNOWN_CLASSES:])
        part = Data(
            sets.train.only(classes),
            sets.calibration.only(classes),
            sets.test.only(classes),
            {"unknown": {OTHERS: sets.test.only(others)}},
        )
        networks = _trained(setup, out / "".join(map(str, classes)), part, list(NETWORKS))
        results.append(_evaluated(networks, part, **setup.options))
        known.append(classes)
    systems = [(n, d) for n, of_network in results[0].items() for d in of_network.detectors]
    return Splits(
        known,
        {f"{n} {d}": [split[n].get(d, OTHERS) for split in results] for n, d in systems},
        {n: [_accuracy(split[n]) for split in results] for n in NETWORKS},
    )


def _accuracy(results: Results) -> float:
    info = next(s for s in results.sets if s.role == "id")
    assert info.right is not None
    return info.right / info.n


def calibration_notes(networks: Mapping[str, Trained], sets: Data) -> list[str]:
    """Which networks may have been trained on what the threshold comes from."""
    notes = [
        f"Note: {name} was trained on other images than those that this seed leaves for it, so "
        "those of the threshold may be among them, and the share of known images kept is not "
        "vouched for: give the --seed of its training."
        for name, network in networks.items()
        if network.trained_on not in (None, sets.train.fingerprint)
    ]
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return notes


def _guard(anchors: Trained, sets: Data, device: str | None) -> Guard:
    """The decision as a thing to keep: the anchor network, its score and its threshold."""
    guard = Guard(
        anchors.network,
        "anchordistance",
        classes=sets.train.classes,
        normalization=anchors.normalization,
        device=device,
    )
    guard.fit(sets.train.take(256), show_progress=False)
    return guard.calibrate(sets.calibration, ALARM_RATE, show_progress=False)
