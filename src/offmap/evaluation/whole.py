"""Whether the rows of results cover all samples that have scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offmap.errors import ArgumentError

if TYPE_CHECKING:
    from offmap.evaluation.results import Results


def check_whole(results: Results) -> None:
    """Refuse results whose rows cover only some of the samples that have scores.

    Raises:
        ArgumentError: the rows are of fewer samples, of either kind, than there are scores.
    """
    for row in results.rows:
        scores = results.scores.get(row.detector, {})
        sizes = {"id": row.n_id, row.set: row.n_ood}
        if any(name in scores and len(scores[name]) != n for name, n in sizes.items()):
            raise ArgumentError(
                "the rows of these results are of some of their samples, and the scores of all: "
                "give the results of the whole evaluation"
            )
