"""Images by name or path, noise, and the sets inside the wheels."""

from __future__ import annotations

from offmap.data._corruptions import CORRUPTIONS, corrupted
from offmap.data._decode import Skipped, limit_decoding
from offmap.data._embedded import EMBEDDED, embedded
from offmap.data._features import FEATURES, load_features
from offmap.data._image_set import ImageSet
from offmap.data._joined_set import JoinedSet, join
from offmap.data._left_out import skipped_in_words
from offmap.data._load import load, load_like
from offmap.data._named_sets import NamedSet, channel_statistics, named_sets
from offmap.data._names import is_local
from offmap.data._noise import NOISE_KINDS, noise, patch_shuffle
from offmap.data._overlap import overlap
from offmap.data._own_transform import OwnTransform
from offmap.data._read_bytes import read_image
from offmap.data._read_images import check_inputs, decoded, read_images
from offmap.data._read_rows import as_features, groups_of, padded, read_rows
from offmap.data._spans import Span, behind, blocks_of, spans_of
from offmap.data._streamed_set import StreamedSet
from offmap.data.types import BatchedSet, Batches, Inputs, check_resize

__all__ = [
    "CORRUPTIONS",
    "EMBEDDED",
    "FEATURES",
    "NOISE_KINDS",
    "BatchedSet",
    "Batches",
    "ImageSet",
    "Inputs",
    "JoinedSet",
    "NamedSet",
    "OwnTransform",
    "Skipped",
    "Span",
    "StreamedSet",
    "as_features",
    "behind",
    "blocks_of",
    "channel_statistics",
    "check_inputs",
    "check_resize",
    "corrupted",
    "decoded",
    "embedded",
    "groups_of",
    "is_local",
    "join",
    "limit_decoding",
    "load",
    "load_features",
    "load_like",
    "named_sets",
    "noise",
    "overlap",
    "padded",
    "patch_shuffle",
    "read_image",
    "read_images",
    "read_rows",
    "skipped_in_words",
    "spans_of",
]
