"""What a monitor says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offmap._utils.percent import at_most, percent

if TYPE_CHECKING:
    from offmap.guard.monitor import Monitor


def line(monitor: Monitor) -> str:
    """The state in a line."""
    counts = f"{monitor.samples:,} samples, {monitor.tally.alarms:,} called OOD"
    if monitor.alarm is None:
        return f"{counts}: no more than the calibration set allows"
    return (
        f"{counts}: ALARM at sample {monitor.alarm.sample:,} ({monitor.alarm.time}), change near "
        f"sample {monitor.alarm.change:,}; the share of OOD has exceeded {monitor.ood_share:.0%} "
        f"(if all of it were caught: {monitor.ood_share_if_all_caught:.1%})"
    )


def explained(monitor: Monitor) -> str:
    """What was seen, what it shows, and what that promises."""
    certified, rates = monitor.certified, monitor.rates
    confidence = f"with {percent(1 - monitor.delta)} confidence in its calibration set"
    if len(rates) > 1:
        bet = (
            f"at most {at_most(rates.min())} to {at_most(rates.max())} of ID samples OOD, by "
            f"class, in all {len(rates)} classes {confidence}"
        )
    else:
        of = f" of each of {certified.tests} detectors" if certified.tests > 1 else ""
        bet = (
            f"at most {at_most(rates[0])} of ID samples OOD, {confidence} (threshold at rank "
            f"{certified.ranks[0]:,} of {certified.samples[0]:,} scores{of})"
        )
    rate = f"The guard {certified.guard} calls {bet}."
    alphas = " + ".join(f"{alpha:.2g}" for alpha in monitor.alphas)
    thresholds = len(monitor.thresholds)
    bound = (
        f"A false alarm, ever, has a probability of at most alpha {alphas} + delta "
        f"{thresholds * monitor.delta:.2g} = {percent(monitor.false_alarm_bound, 1)}."
    )
    if thresholds > 1:
        bound += f" The threshold was changed: {thresholds} thresholds have each spent delta."
    return "\n".join([rate, f"{line(monitor)}.", conforming(monitor), bound])


def conforming(monitor: Monitor) -> str:
    """Whether fewer samples are called OOD than can be."""
    if monitor.conforming is not None:
        return (
            f"TOO CONFORMING at sample {monitor.conforming.sample:,} ({monitor.conforming.time}): "
            "fewer samples are called OOD than ID samples like the calibration set's would be."
        )
    if monitor.certified.tests > 1:
        return "Whether too few are called OOD is not told of several detectors."
    if not monitor.certified.distinct:
        return "Whether too few are called OOD is not told, as calibration scores are equal."
    return "No fewer are called OOD than the calibration set allows."
