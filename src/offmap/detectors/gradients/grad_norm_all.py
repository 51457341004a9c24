"""Size of the gradient of the divergence from uniform, with respect to every parameter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.precision import wide
from offmap.activations import Sample
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes
from offmap.errors import NeedsError

_MEMORY = 256 << 20  # of the gradients of a chunk of samples
_CHUNK = 64


@register("gradnormall")
class GradNormAll(Detector):
    r"""Minus the L1 norm of the gradient of the divergence from uniform, over all parameters.

    .. math:: s(x) = -\sum_\theta \left| \frac{\partial}{\partial\theta}
              \mathrm{KL}(u \,\|\, \mathrm{softmax}\, z(x)) \right|

    with :math:`u` uniform over the classes. The paper finds the gradient of the last layer alone
    better, which has a closed form that needs no gradient. A backward pass for each sample, in
    chunks whose gradients take 256 MiB at most.

    Raises:
        NeedsError: in scoring, if the network's parameters are not to be had, or it cannot be
            differentiated sample by sample.

    References:
        Huang, Geng and Li, NeurIPS 2021, arXiv:2110.00218, section 3.2.
    """

    year = 2021
    suits = "convolutional networks whose features come from a ReLU"
    needs = Needs.LOGITS | Needs.INPUTS

    def forward(self, sample: Sample) -> Float[Tensor, " n"]:
        check_classes(sample.acts.logits)
        parameters = {name: p.detach() for name, p in sample.parameters.items()}
        logits_under = sample.logits_under
        if logits_under is None or not parameters:
            raise NeedsError(
                f"{self!r} differentiates with respect to a network's parameters, and here there "
                "are none: use it on one network, outside of shapers"
            )

        if not len(sample):  # which vmap refuses
            return sample.acts.logits.new_zeros(0)

        def loss(values: Mapping[str, Tensor], x: Tensor) -> Tensor:
            z = logits_under(x[None], values)[0]
            return z.logsumexp(0) - z.mean()  # the divergence up to a constant

        def norm(x: Tensor) -> Tensor:
            gradients = torch.func.grad(loss)(parameters, x)
            # On one device: the parameters may be on several.
            sums = [wide(g.abs()).sum().to(x.device) for g in gradients.values()]
            return torch.stack(sums).sum()

        try:
            size = sum(4 * p.numel() for p in parameters.values())
            chunk = min(max(_MEMORY // size, 1), _CHUNK)
            norms: Tensor = torch.func.vmap(norm, chunk_size=chunk)(sample.inputs.detach())
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise NeedsError(
                f"{self!r}: this network cannot be differentiated sample by sample ({reason}): use "
                "a score of the logits or of the last layer"
            ) from error
        return -norms.to(sample.acts.logits.device)
