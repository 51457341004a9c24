"""The networks of study B: how they are trained, and what scores are taken from each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from offmap.errors import ArgumentError
from offmap.evaluation import Results, evaluate
from offmap.networks import AnchorHead
from offmap.studies._candidates import Candidate
from offmap.studies._data import Data
from offmap.studies._running import DATA, Running
from offmap.training import Recipe, Sets, normalization, with_estimated_anchors

ALARM_RATE = 0.05
_OF_LOGITS = ["msp", "maxlogit", "energy"]


@dataclass(frozen=True)
class Training:
    """How the study trains its networks, on any of its data.

    Args:
        running: with budget, seed and changes of the recipes.
    """

    running: Running

    def networks(self, out: Path, found: Data, names: Sequence[str]) -> dict[str, Candidate]:
        """A common start, and what becomes of it as "plain" or under "anchors"."""
        classes = int(found.train.labels.max()) + 1
        plain = self._recipe("mnist")
        inner = f"{plain.network.partition('(')[0]}(classes={classes})"
        plain = replace(plain, network=inner)
        start = self._trained(plain, out / "start", found, None)
        made = {}
        for name in names:
            of, network = plain, copy.deepcopy(start)
            if name == "anchors":
                network = AnchorHead(network)
                of = replace(self._recipe(name), network=f"anchor_head(network={inner!r})")
            trained = self._trained(of, out / name, found, network)
            source = f"{of.network}, {plain.epochs} + {of.epochs} epochs ({self.running.budget})"
            made[name] = Candidate(trained, normalization(of.normalization), source)
        return made

    def _recipe(self, name: str) -> Recipe:
        # The outputs of the network follow from the data.
        return self.running.recipe(name, fixed=(*DATA, "network"))

    def _trained(
        self, of: Recipe, folder: Path, found: Data, network: nn.Module | None
    ) -> nn.Module:
        return self.running.train(of, folder, Sets.of(of, found.train, found.test), network)


def evaluated(
    candidates: Mapping[str, Candidate], found: Data, **options: Any
) -> dict[str, Results]:
    """Results of the plain network, the anchor network, and the same with estimated anchors."""
    plain, anchors = candidates["plain"], candidates["anchors"]
    if not isinstance(anchors.network, AnchorHead):
        raise ArgumentError(
            f"the anchor network is a {type(anchors.network).__name__}, whose logits are no "
            "distances: give one whose card says anchor_head(...)"
        )
    moved = with_estimated_anchors(
        anchors.network, found.train, normalization=anchors.normalization, **options
    )
    estimated = replace(anchors, network=moved)
    return {
        "plain": _results(plain, found, _OF_LOGITS, options),
        "anchors": _results(anchors, found, ["anchordistance", *_OF_LOGITS], options),
        "estimated": _results(estimated, found, ["anchordistance"], options),
    }


def _results(
    each: Candidate, found: Data, detectors: Sequence[str], options: Mapping[str, Any]
) -> Results:
    return evaluate(
        each.network,
        id_test=found.test,
        calibration=found.calibration,
        ood=found.ood,
        detectors=detectors,
        alarm_rate=ALARM_RATE,
        normalization=each.normalization,
        settings={"id": found.test.name.partition("[")[0], "source": each.source},
        **options,
    )
