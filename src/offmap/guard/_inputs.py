"""What a guard may be called on, and what it says of inputs unlike those it was fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def first_data(data: Any) -> Any:
    """Data to fit on, that may be given by name or path."""
    from offmap.data import load  # where it is used: it takes as long as all of a guard

    return load(data) if isinstance(data, str | Path) else data


def data_like_fit(guard: Fitted, data: Any) -> Any:
    """Data for a guard that is fitted; of a name or path, images are made as those were.

    Labels with names count in the classes of the guard.

    Warns:
        InputsWarning: a set whose images were brought to their size in another way.

    Raises:
        ArgumentError: another function made the images than those that it was fitted on.
    """
    if isinstance(data, str | Path):
        check_same_transform(None, guard.input_transform)
        return in_classes(_loaded(guard, data), guard.classes)
    if isinstance(data, Batched):
        _check_made_alike(guard, data)
    return in_classes(data, guard.classes)


def in_classes(data: Any, names: Sequence[str]) -> Any:
    """The same set with labels that count in these classes, where its own are some of them.

    A folder without one of the classes counts those behind it from another start.
    """
    own = tuple(getattr(data, "classes", None) or ()) if isinstance(data, Batched) else ()
    if not own or own == tuple(names) or not set(own) <= set(names):
        return data
    return data if getattr(data, "labels", None) is None else data.with_classes(names)


def _loaded(guard: Fitted, spec: str | Path) -> Any:
    from offmap.data import load  # as above

    if not _takes_pictures(guard):
        return load(spec)
    channels, *side = image_shape(guard)
    return load(spec, size=(side[0], side[1]), channels=channels, resize=guard.input_resize)


def _takes_pictures(guard: Fitted) -> bool:
    """Whether what it was fitted on has a size and channels that image files can be brought to."""
    shape = guard.input_shape
    return shape is not None and len(shape) == 3 and shape[0] in (1, 3)


def _check_made_alike(guard: Fitted, data: Any) -> None:
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
    if isinstance(inputs, Tensor):  # first, as most are
        return False
    return isinstance(inputs, str | Path | Batched)


def verdict_on_all(guard: Guard, inputs: Any) -> Verdict:
    """The verdict on every sample of a set, or on every image of a folder, file or pattern."""
    if isinstance(inputs, Batched):
        _check_made_alike(guard, inputs)
        passing = guard.passing(inputs, "judge", _BATCH, False, strict=False)
        verdicts = [guard.judge(acts) for acts, _ in passing]
    else:
        verdicts = list(_on_files(guard, inputs))
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


def _on_files(guard: Guard, path: str | Path) -> Iterator[Verdict]:
    from offmap.data import Skipped, read_images

    check_same_transform(None, guard.input_transform)
    images = read_images([str(path)], image_shape(guard), resize=guard.input_resize)
    skipped = 0
    while batch := list(islice(images, _BATCH)):
        good = [(name, x) for name, x in batch if not isinstance(x, Skipped)]
        skipped += len(batch) - len(good)
        if good:
            verdict = guard.forward(stacked([x for _, x in good]))
            yield verdict.named(tuple(name for name, _ in good))
    if skipped:
        warn_user(f"{path}: {skipped} files cannot be read and have no verdict", InputsWarning)


def as_batch(guard: Guard, inputs: Any) -> Inputs:
    """One batch, where a single sample is one of one; pictures are made as those of the fit."""
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
    made: list[Tensor] = []
    for _, x in decoded(items, image_shape(guard), resize=guard.input_resize):
        if isinstance(x, Skipped):
            raise DataError(f"{x.path} cannot be read: {x.reason}")
        made.append(x)
    return stacked(made)


def check_same_transform(own: OwnTransform | None, meant: tuple[str, str] | None) -> None:
    """Refuse images that another function made than those that a guard was fitted on."""
    seen = None if own is None else own.id
    if seen == meant:
        return
    if meant is None:
        raise ArgumentError(f"this guard was fitted without the transform {own}: leave it out")
    if seen is None:
        raise ArgumentError(
            f"this guard was fitted on images made by the transform {meant[0]}: give it by "
            f"transform=, as file.py:{meant[0]}"
        )
    raise ArgumentError(
        f"this guard was fitted on images made by the transform {meant[0]} (sha256 of its file "
        f"{meant[1][:16]}); {own} is another, or has been changed: fit the guard anew"
    )


class Watched:
    """Tells whether a network's tensors were changed or replaced since they were last looked at.

    Torch counts the changes of each tensor, which is read in microseconds; so are the places of
    parameters and layers, which a checkpoint (``assign=True``), an adapter or another head takes.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.accept()

    def _count(self) -> tuple[int, int]:
        places = chain.from_iterable(map(dict.values, self._places))
        # At every call of a guard; in their order, as two layers may have changed their places.
        return sum(map(_VERSION, self._tensors)), hash(tuple(map(id, places)))

    def changed(self) -> bool:
        """Whether something changed since it was last accepted."""
        return self._mark != self._count()

    def accept(self) -> None:
        """Take the network as it is now."""
        network = self._network
        self._modules = list(network.modules())  # kept, so that no other has its place in memory
        several = (each for m in self._modules for each in (m._parameters, m._modules))
        # Those of a network of TorchScript are no dicts, and are made anew at each look.
        self._places: list[dict[str, Any]] = [
            each for each in several if isinstance(each, dict) and each
        ]
        tensors = dict(chain(network.named_parameters(), network.named_buffers()))
        # Without the counters of BatchNorm, which nothing reads in evaluation mode, and without
        # what was made in inference mode, whose changes torch does not count.
        self._tensors = [
            x
            for name, x in tensors.items()
            if not name.endswith("num_batches_tracked") and not torch.is_inference(x)
        ]
        self._mark = self._count()
