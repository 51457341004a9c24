"""Every benchmark that can run here: ``python -m benchmarks [--weights FILE] [--pairs N] ...``.

Each runs in a process of its own, with the options that it knows; one that lacks its data,
checkpoint or package is skipped with the reason. ``--json FILE`` keeps what was measured, with
machine, versions and spread: rows of other benchmarks in that file stay. ``--quick`` runs a few for
a minute, and ``--against FILE`` warns where medians are far from the stored ones.
``python -m benchmarks.table`` draws docs/measured.md from the file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import _stored
from benchmarks._measure import ROWS

# What each needs, quick ones first: data, weights, or a package by its import name.
NEEDS: dict[str, tuple[str, ...]] = {
    "startup": (),
    "memory": (),
    "precision": (),
    "metrics": (),
    "monitor": (),
    "scoring": (),
    "scale": ("ray",),
    "report": (),
    "serve": ("prometheus_client",),
    "pixmix": (),
    "costs": (),
    "peers": ("pytorch_ood",),
    "ensemble": (),
    "collapse": (),
    "training": ("kornia",),
    "resume": ("lightning",),
    "knn": ("data", "weights"),
    "guard": ("data", "weights"),
    "coverage": ("data", "weights"),
    "export": ("data", "weights", "onnxruntime"),
    "spine": ("data", "weights"),
    "pytorch_ood": ("data", "weights", "pytorch_ood"),
    "large_images": ("data", "efficientnet_lite_pytorch"),
    "foreign_networks": ("timm", "transformers"),
}
# Which of the shared options a script has, where it has not both.
KNOWS = {
    "metrics": ("pairs",),
    "monitor": (),
    "scoring": (),
    "serve": ("pairs",),
    "report": (),
    "coverage": (),
    "pixmix": ("pairs",),
    "costs": ("pairs",),
    "peers": ("pairs",),
    "ensemble": ("pairs",),
    "collapse": ("pairs",),
    "training": ("pairs",),
    "resume": (),
    "large_images": ("pairs",),
    "foreign_networks": (),
}

# Those of a minute, whose ratios are held against the last stored ones.
QUICK: dict[str, tuple[str, ...]] = {
    "metrics": ("--n", "300000", "--pairs", "7"),
}


def main() -> None:
    options = parser().parse_args()
    names = options.names or (QUICK if options.quick else NEEDS)
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        failed = [name for name in names if not ran(name, options, rows)]
        measured = _stored.read_rows(rows)
    for warning in _stored.warnings(Path(options.against), measured) if options.against else ():
        print(warning)
    if options.json:
        _stored.add(Path(options.json), measured)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("names", nargs="*", help=f"of {', '.join(NEEDS)}; by default all")
    made.add_argument("--weights", help="the checkpoint resnet20-12fca82f.th")
    made.add_argument("--pairs", help="pairs of runs")
    made.add_argument("--limit", help="samples of each set, for a quick look")
    made.add_argument("--json", help="file that keeps what was measured")
    made.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, a minute")
    made.add_argument("--against", help="file of an earlier --json: warn where medians differ")
    return made


def ran(name: str, options: argparse.Namespace, rows: Path) -> bool:
    """Run one or say why not; false if it failed."""
    if reason := lack(name, options):
        print(f"\n== {name}: skipped: {reason}", flush=True)
        return True
    known = [*KNOWS.get(name, ("pairs", "limit")), *(n for n in NEEDS[name] if n == "weights")]
    given = {option: getattr(options, option) for option in known}
    flags = [part for option, x in given.items() if x for part in (f"--{option}", x)]
    if options.quick:
        flags = [*QUICK.get(name, flags)]
    print(f"\n== {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *flags]
    environment = os.environ | {ROWS: str(rows)}
    ended = subprocess.run(command, env=environment).returncode == 0
    shown = ["python", *("FILE" if part == options.weights else part for part in command[1:])]
    _stored.sign(rows, name, " ".join(shown))
    return ended


def lack(name: str, options: argparse.Namespace) -> str | None:
    """Why a benchmark cannot run."""
    if name not in NEEDS or not Path(__file__).with_name(f"{name}.py").is_file():
        return f"there is no such benchmark; there are {', '.join(NEEDS)}"
    return next((reason for need in NEEDS[name] if (reason := missing(need, options))), None)


def missing(need: str, options: argparse.Namespace) -> str | None:
    if need == "data":
        there = os.environ.get("OFFMAP_DATA")
        return None if there else "OFFMAP_DATA names no folder of data sets"
    if need == "weights":
        return None if options.weights else "give --weights FILE, the ResNet-20 checkpoint"
    return None if find_spec(need) else f"the package {need} is not installed"


if __name__ == "__main__":
    main()
