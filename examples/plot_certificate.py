"""A certified alarm rate
======================

A guard that is calibrated for 5 % keeps that rate *on average* over calibration sets, and you have
one. With a ``confidence`` the promise is about yours.
"""

# %%
# The two promises, on the same held-out digits.
import matplotlib.pyplot as plt
import torch
from scipy.stats import norm

import offmap
from offmap import demo

sets = demo.digits_data()
guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION).fit(sets.train)
print(guard.calibrate(sets.calibration, 0.05).calibration.promise, end="\n\n")
print(guard.calibrate(sets.calibration, 0.05, confidence=0.95).calibration.promise)

# %%
# What the difference is: four hundred people calibrate, each on 200 samples of their own. The
# scores are standard normal here, so the true rate of each one's threshold is known exactly.
scores = torch.randn(400, 200, 1, generator=torch.Generator().manual_seed(0))
labels = torch.zeros(200, dtype=torch.long)


def true_rates(confidence):
    """The true alarm rate that each of them has from then on."""
    rates = []
    for own in scores:
        calibration = offmap.guard.Calibration("plain", 0.05, confidence=confidence)
        calibration.learn(own, labels, 1)
        rates.append(norm.sf(calibration.threshold))
    return torch.tensor(rates)


average, certified = true_rates(None), true_rates(0.95)
for name, rates in (("on average", average), ("certified", certified)):
    above = (rates > 0.05).double().mean()
    print(f"{name}: mean rate {rates.mean():.2%}, above 5 % for {above:.1%} of them")

# %%
# The certificate costs a lower rate, and with it some OOD samples that are not caught.
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.hist(average, bins=30, alpha=0.6, label="on average")
axis.hist(certified, bins=30, alpha=0.6, label="certified at 95 %")
axis.axvline(0.05, color="black", ls="--", lw=1, label="asked for")
axis.set(xlabel="true alarm rate", ylabel="calibration sets")
axis.legend()
plt.show()
