"""Two or more networks side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from offmap._utils.table import render
from offmap.errors import ArgumentError
from offmap.evaluation.results import Results
from offmap.evaluation.whole import check_whole
from offmap.metrics import delong_test, holm


@dataclass(frozen=True)
class Difference:
    """How one detector fares with one network against the first, on one OOD set.

    Args:
        network: name of the network.
        against: name of the first network.
        detector: name of the detector.
        set: name of the OOD set.
        auroc: AUROC minus that of the first network.
        p_value: of the paired DeLong test, two-sided; ``None`` where the samples are not the same.
        corrected: the same by Holm over all tests of the comparison.
    """

    network: str
    against: str
    detector: str
    set: str
    auroc: float
    p_value: float | None
    corrected: float | None = None

    @classmethod
    def of(
        cls, name: str, of_network: Results, first: str, base: Results, detector: str, ood: str
    ) -> Self:
        """That of one detector on one OOD set, with its p-value where the samples are the same."""
        gain = of_network.get(detector, ood) - base.get(detector, ood)
        p_value = None
        ours, theirs = ({s.name: s.fingerprint for s in each.sets} for each in (base, of_network))
        # Only a fingerprint can tell whether both saw the same samples.
        if all(ours[each] is not None and ours[each] == theirs[each] for each in ("id", ood)):
            new, old = of_network.scores[detector], base.scores[detector]
            p_value = delong_test(new["id"], new[ood], old["id"], old[ood]).p_value
        return cls(name, first, detector, ood, gain, p_value)

    @property
    def note(self) -> str:
        """The corrected p-value, as it stands beside the difference in a table."""
        if self.corrected is None:
            return " (unpaired)"
        return " (p<0.001)" if self.corrected < 0.001 else f" (p={self.corrected:.3f})"


@dataclass(frozen=True)
class Comparison:
    """Results of several networks, and their differences from the first."""

    results: Mapping[str, Results]
    differences: list[Difference]

    def table(self) -> str:
        """One starred table for each network, then the differences with their p-values."""
        parts = [f"== {name} ==\n{each.table()}" for name, each in self.results.items()]
        return "\n\n".join([*parts, self.differences_table()])

    def differences_table(self) -> str:
        """The differences from the first network, with their p-values."""
        first, *networks = self.results
        tests = sum(d.p_value is not None for d in self.differences)
        words = "auroc in points, p of the paired DeLong test"
        words += f", corrected for {tests} tests (Holm)" if tests > 1 else ""
        parts = []
        for network in networks:
            heading = f"== {network} minus {first} =="
            own = [d for d in self.differences if d.network == network]
            if not own:
                parts.append(f"{heading}\nno detector and OOD set in common")
                continue
            sets = list(dict.fromkeys(d.set for d in own))
            detectors = list(dict.fromkeys(d.detector for d in own))
            by_place = {(d.detector, d.set): d for d in own}
            cells = {d: [by_place[d, s].auroc for s in sets] for d in detectors}
            notes = {d: [by_place[d, s].note for s in sets] for d in detectors}
            body = render(cells, sets, scale=100, star=False, notes=notes)
            parts.append(f"{heading}\n{words}\n\n{body}")
        return "\n\n".join(parts)


def compare(results: Mapping[str, Results]) -> Comparison:
    """Compare networks by the detectors and OOD sets that they share.

    Args:
        results: by name; the others are compared with the first.

    Raises:
        ArgumentError: fewer than two, no detector and set in common, or rows of only some of the
            samples.
    """
    if len(results) < 2:
        raise ArgumentError(f"compare takes at least two results; seen {list(results)}")
    for each in results.values():
        check_whole(each)
    first, base = next(iter(results.items()))
    differences = [
        Difference.of(name, of_network, first, base, detector, ood)
        for name, of_network in results.items()
        if name != first
        for detector in base.detectors
        if detector in of_network.detectors
        for sets in base.groups.values()
        for ood in sets
        if ood in of_network.scores[detector]
    ]
    if not differences:
        raise ArgumentError("these results share no detector and OOD set")
    corrected = iter(holm([d.p_value for d in differences if d.p_value is not None]))
    return Comparison(
        dict(results),
        [d if d.p_value is None else replace(d, corrected=next(corrected)) for d in differences],
    )
