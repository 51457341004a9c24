"""Sets at the shape of another, as the other sets of an evaluation must be."""

from __future__ import annotations

from os import PathLike

from offmap.data._image_set import ImageSet
from offmap.data._load import load
from offmap.data._noise import noise
from offmap.data._streamed import StreamedSet

_NOISE_SAMPLES = 2000


def load_like(
    spec: str | PathLike[str],
    like: ImageSet | StreamedSet,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> ImageSet | StreamedSet:
    """Images of the size and channels of another set.

    Args:
        spec: as for :func:`load`; or ``noise:KIND`` for :func:`noise`, 2000 samples of it, or as
            many as ``like`` has where those are fewer.
        like: the set whose shape counts; ``noise:shuffled`` cuts up its images.
        limit: how many at most.
        seed: chooses which, and draws the noise.
    """
    channels, *size = like.shape
    if not isinstance(spec, str) or not spec.startswith("noise:"):
        return load(spec, size=(size[0], size[1]), channels=channels, limit=limit, seed=seed)
    count = min(_NOISE_SAMPLES, len(like), _NOISE_SAMPLES if limit is None else limit)
    kind = spec.removeprefix("noise:")
    if isinstance(like, StreamedSet):
        held = like.take(count, seed).hold() if kind == "shuffled" else None
    else:
        held = like
    return noise(kind, count, like.shape, seed=seed, like=held)
