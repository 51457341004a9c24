"""Systems that accept by one network's score and classify with another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offmap.evaluation.results import Results
from offmap.evaluation.subsets import Part, held_out
from offmap.metrics import (
    Difference,
    Outcomes,
    best_f1_threshold,
    detection_accuracy,
    f1_difference,
)

Filter = tuple[str, str]  # network and detector


@dataclass(frozen=True)
class System:
    """A filter, a classifier, and what the filter accepts.

    Args:
        filter: the network and detector that accept.
        classifier: the network that predicts.
        threshold: of the filter's score.
        f1: on the samples that the threshold was chosen on; NaN where it was not chosen by F1.
    """

    filter: Filter
    classifier: str
    threshold: float
    f1: float = float("nan")


@dataclass(frozen=True)
class CascadeTest:
    """Three systems on the same samples, of which none was used to choose any of them.

    Args:
        cascade: the best pair of two different networks.
        alone: the filter's network as filter and classifier, and the best system of the
            classifier's network alone.
        outcomes: of the three.
        differences: of the F1, the cascade minus each of the others.
    """

    cascade: System
    alone: tuple[System, System]
    outcomes: tuple[Outcomes, Outcomes, Outcomes]
    differences: tuple[Difference, Difference]


class Systems:
    """Filters and classifiers of several networks on the same ID samples and one OOD set.

    Args:
        results: by network, all on the same samples.
        labels: of the ID samples.
        ood: name of the OOD set.
        seed: of what is held out to choose on.

    Attributes:
        held: the samples to choose on.
        rest: the samples to evaluate on.
    """

    def __init__(self, results: Mapping[str, Results], labels: Any, ood: str, seed: int) -> None:
        self.results, self.ood = results, ood
        self.correct = {name: r.predictions["id"] == labels for name, r in results.items()}
        first = next(iter(results.values()))
        n_ood = len(first.scores[first.detectors[0]][ood])
        self.held, self.rest = held_out(len(labels), n_ood, seed=seed)

    @property
    def filters(self) -> list[Filter]:
        """Every detector of every network."""
        return [(name, d) for name, results in self.results.items() for d in results.detectors]

    def scores(self, filter: Filter, part: Part) -> tuple[Any, Any]:
        """ID and OOD scores of a filter on a part of the samples."""
        network, detector = filter
        scores = self.results[network].scores[detector]
        return scores["id"][part.id], scores[self.ood][part.ood]

    def outcomes(self, system: System, part: Part) -> Outcomes:
        """What a system makes of a part of the samples."""
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
        systems = [self.tuned(f, network) for f in self.filters if f[0] == network]
        return max(systems, key=lambda system: system.f1)

    def test(self) -> CascadeTest:
        """The best pair of networks on the held-out part, against its parts alone on the rest."""
        pairs = [self.tuned(f, name) for f in self.filters for name in self.results if name != f[0]]
        cascade = max(pairs, key=lambda system: system.f1)
        network, _ = cascade.filter
        alone = (self.tuned(cascade.filter, network), self.best_alone(cascade.classifier))
        together = self.outcomes(cascade, self.rest)
        first, second = (self.outcomes(system, self.rest) for system in alone)
        return CascadeTest(
            cascade,
            alone,
            (together, first, second),
            (f1_difference(together, first), f1_difference(together, second)),
        )
