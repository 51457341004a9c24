"""Images in the body of a request: one by itself, or the files of a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from offmap.data import Skipped, read_image
from offmap.serve.forms import File, files_of_form
from offmap.serve.refusals import Refusal
from offmap.serve.served import Served
from offmap.serve.settings import Settings


def files_of(body: bytearray, content_type: str, limit: int) -> list[File]:
    """The files of a body.

    Args:
        body: all of it.
        content_type: of the request.
        limit: how many there may be.

    Raises:
        Refusal: there are none, or it is no form.
    """
    media = media_of(content_type)
    if media.startswith("image/"):
        files = [("", bytes(body))]
    elif media == "multipart/form-data":
        files = files_of_form(body, content_type, limit)
    else:
        raise Refusal(415, "send images as the files of a form, or one as a body of type image/*")
    if not files or not all(content for _, content in files):
        raise Refusal(400, "there is no image, or an empty one")
    return files


def media_of(content_type: str) -> str:
    """The type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def decoder(file: File, served: Served, settings: Settings) -> Callable[[], Tensor | Skipped]:
    """A function that decodes a file into the image for the guard; for another thread."""
    name, content = file
    channels, height, width = served.reads.shape or (0, 0, 0)

    def decode() -> Tensor | Skipped:
        return read_image(
            content,
            (channels, height, width),
            name=name,
            resize=served.guard.input_resize,
            own=served.own,
            max_pixels=settings.max_pixels,
        )

    return decode


def check_some(images: Sequence[Tensor | Skipped]) -> None:
    """Refuse files of which none can be read.

    Raises:
        Refusal: none can be read; with the reason of the first.
    """
    if all(isinstance(image, Skipped) for image in images):
        first = images[0]
        assert isinstance(first, Skipped)
        raise Refusal(422, f"no image can be read; the first: {first.reason}")
