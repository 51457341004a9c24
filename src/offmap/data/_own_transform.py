"""A user's own way from a picture to what the network is given."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from offmap._utils.imports import imported
from offmap._utils.pictures import upright
from offmap.data.types import Resize
from offmap.errors import ArgumentError


@dataclass(frozen=True)
class OwnTransform:
    """A function from a picture to an array, in the place of channels, size and resizing.

    Args:
        function: from a PIL image, turned upright and in its own mode, to an array or tensor
            ``(c, h, w)`` or ``(h, w)``: uint8, 0 to 255, to be normalised by the forward pass; or
            floats that are normalised already. One image must give one result, in any thread.
        name: what the function is called, ``file.py:NAME`` on a command line.
        sha256: of the file that it stands in, which tells it from others of its name.
    """

    function: Callable[[Image.Image], Any]
    name: str
    sha256: str

    @classmethod
    def of(cls, transform: str | Callable[[Image.Image], Any] | Self) -> Self:
        """A function, or one that ``file.py:NAME`` or ``package.module:NAME`` names.

        Raises:
            UnknownNameError: there is no such file, module or name.
            ArgumentError: it is no function.
        """
        if isinstance(transform, cls):
            return transform
        function: Any = transform
        if isinstance(transform, str):
            source, _, name = transform.rpartition(":")
            function = imported(source, name, transform)
        if not callable(function):
            raise ArgumentError(f"{transform} must be a function of an image; seen {function!r}")
        name = transform if isinstance(transform, str) else getattr(function, "__name__", "")
        module = sys.modules.get(getattr(function, "__module__", ""))
        try:  # the whole file of the function, which may call others in it
            content = Path(str(inspect.getsourcefile(module))).read_bytes()  # type: ignore[arg-type]
        except (OSError, TypeError):
            content = b""
        if not content or not inspect.isroutine(function):  # an object, which has settings
            content += re.sub(r" at 0x[0-9a-f]+", "", repr(function)).encode()
        digest = hashlib.sha256(content).hexdigest()
        return cls(function, name or type(function).__name__, digest)

    @property
    def resize(self) -> Resize:
        """The way to resize images that have none of their own."""
        return "crop"

    @property
    def bytes(self) -> int:
        """The most bytes of a value."""
        return 4

    @property
    def id(self) -> tuple[str, str]:
        """What a guard keeps of it, the name of the function without its file, and the hash."""
        return self.name.rpartition(":")[2], self.sha256

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.sha256[:16]}"

    def pixels(self, image: Image.Image) -> NDArray[Any]:
        """What the function makes of an image, ``(c, h, w)``."""
        result = self.function(upright(image))
        if isinstance(result, torch.Tensor):
            result = result.detach().cpu().numpy()
        array = np.asarray(result)
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3:
            raise ValueError(f"{self.name} gave {array.dtype} of {array.shape}: give (c, h, w)")
        if array.dtype.kind != "f" and array.dtype != np.uint8:
            raise ValueError(f"{self.name} gave {array.dtype}: give uint8, or normalised floats")
        return np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)
