"""A worker that runs a network over shards, and returns the activations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from offmap.activations import Batch
from offmap.data import JoinedSet, Skipped, limit_decoding
from offmap.errors import DataError
from offmap.forward import AnyProbe, Seen, as_device, forward
from offmap.scale._session import library, versions
from offmap.scale._shards import Shard, Shards, all_corrupt, finite

_CPU = torch.device("cpu")


@dataclass
class Passed:
    """The activations of a shard.

    Args:
        batches: activations and labels, on the CPU.
        seen: the samples that were read.
        corrupt: images that cannot be read, by their index in the shard.
    """

    batches: list[Batch] = field(default_factory=list)
    seen: Seen = field(default_factory=lambda: Seen(labelled=False))
    corrupt: dict[int, Skipped] = field(default_factory=dict)


class Runner:
    """Runs a network over shards of many sets.

    Args:
        threads: of torch and of decoding.
        device: where to run.
    """

    def __init__(self, threads: int, device: str | None) -> None:
        torch.set_num_threads(threads)
        limit_decoding(threads)
        self.device = as_device(device)
        self.probe: AnyProbe | None = None

    def versions(self) -> dict[str, str]:
        """The versions that results depend on, in this worker."""
        return versions()

    def close(self) -> None:
        """Nothing is kept."""

    def run(self, sent: list[Any], shards: Shards, shard: Shard) -> Passed:
        """The network over a shard.

        Args:
            sent: a reference to a probe that knows its head.
            shards: of the data, without images in memory.
            shard: which.
        """
        if self.probe is None:  # that of this worker comes with its first task
            (probe,) = library().get(sent)
            if self.device is not None:
                probe.asked_device = self.device
            self.probe = probe
        probe, data = self.probe, shards.open(shard)
        passed, size = Passed(), shards.batch_size
        with probe, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                batches = forward(
                    probe,
                    data,
                    batch_size=size,
                    seen=passed.seen,
                    strict=False,  # below, by the index in the whole set
                    show_progress=False,
                )
                for acts, labels in finite(batches, shards.start(shard)):
                    cpu_labels = None if labels is None else labels.cpu()
                    passed.batches.append((acts.to(_CPU), cpu_labels))
            except DataError:
                if not all_corrupt(data):
                    raise
        part = data.parts[0] if isinstance(data, JoinedSet) else data  # a shard is of one part
        passed.corrupt = dict(getattr(part, "corrupt", {}))
        return passed
