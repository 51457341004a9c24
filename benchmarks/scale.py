"""Ray: two workers against one, one against the plain loop, the driver's memory, and SIGKILL.

``python -m benchmarks.scale [--parts score memory kills] [--limit N] [--pairs 3] [--trials 10]``

* score: ResNet-20 with random weights over PNG images in a Parquet file, one thread each. Bars: two
  workers at least 1.7 times as fast as one, where two cores are free; one worker at most 1.15 of
  the plain loop for a minute of work. Processor seconds stand beside those of the wall, as they
  depend less on what else runs. The start of Ray is told apart; that of the workers counts.
* memory: the peak of the driver while 100,000 and 1,000,000 generated samples of 512 features are
  fitted. Bar: does not grow.
* kills: a worker is killed by SIGKILL at a random moment of each fit and each score, and what comes
  out is compared with one process. Bar: nothing lost, nothing counted twice.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

import offmap
from benchmarks._measure import Pairs, arguments, print_settings
from offmap import networks, scale
from offmap.data import ImageSet, limit_decoding
from offmap.guard.files import score_files

ray: Any = None
TICKS = os.sysconf("SC_CLK_TCK")


class Generated:
    """Features that are made as they are read: the same wherever that is.

    Args:
        n: samples.
        width: of one.
    """

    def __init__(self, n: int, width: int = 512) -> None:
        self.n, self.width = n, width

    def __len__(self) -> int:
        return self.n

    def batches(self, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(start, self.n, batch_size):
            rows = min(batch_size, self.n - first)
            generator = torch.Generator().manual_seed(first)
            labels = torch.randint(10, (rows,), generator=generator)
            x = torch.randn(rows, self.width, generator=generator)
            yield x + labels[:, None] / 4, labels


def linear_guard(detectors: list[str], width: int = 512) -> offmap.Guard:
    torch.manual_seed(0)
    return offmap.Guard(nn.Sequential(nn.Linear(width, 10)), detectors)


def image_guard(folder: Path) -> offmap.Guard:
    torch.manual_seed(0)
    normalization = offmap.Normalization((0.5,) * 3, (0.25,) * 3)
    guard = offmap.Guard(networks.build("resnet20"), "mahalanobis", normalization=normalization)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(3000) % 10
    guard.fit(ImageSet("fit", pixels[:2000], labels[:2000]))
    guard.calibrate(ImageSet("calibrate", pixels[2000:]))
    guard.model = "resnet20"
    guard.save(folder, weights=True)
    return guard


def write_images(path: Path, n: int) -> None:
    """PNG images of smooth colours, a thousand different ones again and again."""
    random_ = np.random.default_rng(0)
    encoded = []
    for _ in range(min(n, 1000)):
        small = Image.fromarray(random_.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(file := BytesIO(), "PNG")
        encoded.append(file.getvalue())
    column = pa.array([encoded[i % len(encoded)] for i in range(n)], pa.binary())
    pq.write_table(pa.table({"image": column}), path, row_group_size=1024)


class Processors:
    """Processor seconds of this process and of all that it starts, of which some end meanwhile."""

    def __enter__(self) -> Processors:
        self.first = self._now()
        self.last = dict(self.first)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()
        self.last |= self._now()
        self.seconds = (sum(self.last.values()) - sum(self.first.values())) / TICKS

    def _look(self) -> None:
        while not self.over.wait(0.1):
            self.last |= self._now()

    def _now(self) -> dict[int, int]:
        found = {}
        for pid in family():
            with suppress(OSError):
                found[pid] = sum(_fields(pid)[11:13])
        return found


def family() -> list[int]:
    """The number of this process, and those of all that come from it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parents[int(folder.name)] = _fields(int(folder.name))[1]
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _fields(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, text[1:])]


def workers() -> list[int]:
    """Processes of ours that are actors of the library."""
    names = ("ray::Learner", "ray::Reader")
    found = []
    for pid in family():
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            found += [pid] if command.startswith(names) else []
    return found


