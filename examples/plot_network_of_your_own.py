"""A network of your own, or of timm
=================================

Any ``torch.nn.Module`` that maps images to logits can be guarded; its code is not touched. The
guard finds the last linear layer on the first batch, by what it computes and not by its name.
"""

# %%
# A plain network, trained by a plain loop. One of timm comes by name instead:
# ``offmap.networks.build("timm:resnet18.a1_in1k")``, with its normalisation from
# ``offmap.forward.preprocessing_of(network)``; all below is the same for it.
import matplotlib.pyplot as plt
import torch
from torch import nn

import offmap
from offmap import demo

torch.manual_seed(0)
sets = demo.digits_data()
network = nn.Sequential(
    nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8)
)
optimizer = torch.optim.Adam(network.parameters(), 2e-3)
for _ in range(15):
    for images, labels in sets.train.batches(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(demo.NORMALIZATION(images)), labels).backward()
        optimizer.step()

# %%
# The guard runs each training image through it once, and says what it found and learned.
guard = offmap.Guard(network, "mahalanobispp", normalization=demo.NORMALIZATION)
guard.fit(sets.train).calibrate(sets.calibration, alarm_rate=0.05)
print(f"The head is the layer {guard.probe.head_name!r}.")
print(guard.explain())

# %%
# The threshold was set by known digits alone; the faces had no part in it.
faces = sets.ood["far"]["faces"]
print(guard.check(sets.test))
print(guard.check(faces, ood=True))
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for name, images in (("digits, 0 to 7", sets.test), ("faces", faces)):
    scores = guard(images).scores.clamp(max=1e4)  # the farthest faces are a hundred times farther
    axis.hist(scores.numpy(), bins=torch.logspace(1, 4, 50).tolist(), alpha=0.6, label=name)
axis.axvline(guard.calibration.threshold, color="black", ls="--", lw=1, label="threshold")
axis.set(xscale="log", xlabel="score: higher is more OOD", ylabel="samples")
figure.legend(loc="outside lower center", ncols=3)
plt.show()
