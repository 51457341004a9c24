"""Study A in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offmap.evaluation import Results
from offmap.evaluation.comparison import compare
from offmap.metrics import Difference, delong_test, delong_test_of_mean
from offmap.studies._parts import at_ratio

VIM = "ViM(dim=12)"


def tables(name: str, source: str, found: Results, scores: Sequence[str]) -> str:
    """The published layout, the same at 5:1, and the rest of the catalogue."""
    shown = [d for d in scores if d in found.detectors]
    ours, rest = found.only(shown), found.only([d for d in found.detectors if d not in scores])
    at_five = at_ratio(ours)
    return "\n\n".join(
        [
            f"== {name}: {source} ==\n{ours.table()}",
            f"ViM: {found.summaries.get(VIM, found.left_out.get(VIM))}",
            at_five.table(),
            at_five.table("aupr_out"),
            _against_msp(found),
            f"the rest of the catalogue, all samples\n{rest.table()}",
        ]
    )


def _against_msp(found: Results) -> str:
    """ViM, named beforehand, minus MSP on the same network."""
    if VIM not in found.scores:
        return f"{VIM} was left out: {found.left_out[VIM]}"
    lines = [f"{VIM} minus msp, AUROC in points, 95 % interval of the paired test"]
    for name in (s for sets in found.groups.values() for s in sets):
        vim, msp = found.scores[VIM], found.scores["msp"]
        lines.append(difference_line(name, delong_test(vim["id"], vim[name], msp["id"], msp[name])))
    return "\n".join(lines)


def difference_line(name: str, test: Difference) -> str:
    """A difference in points, with interval and p-value."""
    low, high = 100 * test.low, 100 * test.high
    difference = f"{100 * test.difference:+6.2f} ({low:+.2f} to {high:+.2f})"
    return f"  {name:<20} {difference}, p = {test.p_value:.2g}"


def differences(results: Mapping[str, Results]) -> list[str]:
    """PixMix minus plain: by set, and on the mean of the sets."""
    parts = [compare(results).differences_table()]
    plain, mixed = results["plain"], results["pixmix"]
    sets = [name for names in plain.groups.values() for name in names]
    lines = []
    for d in (d for d in mixed.detectors if d in plain.detectors):
        ours, theirs = mixed.scores[d], plain.scores[d]
        test = delong_test_of_mean(
            ours["id"], [ours[s] for s in sets], theirs["id"], [theirs[s] for s in sets]
        )
        lines.append(difference_line(d, test))
    heading = "pixmix minus plain, mean AUROC over the sets in points, 95 % interval, paired test"
    return [*parts, "\n".join([heading, *lines])]