def measure_score(options: Any) -> None:
    torch.set_num_threads(1)
    limit_decoding(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guard = image_guard(folder / "guard")
        write_images(folder / "images.parquet", options.limit or 20_000)

        def plain() -> None:
            score_files(guard, [str(folder / "images.parquet")], folder / "v.jsonl")

        def engine(count: int) -> Callable[[], None]:
            images, out = folder / "images.parquet", folder / "v.jsonl"
            return lambda: _ignore(scale.score(images, folder / "guard", out, workers=count))

        plain_, one, two = (timed(run, options.pairs) for run in (plain, engine(1), engine(2)))
        for _ in range(options.pairs):
            for each in (plain_, one, two):
                each.run()
        for clock in ("wall", "processor"):
            print(f"{clock} seconds, load {os.getloadavg()[0]:.1f}")
            pairs = (("one worker", one), ("plain loop", plain_)), (("one", one), ("two", two))
            for ((a, first), (b, second)), bar in zip(pairs, ("<= 1.15", ">= 1.7"), strict=True):
                seconds = (a, getattr(first, clock)), (b, getattr(second, clock))
                Pairs(*seconds).print(bar if clock == "wall" else "none")


def _ignore(value: object) -> None:
    pass


class timed:  # noqa: N801
    """A function with the seconds that its runs took, on the wall and of all processors."""

    def __init__(self, function: Callable[[], None], pairs: int) -> None:
        self.function = function
        self.wall: list[float] = []
        self.processor: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        with Processors() as processors:
            self.function()
            self.wall.append(time.perf_counter() - start)
        self.processor.append(processors.seconds)


def measure_memory(options: Any) -> None:
    for n in (100_000, 1_000_000):
        n = min(n, options.limit or n)
        command = [sys.executable, "-m", "benchmarks.scale", "--parts", "fit", "--limit", str(n)]
        subprocess.run(command, check=True)


def fit_generated(options: Any) -> None:
    """In a process of its own, whose peak is that of the driver."""
    guard = linear_guard(["mahalanobis", "ViM(dim=64)", "KNN(bank=10000)"])
    guard.fit(Generated(1024), batch_size=256)
    before = peak()
    start = time.perf_counter()
    scale.fit(guard, Generated(options.limit), workers=2, batch_size=256)
    seconds = time.perf_counter() - start
    print(
        f"n = {options.limit:,}: the driver's peak is {peak():.0f} MiB, {peak() - before:.0f}",
        end=" ",
    )
    print(f"above that before; {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Killer:
    """Kills one worker at a random moment of the block."""

    def __init__(self, generator: random.Random, span: float) -> None:
        self.wait = generator.uniform(0, span)
        self.generator = generator
        self.over = threading.Event()
        self.killed = 0

    def __enter__(self) -> Killer:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.over.is_set() and not workers():
            self.over.wait(0.05)
        self.over.wait(self.wait)
        if (found := workers()) and not self.over.is_set():
            os.kill(self.generator.choice(found), signal.SIGKILL)
            self.killed += 1


def measure_kills(options: Any) -> None:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guard = image_guard(folder / "guard")
        images, out = folder / "images.parquet", folder / "v.jsonl"
        write_images(images, options.limit or 4000)
        score_files(guard, [str(images)], out, batch_size=64)
        expected = out.read_text()
        detectors = ["mahalanobis", "ViM(dim=64)", "knn", "ReAct(ViM(dim=64))"]
        features = Generated(25 * (options.limit or 4000))
        one = linear_guard(detectors).fit(features)
        good = killed = 0
        for trial in range(options.trials):
            with Killer(generator, 4) as killer:
                scale.score(images, folder / "guard", out, workers=2, batch_size=64)
            good += same_rows(out.read_text(), expected)
            killed += killer.killed
            print(f"score: {good} of {trial + 1} equal, {killed} workers killed", flush=True)
        good = killed = 0
        for trial in range(options.trials):
            many = linear_guard(detectors)
            with Killer(generator, 8) as killer:
                scale.fit(many, features, workers=2)
            good += same_fit(many, one)
            killed += killer.killed
            print(f"fit: {good} of {trial + 1} equal, {killed} workers killed", flush=True)


def same_rows(text: str, expected: str) -> bool:
    return [json.loads(line) for line in text.splitlines()] == [
        json.loads(line) for line in expected.splitlines()
    ]


def same_fit(a: offmap.Guard, b: offmap.Guard) -> bool:
    """Counts and banks are equal, and scores of new samples to 1e-5."""
    x, _ = next(Generated(10_000).batches(256, 5_120_000 % 10_000))
    with a.probe, b.probe:
        ours, theirs = a.score_activations(a.probe(x)), b.score_activations(b.probe(x))
    banks = [each.bank_ for guard in (a, b) for each in guard.each() if hasattr(each, "bank_")]
    equal = all(torch.equal(*pair) for pair in zip(banks[::2], banks[1::2], strict=True))
    return a.history.read == b.history.read and equal and torch.allclose(ours, theirs, rtol=1e-5)


PARTS = {"score": measure_score, "memory": measure_memory, "kills": measure_kills}


def main() -> None:
    parser = arguments(__doc__, pairs=3)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=[*PARTS, "fit"])
    parser.add_argument("--trials", type=int, default=10, help="kills of each kind (10)")
    options = parser.parse_args()
    print_settings(("ray",), load=f"{os.getloadavg()[0]:.1f}", cores=os.cpu_count())
    if options.parts == ["memory"]:
        measure_memory(options)
        return
    global ray
    ray = scale._session.library()
    start = time.perf_counter()
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    ray.init(address="local", num_cpus=4, object_store_memory=200 << 20, **quiet)
    print(f"Ray starts in {time.perf_counter() - start:.1f} s")
    for part in options.parts:
        print(f"== {part}", flush=True)
        (fit_generated if part == "fit" else PARTS[part])(options)
    ray.shutdown()


if __name__ == "__main__":
    main()
