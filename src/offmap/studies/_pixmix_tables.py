"""Study A in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offmap.evaluation import Results
from offmap.evaluation.comparison import compare
from offmap.evaluation.differences import (
    auroc_difference,
    difference_table,
    mean_auroc_difference,
)
from offmap.evaluation.subsets import at_ratio
from offmap.metrics import Difference
from offmap.studies import _pixmix_features as features
from offmap.studies._study import sets_of

VIM = "ViM(dim=12)"
# The scores of the source study, in its order.
SCORES = ("maxlogit", "msp", "kluniform", VIM)


def report(results: Mapping[str, Results], sources: Mapping[str, str]) -> str:
    """All tables: of each network, and PixMix minus plain."""
    parts = []
    for name, of_network in results.items():
        at_five = at_ratio(_source_scores(of_network))
        catalogue = of_network.only([d for d in of_network.detectors if d not in SCORES])
        if VIM in of_network.scores:  # the comparison that was named beforehand
            vim, msp = of_network.scores[VIM], of_network.scores["msp"]
            tests = {set: auroc_difference(vim, msp, set) for set in sets_of(of_network)}
            vim_minus_msp = difference_table(f"{VIM} minus msp: AUROC", tests)
        else:
            vim_minus_msp = f"{VIM} was left out: {of_network.left_out[VIM]}"
        parts += [
            published(name, sources[name], of_network),
            f"ViM: {of_network.summaries.get(VIM, of_network.left_out.get(VIM))}",
            at_five.table(),
            at_five.table("aupr_out"),
            vim_minus_msp,
            f"the rest of the catalogue, all samples\n{catalogue.table()}",
        ]
    parts.append(features.table(results))
    if len(results) > 1:
        parts += [compare(results).differences_table(), mean_differences(results)]
    return "\n\n".join(parts)


def summary(results: Mapping[str, Results], sources: Mapping[str, str]) -> str:
    """The scores of the source study, and how they differ between the networks."""
    parts = [published(name, sources[name], of_network) for name, of_network in results.items()]
    if len(results) > 1:
        first, second = (of_network.detectors for of_network in results.values())
        parts.append(mean_differences(results, [d for d in SCORES if d in first and d in second]))
    return "\n\n".join(parts)


def published(name: str, source: str, results: Results) -> str:
    """The published layout: AUROC of the scores of the source study."""
    return f"== {name}: {source} ==\n{_source_scores(results).table()}"


def mean_differences(results: Mapping[str, Results], detectors: Sequence[str] | None = None) -> str:
    """PixMix minus plain on the mean of the sets, by detector."""
    tests = mean_tests(results, detectors)
    return difference_table("pixmix minus plain: mean AUROC over the sets", tests)


def mean_tests(
    results: Mapping[str, Results], detectors: Sequence[str] | None = None
) -> dict[str, Difference]:
    """The same as tests, by default of all detectors that both networks have."""
    plain, pixmix = results["plain"], results["pixmix"]
    if detectors is None:
        detectors = [d for d in pixmix.detectors if d in plain.detectors]
    return {
        d: mean_auroc_difference(pixmix.scores[d], plain.scores[d], sets_of(plain))
        for d in detectors
    }


def _source_scores(results: Results) -> Results:
    return results.only([d for d in SCORES if d in results.detectors])
