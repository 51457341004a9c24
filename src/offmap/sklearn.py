"""The scikit-learn face: a detector over feature arrays, in scikit-learn's orientation.

Its scores point the other way: in scikit-learn a larger score is more normal.
"""

# ruff: noqa: N803 - scikit-learn's callers pass X by this name.

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from offmap._utils.samples import as_tensor
from offmap.activations import Activations, Head
from offmap.detectors import (
    LEARN_SHARE,
    Detector,
    Fitting,
    Needs,
    catalogue,
    detector,
    nodes,
    to_learn_on,
)
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.features.mahalanobis_pp import MahalanobisPP
from offmap.errors import LabelError, NeedsError, ShapeError
from offmap.guard.decide import alarm_threshold, exact_rate

__all__ = ["OODDetector"]

_OF_HEAD = Needs.LOGITS | Needs.HEAD


class OODDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # its bases are untyped
    r"""Any detector of the catalogue over features ``(n, d)``, as a scikit-learn outlier detector.

    With :math:`s` the OOD score of the detector:

    .. math:: \text{score\_samples}(x) = -s(x), \qquad
              \text{decision\_function}(x) = -s(x) - \text{offset\_}

    and a sample is an outlier, -1, where the decision function is negative. After :meth:`fit` the
    share of *training* samples called outliers is about ``alarm_rate``, as with scikit-learn's
    ``contamination``. That promises nothing about new data: a detector knows the samples it was
    fitted on, and KNN finds them in its bank. :meth:`calibrate` gives the promise.

    Args:
        detector: a name, an expression such as ``"KNN(k=5)"``, a record, or a detector, which is
            copied. "knn" reads directions alone and needs 50 samples.
        alarm_rate: share of ID samples that may be called outliers, in (0, 1).
        head: the classifier's last linear layer, for detectors that read logits or the layer
            itself: :class:`offmap.Head`, or a pair of weight ``(c, d)`` and bias ``(c,)`` or
            ``None``, such as ``(clf.coef_, clf.intercept_)``.

    Attributes:
        detector_: the fitted :class:`offmap.Detector`.
        head_: the head as tensors, ``None`` where the detector does not read it.
        n_classes_: rows of that head, or else classes of the labels; 1 without either.
        offset_: what :meth:`decision_function` subtracts.
        n_features_in_: ``d``.

    >>> X = np.random.default_rng(0).normal(size=(600, 4))
    >>> guard = OODDetector(alarm_rate=0.01).fit(X[:400]).calibrate(X[400:])
    >>> guard.predict([[0, 0, 0, 0], [9, 9, 9, 9]]).tolist()
    [1, -1]
    """

    def __init__(
        self,
        detector: str | Detector | dict[str, object] = "mahalanobis",
        *,
        alarm_rate: float = 0.05,
        head: Head | tuple[Any, Any] | None = None,
    ) -> None:
        self.detector = detector
        self.alarm_rate = alarm_rate
        self.head = head

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the detector, and set the offset from the training samples.

        Args:
            X: features of the training data, ``(n, d)``.
            y: class labels of any kind, ``(n,)``; not flags of inliers. Read only if the detector
                needs them, and in sorted order, so the first stands for the head's first row.
                Without them Mahalanobis takes all samples for one class.

        Raises:
            ArgumentError: the alarm rate is not in (0, 1), or there is no such detector.
            NeedsError: the detector reads logits or the head, and there is no head.
            LabelError: the detector needs labels, and they are missing or not the head's classes.
            ShapeError: the head is not one for these features.
            DegenerateError: the detector cannot be solved on these samples.
        """
        exact_rate(self.alarm_rate, "alarm_rate")  # refused before the work, not after it
        method = deepcopy(detector(self.detector))
        if Needs.MEMBERS in method.needs:
            raise NeedsError(
                f"{method!r} is for an ensemble, and features are those of one network: choose "
                "another detector, or use offmap.Guard or offmap.evaluate"
            )
        features = self._features(X, reset=True)
        head = self._head_for(method, features.shape[1])
        labels, names, classes = _labels(y, len(features), method, head)
        fitting = Fitting([method], head)
        fitting.begin()
        fitting.learn("train", [(_activations(features, head, classes), labels)])
        self.detector_, self.head_, self.n_classes_ = method, head, classes
        self._classes = names
        self.__dict__.pop("offset_", None)
        if method.waiting_for is None:
            scores = self._scores(features, method)
            self.offset_ = float(np.quantile(-scores.numpy(), self.alarm_rate))
        return self

    def calibrate(self, X: Any, y: Any = None) -> Self:
        """Set the offset so that a new ID sample is called an outlier at most at ``alarm_rate``.

        This is the conformal threshold, :func:`offmap.alarm_threshold`. If these and the new ID
        samples are exchangeable, it holds whatever their distribution, on average over calibration
        sets. Fitting again sets the offset anew.

        Args:
            X: features of ID data that neither trained the network nor fitted this, ``(n, d)``. A
                detector that learns on calibration data learns on a fifth of them, chosen by a
                hash of the row's number, and the rest gives the offset.
            y: their class labels, of the kind that :meth:`fit` got, for a detector that needs them
                there.

        Raises:
            ArgumentError: there are fewer than ``1 / alarm_rate - 1`` samples.
            LabelError: a label is of no class, or there is not one for each sample.
        """
        check_is_fitted(self, "detector_")
        features = self._features(X, reset=False)
        method = deepcopy(self.detector_)  # if this fails, the offset still belongs to the other
        stages = [stage for node in nodes(method) for stage in node.stages]
        if stages := [stage for stage in stages if stage.source == "calibration"]:
            learn = to_learn_on([str(i) for i in range(len(features))], LEARN_SHARE)
            acts = _activations(features[learn], self.head_, self.n_classes_)
            labelled = y is not None and any(stage.labels for stage in stages)
            labels = self._indices(y, len(features))[learn] if labelled else None
            fitting = Fitting([method], self.head_)
            fitting.learn("calibration", [(acts, labels)])
            features = features[~learn]
        offset = -alarm_threshold(self._scores(features, method), self.alarm_rate)
        self.detector_, self.offset_ = method, offset
        return self

    def score_samples(self, X: Any) -> Float64[np.ndarray, " n"]:
        """The OOD score of each sample with its sign changed, ``(n,)``: higher is more normal.

        Raises:
            NotFittedError: of scikit-learn: :meth:`fit` was not called, or, for a detector that
                learns on calibration data, :meth:`calibrate`.
        """
        check_is_fitted(self, "detector_")
        if self.detector_.waiting_for is not None:
            raise NotFittedError(
                f"{self.detector_!r} learns on calibration data too, and has seen none: call "
                "calibrate after fit"
            )
        return (-self._scores(self._features(X, reset=False), self.detector_)).numpy()

    def decision_function(self, X: Any) -> Float64[np.ndarray, " n"]:
        """``score_samples(X) - offset_``, ``(n,)``: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Int64[np.ndarray, " n"]:
        """-1 for outliers, 1 for the others, ``(n,)``."""
        return np.where(self.decision_function(X) >= 0, 1, -1)  # what is no number is an outlier

    def fit_predict(self, X: Any, y: Any = None) -> Int64[np.ndarray, " n"]:
        """``fit(X, y).predict(X)``."""
        return self.fit(X, y).predict(X)  # the mixin's own would leave the labels out

    def _head_for(self, method: Detector, width: int) -> Head | None:
        """The head as tensors, if the detector reads it."""
        if not method.needs & _OF_HEAD:
            return None
        if self.head is None:
            names = [name for name, m in catalogue().items() if not m.default().needs & _OF_HEAD]
            raise NeedsError(
                f"{method!r} reads logits or the head, and features alone give neither: pass "
                f"head=(weight, bias), or choose one of {', '.join(names)}"
            )
        head = self.head
        weight, bias = (head.weight, head.bias) if isinstance(head, Head) else head
        weight = as_tensor(weight).detach().cpu()
        bias = None if bias is None else as_tensor(bias).detach().cpu()
        c = len(weight)
        if c < 2 or weight.shape != (c, width) or (bias is not None and bias.shape != (c,)):
            raise ShapeError(
                f"a head for these features has a weight of shape (c, {width}) and a bias of shape "
                f"(c,), with c at least 2; seen {tuple(weight.shape)} and "
                f"{None if bias is None else tuple(bias.shape)}. The single logit of a binary "
                "classifier needs a row of zeros before it"
            )
        return Head(weight, bias)

    def _indices(self, y: Any, samples: int) -> Int64[Tensor, " n"]:
        """Class indices of labels, as in the fit."""
        labels = column_or_1d(y)
        if len(labels) != samples:
            raise LabelError(f"labels must be one a sample: {len(labels)} of {samples} samples")
        names = np.arange(self.n_classes_) if self._classes is None else self._classes
        in_fit = np.isin(labels, names)
        if not in_fit.all():
            raise LabelError(
                f"labels are to be those of the fit, {', '.join(map(str, names[:6]))}"
                f"{', ...' * (len(names) > 6)}; seen {labels[~in_fit][0]}"
            )
        return torch.from_numpy(np.searchsorted(names, labels))

    def _features(self, X: Any, *, reset: bool) -> Float[Tensor, "n d"]:
        dtypes = [np.float64, np.float32]
        minimum = 2 if reset else 1  # a single sample has no spread to fit
        array = validate_data(self, X, reset=reset, dtype=dtypes, ensure_min_samples=minimum)
        return torch.tensor(array, device="cpu")  # a copy: the array may be read-only

    @torch.no_grad()
    def _scores(self, features: Float[Tensor, "n d"], method: Detector) -> Float64[Tensor, " n"]:
        return method.score(_activations(features, self.head_, self.n_classes_)).double()


