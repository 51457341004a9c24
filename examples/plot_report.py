"""A report to send
================

One HTML file that loads nothing: the verdict, a slider for the alarm rate, tables, curves, and the
samples that are worth looking at. What the slider moves along is drawn here.
"""

# %%
# Any evaluation can be reported, now or later from its folder.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import offmap
from offmap import demo

sets = demo.digits_data()
results = offmap.evaluate(
    demo.shipped(),
    train=sets.train,
    id_test=sets.test,
    calibration=sets.calibration,
    ood=sets.ood,
    detectors=["auto", "vim", "msp"],
    normalization=demo.NORMALIZATION,
)
with tempfile.TemporaryDirectory() as folder:
    page = Path(folder) / "report.html"
    report = offmap.report(results, page, inputs={"id": sets.test, **sets.ood["near"]})
    print(f"{page.name}: {page.stat().st_size / 1024:.0f} KB\n")
print(report.text("verdict"))

# %%
# For a paper there are Markdown, LaTeX and pandas.
print(results.to_markdown("fpr_id_kept"))

# %%
# An alarm rate is a price: how many known images may be called unknown, for how many others caught.
scores = results.scores["auto"]
rates = np.linspace(0.01, 0.3, 60)
thresholds = [offmap.alarm_threshold(scores["calibration"], rate) for rate in rates]
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for name in ("eights", "nines", "faces", "id"):
    caught = [(scores[name] > threshold).mean() for threshold in thresholds]
    axis.plot(rates, caught, "k--" if name == "id" else "-", label=name)
axis.set(xlabel="alarm rate asked for", ylabel="share called unknown")
axis.legend()
plt.show()
