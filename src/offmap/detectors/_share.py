"""Which calibration samples to learn on: decided by their keys, not by their batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from offmap._utils.arguments import number

LEARN_SHARE = 0.2


def to_learn_on(
    keys: Sequence[str], share: float = LEARN_SHARE, *, seed: int = 0
) -> Bool[Tensor, " n"]:
    """Whether each sample is one to learn on; the others are for the threshold.

    A hash of seed and key decides, so about ``share`` of the samples are, whatever their order and
    their batches.

    Args:
        keys: of the samples: ``keys`` of :class:`offmap.Activations`.
        share: in (0, 1).
        seed: another seed, other samples.

    Raises:
        ArgumentError: the share is not in (0, 1).

    >>> to_learn_on(["a.png", "b.png", "c.png"], 0.5).tolist()
    [True, True, True]
    """
    share = number("share", share, above=0, below=1)
    texts = (f"{seed}:{key}".encode("utf-8", "surrogateescape") for key in keys)
    digests = (hashlib.blake2b(text, digest_size=7).digest() for text in texts)
    uniform = (int.from_bytes(digest, "big") / 2**56 for digest in digests)  # in [0, 1)
    return torch.tensor([u < share for u in uniform], dtype=torch.bool, device="cpu")
