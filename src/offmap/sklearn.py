"""The scikit-learn face: a detector over feature arrays, in scikit-learn's orientation.

scikit-learn says the opposite of the rest of offmap: there a larger score is more normal.
"""

# ruff: noqa: N803 - X is scikit-learn's name, and its callers pass it by name.

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.decide import alarm_threshold, exact_rate
from offmap.detectors import Detector, Mahalanobis, catalogue, detector
from offmap.errors import LabelError, NeedsError, ShapeError

__all__ = ["OODDetector"]


class OODDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Any detector of the catalogue over features ``(n, d)``, as a scikit-learn outlier detector.

    .. math:: \mathrm{score\_samples}(x) = -s(x), \qquad
              \mathrm{decision\_function}(x) = \mathrm{offset\_} - s(x) \; \text{negated offset: see}

    Args:
        detector: a name, an expression such as ``"KNN(k=5)"``, a record, or a detector, which is
            copied and stays as it is.
    """
