"""A guard on your own folder of images
====================================

From folders of pictures to an answer for every new one: a class, or "unknown". Of the pictures
that are like the known ones, at most the share that you name is called unknown.
"""

# %%
# Three folders: what the network was trained on, pictures of the same kind that were held back, and
# new ones that nobody has looked at. Digits from 0 to 7 stand in for yours; among the new ones are
# eights and faces, which the network has never seen.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import offmap
from offmap import demo

place = tempfile.TemporaryDirectory()
photos = Path(place.name)
sets = demo.digits_data()
new = [*sets.test.images[:8], *sets.ood["near"]["eights"].images[:4]]
new += sets.ood["far"]["faces"].images[:4]


def write(folder, images, labels=None):
    """One file an image, in a folder for each class where there are labels."""
    for i, image in enumerate(images):
        below = folder if labels is None else folder / str(int(labels[i]))
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(below / f"{i:04}.png")


write(photos / "train", sets.train.images, sets.train.labels)
write(photos / "held", sets.calibration.images, sets.calibration.labels)
write(photos / "new", new)

# %%
# Fit on the first, calibrate on the second, ask about the third.
guard = offmap.Guard(demo.shipped(), normalization=demo.NORMALIZATION)
guard.fit(offmap.data.load(str(photos / "train")))
guard.calibrate(offmap.data.load(str(photos / "held")), alarm_rate=0.05)
unlabelled = offmap.data.load(str(photos / "new"))
verdict = guard(unlabelled)
print(verdict)

# %%
# Each answer knows its file, its class, its p-value and whether it is called unknown.
figure, axes = plt.subplots(2, 8, figsize=(8, 2.6), layout="constrained")
for axis, image, answer in zip(axes.flat, unlabelled.images, verdict, strict=True):
    axis.imshow(image[0].numpy(), cmap="gray")
    axis.set_title(answer.answer, color="tab:red" if answer.is_ood else "black", fontsize=9)
    axis.axis("off")
plt.show()
place.cleanup()
