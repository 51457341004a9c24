"""Images by name or path, noise, and the sets inside the wheels."""

from __future__ import annotations

from offmap.data._decode import Skipped
from offmap.data._embedded import EMBEDDED, embedded
from offmap.data._image_set import ImageSet
from offmap.data._known import KnownSet, channel_statistics, known
from offmap.data._like import load_like
from offmap.data._listing import check_inputs, read_images
from offmap.data._load import load
from offmap.data._names import is_local
from offmap.data._noise import NOISE_KINDS, noise, patch_shuffle
from offmap.data._streamed import StreamedSet

__all__ = [
    "EMBEDDED",
    "NOISE_KINDS",
    "ImageSet",
    "KnownSet",
    "Skipped",
    "StreamedSet",
    "channel_statistics",
    "check_inputs",
    "embedded",
    "is_local",
    "known",
    "load",
    "load_like",
    "noise",
    "patch_shuffle",
    "read_images",
]
