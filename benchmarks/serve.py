"""A served guard under load: ResNet-20 with random weights, 64 clients on the loopback.

``python -m benchmarks.serve [--seconds 60] [--requests 100000] [--pairs 7]``

Measured, each answer against what the bare guard says of the same image: 64 clients that send one
binary image after another (errors, lost and mixed answers, p50 and p99, processor time a request);
requests of 32 binary images against the bare guard on batches of 32, in turn; resident memory over
the requests; SIGTERM under load, where all that was answered must stand in the monitor's state; and
SIGKILL under load with a restart, where the state must be whole and lack a second at most. One
OpenMP thread each. Bars: no error, nothing lost or mixed; >= 0.8 x the bare guard; memory <= 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import offmap
from benchmarks._load import Load, Served, Tally, ask, guard_of, timed
from benchmarks._measure import print_settings, spread
from offmap.errors import OffmapWarning

CLIENTS = 64


def load_of_single_images(served: Served, load: Load, seconds: float) -> None:
    before = served.processor()
    tally = asyncio.run(ask(served.port, load, CLIENTS, timed(seconds)))
    cost = (served.processor() - before) / max(tally.good, 1)
    print(
        f"{CLIENTS} clients, {seconds:g} s: {tally.good:,} answers ({tally.good / seconds:,.0f} a "
        f"second), {tally.refused} refused, {tally.lost} lost, {len(tally.wrong)} wrong; p50 "
        f"{tally.quantile(0.5):.1f} ms, p99 {tally.quantile(0.99):.1f} ms; {1000 * cost:.2f} ms of "
        f"the service's processor time a request",
        *tally.wrong[:3],
        flush=True,
    )


def against_the_bare_guard(
    served: Served, guard: offmap.Guard, images: Tensor, pairs: int, seconds: float
) -> None:
    """Images a second over HTTP, to those of the bare guard; the clients' work beside it."""
    load = Load(guard, images, 32)
    ratios: list[float] = []
    costs: list[float] = []
    bare: list[float] = []
    for _ in range(pairs + 1):  # the first warms up
        before = served.processor()
        tally = asyncio.run(ask(served.port, load, 4, timed(seconds)))
        theirs = (served.processor() - before) / tally.good
        count, end, before = 0, time.monotonic() + seconds, time.process_time()
        while time.monotonic() < end:
            guard(images[count % 16 * 32 :][:32])
            count += 1
        ratios.append(tally.good / count)
        bare.append((time.process_time() - before) / count)
        costs.append(bare[-1] / theirs)
        assert not tally.wrong, tally.wrong
    print(f"32 binary images a request / bare guard: {spread(ratios[1:])}; bar >= 0.8")
    cost = 1000 * sum(bare[1:]) / pairs / 32
    print(
        f"  by processor time, bare guard / service: {spread(costs[1:])}; the bare guard takes "
        f"{cost:.2f} ms an image",
        flush=True,
    )


def memory(served: Served, load: Load, requests: int) -> None:
    def enough(many: int) -> Any:
        return lambda tally: tally.good >= many

    asyncio.run(ask(served.port, load, CLIENTS, enough(requests // 10)))
    before = served.resident()
    tally = asyncio.run(ask(served.port, load, CLIENTS, enough(requests)))
    after = served.resident()
    print(
        f"memory over {tally.good:,} requests: {before} to {after} MiB "
        f"({after / before - 1:+.1%}); bar <= 5 %",
        flush=True,
    )


async def _ended_under_load(served: Served, load: Load, sent: signal.Signals) -> Tally:
    asking = asyncio.ensure_future(ask(served.port, load, 16, timed(60)))
    await asyncio.sleep(4)
    await asyncio.to_thread(served.end, sent)
    return await asking


def ends(folder: Path, load: Load) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        served = Served(folder)
        before = kept(served)
        tally = asyncio.run(_ended_under_load(served, load, sent))
        after = kept(served)
        print(
            f"{sent.name} under load: {tally.good:,} answers, {len(tally.wrong)} wrong, "
            f"{tally.lost} connections ended; {after - before:,} samples in the state, "
            f"{tally.good - (after - before):,} fewer than answers",
            flush=True,
        )
        again = Served(folder)
        asyncio.run(ask(again.port, load, 1, lambda tally: tally.good >= 5))
        again.end(signal.SIGTERM)
        print(f"  restarted: {kept(again) - after} more after 5 requests", flush=True)


def kept(served: Served) -> int:
    try:
        return served.monitor().samples
    except OSError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="of load (60)")
    parser.add_argument("--requests", type=int, default=100_000, help="for memory (100000)")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs (7)")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OffmapWarning)
    print_settings(("uvicorn", "starlette"), load=[round(x, 1) for x in os.getloadavg()])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guard, images = guard_of(folder)
        single = Load(guard, images, 1)
        served = Served(folder, "--log", "log")
        load_of_single_images(served, single, options.seconds)
        each = max(1.0, options.seconds / 20)
        against_the_bare_guard(served, guard, images, options.pairs, each)
        if options.requests:
            memory(served, single, options.requests)
        served.end(signal.SIGTERM)
        ends(folder, single)
    print(f"load average: {[round(x, 1) for x in os.getloadavg()]}")


if __name__ == "__main__":
    main()
