"""Why was this one flagged?
=========================

A verdict can be read: what the network would have said, where the score stands among those of the
calibration set, and what made it. A detector that keeps training samples names the nearest.
"""

# %%
# KNN keeps a bank of training features, and the keys of their samples: paths of files, or rows.
import matplotlib.pyplot as plt

import offmap
from offmap import demo

sets = demo.digits_data()
guard = offmap.Guard(demo.shipped(), "KNN(k=5)", normalization=demo.NORMALIZATION)
guard.fit(sets.train).calibrate(sets.calibration, alarm_rate=0.05)

# %%
# A known digit, a nine, which the network was not trained on, and a face.
shown = {
    "a known digit": sets.test.images[0],
    "a nine": sets.ood["near"]["nines"].images[3],
    "a face": sets.ood["far"]["faces"].images[0],
}
for name, image in shown.items():
    print(f"{name} is {guard.explain_sample(image)}\n")

# %%
# The same neighbours as pictures. For the strange ones they are far away, and of several classes.
near = offmap.guard.nearest(guard, list(shown.values()), sets.train, count=3)
figure, axes = plt.subplots(3, 4, figsize=(5, 4), layout="constrained")
for row, (name, image), neighbours in zip(axes, shown.items(), near, strict=True):
    row[0].imshow(image[0].numpy(), cmap="gray")
    row[0].set_title(name, fontsize=8)
    for axis, each in zip(row[1:], neighbours, strict=True):
        axis.imshow(each.image[0].numpy(), cmap="gray")
        axis.set_title(f"at {each.distance:.2f}", fontsize=8)
for axis in axes.flat:
    axis.axis("off")
plt.show()
