"""Clients of a served guard that check every answer, and the process that they ask."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor

import offmap
from offmap.guard import Certified, Monitor

_TOLERANCE = 1e-4  # of scores, relative: the network's batches are of several sizes


class Served:
    """``offmap serve`` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "offmap", "serve", "guard", "--port", "0", *options]
        command += ["--monitor-state", "monitor", "--device", "cpu"]
        self.folder = folder
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.split()[-1].rpartition(":")[2])
        urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=120).read()

    def resident(self) -> int:
        """Resident memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmRSS")) // 1024

    def processor(self) -> float:
        """Seconds of the processor so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, sent: signal.Signals) -> int:
        """Send a signal, and wait."""
        self.process.send_signal(sent)
        return self.process.wait(120)

    def monitor(self) -> Monitor:
        """The state that it keeps."""
        certified = Certified.read(self.folder / "guard")
        return Monitor.load(self.folder / "monitor" / f"{certified.guard}-0.json")


@dataclass
class Tally:
    """What clients were answered."""

    good: int = 0
    refused: int = 0
    lost: int = 0  # connections that ended without an answer
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Load:
    """Requests of some images each, and what the bare guard says of them.

    Args:
        guard: bare.
        images: uint8, drawn from by each request.
        rows: images of a request.
    """

    def __init__(self, guard: offmap.Guard, images: Tensor, rows: int) -> None:
        self.rows, self._count = rows, len(images)
        self._content = [image.numpy().tobytes() for image in images]
        verdict = guard(images)
        self._label = verdict.labels.tolist()
        self._score, self._p = verdict.scores.tolist(), verdict.p_values.tolist()
        self._shape = [rows, *images.shape[1:]]
        self._near = 2 / (guard.calibration.scores_.shape[1] + 1)

    def request(self, name: str) -> tuple[list[int], bytes]:
        """Which images, and the bytes of a request."""
        chosen = random.sample(range(self._count), self.rows)
        content = b"".join(self._content[i] for i in chosen)
        tensor = {"name": "images", "datatype": "UINT8", "shape": self._shape}
        tensor["parameters"] = {"binary_data_size": len(content)}
        head = json.dumps({"id": name, "inputs": [tensor]}).encode()
        start = (
            "POST /v2/models/guard/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\n"
            f"Content-Length: {len(head) + len(content)}\r\n\r\n"
        )
        return chosen, start.encode() + head + content

    def wrong(self, name: str, chosen: list[int], body: bytes) -> str | None:
        """What is wrong with an answer, if something is."""
        said = json.loads(body)
        out = {each["name"]: each["data"] for each in said["outputs"]}
        if said["id"] != name:
            return f"asked {name}, answered {said['id']}"
        for i, label, score, p in zip(
            chosen, out["label"], out["score"], out["p_value"], strict=True
        ):
            alike = math.isclose(score, self._score[i], rel_tol=_TOLERANCE, abs_tol=1e-5)
            if label != self._label[i] or not alike or abs(p - self._p[i]) > self._near:
                return f"image {i}: {label} {score} {p}, not {self._label[i]} {self._score[i]}"
        return None


async def ask(port: int, load: Load, clients: int, until: Callable[[Tally], bool]) -> Tally:
    """Clients that ask one request after another until it is enough, or the service has gone."""
    tally = Tally()
    await asyncio.gather(*(_client(port, load, n, until, tally) for n in range(clients)))
    return tally


async def _client(
    port: int, load: Load, number: int, until: Callable[[Tally], bool], tally: Tally
) -> None:
    sent = 0
    while not until(tally):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        try:
            while not until(tally):
                name = f"{number}-{(sent := sent + 1)}"
                chosen, request = load.request(name)
                start = time.perf_counter()
                writer.write(request)
                status, body = await _response(reader)
                tally.seconds.append(time.perf_counter() - start)
                _note(tally, load, name, chosen, status, body)
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            tally.lost += 1
            return
        finally:
            writer.close()


async def _response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(x.partition(b":")[2]) for x in lines if x.startswith(b"content-length"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


def _note(tally: Tally, load: Load, name: str, chosen: list[int], status: int, body: bytes) -> None:
    if status != 200:
        tally.refused += 1
    elif (wrong := load.wrong(name, chosen, body)) is not None:
        tally.wrong.append(wrong)
    else:
        tally.good += 1


def timed(seconds: float) -> Callable[[Tally], bool]:
    """Until so many seconds are over."""
    end = time.monotonic() + seconds
    return lambda tally: time.monotonic() > end


def guard_of(folder: Path) -> tuple[offmap.Guard, Tensor]:
    """ResNet-20 with random weights, guarded and saved; and images to ask about."""
    torch.manual_seed(0)
    network = offmap.networks.build("resnet20").eval()
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8)
    guard = offmap.Guard(
        network, "vim", normalization=offmap.Normalization((0.5,) * 3, (0.25,) * 3)
    )
    guard.fit([(images[:512], torch.arange(512) % 10)], show_progress=False)
    guard.calibrate([(images[512:1536], torch.arange(1024) % 10)], show_progress=False)
    guard.model = "resnet20"
    guard.save(folder / "guard", weights=True)
    return guard, images[1536:]
