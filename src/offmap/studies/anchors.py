"""Study B: open-set recognition by class anchors, on MNIST and CIFAR-10.

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

from torch import nn

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.guard import Guard
from offmap.networks import AnchorHead, build, load_weights
from offmap.studies import _anchors_tables as tables
from offmap.studies._anchors_data import OTHERS, Protocol, open_set_data, protocol_of
from offmap.studies._anchors_figures import draw
from offmap.studies._anchors_tables import Splits
from offmap.studies._study import (
    DATA_FIELDS,
    Data,
    Setup,
    check_names,
    write_report,
)
from offmap.training import Sets, recipe, with_estimated_anchors
from offmap.training.trained import Checkpoint, Trained, open_trained

QUESTION = "Which images are of no known class? Class anchors against cross entropy."
ALARM_RATE = 0.05
SCORES = ("msp", "maxlogit", "energy")
NETWORKS = ("plain", "anchors")


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
    id: str | None = None,
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
        id: mnist, or cifar10: four vehicles and two animals, which the seed draws, against the
            other four animals; by default mnist, for smoke embedded digits.
        budget: smoke (embedded digits, seconds), cpu or full; of the training, and of the data.
        weights: ``zoo:NAME``, the folder of a run or a checkpoint for "plain" and "anchors"; those
            that are missing are trained.
        splits: how many times six random classes are known, and the other four unknown, each
            with networks of their own; by default 5, for the smoke budget 1; 0 for none. Of cifar10
            these are four vehicles and two random animals against the other four.
        changes: to both recipes, but for the seed, the data and the network.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Setup`.

    Raises:
        UnknownNameError: no such budget, ID set or network.
        ArgumentError: ``splits`` below 0, or more than there are; or another ID set than digits
            for the smoke budget.
        LabelError: the known data has no labels, or labels beyond the networks' classes.
    """
    out, weights = Path(out), weights or {}
    check_names(weights, NETWORKS)
    protocol = protocol_of(id, budget)
    count = whole("splits", (1 if budget == "smoke" else 5) if splits is None else splits, low=0)
    seeds = protocol.seeds(count)
    arguments = {"id": id, "weights": weights, "splits": splits}
    setup = Setup("anchors", budget, seed, changes or {}, arguments, **options)
    networks = {
        name: open_trained(spec, checkpoint(protocol, name, budget))
        for name, spec in weights.items()
    }
    missing = [name for name in NETWORKS if name not in networks]
    setup.check_trains([*missing, *map(str, seeds)])
    if "anchors" in networks:
        _check_anchors(networks["anchors"].network)
    all_classes = protocol.load(seed)
    folder, sets = (out, all_classes) if protocol.ten else _split(protocol, all_classes, out, seed)
    notes = calibration_notes(networks, sets)
    if missing:
        networks |= _train(setup, protocol, folder, sets, missing)
    results = _evaluate(networks, sets, setup)
    for name, of_network in results.items():
        of_network.save(out / name)
    split_results = _splits(setup, protocol, all_classes, out, seeds) if seeds else None
    sources = {name: network.source for name, network in networks.items()}
    study = Study(results, sets.test.labels.numpy(), sources, split_results, notes)
    guard = _guard(networks["anchors"], sets, setup.options["device"])
    guard.save(out / "guard", weights=True)
    draw(results, sets, guard, out)
    write_report(study.report(), out)
    return study


def checkpoint(protocol: Protocol, name: str, budget: str = "cpu") -> Checkpoint:
    """How a checkpoint of one of the networks is read."""
    spec = protocol.network if name == "plain" else f"anchor_head(network={protocol.network!r})"
    normalization = recipe(protocol.recipes[0], budget=budget).normalization
    hint = "give zoo:NAME, the folder of a run, or a checkpoint of the study's network"
    return Checkpoint(lambda path: load_weights(build(spec), path), normalization, hint)


