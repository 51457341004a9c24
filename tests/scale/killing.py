"""What ends the process that reads it by SIGKILL, once for each file that arms it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PIXELS: dict[str, str] = {}


def fall(mark: Path) -> None:
    """Be killed, if the mark is there; it is not there afterwards."""
    try:
        mark.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(image: Image.Image) -> Any:
    """The pixels of a picture whose file has a mark beside its folder."""
    name = Path(getattr(image, "filename", "")).resolve()
    fall(name.parent.parent / f"{name.stem}.armed")
    return np.asarray(image)


class Killing:
    """A set, of which the middle of shard ``k``, of sixteen batches, is read at a risk.

    Args:
        data: the set.
        folder: where ``k.armed`` may lie.
    """

    def __init__(self, data: Any, folder: Path) -> None:
        self.data, self.folder = data, folder

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Any]:
        shard = start // (16 * batch_size)
        for i, batch in enumerate(self.data.batches(batch_size, start)):
            if i == 3 and start == shard * 16 * batch_size:
                fall(self.folder / f"{shard}.armed")
            yield batch
