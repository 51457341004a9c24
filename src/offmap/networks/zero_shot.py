"""An encoder of images and embeddings of texts, as a classifier."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap.errors import ArgumentError, ShapeError


class ZeroShot(nn.Module):
    r"""Classes by their texts: the cosine of an image's embedding with that of each class.

    .. math:: z = \tau\, \frac{T_c}{\|T_c\|}^\top \frac{f(x)}{\|f(x)\|}

    The features are the embeddings of norm 1, and the head is a linear layer without bias that
    holds :math:`\tau\, T_c / \|T_c\|`: every detector for classifiers works on it.

    Args:
        image_encoder: maps images to embeddings ``(n, d)``, alone or as ``image_embeds`` or
            ``pooler_output`` of an object.
        text_embeddings: one row a class, ``(c, d)``, of any norm.
        scale: the factor :math:`\tau`; that of CLIP is 100.
        negatives: embeddings of names far from all classes, ``(m, d)``. They are no classes and
            change no logit; :class:`offmap.NegLabel` reads them.

    Raises:
        ArgumentError: a scale that is not positive, or embeddings that have no direction.
        ShapeError: not two classes or more, one row each.

    References:
        Radford et al., ICML 2021, arXiv:2103.00020.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_embeddings: Tensor,
        scale: float = 100.0,
        negatives: Tensor | None = None,
    ) -> None:
        super().__init__()
        if text_embeddings.ndim != 2 or len(text_embeddings) < 2:
            raise ShapeError(
                "text_embeddings must hold one row a class, of two classes or more; seen shape "
                f"{tuple(text_embeddings.shape)}"
            )
        texts = _check_directions(text_embeddings, "text_embeddings")
        if not 0 < scale < float("inf"):
            raise ArgumentError(f"scale must be a positive number; seen {scale}")
        self.encoder = image_encoder
        self.head = nn.Linear(texts.shape[1], len(texts), bias=False)
        self.head.weight = nn.Parameter(scale * F.normalize(texts))
        kind = next(image_encoder.parameters(), text_embeddings)
        self.head.to(kind)
        rows = None
        if negatives is not None:
            if negatives.ndim != 2 or not len(negatives) or negatives.shape[1] != texts.shape[1]:
                raise ShapeError(
                    f"negatives must hold one row of {texts.shape[1]} numbers a name, as "
                    f"text_embeddings; seen shape {tuple(negatives.shape)}"
                )
            rows = F.normalize(_check_directions(negatives, "negatives")).to(kind)
        self.register_buffer("negatives", rows)

    def forward(self, x: Tensor) -> Float[Tensor, "n c"]:
        """Logits of the classes."""
        output = self.encoder(x)
        for name in ("image_embeds", "pooler_output"):
            if isinstance(value := getattr(output, name, None), Tensor):
                output = value
                break
        width = self.head.in_features
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] != width:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ShapeError(
                f"the encoder must return embeddings of shape (n, {width}), as those of the texts, "
                f"alone or as image_embeds or pooler_output; it returned {shape}"
            )
        return self.head(F.normalize(output))  # type: ignore[no-any-return]


def zero_shot(
    image_encoder: nn.Module,
    text_embeddings: Tensor,
    scale: float = 100.0,
    negatives: Tensor | None = None,
) -> ZeroShot:
    """A network such as CLIP as a classifier: see :class:`ZeroShot`."""
    return ZeroShot(image_encoder, text_embeddings, scale, negatives)


def _check_directions(texts: Tensor, name: str) -> Tensor:
    texts = texts.detach().double()
    norms = texts.norm(dim=1)
    if not (norms.isfinite() & (norms > 0)).all():
        raise ArgumentError(f"{name} holds rows that are zero or not finite")
    return texts
