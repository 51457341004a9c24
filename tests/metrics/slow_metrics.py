"""The metrics once more, from their formulas: every pair, every threshold, in float64."""

from fractions import Fraction
from itertools import permutations, product

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


def selected(id_scores, right, ood_scores, threshold):
    """Accepted samples, right predictions, and right decisions on ID and on OOD, one at a time."""
    accepted = hits = kept = refused = 0
    for score, is_right in zip(id_scores.tolist(), right.tolist(), strict=True):
        if score <= threshold:
            accepted, kept, hits = accepted + 1, kept + 1, hits + is_right
    for score in ood_scores.tolist():
        if score <= threshold:
            accepted += 1
        else:
            refused += 1
    return accepted, hits, kept, refused


def best_f1_threshold(id_scores, right, ood_scores):
    best, found = Fraction(-1), None
    for threshold in np.unique(np.concatenate([id_scores, ood_scores])).tolist():
        accepted, hits, _, _ = selected(id_scores, right, ood_scores, threshold)
        precision, recall = Fraction(hits, accepted), Fraction(hits, len(id_scores))
        f1 = 2 * precision * recall / (precision + recall) if hits else Fraction(0)
        if f1 > best:
            best, found = f1, threshold
    return found


def risk_coverage(scores, right):
    """Coverage, risk and joint risk at each distinct score."""
    points = [(0.0, 0.0, 0.0)]
    for threshold in np.unique(scores):
        wrong = ~right[scores <= threshold]
        points.append((len(wrong) / len(scores), wrong.mean(), wrong.sum() / len(scores)))
    return np.array(points)


def aurc(scores, right):
    """Sum over k of the expected risk of the first k, each sample among them with its chance."""
    risks = []
    for k in range(1, len(scores) + 1):
        wrong = 0.0
        for score, is_right in zip(scores, right, strict=True):
            below, ties = (scores < score).sum(), (scores == score).sum()
            wrong += (not is_right) * min(1.0, max(0.0, (k - below) / ties))
        risks.append(wrong / k)
    return np.mean(risks)


def augrc(scores, right):
    """Share of all pairs, a sample with itself too, whose first is wrong and accepted before."""
    return (wins(scores, scores) * ~right[:, None]).mean()


def areas_over_all_orders(scores, right):
    """Mean AURC and AUGRC over every order of rising score, by their definitions without ties."""
    n, areas = len(scores), []
    for order in permutations(range(n)):
        if (np.diff(scores[list(order)]) >= 0).all():
            wrong = np.cumsum([0, *~right[list(order)]])
            joint = [(wrong[k] + wrong[k + 1]) / 2 / n for k in range(n)]
            areas.append((np.mean([wrong[k] / k for k in range(1, n + 1)]), np.mean(joint)))
    return np.mean(areas, axis=0)


def every_drawing(*sizes):
    """Each way of drawing again from groups of these sizes, all equally likely."""
    groups = [product(range(size), repeat=size) for size in sizes]
    return [tuple(map(list, drawing)) for drawing in product(*groups)]


def labelled(id_scores, ood_scores):
    """Labels and scores as scikit-learn takes them, OOD being 1."""
    labels = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    return labels, np.concatenate([id_scores, ood_scores])


def _arrays(elements, dtype, least):
    return st.lists(elements, min_size=least, max_size=30).map(lambda xs: np.array(xs, dtype))


@st.composite
def predicted(draw, *, most=60):
    """Scores, of which many are equal or none, and whether each prediction is right."""
    scores = np.concatenate(draw(two_samples()))[:most]
    return scores, _truth_values(draw, len(scores))


@st.composite
def two_samples_predicted(draw):
    """ID scores, whether each prediction is right, and OOD scores."""
    id_scores, ood_scores = draw(two_samples())
    return id_scores, _truth_values(draw, len(id_scores)), ood_scores


def _truth_values(draw, length):
    return np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)), bool)


def by_rank(scores):
    """Scores in the same order, far apart: an increasing transformation without new ties."""
    return 100 * np.exp(np.unique(scores, return_inverse=True)[1] / 4.0 - 3)


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
