"""Systems that accept by the score of one network, or of several, and classify with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from offmap.errors import ArgumentError
from offmap.evaluation.results import Results
from offmap.evaluation.subsets import Part, held_out
from offmap.metrics import (
    Difference,
    Outcomes,
    best_f1_threshold,
    detection_accuracy,
    f1_difference,
)

_MOST = 8  # networks; of 8 there are 247 sets, each with every detector and every answer


@dataclass(frozen=True)
class Filter:
    """A filter, which accepts: a detector on one network, or its mean over several.

    Args:
        networks: by name; of several, the mean of their scores counts, each standardised on the ID
            samples to choose on.
        detector: of all of them.
    """

    networks: tuple[str, ...]
    detector: str

    def __str__(self) -> str:
        return f"{' + '.join(self.networks)} {self.detector}"


@dataclass(frozen=True)
class System:
    """A filter, a classifier, and what the filter accepts.

    Args:
        filter: what accepts.
        classifier: the network that predicts.
        threshold: of the filter's score.
        f1: on the samples that the threshold was chosen on; NaN where it was not chosen by F1.
    """

    filter: Filter
    classifier: str
    threshold: float
    f1: float = float("nan")


@dataclass(frozen=True)
class SystemTest:
    """Systems on the same samples, of which none was used to choose any of them.

    Args:
        system: the best of several networks.
        alone: by name, systems of its networks by themselves.
        outcomes: of the system, and of each of these.
        differences: of the F1, the system minus each of these.
    """

    system: System
    alone: Mapping[str, System]
    outcomes: tuple[Outcomes, ...]
    differences: tuple[Difference, ...]


class Systems:
    """Filters and classifiers of several networks on the same ID and OOD samples.

    Args:
        results: by network, all on the same samples.
        labels: of the ID samples.
        ood: name of the OOD set, or of several that are taken as one.
        seed: of what is held out to choose on.

    Attributes:
        held: the samples to choose on.
        rest: the samples to evaluate on.

    Raises:
        ArgumentError: fewer than two networks, or more than 8: every set of two or more is tried.
    """

    def __init__(
        self, results: Mapping[str, Results], labels: Any, ood: str | Sequence[str], seed: int
    ) -> None:
        if len(results) < 2:
            raise ArgumentError(
                f"systems are built from two networks or more; seen {list(results)}"
            )
        if len(results) > _MOST:
            raise ArgumentError(
                f"every set of two networks or more is tried, which takes twice as long with each "
                f"more: name at most {_MOST}; seen {len(results)}, {', '.join(results)}"
            )
        self.results, self.sets = results, (ood,) if isinstance(ood, str) else tuple(ood)
        self.ood = " + ".join(self.sets)
        self.correct = {name: r.predictions["id"] == labels for name, r in results.items()}
        first = next(iter(results.values()))
        n_ood = sum(len(first.scores[first.detectors[0]][name]) for name in self.sets)
        self.held, self.rest = held_out(len(labels), n_ood, seed=seed)
        for networks in self._combinations(list(results), 3):
            self.correct[vote_of(networks)] = self._vote(networks) == labels

    @property
    def filters(self) -> list[Filter]:
        """Every detector of every network."""
        return [Filter((n,), d) for n, results in self.results.items() for d in results.detectors]

    @property
    def joint_filters(self) -> list[Filter]:
        """Every detector on all sets of two networks or more that have it."""
        detectors = dict.fromkeys(d for r in self.results.values() for d in r.detectors)
        owners = {d: [n for n, r in self.results.items() if d in r.detectors] for d in detectors}
        return [
            Filter(networks, d)
            for d, names in owners.items()
            for networks in self._combinations(names, 2)
        ]

    def scores(self, filter: Filter, part: Part) -> tuple[Any, Any]:
        """ID and OOD scores of a filter on a part of the samples."""
        if len(filter.networks) == 1:
            return self._scores_of(filter.networks[0], filter.detector, part)
        scaled = []
        for name in filter.networks:
            # In float64, and standardised on the ID samples to choose on.
            reference = self._scores_of(name, filter.detector, self.held)[0].astype(np.float64)
            scale = reference.std() or 1.0
            scores = self._scores_of(name, filter.detector, part)
            scaled.append([(x - reference.mean()) / scale for x in scores])
        id_scores, ood_scores = zip(*scaled, strict=True)
        return np.mean(id_scores, axis=0), np.mean(ood_scores, axis=0)

    def outcomes(self, system: System, part: Part) -> Outcomes:
        """The outcomes of a system on a part of the samples."""
        id_scores, ood_scores = self.scores(system.filter, part)
        correct = self.correct[system.classifier][part.id]
        return Outcomes.of(id_scores, correct, ood_scores, threshold=system.threshold)

    def detection_threshold(self, filter: Filter, part: Part) -> float:
        """The threshold with the best balanced accuracy there."""
        return detection_accuracy(*self.scores(filter, part))[1]

    def tuned(self, filter: Filter, classifier: str) -> System:
        """A system with the threshold of the best F1 on the held-out part."""
        id_scores, ood_scores = self.scores(filter, self.held)
        correct = self.correct[classifier][self.held.id]
        threshold = best_f1_threshold(id_scores, correct, ood_scores)
        outcomes = Outcomes.of(id_scores, correct, ood_scores, threshold=threshold)
        return System(filter, classifier, threshold, outcomes.selection.f1)

    def best_alone(self, network: str) -> System:
        """The best system of one network alone, by F1 on the held-out part."""
        own = [f for f in self.filters if f.networks == (network,)]
        return _best([self.tuned(f, network) for f in own])

    def test(self) -> SystemTest:
        """The best pair of filter and another network, against its parts alone on the rest."""
        pairs = [(f, name) for f in self.filters for name in self.results if (name,) != f.networks]
        best = _best([self.tuned(*pair) for pair in pairs])
        alone = {
            "its filter alone": self.tuned(best.filter, best.filter.networks[0]),
            "its classifier alone": self.best_alone(best.classifier),
        }
        return self._against(best, alone)

    def test_joint(self) -> SystemTest | None:
        """The best of several that accept together, against each alone on the rest.

        One of them predicts; or, of three and more, their vote: the class that most of them name,
        and in a tie that of the networks that are right more often on the held-out part.
        ``None`` where no two networks have a detector in common.
        """
        systems = []
        for f in self.joint_filters:
            vote = vote_of(f.networks)
            classifiers = [*f.networks, *([vote] if vote in self.correct else [])]
            systems += [self.tuned(f, name) for name in classifiers]
        if not systems:
            return None
        best = _best(systems)
        alone = {f"{name} alone": self.best_alone(name) for name in best.filter.networks}
        return self._against(best, alone)

    def _vote(self, networks: Sequence[str]) -> Any:
        """The class with the most votes for each ID sample."""
        predictions = [self.results[name].predictions["id"] for name in networks]
        ballots = np.zeros((len(predictions[0]), 1 + max(int(p.max()) for p in predictions)))
        for name, predicted in zip(networks, predictions, strict=True):
            share = self.correct[name][self.held.id].mean() / (2 * len(networks))  # settles ties
            ballots[np.arange(len(predicted)), predicted] += 1 + share
        return ballots.argmax(axis=1)

    @staticmethod
    def _combinations(names: Sequence[str], least: int) -> list[tuple[str, ...]]:
        """Every set of ``least`` of the names or more."""
        sizes = range(least, len(names) + 1)
        return [networks for size in sizes for networks in combinations(names, size)]

    def _against(self, system: System, alone: Mapping[str, System]) -> SystemTest:
        ours, *theirs = (self.outcomes(s, self.rest) for s in (system, *alone.values()))
        differences = tuple(f1_difference(ours, other) for other in theirs)
        return SystemTest(system, alone, (ours, *theirs), differences)

    def _scores_of(self, network: str, detector: str, part: Part) -> tuple[Any, Any]:
        scores = self.results[network].scores[detector]
        ood = np.concatenate([scores[name] for name in self.sets])
        return scores["id"][part.id], ood[part.ood]


def vote_of(networks: Sequence[str]) -> str:
    """The name of the vote of these networks."""
    return f"vote of {' + '.join(networks)}"


def _best(systems: Sequence[System]) -> System:
    """The first of those with the largest F1."""
    return max(systems, key=lambda system: system.f1)
