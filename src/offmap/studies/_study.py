"""The parts that all studies share: their data, how they train, and how they report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offmap import data
from offmap._utils.files import atomic
from offmap._utils.table import render
from offmap.errors import ArgumentError, UnknownNameError
from offmap.evaluation import Results, evaluate
from offmap.training import BUDGETS, Epoch, Recipe, Sets, recipe, train
from offmap.training.callbacks import draw_curves
from offmap.training.sets import normalization
from offmap.training.trained import Trained

# Fields of a recipe that name the data.
DATA_FIELDS = ("data", "validation", "holdout", "size", "resize", "channels", "limit")


@dataclass(frozen=True)
class Data:
    """ID data in disjoint parts, and OOD sets in the order of the tables.

    Args:
        train: what the networks are trained on, un-augmented.
        calibration: ID data that no network has seen, for the thresholds; ``None`` where there are
            none.
        test: ID data to evaluate on.
        ood: OOD sets by name, or by group and name.
    """

    train: Any
    calibration: Any
    test: Any
    ood: Mapping[str, Any]


def first_local(*names: str) -> str:
    """The first of these sets that is on this machine; if none is, the first, from the hub."""
    return next((name for name in names if data.is_local(name)), names[0])


def embedded_ood(like: data.ImageSet, seed: int = 0) -> dict[str, dict[str, data.ImageSet]]:
    """Text, faces and noise of the size and channels of embedded digits."""
    channels, height, width = like.shape
    text, faces = (
        data.embedded(name, size=(height, width), channels=channels, limit=200)
        for name in ("text", "faces")
    )
    noise = data.noise("gaussian", 200, like.shape, seed=seed)
    return {"near": {"text": text}, "far": {"faces": faces, "noise": noise}}


@dataclass(frozen=True)
class Setup:
    """How a study runs.

    Args:
        study: its name on the command line.
        budget: smoke, cpu or full.
        seed: of training, and of what is held out.
        changes: to the recipes.
        arguments: what else was asked of this study, by its name on the command line; ``None`` and
            nothing are what it does by itself.
        device: "cpu" or "cuda"; by default the accelerator, if there is one.
        show_progress: ``None`` shows bars on a terminal.
        after_epoch: called with each finished epoch of a training.

    Raises:
        UnknownNameError: no such budget.
    """

    study: str
    budget: str
    seed: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    show_progress: bool | None = None
    after_epoch: Sequence[Callable[[Epoch], None]] = ()

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise UnknownNameError(f"no budget {self.budget!r}: there are {', '.join(BUDGETS)}")

    def recipe(self, name: str, *, fixed: Collection[str] = DATA_FIELDS) -> Recipe:
        """A recipe under the budget, with the study's seed and changes.

        Args:
            name: of the recipe.
            fixed: fields that a change has no effect on, because the study brings the data.

        Raises:
            ArgumentError: a change that would have no effect.
        """
        if fields_of_study := [name for name in self.changes if name in ("seed", *fixed)]:
            raise ArgumentError(
                f"{', '.join(fields_of_study)} of the recipe cannot be changed here: the study has "
                "a seed of its own, and brings what its networks are trained on"
            )
        return recipe(name, budget=self.budget, changes={**self.changes, "seed": self.seed})

    def check_trains(self, networks: Collection[str]) -> None:
        """Refuse changes of recipes where nothing is trained.

        Args:
            networks: those that are to be trained.

        Raises:
            ArgumentError: there are none, and changes.
        """
        if self.changes and not networks:
            raise ArgumentError(
                f"{', '.join(self.changes)} of the recipe has no effect here: all networks are "
                "given, and none is trained"
            )

    @property
    def options(self) -> dict[str, Any]:
        """Where networks run, for training and evaluation alike."""
        device = self.device or ("cuda" if torch.cuda.is_available() else None)
        return {"device": device, "show_progress": self.show_progress}

    @property
    def command(self) -> str:
        """The command as it can be typed again, but for its folders and the device."""
        words = ["offmap", "study", self.study]
        changes = {name: json.dumps(value) for name, value in self.changes.items()}
        options = {"budget": self.budget, "seed": self.seed, "set": changes}
        for name, value in {**self.arguments, **options}.items():
            if isinstance(value, Mapping):
                values = [f"{key}={text}" for key, text in value.items()]
            else:
                values = [] if value is None else [str(value)]
            words += [f"--{name}", *values] if values else []
        return shlex.join(words)

    def train(
        self,
        recipe: Recipe,
        folder: Path,
        sets: Sets | None,
        network: nn.Module | None = None,
        *,
        epochs: str | None = None,
        keep_every: int = 0,
    ) -> Trained:
        """The network of a recipe, trained in its folder; a finished run there is kept.

        Args:
            recipe: how.
            folder: of the run.
            sets: on what, if not what the recipe names.
            network: where it starts, if not from the recipe's seed.
            epochs: how long it was trained, in words; by default those of the recipe.
            keep_every: epochs between weights that are kept.
        """
        trained = train(
            recipe,
            folder,
            sets=sets,
            network=network,
            resume=True,
            keep_every=keep_every,
            after_epoch=[draw_curves, *self.after_epoch],
            settings={"budget": self.budget, "command": self.command},
            **self.options,
        )
        source = f"{recipe.network}, {epochs or f'{recipe.epochs} epochs'} ({self.budget})"
        return Trained(trained, normalization(recipe.normalization), source)

    def settings(self, trained: Trained, sets: Data) -> dict[str, Any]:
        """What the results of a network keep of the study: ID set, source, and command."""
        name = sets.test.name.partition("[")[0]  # behind it stands which part of the set it is
        return {"id": name, "source": trained.source, "command": self.command}

    def evaluate(self, trained: Trained, sets: Data, detectors: Any, **options: Any) -> Results:
        """The results of a network on the study's data.

        Args:
            trained: the network.
            sets: what is evaluated; of the training data, only what ``options`` name is read.
            detectors: as for :func:`offmap.evaluate`.
            **options: of :func:`offmap.evaluate`.
        """
        return evaluate(
            trained.network,
            id_test=sets.test,
            calibration=sets.calibration,
            ood=sets.ood,
            detectors=detectors,
            normalization=trained.normalization,
            settings=self.settings(trained, sets),
            **self.options,
            **options,
        )


def id_of(id: str | None, budget: str, ids: Sequence[str]) -> str:
    """The name of the ID set, by default the first; of the smoke budget, the embedded digits.

    Args:
        id: what was asked for.
        budget: of the study.
        ids: the ID sets of the study.

    Raises:
        UnknownNameError: no such ID set.
        ArgumentError: another one than digits for the smoke budget.
    """
    if budget == "smoke":
        if id not in (None, "digits"):
            raise ArgumentError(f"the smoke budget is for digits, which are embedded; seen {id}")
        return "digits"
    if id not in (None, *ids):
        raise UnknownNameError(f"no ID set {id!r}: there are {', '.join(ids)}")
    return id or ids[0]


def check_names(names: Collection[str], networks: Sequence[str]) -> None:
    """Refuse networks that a study does not have.

    Raises:
        UnknownNameError: there is one.
    """
    if unknown := set(names) - set(networks):
        seen = ", ".join(map(repr, sorted(unknown)))
        raise UnknownNameError(f"the networks are {', '.join(networks)}; seen {seen}")


def sets_of(results: Results) -> list[str]:
    """Names of all OOD sets, in order."""
    return [name for names in results.groups.values() for name in names]


def auroc_table(systems: Iterable[tuple[str, str, Results]], *, mean_of: str | None = None) -> str:
    """AUROC of single detectors of several networks in one table.

    Args:
        systems: name of the network, name of the detector, and the results of the network.
        mean_of: the group of sets whose mean stands last; by default all.
    """
    systems = list(systems)
    sets = sets_of(systems[0][2])
    cells = {
        f"{network} {d}": [*(results.get(d, name) for name in sets), results.mean(d, group=mean_of)]
        for network, d, results in systems
    }
    last = f"mean, {mean_of}" if mean_of else "mean"
    body = render(cells, [*sets, last], scale=100, corner="network, detector")
    return f"AUROC in %, higher is better\n\n{body}"


def write_report(report: str, out: Path) -> None:
    """Write ``report.txt``."""
    with atomic(out / "report.txt") as temporary:
        temporary.write_text(report + "\n", encoding="utf-8")
