"""A head of class anchors: logits are minus the distances to fixed points."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils.arguments import positive, whole
from offmap.errors import ArgumentError


class AnchorHead(nn.Module):
    r"""A network, a linear layer on its logits, and the distances of that to one anchor a class.

    .. math:: d_j = \| W z + b - a_j \|, \qquad a_j = m e_j

    The logits are :math:`-d`, so that the label is the nearest anchor; there is no linear head.

    Args:
        network: with logits of ``c`` classes, trained or not.
        magnitude: ``m``, how far the anchors lie from the origin.
        classes: ``c``; by default the outputs of the network's last linear layer.

    Attributes:
        anchors: ``(c, c)``, one a row.
        head_layer: tells a probe that the features are the input of ``linear``.

    Raises:
        ArgumentError: ``magnitude`` is not positive, or ``classes`` cannot be known.

    References:
        Miller et al., WACV 2021, arXiv:2004.02434.
    """

    anchors: Tensor
    head_layer = "linear"

    def __init__(
        self, network: nn.Module, *, magnitude: float = 10.0, classes: int | None = None
    ) -> None:
        super().__init__()
        positive("magnitude", magnitude)
        if classes is None:
            layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
            if not layers:
                raise ArgumentError(
                    "the network has no linear layer to take its classes from: give classes="
                )
            classes = layers[-1].out_features
        whole("classes", classes)
        self.network = network
        self.linear = nn.Linear(classes, classes)
        # The identity at first, so that a trained network keeps its predictions.
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("anchors", magnitude * torch.eye(classes))

    def place(self, x: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c"]:
        """The positions of the images among the anchors."""
        return self.linear(self.network(x))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c"]:
        """Minus the distance to each anchor."""
        # A difference and not a product: at an anchor the square root of a product has no gradient.
        gaps = self.place(x).float()[:, None] - self.anchors
        if torch.compiler.is_exporting():
            return -gaps.square().sum(2).sqrt()
        distances: Tensor = torch.linalg.vector_norm(gaps, dim=2)
        return -distances
