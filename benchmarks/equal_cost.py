"""An ensemble against one wider network and MC dropout, at equal cost (study C).

``python -m benchmarks.equal_cost --wide RUN --dropout RUN [--ensemble zoo:vgg16x5-disagreement]``,
folders of ``offmap train``

On CIFAR-10 and the OOD sets of study C: accuracy and AUROC of each, the paired difference in mean
AUROC (DeLong) of each score of the ensemble and its like on the others, and the cost of each: its
parameters, and the time of a bare forward pass against that of the wider network.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import offmap
from benchmarks._measure import interleaved, print_settings
from offmap.activations import HasMembers
from offmap.evaluation.differences import difference_table, mean_auroc_difference
from offmap.networks import mc_dropout
from offmap.studies import disagreement
from offmap.studies._study import Data, sets_of
from offmap.training.trained import Trained

# A score of several networks, and its like for one.
LIKE = {
    "maxprobability": "msp",
    "totalentropy": "entropy",
    **{f"membermean({name})": name for name in ("energy", *disagreement.FEATURES)},
}
BATCH = 256


def systems(options: argparse.Namespace) -> dict[str, Trained]:
    """What is compared; the network with dropout also by itself, as one member is."""
    names = {"ensemble": "disagreement", "wide": "single-wide", "alone": "single-dropout"}
    given = {"ensemble": options.ensemble, "wide": options.wide, "alone": options.dropout}
    opened = {each: disagreement.open_network(names[each], given[each]) for each in names}
    ensemble, alone = opened["ensemble"].network, opened["alone"]
    assert isinstance(ensemble, HasMembers)
    sampled = mc_dropout(alone.network, len(ensemble.members))
    return opened | {"dropout": Trained(sampled, alone.normalization, "MC dropout")}


def data(limit: int | None) -> Data:
    """Those of the study, or some samples of each set."""
    sets = disagreement.cifar_data()
    if limit is None:
        return sets
    ood = {
        group: {name: each.take(limit) for name, each in of.items()}
        for group, of in sets.ood.items()
    }
    return Data(sets.train.take(limit), None, sets.test.take(limit), ood)


def evaluated(trained: Trained, sets: Data) -> offmap.Results:
    several = isinstance(trained.network, HasMembers)
    return offmap.evaluate(
        trained.network,
        train=sets.train,
        id_test=sets.test,
        ood=sets.ood,
        detectors=disagreement.SCORES_OF_MEMBERS if several else list(LIKE.values()),
        on_error="skip",
        normalization=trained.normalization,
    )


def scores(results: offmap.Results) -> dict[str, str]:
    """By the ensemble's name of a score: what these results call it."""
    names = {name: name if name in results.detectors else like for name, like in LIKE.items()}
    return {name: own for name, own in names.items() if own in results.detectors}


def print_differences(results: Mapping[str, offmap.Results], against: str) -> None:
    """Each system minus another, by the scores that both have."""
    base, sets = results[against], sets_of(results[against])
    for name in (name for name in results if name != against):
        own, like = scores(results[name]), scores(base)
        tests = {
            each: mean_auroc_difference(
                results[name].scores[own[each]], base.scores[like[each]], sets
            )
            for each in own
            if each in like
        }
        print(difference_table(f"\n{name} minus {against}: mean AUROC over the sets", tests))


def print_costs(opened: Mapping[str, Trained], pairs: int) -> None:
    """Parameters, and the time of a forward pass of a batch against the wider network's."""
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)

    def forward(network: nn.Module) -> None:
        with torch.inference_mode():
            network(images)

    for name, trained in opened.items():
        count = len({id(p) for p in trained.network.parameters()})
        numbers = sum(p.numel() for p in trained.network.parameters())
        print(f"\n{name}: {numbers:,} parameters in {count} tensors")
        if name != "wide":
            ours = (name, lambda network=trained.network: forward(network))
            interleaved(ours, ("wide", lambda: forward(opened["wide"].network)), pairs).print(
                "none"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wide", required=True, help="a run: one network of the ensemble's cost")
    parser.add_argument("--dropout", required=True, help="a run: one member's, with dropout")
    parser.add_argument("--ensemble", default="zoo:vgg16x5-disagreement")
    parser.add_argument("--pairs", type=int, default=7, help="of timed forward passes (7)")
    parser.add_argument("--limit", type=int, help="samples of each set, for a quick look")
    parser.add_argument("--out", type=Path, help="where the results go, for offmap compare")
    options = parser.parse_args()
    print_settings(threads=torch.get_num_threads())
    opened, sets, results = systems(options), data(options.limit), {}
    for name, trained in opened.items():
        results[name] = evaluated(trained, sets)
        right, images = results[name].accuracy or (0, 1)
        print(f"\n== {name}: {trained.source}; accuracy {right / images:.2%} ==")
        print(results[name].table(), flush=True)
        if options.out:
            results[name].save(options.out / name)
    print_differences(results, "wide")
    print_costs(opened, options.pairs)


if __name__ == "__main__":
    main()