def _activations(features: Float[Tensor, "n d"], head: Head | None, classes: int) -> Activations:
    """The features, and the head's logits where there is a head."""
    if head is None:
        return Activations(features=features)
    dtype = torch.promote_types(features.dtype, head.weight.dtype)
    bias = None if head.bias is None else head.bias.to(dtype)
    return Activations(Head(head.weight.to(dtype), bias)(features.to(dtype)), features)


def _labels(
    y: Any, samples: int, method: Detector, head: Head | None
) -> tuple[Int64[Tensor, " _"] | None, NDArray[Any] | None, int]:
    """Class indices, if the detector needs them, the names of the classes, and their number."""
    rows = 1 if head is None else len(head.weight)
    if not any(stage.labels for node in nodes(method) for stage in node.stages):
        return None, None, rows
    if y is None:
        # Without labels these two take all samples for one class; the other methods refuse.
        one_class = type(method) is Mahalanobis or isinstance(method, MahalanobisPP)
        zeros = torch.zeros(samples, dtype=torch.int64, device="cpu")
        return zeros if one_class else None, None, rows
    labels = column_or_1d(y, warn=True)
    check_classification_targets(labels)
    classes, indices = np.unique(labels, return_inverse=True)
    if head is not None and len(classes) != rows:
        raise LabelError(
            f"the labels name {len(classes)} classes, and the head has {rows} rows: fit on samples "
            "of every class, with the head of the same classifier"
        )
    return torch.from_numpy(indices), classes, len(classes)
