"""Study C: ensembles that disagree on what they do not know, and systems of several networks.

Two ensembles of the same members: one trained with cross entropy alone, and one whose members are
also rewarded for disagreeing on images without meaning. Both have seen the data equally often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offmap import data
from offmap._utils.files import expanded
from offmap.activations import HasMembers
from offmap.errors import ArgumentError
from offmap.evaluation import Results
from offmap.networks import VGG16, build, load_weights
from offmap.networks.checkpoint import place
from offmap.studies import _disagreement_tables as tables
from offmap.studies._disagreement_figures import draw
from offmap.studies._study import (
    Data,
    Setup,
    check_names,
    embedded_ood,
    first_local,
    write_report,
)
from offmap.training import Sets, recipe
from offmap.training.trained import Checkpoint, Trained, open_members, open_trained

QUESTION = (
    "Do ensembles whose members disagree on images without meaning know better what they do not "
    "know?"
)
# By name of a network: the recipe that makes it.
NETWORKS = {"plain": "ensemble", "disagreement": "disagreement"}
SINGLE, START = "single", "start"
FEATURES = ("mahalanobis", "knn", "vim")
SCORES_OF_MEMBERS = [*tables.SCORES, *(f"membermean({d})" for d in ("energy", *FEATURES))]
SCORES_OF_ONE = ["msp", "energy", *FEATURES]
NOISE_SAMPLES = 2000
_NUMBERS = re.compile(r"[\d.e+-]+(/[\d.e+-]+)?", re.IGNORECASE)
_HINT = "give zoo:NAME, the folder of a run, a checkpoint, or members between commas"


@dataclass(frozen=True)
class Study:
    """The outcome of the study.

    Args:
        results: of the plain and the disagreeing ensemble, and of single networks.
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
        return tables.report(self.results, self.labels, self.sources, self.seed)

    def summary(self) -> str:
        """The question and the main tables, on one screen."""
        text = tables.summary(self.results, self.labels, self.sources, self.seed)
        return f"{QUESTION}\n\n{text}"


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
            commas. Ensembles that are missing are trained, from "start" if it is given; without
            any single network, the first member of the plain ensemble is one.
        changes: to both recipes, but for the seed and the data.
        seed: of training, and of what is held out.
        **options: ``device``, ``show_progress`` and ``after_epoch``: see :class:`Setup`.

    Raises:
        UnknownNameError: no such budget or network.
        StoreError, DataNotFoundError: a network, or which member of one, cannot be loaded.
        ShapeError: members of different classes.
        ArgumentError: one network in the place of an ensemble; or changes, or a start, where
            nothing is trained.
    """
    out, weights = Path(out), weights or {}
    singles = [name for name in weights if name == SINGLE or name.startswith(f"{SINGLE}-")]
    check_names(weights, [*NETWORKS, START, *(singles or [SINGLE, f"{SINGLE}-NAME"])])
    setup = Setup("disagreement", budget, seed, changes or {}, {"weights": weights}, **options)
    networks = {name: open_network(name, spec) for name, spec in weights.items()}
    start = networks.pop(START, None)
    missing = [name for name in NETWORKS if name not in networks]
    setup.check_trains(missing)
    if start and not missing:
        raise ArgumentError("both ensembles are given, so that nothing is trained from the start")
    sets = embedded_data(seed) if budget == "smoke" else cifar_data(seed)
    if missing:
        networks |= _train(setup, out, sets, missing, start)
    if not singles:
        plain = networks["plain"]
        assert isinstance(plain.network, HasMembers)
        source = "the first member of the plain ensemble"
        networks[SINGLE] = Trained(plain.network.members[0], plain.normalization, source)
    results = {}
    for name in (*NETWORKS, *(singles or [SINGLE])):
        several = isinstance(networks[name].network, HasMembers)
        detectors = SCORES_OF_MEMBERS if several else SCORES_OF_ONE
        results[name] = setup.evaluate(
            networks[name], sets, detectors, train=sets.train, on_error="skip"
        )
        results[name].save(out / name)
    sources = {name: network.source for name, network in networks.items()}
    study = Study(results, sets.test.labels.numpy(), sources, seed)
    draw(results, networks, sets, out)
    write_report(study.report(), out)
    return study


def cifar_data(seed: int = 0) -> Data:
    """CIFAR-10 and the study's OOD sets; thresholds are chosen on parts of these."""
    test = data.load("cifar10:test")
    near = ("tiny_imagenet", "cifar100")
    far = (first_local("svhn", "svhn370"), first_local("lsun", "places"), "textures")
    ood = {
        group: {name: data.load_like(name, test) for name in names}
        for group, names in (("near", near), ("far", far))
    }
    ood["far"]["noise"] = data.noise("gaussian", NOISE_SAMPLES, test.shape, seed=seed)
    return Data(data.load("cifar10:train"), None, test, ood)


def embedded_data(seed: int = 0) -> Data:
    """Small digits in the place of CIFAR-10, and embedded sets as OOD."""
    train, test = data.embedded("digits").split(0.6, seed=seed)
    return Data(train, None, test, embedded_ood(test, seed))


def open_network(name: str, spec: str) -> Trained:
    """A network of the user: one by itself, or an ensemble from its members.

    Raises:
        DataNotFoundError, StoreError: it, or which of its members, cannot be loaded.
        ArgumentError: members that were normalised differently; or one network where the members
            of an ensemble are compared.
    """
    if len(members := members_of(spec)) > 1:
        member = Checkpoint(lambda path: load_weights(VGG16(), path), "per_image", _HINT)
        return open_members(members, member, name=name)
    network = recipe("ensemble").network if name in (*NETWORKS, START) else "vgg16"
    checkpoint = Checkpoint(lambda path: load_weights(build(network), path), "per_image", _HINT)
    trained = open_trained(spec, checkpoint)
    if name in NETWORKS and not isinstance(trained.network, HasMembers):
        raise ArgumentError(
            f"{name} is one {type(trained.network).__name__}: give an ensemble, or its members "
            "between commas"
        )
    return trained


def members_of(spec: str) -> list[str]:
    """The parts between commas, but for those of a normalisation, ``a@0.5,0.4/0.2,0.3,b``."""
    if expanded(spec).exists():  # commas may be of a file's own name
        return [spec]
    members: list[str] = []
    for part in spec.split(","):
        if members and "@" in members[-1] and _NUMBERS.fullmatch(part):
            members[-1] += f",{part}"
        else:
            members.append(part)
    return members


def _train(
    setup: Setup, out: Path, sets: Data, names: Sequence[str], start: Trained | None
) -> dict[str, Trained]:
    """The ensembles of these names.

    The full budget trains each from scratch, as the source does; the other budgets train from a
    common start, which costs less. A start that is given is used under every budget.
    """

    def train(name: str, folder: Path, start: Trained | None, before: str) -> Trained:
        recipe = setup.recipe(name)
        run_sets = Sets.of(recipe, sets.train, sets.test)
        weights = start and start.network.state_dict()
        network = place(build(recipe.network), weights, START) if weights else None
        epochs = f"{before}{recipe.epochs} epochs"
        return setup.train(recipe, folder, run_sets, network, epochs=epochs)

    before = f"{start.source} + " if start else ""
    if setup.budget != "full" and not start:
        start = train("ensemble", out / START, None, "")
        before = f"{setup.recipe('ensemble').epochs} + "
    return {name: train(NETWORKS[name], out / name, start, before) for name in names}
