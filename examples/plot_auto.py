"""Which detector? Auto against single methods
===========================================

Every method is strong on some kind of strange input and weak on another. ``auto`` puts six of
them on one scale, so that nothing has to be chosen, and is measured here beside its parts.
"""

# %%
# One call fits and scores any number of detectors; the network sees each sample once.
import matplotlib.pyplot as plt

import offmap
from offmap import demo

sets = demo.digits_data()
names = ["auto", "energy", "cadref", "vim", "mahalanobispp", "ras", "multilayermahalanobis", "msp"]
results = offmap.evaluate(
    demo.shipped(),
    train=sets.train,
    id_test=sets.test,
    calibration=sets.calibration,
    ood=sets.ood,
    detectors=names,
    normalization=demo.NORMALIZATION,
)
print(results.table())

# %%
# The worst set of each method is what you meet in the end: no one tells you beforehand which kind
# of input will come.
ood = [name for group in results.groups.values() for name in group]
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for name in results.detectors:
    row = [results.get(name, each) for each in ood]
    axis.plot(ood, row, "o-", lw=2.5 if name == "auto" else 0.8, label=f"{name}: {min(row):.1%}")
axis.set_ylabel("AUROC")
axis.legend(title="worst set", fontsize=7, title_fontsize=7, loc="lower left")
plt.show()

# %%
# Of means and of worst sets.
best = max(results.detectors, key=results.mean)
worst = {name: min(results.get(name, each) for each in ood) for name in names}
single = max(names[1:], key=worst.get)
print(f"highest mean: {best}; on its worst set auto has {worst['auto']:.2%},")
print(f"and {single}, the best of the single methods there, {worst[single]:.2%}")
