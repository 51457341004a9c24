"""The numbers of a row by name: their other names, and which way is better."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from offmap._utils.arguments import did_you_mean
from offmap.errors import UnknownNameError


@dataclass(frozen=True)
class Metric:
    """One number of a row.

    Args:
        name: of the field.
        words: what it is, for headings.
        better: "high", "low", or "" where neither is.
        percent: whether it is a share, shown in percent.
    """

    name: str
    words: str
    better: Literal["high", "low", ""] = "high"
    percent: bool = True

    @property
    def scale(self) -> float:
        """The factor of the number where it is shown."""
        return 100.0 if self.percent else 1.0

    @property
    def heading(self) -> str:
        """Its name, its unit, and which way is better."""
        unit = " in %" if self.percent else ""
        return f"{self.name}{unit}" + (f", {self.better}er is better" if self.better else "")


METRICS = {
    metric.name: metric
    for metric in (
        Metric("n_id", "number of ID samples", "", False),
        Metric("n_ood", "number of OOD samples", "", False),
        Metric("base_rate", "share of OOD among all samples", ""),
        Metric("auroc", "AUROC"),
        Metric("auroc_low", "AUROC, lower end of its 95 % interval"),
        Metric("auroc_high", "AUROC, upper end of its 95 % interval"),
        Metric("aupr_in", "AUPR-in"),
        Metric("aupr_out", "AUPR-out"),
        Metric("fpr_id_kept", "FPR@95TPR: share of OOD accepted when 95 % of ID is kept", "low"),
        Metric(
            "fpr_ood_caught", "FPR@95TPR: share of ID refused when 95 % of OOD is caught", "low"
        ),
        Metric("detection_accuracy", "best balanced accuracy"),
        Metric("detection_threshold", "score above which a sample is OOD there", "", False),
        Metric("threshold", "score above which a sample is called OOD", "", False),
        Metric("id_alarm", "share of ID called OOD at the threshold", "low"),
        Metric("ood_caught", "share of OOD caught at the threshold"),
        Metric("oscr", "area under the OSCR curve"),
        Metric("aurc", "area under the risk-coverage curve", "low"),
        Metric("augrc", "area under the generalised risk-coverage curve", "low"),
    )
}

# Other names of them, without signs and capitals.
_ALIASES = {
    **dict.fromkeys(("auc", "rocauc", "areaunderroc"), "auroc"),
    **dict.fromkeys(("auprid", "auprinid", "apin"), "aupr_in"),
    **dict.fromkeys(("auprood", "apout"), "aupr_out"),
    **{f"{name}idkept": "fpr_id_kept" for name in ("fpr95", "fpr95tpr", "fprat95tpr")},
    **{f"{name}oodcaught": "fpr_ood_caught" for name in ("fpr95", "fpr95tpr", "fprat95tpr")},
    **dict.fromkeys(("dacc", "balancedaccuracy"), "detection_accuracy"),
    **dict.fromkeys(("tpr", "recall", "caught"), "ood_caught"),
    **dict.fromkeys(("falsealarms", "alarms"), "id_alarm"),
}
_SEVERAL = {
    **dict.fromkeys(
        ("fpr", "fpr95", "fpr95tpr", "fprat95", "fprat95tpr"),
        "fpr_id_kept, the share of OOD accepted when 95 % of ID is kept (papers on energy, ViM, "
        "KNN), or fpr_ood_caught, the share of ID refused when 95 % of OOD is caught (outlier "
        "exposure, OpenOOD)",
    ),
    **dict.fromkeys(
        ("aupr", "ap", "averageprecision"),
        "aupr_in, where ID is the positive class, or aupr_out, where OOD is",
    ),
}


@cache
def metric_of(name: str) -> Metric:
    """A metric by its name or by what others call it.

    >>> metric_of("AUC").name, metric_of("FPR95 (ID kept)").name
    ('auroc', 'fpr_id_kept')

    Raises:
        UnknownNameError: there is no such metric, or the name has two readings.
    """
    plain = re.sub(r"[\W_]", "", name.lower())
    fields = {field.replace("_", ""): field for field in METRICS}
    if (field := fields.get(plain) or _ALIASES.get(plain)) is not None:
        return METRICS[field]
    if plain in _SEVERAL:
        raise UnknownNameError(f"{name!r} has two readings: name {_SEVERAL[plain]}")
    raise UnknownNameError(
        f"no metric {name!r}: {did_you_mean(name, METRICS)}metrics: {', '.join(METRICS)}"
    )
