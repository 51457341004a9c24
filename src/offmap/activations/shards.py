"""Activations on disk: the spool of an unfinished fit, and the cache between runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from offmap._utils.files import atomic, write_json
from offmap.activations.activations import Activations
from offmap.activations.head import Head, Heads
from offmap.errors import StoreError

# A list may hold batches of several sizes, so the size has no name here.
Batch = tuple[Activations, Int64[Tensor, " _"] | None]

_VERSION = 3


class Shards:
    """A folder of activations in safetensors files, written once and read as often as needed.

    A shard is written in full or not at all, and is named by its first sample. So an interrupted
    run keeps its finished shards: :meth:`through` reads them back up to the first one missing, and
    asks its source only for the samples after. Two processes that fill one folder write the same.

    Args:
        folder: where the files are; made if absent.
        shard_bytes: size from which a shard is written. Reading and writing hold one shard.
    """

    def __init__(self, folder: str | Path, *, shard_bytes: int = 16 << 20) -> None:
        self.folder = Path(folder)
        self.shard_bytes = shard_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Shards]:
        """A folder that goes when the block ends."""
        with tempfile.TemporaryDirectory(prefix="offmap-") as folder:
            yield cls(folder)

    @property
    def complete(self) -> bool:
        """Whether the source was read to its end."""
        return self._index.is_file()

    @property
    def head(self) -> Head | Heads | None:
        """The head that was kept beside the activations, or the members' heads, if any."""
        if not (path := self.folder / "head.safetensors").is_file():
            return None
        tensors = _read(path)
        if "members" not in tensors:
            return _head(tensors)
        members = [_under(f"members.{i}.", tensors) for i in range(int(tensors["members"]))]
        return tuple(_head(member) if member else None for member in members)

    @head.setter
    def head(self, head: Head | Heads | None) -> None:
        if isinstance(head, tuple) and any(head):
            tensors = {"members": torch.tensor(len(head), device="cpu")}
            for i, member in enumerate(head):
                tensors |= {f"members.{i}.{name}": x for name, x in _parts(member).items()}
            _write(self.folder / "head.safetensors", tensors)
        elif isinstance(head, Head):
            _write(self.folder / "head.safetensors", _parts(head))

    def __iter__(self) -> Iterator[Batch]:
        """The stored batches, in the order in which they were written."""
        self._samples()  # refuses another version
        start = 0
        while (path := self._shard(start)).is_file():
            tensors = _read(path)
            sizes = tensors.pop("sizes").tolist()
            start += sum(sizes)
            packed = tensors.pop("keys", None)
            keys = iter(() if packed is None else json.loads(packed.numpy().tobytes()))
            pieces = {name: torch.split(x, sizes) for name, x in tensors.items()}
            for i, size in enumerate(sizes):
                batch = {name: piece[i] for name, piece in pieces.items()}
                yield _activations(batch, tuple(islice(keys, size)) or None), batch.get("labels")

    def through(self, source: Callable[[int], Iterable[Batch]]) -> Iterator[Batch]:
        """The stored batches, then those of ``source(samples stored)``, which are stored too.

        Args:
            source: opens the data after that many samples; not called once all are stored.
        """
        stored, samples = 0, self._samples()
        for batch in self:
            stored += len(batch[0])
            yield batch
        if stored == samples:
            return
        self._index.unlink(missing_ok=True)  # a shard was deleted
        with self.writing(stored) as write:
            for acts, labels in source(stored):
                write(acts, labels)
                yield acts, labels

    @contextmanager
    def writing(self, start: int = 0) -> Iterator[Callable[[Activations, Tensor | None], None]]:
        """A function that stores one batch; the folder is complete when the block ends well.

        Args:
            start: samples that are stored already.
        """
        pending: list[Batch] = []
        stored, size = start, 0

        def write(acts: Activations, labels: Tensor | None) -> None:
            nonlocal start, stored, size
            tensors = _packed(acts, labels)
            # Batches may differ in their parts, as where a network runs other layers.
            if pending and tensors.keys() != _packed(*pending[-1]).keys():
                self._flush(start, pending)
                start, size = stored, 0
            pending.append((acts, labels))
            stored += len(acts)
            size += sum(x.nbytes for x in tensors.values())
            if size >= self.shard_bytes:
                self._flush(start, pending)
                start, size = stored, 0

        yield write
        self._flush(start, pending)
        write_json(self._index, {"version": _VERSION, "samples": stored})

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def _shard(self, start: int) -> Path:
        return self.folder / f"{start:010d}.safetensors"

    def _samples(self) -> int | None:
        """The number of samples, if the source was read to its end."""
        if not self.complete:
            return None
        try:
            index = json.loads(self._index.read_text(encoding="utf-8"))
            version, samples = index["version"], int(index["samples"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self._index} is not an index of shards: {error}") from error
        if version != _VERSION:
            raise StoreError(
                f"{self.folder} holds shards of version {version}, and this offmap reads "
                f"{_VERSION}: delete the folder and run again"
            )
        return samples

    def _flush(self, start: int, pending: list[Batch]) -> None:
        sizes = [len(acts) for acts, _ in pending]
        if sum(sizes):
            packed = [_packed(acts, labels) for acts, labels in pending]
            tensors = {name: torch.cat([p[name] for p in packed]).cpu() for name in packed[0]}
            keys = [acts.keys for acts, _ in pending]
            if None not in keys:
                text = json.dumps([key for batch in keys for key in batch or ()]).encode()
                tensors["keys"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            _write(self._shard(start), tensors | {"sizes": torch.tensor(sizes, device="cpu")})
        pending.clear()


def _head(tensors: dict[str, Tensor]) -> Head:
    return Head(tensors["weight"], tensors.get("bias"), tensors.get("negatives"))


def _parts(head: Head | None) -> dict[str, Tensor]:
    tensors = {} if head is None else vars(head)
    return {name: x for name, x in tensors.items() if x is not None}


def _packed(acts: Activations, labels: Tensor | None) -> dict[str, Tensor]:
    tensors = _tensors(acts) | ({} if labels is None else {"labels": labels})
    return {name: x.detach() for name, x in tensors.items()}


def _tensors(acts: Activations) -> dict[str, Tensor]:
    tensors = {f"layers.{name}": x for name, x in acts.layers.items()}
    if acts.has_logits:
        tensors["logits"] = acts.logits
    if acts.has_features:
        tensors["features"] = acts.features
    if acts.classifier_logits is not None:
        tensors["classifier_logits"] = acts.classifier_logits
    for i, member in enumerate(acts.members):
        tensors |= {f"members.{i}.{name}": x for name, x in _tensors(member).items()}
    return tensors


def _activations(tensors: dict[str, Tensor], keys: tuple[str, ...] | None = None) -> Activations:
    members: list[Activations] = []
    while member := _under(f"members.{len(members)}.", tensors):
        members.append(_activations(member))
    return Activations(
        tensors.get("logits"),
        tensors.get("features"),
        _under("layers.", tensors),
        tuple(members),
        tensors.get("classifier_logits"),
        keys,
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic(path, sync=False) as temporary:
        save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} cannot be read ({error}): delete it and run again") from error
