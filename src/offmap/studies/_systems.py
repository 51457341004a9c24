"""Systems that accept by one network's score and answer with another's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offmap.evaluation import Results
from offmap.metrics import (
    Difference,
    Outcomes,
    best_f1_threshold,
    detection_accuracy,
    f1_difference,
)
from offmap.studies._parts import Part, held_out

Filter = tuple[str, str]  # network and detector


@dataclass(frozen=True)
class Choice:
    """What was chosen on the held-out part.

    Args:
        filter: the network and detector that accept.
        classifier: the network that answers.
        threshold: of the filter's score.
        f1: on the held-out part.
    """

    filter: Filter
    classifier: str
    threshold: float
    f1: float


@dataclass(frozen=True)
class Chosen:
    """Three systems on the same samples that none was chosen on.

    Args:
        cascade: the best pair of two different networks.
        alone: the filter's network answering for itself with that filter, and the classifier with
            the best of its own.
        outcomes: of the three.
        differences: of the F1, the cascade minus each of the others.
    """

    cascade: Choice
    alone: tuple[Choice, Choice]
    outcomes: tuple[Outcomes, Outcomes, Outcomes]
    differences: tuple[Difference, Difference]


class Systems:
    """Filters and classifiers of several networks on the same ID samples and one OOD set.

    Args:
        results: by network, all on the same samples.
        labels: of the ID samples.
        ood: name of the OOD set.
        seed: of what is held out.
    """

    def __init__(self, results: Mapping[str, Results], labels: Any, ood: str, seed: int) -> None:
        self.results, self.ood = results, ood
        self.right = {name: found.predicted["id"] == labels for name, found in results.items()}
        first = next(iter(results.values()))
        unknown = first.scores[first.detectors[0]][ood]
        self.held, self.rest = held_out(len(labels), len(unknown), seed=seed)

    @property
    def filters(self) -> list[Filter]:
        """Every detector of every network."""
        return [(name, d) for name, found in self.results.items() for d in found.detectors]

    def scores(self, of: Filter, part: Part) -> tuple[Any, Any]:
        """ID and OOD scores of a filter on a part of the samples."""
        found = self.results[of[0]].scores[of[1]]
        return found["id"][part.known], found[self.ood][part.unknown]

    def outcomes(self, choice: Choice, part: Part) -> Outcomes:
        """What a system makes of a part of the samples."""
        known, unknown = self.scores(choice.filter, part)
        right = self.right[choice.classifier][part.known]
        return Outcomes.of(known, right, unknown, threshold=choice.threshold)

    def detection_threshold(self, of: Filter, part: Part) -> float:
        """The threshold with the best balanced accuracy there."""
        return detection_accuracy(*self.scores(of, part))[1]

    def tuned(self, of: Filter, classifier: str) -> Choice:
        """A system with the threshold of the best F1 on the held-out part."""
        known, unknown = self.scores(of, self.held)
        right = self.right[classifier][self.held.known]
        threshold = best_f1_threshold(known, right, unknown)
        found = Outcomes.of(known, right, unknown, threshold=threshold)
        return Choice(of, classifier, threshold, found.selection.f1)

    def chosen(self) -> Chosen:
        """The best pair of different networks on the held-out part, and its parts used alone."""
        pairs = [
            self.tuned(of, name) for of in self.filters for name in self.results if name != of[0]
        ]
        cascade = max(pairs, key=lambda choice: choice.f1)
        alone = (self.tuned(cascade.filter, cascade.filter[0]), self.best_of(cascade.classifier))
        three = (cascade, *alone)
        ours, *others = [self.outcomes(choice, self.rest) for choice in three]
        first, second = others
        tests = (f1_difference(ours, first), f1_difference(ours, second))
        return Chosen(cascade, alone, (ours, first, second), tests)

    def best_of(self, name: str) -> Choice:
        """The best system of one network alone."""
        own = [self.tuned(of, name) for of in self.filters if of[0] == name]
        return max(own, key=lambda choice: choice.f1)
