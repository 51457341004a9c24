"""What every study does around its own part: check, train, keep its report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offmap._utils.files import atomic
from offmap.errors import ArgumentError, UnknownNameError
from offmap.studies.watching import draw_curves
from offmap.training import BUDGETS, Epoch, Recipe, Sets, recipe, train

# What a recipe says of the data that it names.
DATA = ("data", "validation", "holdout", "size", "channels", "limit")


@dataclass(frozen=True)
class Running:
    """How a study runs.

    Args:
        study: its name on the command line, with what else chooses the network there.
        budget: smoke, cpu or full.
        seed: of training, and of what is held out.
        changes: to the recipes.
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
    device: str | None = None
    show_progress: bool | None = None
    after_epoch: Sequence[Callable[[Epoch], None]] = ()

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise UnknownNameError(f"no budget {self.budget!r}: there are {', '.join(BUDGETS)}")

    def recipe(self, name: str, *, fixed: Collection[str] = DATA) -> Recipe:
        """A recipe under the budget, with the study's seed and changes.

        Args:
            name: of the recipe.
            fixed: fields that a change has no effect on, because the study brings the data.

        Raises:
            ArgumentError: a change that would have no effect.
        """
        if without := [field for field in self.changes if field in ("seed", *fixed)]:
            raise ArgumentError(
                f"{', '.join(without)} of the recipe cannot be changed here: the study has a seed "
                "of its own, and brings what its networks are trained on"
            )
        return recipe(name, budget=self.budget, changes={**self.changes, "seed": self.seed})

    @property
    def options(self) -> dict[str, Any]:
        """Where networks run, for training and evaluation alike."""
        device = self.device or ("cuda" if torch.cuda.is_available() else None)
        return {"device": device, "show_progress": self.show_progress}

    @property
    def command(self) -> str:
        """The command as it can be typed again."""
        words = f"offmap study {self.study} --budget {self.budget} --seed {self.seed}".split()
        given = [f"{name}={json.dumps(value)}" for name, value in self.changes.items()]
        return shlex.join([*words, *(["--set", *given] if given else [])])

    def train(
        self,
        of: Recipe,
        folder: Path,
        sets: Sets | None,
        network: nn.Module | None = None,
        *,
        keep_every: int = 0,
    ) -> nn.Module:
        """The network of a recipe, trained in its folder; what was finished there is kept.

        Args:
            of: the recipe.
            folder: of the run.
            sets: on what, if not what the recipe names.
            network: where it starts, if not from the recipe's seed.
            keep_every: epochs between weights that are kept.
        """
        return train(
            of,
            folder,
            sets=sets,
            network=network,
            resume=True,
            keep_every=keep_every,
            after_epoch=[draw_curves, *self.after_epoch],
            settings={"budget": self.budget, "command": self.command},
            **self.options,
        )


def check_names(given: Collection[str], known: Sequence[str]) -> None:
    """Refuse networks that a study does not have.

    Raises:
        UnknownNameError: there is one.
    """
    if unknown := set(given) - set(known):
        raise UnknownNameError(f"the networks are {', '.join(known)}; seen {unknown}")


def keep_report(report: str, out: Path) -> None:
    """Write ``report.txt``."""
    with atomic(out / "report.txt") as temporary:
        temporary.write_text(report + "\n")
