"""Maximum concept matching."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import positive
from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._directions import directions
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest
from offmap.errors import DegenerateError


@register("mcm")
class MCM(Detector):
    r"""One minus the maximum softmax probability of cosines between image and class names.

    .. math:: s(h) = 1 - \max_c \mathrm{softmax}(\cos(h, W) / T)_c

    with the rows of the head's weight :math:`W` the embeddings of the names, as
    :class:`offmap.networks.ZeroShot` has them. Of any other classifier it is the cosine with the
    rows of its head; a bias is not read. It is not :class:`MSP` of the network: the logits of CLIP
    are a hundred times the cosines, which is :math:`T = 0.01`.

    Args:
        temperature: divides the cosines; positive.

    Attributes:
        names_: rows of the weight, of norm 1, ``(c, d)``.

    Raises:
        DegenerateError: in binding, if all rows of the weight are one direction.

    References:
        Ming et al., NeurIPS 2022, arXiv:2211.13445; 1 is the temperature of the published
        code. pytorch-ood multiplies the cosines by 100 instead.
    """

    needs = Needs.FEATURES | Needs.HEAD
    year = 2022
    suits = "zero-shot networks of images and texts"
    names_: Tensor

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def bind(self, head: Head) -> None:
        names = directions(head.weight)
        if len(names) > 1 and bool((names == names[0]).all()):
            raise DegenerateError(
                f"{self!r}: the {len(names)} rows of the head's weight are one direction, so every "
                "sample scores alike: give the embeddings of different names"
            )
        self.set_buffers(names_=names)

    def cosines(self, acts: Activations) -> Float64[Tensor, "n c"]:
        """Cosines of the features with the rows of the weight."""
        return directions(acts.features) @ self.names_.T

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return log_rest(self.cosines(acts) / self.temperature).exp()

    def summary(self) -> str:
        return f"directions of {len(self.names_)} class names"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * features
