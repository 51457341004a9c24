"""The metrics once more, from their formulas: every pair, every threshold, in float64."""

import numpy as np
from hypothesis import strategies as st


def wins(id_scores, ood_scores):
    """A row for each ID sample, a column for each OOD sample: 1 where it is higher, ties 1/2."""
    id_column, ood_row = np.asarray(id_scores)[:, None], np.asarray(ood_scores)[None, :]
    return (ood_row > id_column) + 0.5 * (ood_row == id_column)


def placements(id_scores, ood_scores):
    """Share of ID below each OOD sample, share of OOD above each ID sample; ties one half."""
    won = wins(id_scores, ood_scores)
    return won.mean(axis=0), won.mean(axis=1)


def auroc(id_scores, ood_scores):
    return placements(id_scores, ood_scores)[0].mean()


def auroc_covariance(*detectors):
    """DeLong's covariance matrix of the AUROC of several detectors on the same samples."""
    each = [placements(*scores) for scores in detectors]
    parts = [np.stack(side) for side in zip(*each, strict=True)]
    return sum(np.atleast_2d(np.cov(part, ddof=1)) / part.shape[1] for part in parts)


def fpr_id_kept(id_scores, ood_scores, tpr):
    scores = np.sort(np.concatenate([id_scores, ood_scores]))
    return next(np.mean(ood_scores <= t) for t in scores if np.mean(id_scores <= t) >= tpr)


def fpr_ood_caught(id_scores, ood_scores, tpr):
    scores = np.sort(np.concatenate([id_scores, ood_scores]))[::-1]
    return next(np.mean(id_scores >= t) for t in scores if np.mean(ood_scores >= t) >= tpr)


def detection_accuracy(id_scores, ood_scores):
    scores = np.unique(np.concatenate([id_scores, ood_scores]))
    return max(
        ((np.mean(ood_scores > t) + np.mean(id_scores <= t)) / 2, t) for t in scores.tolist()
    )


def labelled(id_scores, ood_scores):
    """Labels and scores as scikit-learn takes them, OOD being 1."""
    labels = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    return labels, np.concatenate([id_scores, ood_scores])


def _arrays(elements, dtype, least):
    return st.lists(elements, min_size=least, max_size=30).map(lambda xs: np.array(xs, dtype))


@st.composite
def two_samples(draw, *, least=1):
    """ID and OOD scores: far apart or full of ties, of either precision, huge and tiny alike."""
    elements, dtype = draw(
        st.sampled_from(
            [
                (st.integers(-3, 3), np.float64),
                (st.integers(-3, 3), np.float32),
                # Not up to the largest float: scikit-learn's check for NaN adds the scores up.
                (st.floats(-1e300, 1e300), np.float64),
                (st.floats(-(2.0**120), 2.0**120, width=32), np.float32),
                (st.just(0.5), np.float64),
            ]
        )
    )
    return draw(_arrays(elements, dtype, least)), draw(_arrays(elements, dtype, least))
