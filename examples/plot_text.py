"""Text that a classifier was not made for
=======================================

A guard takes what a tokenizer gives. A bag of words learns two topics and is asked about a third.
"""

# %%
# Sentences of eight words: five of a topic, and three that all topics share.
import random
from zlib import crc32

import matplotlib.pyplot as plt
import torch
from torch import nn

import offmap

TOPICS = {
    "weather": "rain wind cloud storm sun snow cold warm front humid sky frost".split(),
    "kitchen": "salt oil pan boil bread onion oven taste butter stir knife dough".split(),
    "law": "court judge appeal clause party claim tort statute plea verdict bench writ".split(),
}
SHARED = "the a of in and is to with today again very it was for".split()


def batch(topics, n, seed):
    draw, labels = random.Random(seed), torch.arange(n) % len(topics)
    words = [draw.sample(TOPICS[topics[i]], 5) + draw.sample(SHARED, 3) for i in labels]
    ids = torch.tensor([[crc32(word.encode()) % 2000 for word in each] for each in words])
    return {"input_ids": ids, "labels": labels}


class BagOfWords(nn.Sequential):
    def forward(self, input_ids):
        return super().forward(input_ids)


# %%
# Train it for a moment, and put a guard around it.
torch.manual_seed(0)
network, known = BagOfWords(nn.EmbeddingBag(2000, 32), nn.Linear(32, 2)), ["weather", "kitchen"]
train, optimizer = batch(known, 600, 0), torch.optim.Adam(network.parameters(), 0.02)
for _ in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(train["input_ids"]), train["labels"]).backward()
    optimizer.step()
guard = offmap.Guard(network, "mahalanobispp", classes=known).fit([train])
guard.calibrate([batch(known, 400, 1)], alarm_rate=0.05)

# %%
# The third topic gets small p-values; those of the known ones are spread evenly, as they must be.
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for topic in TOPICS:
    verdict = guard({"input_ids": batch([topic], 200, 2)["input_ids"]})
    print(f"{topic}: {int(verdict.is_ood.sum())} of 200 sentences are called unknown")
    axis.hist(verdict.p_values.numpy(), bins=20, range=(0, 1), histtype="step", lw=2, label=topic)
axis.set(xlabel="p-value", ylabel="sentences")
axis.legend()
plt.show()
