"""Ensembles that disagree on images without meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap.activations import HasMembers
from offmap.errors import ArgumentError
from offmap.training.batch import Batch, Outcome, member_logits

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def disagreement(
    network: nn.Module, batch: Batch, *, alpha: float = 2.0, ordinary_alpha: float = 0.8
) -> Outcome:
    r"""Cross entropy of each member of an ensemble, less the mutual information of contrast images.

    .. math:: \tfrac1M \sum_m \mathrm{CE}_m - \alpha \, \mathrm{mean}_x I(x)

    Each member learns from its own images; all of them see the same contrast images. Those pass
    batch normalisation as at inference: they use the running statistics and leave them as they are,
    because statistics shared by both kinds of images fit neither. In a batch whose contrast images
    are ordinary ones, scale and shift of batch normalisation learn nothing from them.

    Args:
        network: an ensemble.
        batch: with contrast images, unless their weight is 0.
        alpha: weight of the mutual information.
        ordinary_alpha: its weight where the contrast images are ordinary training images.

    Raises:
        ArgumentError: the network is no ensemble, or there are no contrast images.
    """
    if not isinstance(network, HasMembers):
        raise ArgumentError("disagreement needs an ensemble: members to disagree")
    logits = member_logits(network, batch.images)
    loss = F.cross_entropy(logits, batch.labels)
    if weight := ordinary_alpha if batch.ordinary else alpha:
        if batch.contrast is None:
            raise ArgumentError("disagreement needs contrast images: name a kind of them")
        # After the members' own images: backward needs the running statistics as they are then.
        with norms_at_inference(network, affine=not batch.ordinary):
            logits_of_members = [member(batch.contrast).float() for member in network.members]
        loss = loss - weight * mutual_information(logits_of_members).mean()
    return Outcome(loss, logits)


def mutual_information(logits: Sequence[Float[Tensor, "n c"]]) -> Float[Tensor, " n"]:
    r"""The mutual information of the prediction and the member that makes it.

    .. math:: I = H(\bar p) - \tfrac1M \sum_m H(p_m) = \tfrac1M \sum_m \mathrm{KL}(p_m \| \bar p)

    with the mean :math:`\bar p` of the probabilities. It is 0 where all agree, and at most
    :math:`\log M`. The last form is the one computed, in logarithms.
    """
    log_p = torch.stack(list(logits)).log_softmax(2)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - log_mean)).sum(2).mean(0)


@contextmanager
def norms_at_inference(network: nn.Module, *, affine: bool = True) -> Iterator[None]:
    """Batch normalisation by its running statistics, without updating them; gradients pass through.

    All other layers, such as dropout, stay in their mode.

    Args:
        network: with any number of such layers.
        affine: whether scale and shift get gradients from inside.
    """
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    training = [module for module in norms if module.training]
    frozen = [] if affine else [p for m in norms for p in m.parameters() if p.requires_grad]
    try:
        for module in training:
            module.eval()
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.train()
        for parameter in frozen:
            parameter.requires_grad_(True)