def _split(protocol: Protocol, sets: Data, out: Path, seed: int) -> tuple[Path, Data]:
    """Six classes against four, and the folder of the networks for them."""
    known, unknown = protocol.split(seed)
    part = open_set_data(sets, known, unknown)
    if not protocol.ten:
        part = replace(part, ood={**part.ood, **sets.ood, **part.ood})  # the unknown classes first
    return out / "splits" / "".join(map(str, known)), part


def _train(
    setup: Setup, protocol: Protocol, out: Path, sets: Data, names: Sequence[str]
) -> dict[str, Trained]:
    """The networks, trained from a common start: "plain", and "anchors" under an anchor head."""
    fixed = (*DATA_FIELDS, "network")  # the outputs of the network follow from the data
    plain = setup.recipe(protocol.recipes[0], fixed=fixed)
    spec = f"{plain.network.partition('(')[0]}(classes={int(sets.train.labels.max()) + 1})"
    recipes = {
        "plain": replace(plain, network=spec),
        "anchors": replace(
            setup.recipe(protocol.recipes[1], fixed=fixed), network=f"anchor_head(network={spec!r})"
        ),
    }
    parts = {name: Sets.of(recipe, sets.train, sets.test) for name, recipe in recipes.items()}
    start = setup.train(recipes["plain"], out / "start", parts["plain"]).network
    trained = {}
    for name in names:
        network = copy.deepcopy(start)
        trained[name] = setup.train(
            recipes[name],
            out / name,
            parts[name],
            AnchorHead(network) if name == "anchors" else network,
            epochs=f"{plain.epochs} + {recipes[name].epochs} epochs",
        )
    return trained


def _check_anchors(network: nn.Module) -> AnchorHead:
    if not isinstance(network, AnchorHead):
        raise ArgumentError(
            f"the anchor network is a {type(network).__name__}, whose logits are no distances: "
            "give one whose card says anchor_head(...)"
        )
    return network


def _evaluate(networks: Mapping[str, Trained], sets: Data, setup: Setup) -> dict[str, Results]:
    """Results of the plain network, the anchor network, and the same with estimated anchors."""
    anchors = networks["anchors"]
    normalization = anchors.normalization
    network = with_estimated_anchors(
        _check_anchors(anchors.network), sets.train, normalization=normalization, **setup.options
    )
    systems = {
        "plain": (networks["plain"], list(SCORES)),
        "anchors": (anchors, ["anchordistance", *SCORES]),
        "estimated": (replace(anchors, network=network), ["anchordistance"]),
    }
    return {
        name: setup.evaluate(trained, sets, detectors, alarm_rate=ALARM_RATE)
        for name, (trained, detectors) in systems.items()
    }


def _splits(setup: Setup, protocol: Protocol, sets: Data, out: Path, seeds: list[int]) -> Splits:
    """The harder protocol: six of ten classes are known; networks of their own for each split."""
    known, results = [], []
    accuracy: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for seed in seeds:
        folder, part = _split(protocol, sets, out, seed)
        networks = _train(setup, protocol, folder, part, NETWORKS)
        results.append(_evaluate(networks, part, setup))
        known.append(protocol.split(seed)[0])
        for name, of_network in accuracy.items():
            correct = results[-1][name].accuracy
            assert correct is not None  # the data have labels
            of_network.append(correct[0] / correct[1])
    systems = [(n, d) for n, of_network in results[0].items() for d in of_network.detectors]
    return Splits(
        known,
        {f"{n} {d}": [split[n].get(d, OTHERS) for split in results] for n, d in systems},
        accuracy,
    )


def calibration_notes(networks: Mapping[str, Trained], sets: Data) -> list[str]:
    """Notes on networks that may have been trained on the calibration data."""
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
    """The anchor network with its score and its threshold, to be saved."""
    guard = Guard(
        anchors.network,
        "anchordistance",
        classes=sets.train.classes,
        normalization=anchors.normalization,
        device=device,
    )
    guard.fit(sets.train.take(256), show_progress=False)
    return guard.calibrate(sets.calibration, ALARM_RATE, show_progress=False)
