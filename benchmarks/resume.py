"""Training runs that are killed at random moments and resumed, against one that is not.

``python -m benchmarks.resume [--trials 20] [--kills 2]``

Each trial starts ``offmap train`` on embedded digits, kills it with SIGKILL ``--kills`` times after
a random delay, resumes it each time, and compares the final weights bit for bit. After each kill
every file of the folder is opened. Bar: all equal, no torn file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

CHANGES = (
    *("network=digits_cnn(classes=10)", "data=embedded:digits", "normalization=0.305/0.376"),
    *("crop=1", "flip=true", "epochs=12", "batch_size=64", "ema=0.9", "precision=fp32"),
    *("optimizer=adam", "lr=0.002", "pixmix={}"),
)


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "offmap", "train", "--recipe", "plain", "--resume"]
    command += ["--out", str(out), "--set", *CHANGES, "validation=null"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def duration(out: Path) -> float:
    """Seconds that a whole run takes, to choose the moments within it."""
    began = time.perf_counter()
    if start(out).wait():
        raise SystemExit("the uninterrupted run failed")
    return time.perf_counter() - began


def torn(out: Path) -> list[str]:
    """Files that cannot be read; temporary ones, whose names begin with a dot, do not count."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".ckpt": lambda p: torch.load(p, weights_only=True),
        ".safetensors": load_file,
        ".json": lambda p: json.loads(p.read_text()),
        ".csv": lambda p: list(csv.DictReader(p.read_text().splitlines())),
    }
    bad = []
    for path in out.glob("[!.]*") if out.is_dir() else ():
        try:
            if path.suffix in readers:
                readers[path.suffix](path)
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


def trial(out: Path, kills: int, longest: float) -> tuple[bool, list[str]]:
    found: list[str] = []
    for _ in range(kills):
        running = start(out)
        time.sleep(random.uniform(0.2, 1.0) * longest)
        running.send_signal(signal.SIGKILL)
        running.wait()
        found += torn(out)
    return start(out).wait() == 0, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    equal = 0
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        longest = duration(Path(folder) / "whole")
        expected = (Path(folder) / "whole" / "weights.safetensors").read_bytes()
        for i in range(options.trials):
            out = Path(folder) / str(i)
            ended, found = trial(out, options.kills, longest)
            same = ended and (out / "weights.safetensors").read_bytes() == expected
            equal, bad = equal + same, bad + found
            print(f"trial {i + 1}: {'equal bits' if same else 'DIFFERENT'}", flush=True)
    print(f"{equal} of {options.trials} equal, {len(bad)} torn files; bar: all, 0")


if __name__ == "__main__":
    main()
