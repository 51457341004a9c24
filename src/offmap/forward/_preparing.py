"""From a caller's inputs to those of a network: device, type, normalisation, layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from offmap._utils.columns import IMAGE
from offmap._utils.inputs import Inputs, Prepared
from offmap._utils.warning import warn_user
from offmap.errors import DataError, InputsWarning
from offmap.forward.normalization import Normalization

_IDENTITY = Normalization()
# Floats in [0, 1], up to what resizing overshoots.
_LEAST, _MOST = -1e-3, 1 + 1e-3
# Words in the errors of torch, and of other kernels, about a memory layout.
_OF_LAYOUT = ("view", "contiguous", "stride")


class Preparing:
    """Prepares inputs; the first images show in what form the floats come.

    Integers of one or two axes, such as tokens, stay as they are.

    Args:
        normalization: of uint8 images, and of floats in [0, 1] where it is known.
        channels_last: layout of images; ``None`` for channels last until the network refuses.

    Attributes:
        floats: ``None`` before the first float images; "unit" for those in [0, 1] that are
            normalised here, "normalised" for others.
        pixels: whether there were uint8 images.
    """

    def __init__(
        self, normalization: Callable[[Tensor], Tensor] | None, channels_last: bool | None
    ) -> None:
        self.normalization: Any = normalization or Normalization()
        self.assumed = normalization is None
        self.channels_last = channels_last
        self.floats: str | None = None
        self.pixels = False

    def __call__(
        self, inputs: Inputs | Prepared, device: torch.device, dtype: torch.dtype
    ) -> Inputs:
        """The inputs as the network takes them."""
        if isinstance(inputs, Tensor):  # first, as most are
            if inputs.device != device:
                # Not from a GPU to the CPU, which would read values that have not arrived yet.
                inputs = inputs.to(device, non_blocking=device.type == "cuda")
            return self.laid_out(self._normalised(inputs, dtype))
        if isinstance(inputs, Prepared):
            inputs = inputs.inputs
            if isinstance(inputs, Tensor):
                return self.laid_out(self._typed(inputs.to(device), dtype))
            return {name: self._typed(x.to(device), dtype) for name, x in inputs.items()}
        return {name: self._by_name(name, x.to(device), dtype) for name, x in inputs.items()}

    def _by_name(self, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
        """An image by name as an image alone; other columns without normalisation."""
        if name in IMAGE:
            return self.laid_out(self._normalised(x, dtype))
        return self._typed(x, dtype)

    def _normalised(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if self.floats is None and x.is_floating_point() and x.ndim > 3 and len(x):
            self._look_at(x)
        if x.dtype == torch.bool and x.ndim > 2:  # by name, they are masks
            raise _unknown_range(x)
        if x.dtype == torch.uint8 and x.ndim > 2:
            return self._of_pixels(x, dtype)
        if self.floats == "unit" and x.is_floating_point():
            if len(x) and (x.amin() < _LEAST or x.amax() > _MOST):
                raise DataError(
                    "the first float images lay in [0, 1] and were normalised as uint8 ones are; "
                    f"these reach from {float(x.amin()):.3g} to {float(x.amax()):.3g}: give all in "
                    "one form"
                )
            x = self.normalization.of_unit(x.float())
            return x.to(dtype)
        return self._typed(x, dtype)

    def _of_pixels(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalise uint8 images; the first ones are probably no pixels if they are 0 and 1."""
        if not self.pixels and x.numel() and int(x.amax()) == 1:
            warn_user(
                "the first inputs are uint8, of 0 and 1 alone, and are brought to [0, 1] as pixels "
                "from 0 to 255 are: if they are none, give floats as the network was trained on",
                InputsWarning,
            )
        self.pixels = True
        x = self.normalization(x)
        return x if x.dtype == dtype else x.to(dtype)

    @staticmethod
    def _typed(x: Tensor, dtype: torch.dtype) -> Tensor:
        if x.is_floating_point() or x.dtype == torch.bool:
            return x.to(dtype) if x.is_floating_point() else x
        if x.ndim > 2:
            raise _unknown_range(x)
        return x

    def _look_at(self, x: Tensor) -> None:
        """Tell from the first float images whether they are normalised already."""
        unit = bool(x.amin() >= _LEAST) and bool(x.amax() <= _MOST)
        norm = self.normalization
        changes = isinstance(norm, Normalization) and norm.known and norm != _IDENTITY
        self.floats = "normalised"
        if self.assumed:
            if not unit and not self.pixels:  # after pixels, one image must not change their range
                self.normalization = Normalization(known=False)
        elif unit and changes:
            self.floats = "unit"
            warn_user(
                f"the first float images lie in [0, 1], and {self.normalization} is given: they "
                "are normalised as uint8 images are. If they are normalised already, leave "
                "normalization= out",
                InputsWarning,
            )

    def laid_out(self, x: Tensor) -> Tensor:
        """Images in the memory layout."""
        if x.ndim != 4:
            return x
        if self.channels_last is False:
            return x.contiguous()
        return x.contiguous(memory_format=torch.channels_last)

    def refuses(self, error: Exception) -> bool:
        """Whether the layout may have caused the error; images then have the default layout."""
        text = str(error)
        # An assertion often has no message.
        layout = isinstance(error, AssertionError) or any(word in text for word in _OF_LAYOUT)
        if self.channels_last is not None or not layout:
            return False
        self.channels_last = False
        return True


def _unknown_range(x: Tensor) -> DataError:
    return DataError(
        f"images of {str(x.dtype).removeprefix('torch.')} have no known range: give uint8 from 0 "
        "to 255, or floats as the network was trained on"
    )


def copied(inputs: Inputs | Prepared) -> Inputs | Prepared:
    """A copy of inputs that others read too, for a network that may work in place on its own."""
    if isinstance(inputs, Prepared):
        return Prepared(_copied(inputs.inputs))
    return _copied(inputs)


def _copied(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.clone()
    return {name: x.clone() for name, x in inputs.items()}
