"""A detector of your own
======================

A detector is a small class: what it learns from a batch, what it makes of the sum, and a score.
Registered, it stands in every list, table and command, and in guards that are saved.
"""

# %%
# The cosine to the nearest class mean. ``collect`` makes a statistic that adds, so that the data
# are read once and may be of any size; ``solve`` keeps what is needed of the sum.
import matplotlib.pyplot as plt
from torch.nn.functional import normalize

import offmap
from offmap import demo
from offmap.detectors import Detector, Needs, Stage, register
from offmap.stats import ClassMeans


@register("cosine-to-mean")
class CosineToMean(Detector):
    """Minus the cosine similarity of the features to the nearest class mean."""

    needs = Needs.LOGITS | Needs.FEATURES
    stages = (Stage(labels=True),)

    def collect(self, stage, acts, labels):
        return ClassMeans.of(acts.features, labels, classes=acts.logits.shape[1])

    def solve(self, stage, stats):
        self.set_buffers(means_=normalize(stats.mean[stats.count > 0]))

    def forward(self, acts):
        return -(normalize(acts.features.double()) @ self.means_.T).amax(1)


# %%
# It is measured beside others, and composes with them.
sets = demo.digits_data()
results = offmap.evaluate(
    demo.shipped(),
    train=sets.train,
    id_test=sets.test,
    calibration=sets.calibration,
    ood=sets.ood,
    detectors=["msp", "cosine-to-mean", "ReAct(CosineToMean())", "mahalanobis"],
    normalization=demo.NORMALIZATION,
)
print(results.table())

# %%
# The scores that the table is made of.
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for name in ("id", "eights", "faces"):
    scores = results.scores["cosine-to-mean"][name]
    axis.hist(scores, bins=40, alpha=0.6, density=True, label=name)
axis.set(xlabel="minus the cosine to the nearest class mean", yticks=[])
axis.legend()
plt.show()
