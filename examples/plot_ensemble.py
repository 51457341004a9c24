"""An ensemble, and what its members disagree on
=============================================

Several networks say more than one. Where they are unsure together, an image lies between classes;
where they disagree, none of them knows it.
"""

# %%
# Three networks that differ in nothing but their first weights and the order of their data.
import matplotlib.pyplot as plt
import torch
from torch import nn

import offmap
from offmap import demo

sets = demo.digits_data()
pixels = demo.NORMALIZATION(sets.train.images)


def trained(seed):
    """A network from this seed on."""
    torch.manual_seed(seed)
    network = offmap.networks.DigitsCNN(8)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(5):
        for rows in torch.randperm(len(pixels)).split(96):
            optimizer.zero_grad()
            logits = network(pixels[rows])
            nn.functional.cross_entropy(logits, sets.train.labels[rows]).backward()
            optimizer.step()
    return network.eval()


ensemble = offmap.networks.Ensemble([trained(seed) for seed in range(3)])

# %%
# Each member runs each image once, whatever the number of scores.
results = offmap.evaluate(
    ensemble,
    train=sets.train,
    id_test=sets.test,
    ood=sets.ood,
    detectors=["totalentropy", "expectedentropy", "mutualinformation", "MemberMean(ViM())"],
    normalization=demo.NORMALIZATION,
)
print(results.table())

# %%
# The total entropy is the sum of the two.
figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
together, apart = (results.scores[name] for name in ("expectedentropy", "mutualinformation"))
for name in ("textures", "eights", "id"):
    axis.scatter(together[name], apart[name], s=5, alpha=0.5, label=name)
axis.set(xlabel="unsure together: expected entropy", ylabel="disagree: mutual information")
axis.legend()
plt.show()
