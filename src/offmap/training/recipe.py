"""How a network is trained, as a declaration of plain values."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from offmap.errors import ArgumentError, UnknownNameError

PRECISIONS = ("fp32", "bf16")
CONTRASTS = ("shuffle", "noise", "outliers")
# Which Python values a field of each type may hold; JSON has whole numbers for 1.0, and lists.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "bool": (bool,),
    "list[float]": (list,),
    "dict[str, Any]": (dict,),
}
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("epochs", "batch_size", "outlier_batch"), (lambda n: n >= 1, "a number from 1 up")
    ),
    **dict.fromkeys(
        ("crop", "rotation", "weight_decay", "ordinary_every"), (lambda x: x >= 0, "from 0 up")
    ),
    **dict.fromkeys(("ema", "momentum"), (lambda x: 0 <= x < 1, "from 0 up and below 1")),
    "lr": (lambda x: x > 0, "above 0"),
    "contrast_grid": (lambda n: n >= 2, "a number from 2 up"),
    "contrast_batch": (lambda n: n is None or n >= 1, "a number from 1 up, or none"),
    "erasing": (lambda x: 0 <= x <= 1, "a share from 0 to 1"),
    "holdout": (lambda x: 0 < x < 1, "a share between 0 and 1"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome of a training, beside the machine.

    Args:
        network: a network of this library, ``package.module:factory`` or ``file.py:factory``.
        start: weights to train on from: ``zoo:NAME``, the folder of a finished run, or a
            checkpoint; without it, those of the seed.
        data: what to train on, by name or path.
        validation: what to watch, by name or path; without it, ``holdout`` of the data.
        holdout: share of the data that is set aside where no validation data is named.
        size: side of the images, if the data's differ.
        resize: how they are brought to it: crop (centre) or squash (all of each).
        channels: 1 or 3, if the data's differ.
        limit: how many of the training images, chosen by the seed.
        normalization: of a known data set, ``MEAN,.../STD,...``, per_image, or none.
        objective: cross_entropy, logit_norm, outlier_exposure, class_anchors or disagreement.
        objective_options: its options.
        outliers: OOD data used in training, by name or path.
        outlier_batch: outliers a step.
        contrast: images on which an ensemble is to disagree: shuffle (patches of training images in
            another order), noise (standard normal in normalised space), or outliers (those named).
        contrast_grid: patches along each side.
        contrast_batch: contrast images a step; without it, ``batch_size``.
        ordinary_every: every so many steps the contrast images are ordinary training images; 0 for
            never.
        crop: pixels of zeros around the image before a crop of its size is taken.
        flip: mirror half of the images.
        rotation: degrees, either way.
        jitter: brightness, contrast, saturation, hue.
        erasing: share of the images of which a rectangle is erased (to the mean colour).
        pixmix: options of :class:`PixMix`, ``mixing_set`` among them; empty for none.
        optimizer: sgd or adam.
        lr: learning rate; the highest of the schedule.
        momentum: of sgd.
        nesterov: of sgd.
        weight_decay: of all parameters.
        schedule: onecycle, cosine, constant, milestones or steps.
        schedule_options: of the schedule, see ``optim``.
        ema: decay of an exponential average of the weights, which is then saved; 0 for none.
        epochs: passes over the data.
        batch_size: images a step, over all devices; for an ensemble, of each member.
        precision: bf16 (autocast) or fp32.
        seed: of weights, order and augmentation.
    """

    network: str
    data: str
    start: str | None = None
    validation: str | None = None
    holdout: float = 0.1
    size: int | None = None
    resize: str = "crop"
    channels: int | None = None
    limit: int | None = None
    normalization: str = "0/1"
    objective: str = "cross_entropy"
    objective_options: dict[str, Any] = field(default_factory=dict)
    outliers: str | None = None
    outlier_batch: int = 256
    contrast: str | None = None
    contrast_grid: int = 8
    contrast_batch: int | None = None
    ordinary_every: int = 0
    crop: int = 0
    flip: bool = False
    rotation: float = 0.0
    jitter: list[float] = field(default_factory=list)
    erasing: float = 0.0
    pixmix: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "onecycle"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    ema: float = 0.0
    epochs: int = 15
    batch_size: int = 128
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        self._make_plain()
        for name, (in_range, words) in _RANGES.items():
            if not in_range(value := getattr(self, name)):
                raise ArgumentError(f"{name} of a recipe must be {words}; seen {value!r}")
        self._check_contrast()
        if self.outliers is not None and not self.reads_outliers:
            raise ArgumentError(f"outliers are named, and {self.objective} makes no use of them")
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision must be fp32 or bf16; seen {self.precision!r}")
        numbers = len(self.jitter) == 4 and all(type(x) in (int, float) for x in self.jitter)
        if self.jitter and not (numbers and min(self.jitter) >= 0 and self.jitter[3] <= 0.5):
            raise ArgumentError(
                "jitter takes brightness, contrast and saturation from 0 up, and a hue from 0 to "
                f"0.5; seen {self.jitter}"
            )

    def _make_plain(self) -> None:
        """Make each value what JSON makes of it: a run compares its recipe with that on disk."""
        for name, value in vars(self).items():
            try:
                plain = json.loads(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError) as error:
                raise ArgumentError(f"{name} of a recipe must be plain values: {error}") from error
            object.__setattr__(self, name, plain)
        _check(vars(self), type(self))

    def _check_contrast(self) -> None:
        if self.contrast not in (None, *CONTRASTS):
            raise ArgumentError(
                f"contrast must be {', '.join(CONTRASTS)} or none; seen {self.contrast!r}"
            )
        disagrees = self.objective == "disagreement"
        if self.contrast is not None and not disagrees:
            raise ArgumentError(f"contrast is set, and {self.objective} makes no use of it")
        if self.contrast is None and disagrees and self.objective_options.get("alpha") != 0:
            raise ArgumentError("disagreement needs contrast images: contrast=shuffle, or noise")
        if self.contrast == "outliers" and self.outliers is None:
            raise ArgumentError("contrast=outliers needs outliers: name a data set for them")

    @property
    def reads_outliers(self) -> bool:
        """Whether the training makes use of outliers."""
        return self.objective == "outlier_exposure" or self.contrast == "outliers"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The recipe of a record, as :meth:`record` or a JSON file gives it."""
        _check(record, cls)
        try:
            return cls(**record)
        except TypeError as error:
            raise ArgumentError(f"this is no complete recipe: {error}") from error

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def but(self, changes: Mapping[str, Any]) -> Self:
        """The recipe with other values; ``pixmix.k`` stands for one option inside a field."""
        values = {name: value for name, value in changes.items() if "." not in name}
        for name, value in changes.items():
            field_name, dot, option = name.partition(".")
            if dot:
                options = values.get(field_name, getattr(self, field_name, None))
                if not isinstance(options, dict):
                    raise UnknownNameError(
                        f"{field_name!r} has no options, so {name!r} cannot be set"
                    )
                values[field_name] = options | {option: value}
        _check(values, type(self))
        return replace(self, **values)


def texts(pairs: Iterable[str], option: str) -> dict[str, str]:
    """The texts of ``key=value`` pairs.

    Raises:
        ArgumentError: one has no ``=``; it names the option.
    """
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ArgumentError(f"{option} takes key=value; seen {pair!r}")
        values[name] = text
    return values


def settings(pairs: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """The values of ``key=value`` pairs: JSON, or else text.

    >>> settings(["epochs=3", "pixmix.k=2", "data=./photos", "flip=true"])
    {'epochs': 3, 'pixmix.k': 2, 'data': './photos', 'flip': True}
    """
    values: dict[str, Any] = {}
    for name, text in texts(pairs, option).items():
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def _check(record: Mapping[str, Any], recipe: type[Recipe]) -> None:
    """Refuse names that a recipe lacks, and values of another type than its fields."""
    kinds = {f.name: str(f.type) for f in fields(recipe)}
    for name, value in record.items():
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownNameError(f"a recipe has no {name!r}; {hint}It has {', '.join(kinds)}")
        allowed = _KINDS[kinds[name]]
        # True is a whole number to Python, and 3 epochs are not True epochs.
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ArgumentError(f"{name} of a recipe must be {kinds[name]}; seen {value!r}")
