"""Records of neural collapse in pictures."""

from __future__ import annotations

from pathlib import Path

from offmap import plots
from offmap.studies.records import Records

_PARTS = {
    "accuracy": {"accuracy": "train, un-augmented", "test_accuracy": "test"},
    "NC1": {"nc1": "within to between classes"},
    "NC2": {
        "nc2_norms": "norms",
        "nc2_angles": "cosines",
        "nc2_simplex": "distance from a simplex",
    },
    "NC3": {"nc3": "head and means"},
    "NC4": {"nc4": "nearest mean disagrees"},
}


def draw_records(records: Records, out: Path) -> None:
    """NC1 to NC5 and accuracy over the epochs, and AUROC against NC1 and NC5."""
    parts = {
        title: {
            label: records.of(name) for name, label in lines.items() if name in records.collapse[0]
        }
        for title, lines in _PARTS.items()
    }
    if records.sets:
        parts["NC5"] = {name: records.of(f"nc5_{name}") for name in records.sets}
    plots.save(plots.epoch_curves(records.epochs, parts, log={"NC1"}), out / "collapse.png")
    if records.ood:
        lines = {name: records.auroc(name) for name in records.detectors}
        values = {"NC1": records.of("nc1"), "NC5, mean of the sets": records.of("nc5")}
        plots.save(plots.against(values, lines, what="mean AUROC"), out / "auroc.png")
