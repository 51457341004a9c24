"""Inputs of a guard, brought into the form of those that it was fitted on, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs, as_inputs, inputs_in
from offmap._utils.samples import pictures_in, stacked
from offmap._utils.warning import warn_user
from offmap.errors import ArgumentError, DataError, InputsWarning
from offmap.forward import Batched
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.data import OwnTransform
    from offmap.guard._fitted import Fitted
    from offmap.guard.guard import Guard

_BATCH = 256
_VERSION = attrgetter("_version")


def data_to_fit(data: Any) -> Any:
    """Data to fit on; a name or path is loaded."""
    from offmap.data import load  # here: it takes as long as all of a guard

    return load(data) if isinstance(data, str | Path) else data


def data_like_fit(guard: Fitted, data: Any) -> Any:
    """Data for a fitted guard; of a name or path, images are made as those of the fit were.

    Labels with names become indices of the guard's classes.

    Warns:
        InputsWarning: a set whose images were resized in another way than those of the fit.

    Raises:
        ArgumentError: the images are made by another function than those of the fit.
    """
    if isinstance(data, str | Path):
        from offmap.data import load

        check_same_transform(None, guard.input_transform)
        options: dict[str, Any] = {}
        if _takes_pictures(guard):
            channels, height, width = image_shape(guard)
            options = {"size": (height, width), "channels": channels, "resize": guard.input_resize}
        return in_classes(load(data, **options), guard.classes)
    if isinstance(data, Batched):
        _check_preprocessing(guard, data)
    return in_classes(data, guard.classes)


def in_classes(data: Any, names: Sequence[str]) -> Any:
    """The same set with labels as indices of these classes, where its own are some of them.

    A folder that lacks a class gives those after it other indices.
    """
    own = tuple(getattr(data, "classes", None) or ()) if isinstance(data, Batched) else ()
    if not own or own == tuple(names) or not set(own) <= set(names):
        return data
    return data if getattr(data, "labels", None) is None else data.with_classes(names)


def _takes_pictures(guard: Fitted) -> bool:
    """Whether it was fitted on images of a size and channels that files can be brought to."""
    shape = guard.input_shape
    return shape is not None and len(shape) == 3 and shape[0] in (1, 3)


def _check_preprocessing(guard: Fitted, data: Any) -> None:
    own, resize = getattr(data, "own", None), getattr(data, "resize", None)
    if own is None and resize is None:  # images as given
        return
    check_same_transform(own, guard.input_transform)
    fitted = guard.input_shape is not None
    if fitted and own is None and resize != guard.input_resize:
        warn_user(
            f"this guard was fitted on images made by resize={guard.input_resize!r}, and those of "
            f"{getattr(data, 'name', 'this set')} were made by {resize!r}: give "
            f"resize={guard.input_resize!r} to data.load, also for images of that size already",
            InputsWarning,
        )


def is_many(inputs: Any) -> bool:
    """Whether it is a set, a folder or a file, and not one batch."""
    if isinstance(inputs, Tensor):  # first, as most inputs are tensors
        return False
    return isinstance(inputs, str | Path | Batched)


def verdict_on_all(guard: Guard, inputs: Any) -> Verdict:
    """The verdict on every sample of a set, or on every image of a folder, file or pattern."""
    if isinstance(inputs, Batched):
        _check_preprocessing(guard, inputs)
        passing = guard.passing(inputs, "judge", _BATCH, False, strict=False)
        verdicts = [guard.judge(acts) for acts, _ in passing]
    else:
        from offmap.data import Skipped, read_images

        check_same_transform(None, guard.input_transform)
        images = read_images([str(inputs)], image_shape(guard), resize=guard.input_resize)
        verdicts, skipped = [], 0
        while batch := list(islice(images, _BATCH)):
            samples = [(name, x) for name, x in batch if not isinstance(x, Skipped)]
            skipped += len(batch) - len(samples)
            if samples:
                verdict = guard.forward(stacked([x for _, x in samples]))
                verdicts.append(verdict.named(tuple(name for name, _ in samples)))
        if skipped:
            words = f"{inputs}: {skipped} files cannot be read and have no verdict"
            warn_user(words, InputsWarning)
    if not verdicts:
        raise DataError(f"{inputs!r}: there are no samples")
    return Verdict.joined(verdicts)


def image_shape(guard: Fitted) -> tuple[int, int, int]:
    """Channels, height and width of the images that a guard takes.

    Raises:
        ArgumentError: it was fitted on no images.
    """
    if guard.input_shape is None or len(guard.input_shape) != 3:
        raise ArgumentError(
            f"the guard does not know the size of its images, as it was fitted on inputs of shape "
            f"{guard.input_shape}: give shape (c, h, w), or batches of images"
        )
    channels, height, width = guard.input_shape
    return channels, height, width


def as_batch(guard: Guard, inputs: Any) -> Inputs:
    """Inputs as one batch, a single sample as a batch of one; pictures are made as in the fit."""
    shape = guard.input_shape
    x = inputs if isinstance(inputs, Tensor) else _as_tensors(guard, inputs)
    if not isinstance(x, Tensor) or shape is None or tuple(x.shape[1:]) == tuple(shape):
        return x
    if tuple(x.shape) == tuple(shape):
        return x[None]
    if x.dtype == torch.uint8 and tuple(x.shape) == (*shape[1:], *shape[:1]):
        return x.movedim(-1, 0)[None]  # one picture as an array, channels last
    if x.ndim < len(shape) + 1:
        raise DataError(
            f"inputs of shape {tuple(x.shape)} have no axis of samples: the guard was fitted on "
            f"batches of shape (n, {', '.join(map(str, shape))})"
        )
    if x.ndim > 3:
        warn_user(
            f"this guard was fitted on images of {tuple(shape)}, and these are "
            f"{tuple(x.shape[1:])}: scores of another size mean something else",
            InputsWarning,
        )
    return x


def _as_tensors(guard: Guard, inputs: Any) -> Inputs:
    inputs = inputs_in(inputs, guard.probe.takes)
    pictures = pictures_in(inputs)
    if not pictures or not _takes_pictures(guard):
        return as_inputs(inputs)
    from offmap.data import Skipped, decoded

    check_same_transform(None, guard.input_transform)
    items = ((f"picture {i}", picture) for i, picture in enumerate(pictures))
    images: list[Tensor] = []
    for _, x in decoded(items, image_shape(guard), resize=guard.input_resize):
        if isinstance(x, Skipped):
            raise DataError(f"{x.path} cannot be read: {x.reason}")
        images.append(x)
    return stacked(images)


def check_same_transform(own: OwnTransform | None, expected: tuple[str, str] | None) -> None:
    """Refuse images made by another function than those that a guard was fitted on."""
    if (None if own is None else own.id) == expected:
        return
    if expected is None:
        raise ArgumentError(f"this guard was fitted without the transform {own}: leave it out")
    if own is None:
        raise ArgumentError(
            f"this guard was fitted on images made by the transform {expected[0]}: give it by "
            f"transform=, as file.py:{expected[0]}"
        )
    raise ArgumentError(
        f"this guard was fitted on images made by the transform {expected[0]} (sha256 of its file "
        f"{expected[1][:16]}); {own} is another, or has been changed: fit the guard anew"
    )


class WeightsWatch:
    """Tells whether a network's tensors were changed or replaced since they were last accepted.

    Torch counts the changes of each tensor, and reading the counts takes microseconds. So does
    comparing which objects the modules hold: a checkpoint (``assign=True``), an adapter or another
    head replaces some. Torch does not count changes through ``.data``, so those are not seen; a
    digest of the weights, which takes milliseconds and more, sees them.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.accept()

    def _fingerprint(self) -> tuple[int, int]:
        members = chain.from_iterable(map(dict.values, self._tables))
        # At every call of a guard; in their order, as two layers may have been exchanged.
        return sum(map(_VERSION, self._tensors)), hash(tuple(map(id, members)))

    def changed(self) -> bool:
        """Whether something changed since it was last accepted."""
        return self._accepted != self._fingerprint()

    def accept(self) -> None:
        """Take the network as it is now."""
        network = self._network
        self._modules = list(network.modules())  # kept, so that their ids are not used again
        tables = (table for m in self._modules for table in (m._parameters, m._modules))
        # Those of a network of TorchScript are no dicts, and are made anew at each access.
        self._tables: list[dict[str, Any]] = [
            table for table in tables if isinstance(table, dict) and table
        ]
        tensors = dict(chain(network.named_parameters(), network.named_buffers()))
        # Without the counters of BatchNorm, which nothing reads in evaluation mode, and without
        # what was made in inference mode, whose changes torch does not count.
        self._tensors = [
            x
            for name, x in tensors.items()
            if not name.endswith("num_batches_tracked") and not torch.is_inference(x)
        ]
        self._accepted = self._fingerprint()
