"""Tables of figures that OpenOOD wrote, beside results of ours."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from offmap._utils.files import reason_of
from offmap._utils.table import render
from offmap.errors import DataError, DataNotFoundError
from offmap.evaluation.metric import metric_of
from offmap.evaluation.results import Results

# Its columns, in percent; its FPR counts ID refused when 95 % of OOD is caught.
_COLUMNS = {
    "AUROC": "auroc",
    "FPR@95": "fpr_ood_caught",
    "AUPR_IN": "aupr_in",
    "AUPR_OUT": "aupr_out",
}


@dataclass(frozen=True)
class Summary:
    """Figures of one detector as OpenOOD's evaluators write them.

    Args:
        rows: shares by metric of ours, by data set; ``nearood`` and ``farood`` are its means.
    """

    rows: dict[str, dict[str, float]]

    def beside(self, results: Results, detector: str, metric: str = "auroc") -> str:
        """A table of both on the sets of one name, in percent, with ours minus theirs.

        Args:
            results: ours.
            detector: of ours.
            metric: one of theirs, by our name or by what others call it.

        Raises:
            DataError: no set has the same name in both, or theirs lack the metric.
            UnknownNameError: there is no such detector or metric.
        """
        names = [name for of in results.groups.values() for name in of if name in self.rows]
        if not names:
            raise DataError(
                f"no OOD set is in both: theirs are {', '.join(self.rows)}; call ours as they are"
            )
        own = metric_of(metric).name
        if own not in _COLUMNS.values():
            raise DataError(f"OpenOOD writes {', '.join(_COLUMNS.values())}, and no {own}")
        cells = {}
        for name in names:
            ours, theirs = results.get(detector, name, own), self.rows[name][own]
            cells[name] = [ours, theirs, ours - theirs]
        return render(cells, ["ours", "OpenOOD", "difference"], scale=100, star=False, corner=own)


def read_summary(path: str | Path) -> Summary:
    """Read what OpenOOD's evaluators save as ``.csv``: a row a data set, figures in percent.

    Args:
        path: with columns ``dataset``, ``FPR@95``, ``AUROC``, ``AUPR_IN`` and ``AUPR_OUT``.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is no text, columns are missing, or a figure is no percentage.
    """
    path = Path(path)
    if not path.exists():
        raise DataNotFoundError(f"{path} is not there: give a CSV file of OpenOOD")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file that can be read: {reason_of(error)}") from error
    if missing := {"dataset", *_COLUMNS} - set(rows[0] if rows else ()):
        raise DataError(f"{path} has no columns {', '.join(sorted(missing))}: is it of OpenOOD?")
    summary = Summary({row["dataset"]: {} for row in rows})
    for row, (column, metric) in product(rows, _COLUMNS.items()):
        try:
            value = float(row[column])
        except (TypeError, ValueError):
            value = float("nan")
        if not 0 <= value <= 100:
            raise DataError(
                f"{path}: {column} of {row['dataset']} is {row[column]!r}, no percentage"
            )
        summary.rows[row["dataset"]][metric] = value / 100
    return summary
