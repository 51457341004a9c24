"""Every benchmark that can run here: ``python -m benchmarks [--weights FILE] [--pairs N] ...``.

Each runs in a process of its own, with the options that it knows; one that lacks its data,
checkpoint or package is skipped with the reason.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

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
    "pixmix": (),
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
    "report": (),
    "coverage": (),
    "pixmix": ("pairs",),
    "ensemble": ("pairs",),
    "collapse": ("pairs",),
    "training": ("pairs",),
    "resume": (),
    "large_images": ("pairs",),
    "foreign_networks": (),
}


def main() -> None:
    options = parser().parse_args()
    failed = [name for name in options.names or NEEDS if not ran(name, options)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("names", nargs="*", help=f"of {', '.join(NEEDS)}; by default all")
    made.add_argument("--weights", help="the checkpoint resnet20-12fca82f.th")
    made.add_argument("--pairs", help="pairs of runs")
    made.add_argument("--limit", help="samples of each set, for a quick look")
    return made


def ran(name: str, options: argparse.Namespace) -> bool:
    """Run one or say why not; false if it failed."""
    if reason := lack(name, options):
        print(f"\n== {name}: skipped: {reason}", flush=True)
        return True
    known = [*KNOWS.get(name, ("pairs", "limit")), *(n for n in NEEDS[name] if n == "weights")]
    given = {option: getattr(options, option) for option in known}
    flags = [part for option, x in given.items() if x for part in (f"--{option}", x)]
    print(f"\n== {name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *flags]).returncode == 0


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
