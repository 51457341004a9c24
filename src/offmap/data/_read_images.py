"""Images by path, with a place for each one that cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain

import torch
from torch import Tensor

from offmap._utils.addresses import Remote, is_address
from offmap._utils.files import expanded
from offmap.data._decode import Item, Skipped, decode_all
from offmap.data._own_transform import OwnTransform
from offmap.data._preprocessing import Preprocessing
from offmap.data._spans import behind, matches, spans_of
from offmap.data.types import Resize


def read_images(
    inputs: Iterable[str],
    shape: tuple[int, int, int],
    *,
    passed: Iterable[str] = (),
    resize: Resize = "crop",
    own: OwnTransform | None = None,
    left_out: list[Skipped] | None = None,
) -> Iterator[tuple[str, Tensor | Skipped]]:
    """Each image with its name, in a fixed order, decoded in threads and in bounded memory.

    Args:
        inputs: image files, folders (searched through, hidden files passed over), glob patterns,
            Parquet files, addresses of such in an object store, as ``s3://bucket/photos``, or ``-``
            for paths on standard input, one a line.
        shape: channels, height and width to bring every image to.
        passed: names of the first images, which are passed over without decoding them.
        resize: "crop" or "squash", as for :func:`load`.
        own: a function that makes the images, in the place of these.
        left_out: a list that gets what lies in the folders and is no image, with the reason.

    Returns:
        Name and image, or name and why it could not be read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
        ArgumentError: the first images are others than those to be passed over.
    """
    spans = behind(spans_of(inputs, [] if left_out is None else left_out), passed)
    items = chain.from_iterable(span.items() for span in spans)
    return decoded(items, shape, resize=resize, own=own)


def decoded(
    items: Iterable[Item],
    shape: tuple[int, int, int],
    *,
    resize: Resize = "crop",
    own: OwnTransform | None = None,
) -> Iterator[tuple[str, Tensor | Skipped]]:
    """Each image brought to one shape, with its name; or why it cannot be.

    Args:
        items: name and content of each: bytes, a path, an array of pixels, a picture, or nothing.
        shape: channels, height and width.
        resize: "crop" or "squash".
        own: a function that makes the images, in the place of these.
    """
    channels, height, width = shape
    preprocessing = own or Preprocessing(channels, (height, width), resize)
    names: deque[str] = deque()

    def noted() -> Iterator[Item]:
        for item in items:
            names.append(item[0])
            yield item

    with closing(decode_all(noted(), preprocessing)) as images:
        for image in images:
            name = names.popleft()
            if isinstance(image, Skipped):
                yield name, image
            elif image.shape != shape:
                yield name, Skipped(name, f"{own} made {image.shape} of it, and not {shape}")
            else:
                yield name, torch.tensor(image, device="cpu")


def check_inputs(inputs: Iterable[str]) -> None:
    """Refuse inputs that :func:`read_images` would not find, before anything is read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
    """
    for spec in inputs:
        if is_address(spec):
            _ = Remote(spec).is_dir  # raises where nothing is there
        elif spec != "-" and not expanded(spec).exists():
            matches(spec)
