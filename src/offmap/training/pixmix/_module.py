"""PixMix: images mixed with structurally complex pictures, and with themselves."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from offmap._utils.precision import has_float64
from offmap.data import ImageSet, StreamedSet
from offmap.errors import ArgumentError, DataError, ShapeError
from offmap.training.pixmix._augment import STRONGEST, augment
from offmap.training.pixmix._draws import Draws

Images = UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]
Mixed = Float32[Tensor, "n c h w"]
Weights = Float32[Tensor, "n 1 1 1"]

_GREY = (0.299, 0.587, 0.114)  # luma of red, green and blue (ITU-R BT.601)
_DARK = 1e-37  # in place of black, whose negative powers would be infinite


class PixMix(nn.Module):
    """PixMix, on whole batches, each image with random decisions of its own.

    An image ``x``, or with probability 1/2 an augmented ``x``, goes through a number of rounds
    between 0 and ``k``, all equally likely. In each it is mixed with ``y``, at random an augmented
    copy of the clean image or its picture of the mixing set, by one of the two, at random, ::

        add       ((a (2 x - 1) + b (2 y - 1)) + 1) / 2
        multiply  (2 x)^a (2 y)^b / 2

    and cut to [0, 1]. The weights are, with probability 1/2 each, ``a ~ Beta(beta, 1)`` and
    ``b ~ Beta(1, beta)``, or ``a ~ 1 + Beta(1, beta)`` and ``b ~ -Beta(1, beta)``. Augmentations
    and their ranges stand at ``augment`` in ``_augment``; they see 256 levels, to which float
    images are rounded for them.

    Args:
        mixing_set: pictures, uint8: :func:`~offmap.training.fractals.fractals`, or any set, such as
            ``load(folder, size=36)``. Larger ones than the images are cut at random, once for all
            rounds of an image; published is 36 for images of 32. For grey images they become grey.
        k: rounds, at most.
        beta: a higher one mixes less.
        severity: the highest level of an augmentation, up to 10; the lowest is 0.1.

    Raises:
        ArgumentError: ``k``, ``beta`` or ``severity`` outside their ranges.
        DataError: the mixing set is not of uint8 pictures in grey or colour.

    References:
        Hendrycks, Zou, Mazeika, Tang, Li, Song and Steinhardt, CVPR 2022, arXiv:2112.05135.
    """

    pictures: Tensor

    def __init__(
        self,
        mixing_set: ImageSet | StreamedSet,
        *,
        k: int = 4,
        beta: float = 3.0,
        severity: float = 3.0,
    ) -> None:
        super().__init__()
        # A recipe may hold anything: text, or a k of 2.5.
        numbers = type(k) is int and all(type(x) in (int, float) for x in (beta, severity))
        if not numbers or k < 0 or not beta > 0 or not 0.1 <= severity <= STRONGEST:
            raise ArgumentError(
                "k must be a whole number of at least 0, beta a number above 0, and severity "
                f"between 0.1 and 10; seen {k!r}, {beta!r} and {severity!r}"
            )
        pictures = mixing_set.hold() if isinstance(mixing_set, StreamedSet) else mixing_set
        if pictures.images.dtype != torch.uint8 or pictures.shape[0] not in (1, 3):
            raise DataError(
                f"the mixing set {pictures.name} must hold uint8 pictures of 1 or 3 channels; seen "
                f"{pictures.images.dtype} and {pictures.shape[0]}: load it from files, or use "
                "fractals()"
            )
        self.k, self.beta, self.severity = k, beta, severity
        # Not persistent: checkpoints of a training need not carry the pictures.
        self.register_buffer("pictures", pictures.images, persistent=False)

    def forward(self, images: Images, generator: torch.Generator) -> Mixed:
        """Mixed images in [0, 1], float32, not normalised.

        Args:
            images: uint8, or float in [0, 1]; of 1 or 3 channels.
            generator: source of all randomness. One on the CPU gives the same decisions for images
                on any device.

        Raises:
            ShapeError: another number of channels, or images larger than the pictures.
            DataError: float images outside [0, 1], such as normalised ones.
        """
        return self.mix(images, self.draw(images, generator))

    def draw(self, images: Images, generator: torch.Generator) -> Draws:
        """The random decisions for a batch."""
        n, c, h, w = images.shape
        height, width = self.pictures.shape[2:]
        if c not in (1, 3):
            raise ShapeError(f"images must have 1 or 3 channels; seen {c}")
        if h > height or w > width:
            raise ShapeError(
                f"images of {h}x{w} are larger than the pictures of the mixing set, "
                f"{height}x{width}: make or load those at {9 * h // 8}x{9 * w // 8}"
            )
        return Draws.random(
            n,
            self.k,
            beta=self.beta,
            severity=self.severity,
            pictures=len(self.pictures),
            spare=(height - h, width - w),
            generator=generator,
        )

    def mix(self, images: Images, draws: Draws) -> Mixed:
        """A batch mixed as drawn."""
        if not has_float64(images.device):
            return self.mix(images.cpu(), draws).to(images.device)
        draws = draws.to(images.device)
        mixed, pixels = _as_float_and_levels(images)
        slots = torch.arange(self.k + 1, device=images.device)
        mask = draws.augmented & (slots <= draws.rounds[:, None])
        rows, columns = mask.nonzero(as_tuple=True)
        choices = (field[rows, columns] for field in (draws.op, draws.level, draws.negative))
        copies = augment(pixels[rows], *choices)
        # All that may be mixed in: a picture for each image, then the augmented copies.
        pool = torch.cat([self._crop(draws, images), copies])
        place = torch.arange(len(images), device=images.device)[:, None].repeat(1, self.k + 1)
        place[rows, columns] = len(images) + torch.arange(len(rows), device=images.device)
        start = draws.augmented[:, 0].nonzero()[:, 0]
        mixed[start] = pool[place[start, 0]]
        for r in range(self.k):  # round r of image i mixes in pool[place[i, r + 1]]
            active, multiply = draws.rounds > r, draws.multiply[:, r]
            for blend, selected in ((_add, ~multiply), (_multiply, multiply)):
                rows = (active & selected).nonzero()[:, 0]
                a, b = (weight[rows, r].view(-1, 1, 1, 1) for weight in (draws.a, draws.b))
                y = pool[place[rows, r + 1]]
                mixed[rows] = blend(mixed[rows], y, a, b).clamp_(0, 1)
        return mixed

    def _crop(self, draws: Draws, images: Tensor) -> Mixed:
        """The part of its picture that each image is mixed with, in the image's channels."""
        c, h, w = images.shape[1:]
        windows = self.pictures.unfold(2, h, 1).unfold(3, w, 1)
        device = self.pictures.device
        top, left = draws.corner.to(device).unbind(1)
        parts = windows[draws.picture.to(device), :, top, left].to(images.device).float() / 255
        if c < parts.shape[1]:
            grey = torch.tensor(_GREY, device=images.device).view(3, 1, 1)
            return (parts * grey).sum(1, keepdim=True)
        return parts.expand(-1, c, -1, -1)

    def extra_repr(self) -> str:
        return (
            f"{len(self.pictures)} pictures, k={self.k}, beta={self.beta}, severity={self.severity}"
        )


def _as_float_and_levels(images: Images) -> tuple[Mixed, UInt8[Tensor, "n c h w"]]:
    """A copy of the images in [0, 1], and the images in 256 levels."""
    if images.dtype == torch.uint8:
        return images.float() / 255, images.contiguous()
    low, high = (x.item() for x in images.aminmax())
    if not 0 <= low <= high <= 1:
        raise DataError(
            f"float images must lie in [0, 1]; seen {low:.3g} to {high:.3g}: normalise after PixMix"
        )
    x = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return x, (255 * x).round().to(torch.uint8)


def _add(x: Mixed, y: Mixed, a: Weights, b: Weights) -> Mixed:
    return (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2


def _multiply(x: Mixed, y: Mixed, a: Weights, b: Weights) -> Mixed:
    # Two logarithms and one power cost less than two powers; log 0 = -inf gives 0, as it should.
    return (a * (2 * x).log2() + b * (2 * y).clamp(min=_DARK).log2() - 1).exp2()
