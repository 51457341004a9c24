"""Watch a guard for change
========================

A guard calls some known samples unknown, by design. A monitor tells whether there are more of
these than its calibration set allows: at any time, without labels, and with a bound on the chance
of ever being wrong.
"""

# %%
# A guard over digits from 0 to 7.
import matplotlib.pyplot as plt
import torch

import offmap
from offmap import demo

sets = demo.digits_data()
guard = offmap.Guard(demo.shipped(), "mahalanobispp", normalization=demo.NORMALIZATION)
guard.fit(sets.train).calibrate(sets.calibration, alarm_rate=0.05)

# %%
# A stream: 300 known digits, and then a camera that slips, so that four in ten pictures are others.
known, strange = sets.test.images, sets.ood["far"]["textures"].images
generator = torch.Generator().manual_seed(0)
slipped = torch.rand(60, generator=generator) < 0.4
later = torch.where(slipped[:, None, None, None], strange[:60], known[300:360])
stream = torch.cat([known[:300], later])

# %%
# It bets, sample by sample, that the certified rate is broken. As long as the rate holds, its
# wealth grows twentyfold with a probability of at most 5 %, however long the stream.
monitor = offmap.Monitor(guard)
for images in stream.split(20):
    monitor.update(guard(images))
print(monitor.explain())

# %%
# The alarm names the sample that showed it, and where the change may lie.
samples, wealth = zip(*monitor.path.points, strict=True)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(samples, wealth, label="log wealth")
axis.axhline(torch.tensor(1 / monitor.alpha).log(), color="black", ls="--", lw=1, label="alarm")
axis.axvline(300, color="tab:red", ls=":", label="change")
if monitor.alarm is not None:
    axis.axvline(monitor.alarm.change, color="tab:orange", ls=":", label="estimated change")
axis.set(xlabel="samples", ylabel="log wealth")
axis.legend(fontsize=8)
plt.show()
