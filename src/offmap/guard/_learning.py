"""What a fitted guard learns from held-out data: its threshold, and that of accepted samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from offmap._utils.arguments import number
from offmap.activations import Activations, Sample
from offmap.detectors import LEARN_SHARE, passes
from offmap.errors import ArgumentError, NotFittedError
from offmap.forward import Seen
from offmap.guard._fitted import Fitted
from offmap.guard._inputs import data_like_fit
from offmap.guard._light import Light
from offmap.guard.calibrating import Scored, scored, through
from offmap.guard.calibration import Calibration
from offmap.guard.check import Check, check_of
from offmap.guard.control import control_of, counted
from offmap.guard.extending import check_extends, extended
from offmap.guard.groups import Groups, GroupsOf
from offmap.guard.verdict import Verdict

if TYPE_CHECKING:
    from offmap.guard.spreading import Spreading


class Learning(Fitted):
    """Calibrates, checks and controls; :class:`Guard` adds the decisions."""

    def calibrate(
        self,
        data: Any,
        alarm_rate: float | Sequence[float] | None = None,
        *,
        confidence: float | None = None,
        per_class: bool = False,
        pool: bool = False,
        groups: GroupsOf | None = None,
        extend: bool = False,
        learn_share: float = LEARN_SHARE,
        batch_size: int = 256,
        spread: Spreading | None = None,
        show_progress: bool | None = None,
    ) -> Self:
        """Set the threshold on held-out ID data, read once.

        Its labels are read only by detectors that learn on them, such as TemperatureScaled. Where
        this fails, or is interrupted, the guard stays as it was.

        Args:
            data: as for :meth:`fit`; images of a name or path are made as those of the fit. If
                the guard was fitted on it, or the network trained, the rate does not hold.
            alarm_rate: share of ID images that may be called unknown; of several, the first is the
                one in use, and :meth:`at` gives the others. By default 0.05; to extend, as before.
            confidence: that the rate holds for this very calibration set, for all rates named
                together; at 0.95 a rate of 5 % needs 59 images, one of 1 % 299. By default the rate
                holds on average over calibration sets.
            per_class: hold the rate within each class that the network predicts, with a confidence
                in all of them together; needs enough calibration images of each.
            pool: join the classes with too few images into one group, within which the rate holds.
                Which these are is told by their counts, never by scores.
            groups: of samples that belong together, such as frames of one video or pictures of one
                patient: a function from a sample's key, such as its path, to its group, or the
                group of each sample, in order. One of each counts, and the rate is that of a
                sample of a new group.
            extend: add the samples to those that the threshold comes from, at the rates and by the
                rule of before; what detectors learned stays. A new promise, with a chance of its
                own to fail, and valid only for a random sample of ID that the guard did not choose,
                of a size fixed beforehand.
            learn_share: share of the data to learn on, for detectors that learn on calibration
                data; the rest gives the threshold.
            batch_size: samples a batch, for sets.
            spread: lets other processes run the network: see :func:`offmap.scale.calibrate`.
            show_progress: ``None`` shows a bar on a terminal.

        Warns:
            OverlapWarning: samples that the guard was fitted on, too, if that was in this process.
            ChanceWarning: as for :meth:`fit`.
            OutputsWarning: samples without a finite score, which count as the highest.

        Raises:
            DataError: the very set that the guard was fitted on, or more than 1 % of it; batches of
                a loader are only warned of; or, to extend, scores that are distributed otherwise.
            NotFittedError: the network has been trained on since the guard was fitted.
            ArgumentError: too few images for the rate; says how many are needed, and names classes
                that lack them; or, to extend one sample of each group, no groups.
        """
        grouping = None if groups is None else Groups(groups)
        data = data_like_fit(self, data)
        self.history.refuse_fitted_on(data)
        if per_class and self.probe.outputs == "features":
            raise ArgumentError("per_class needs predictions, and the network gives only features")
        if per_class and len(self.detectors) > 1:
            raise ArgumentError("per_class calibrates one detector; this guard has several")
        if pool and not per_class:
            raise ArgumentError(
                "pool is for rates within each class (per_class=): it joins those with few samples"
            )
        if groups is not None and spread is not None:
            raise ArgumentError("groups are for one process: calibrate without an engine")
        learn_share = number("learn_share", learn_share, above=0, below=1)
        self._check_weights()
        if extend and spread is not None:
            raise ArgumentError("extend is for one process: calibrate without an engine")
        if extend:
            self.history.refuse_learned_from(data)
            check_extends(
                self.calibration, alarm_rate=alarm_rate, confidence=confidence, per_class=per_class,
                pool=pool,
            )  # fmt: skip
            self.history.refuse_ungrouped(groups)
        several = len(self.detectors) > 1
        rule = "bonferroni" if several else "per_class" if per_class else "plain"
        rates = 0.05 if alarm_rate is None else alarm_rate
        calibration = Calibration(rule, rates, confidence=confidence, pool=pool)

        def passing(seen: Seen) -> Iterator[Any]:
            return self.passing(data, "calibrate", batch_size, show_progress, seen, strict=False)

        with self._transaction(self.probe):
            if spread is None:
                samples = scored(self, data, passing, learn_share, grouping, learn=not extend)
            else:
                seen = Seen(hashing=False)
                parts = spread.scored(self, data, learn_share, batch_size, seen)
                samples = Scored(*parts[:3], seen)
            if extend:
                self.history.check_fresh("data to extend by", data, samples.seen)
                calibration = extended(self.calibration, samples)
            else:
                self.history.check_apart("calibration data", data, samples.seen)
                calibration.learn(samples.scores, samples.predictions, samples.classes)
        samples.warn_not_finite()
        self._calibration, self.control_ = calibration, None
        self._light = Light()
        group_count = None if grouping is None else len(samples.scores)
        self.history.calibrated(data, samples.seen, group_count, extends=extend)
        return self

    def check(
        self,
        data: Any,
        *,
        ood: bool = False,
        groups: GroupsOf | None = None,
        batch_size: int = 256,
        show_progress: bool | None = None,
    ) -> Check:
        """Whether the alarm rate is kept, measured on fresh ID data; or the share of OOD caught.

        Args:
            data: as for :meth:`fit`; labels are not read. ID samples drawn as the calibration data
                was, that neither the network, the fit nor the calibration has seen.
            ood: they are OOD samples, and the share caught is measured.
            groups: as for :meth:`calibrate`; one sample of each counts.
            batch_size: samples a batch, for sets.
            show_progress: ``None`` shows a bar on a terminal.

        Warns:
            OverlapWarning: samples that stand in the data to fit or calibrate on, too, if that was
                in this process.

        Raises:
            DataError: the very set that the guard was fitted or calibrated on, or more than 1 % of
                it.
            NotFittedError: the guard was not calibrated, or the network was trained on since.
            ArgumentError: no groups, of a guard that was calibrated by them.
        """
        grouping = None if groups is None else Groups(groups)
        calibration, data = self.calibration, data_like_fit(self, data)
        self._check_weights()
        self.history.refuse_learned_from(data)
        if not ood:
            self.history.refuse_ungrouped(groups)
        seen = Seen(labelled=False)
        with self.probe:
            batches = self.passing(data, "check", batch_size, show_progress, seen, strict=False)
            passing = through(grouping, batches)
            verdict = Verdict.joined([self.judge(acts) for acts, _ in passing])
        if grouping is not None:
            verdict = verdict[grouping.one_each(verdict.keys or ()).to(verdict.labels.device)]
        self.history.check_fresh("data to check on", data, seen)
        return check_of(calibration, verdict, ood=ood)

    def control(
        self,
        labelled: Any,
        error_rate: float = 0.02,
        confidence: float = 0.95,
        *,
        of: str = "all",
        groups: GroupsOf | None = None,
        batch_size: int = 256,
        show_progress: bool | None = None,
    ) -> Self:
        """Set the score up to which samples are accepted, so that few of those are wrong.

        Verdicts then hold ``accepted`` beside ``is_ood``. With that confidence the error rate is
        kept on ID data; how many OOD samples are accepted cannot be told from ID data, and is not
        promised. A new ``fit`` or ``calibrate`` removes it.

        Args:
            labelled: ID samples with labels, that neither the network nor the fit has seen, nor,
                for "accepted" or detectors that learn on it, the calibration.
            error_rate: not to be exceeded.
            confidence: that it is not, for these very samples.
            of: "all", the share of all samples that are accepted and wrong; or "accepted", the
                share of wrong ones among those accepted.
            groups: as for :meth:`calibrate`; one sample of each counts, and the rate is that of a
                sample of a new group.
            batch_size: samples a batch, for sets.
            show_progress: ``None`` shows a bar on a terminal.

        Raises:
            LabelError: there are no labels.
            DataError: data that the guard was fitted on, or may not be calibrated on.
            ArgumentError: the samples do not show the rate; says how many are needed at least; or
                no groups, of a guard that was calibrated by them.
            NotFittedError: the guard was not calibrated, or the network was trained on since.
        """
        grouping = None if groups is None else Groups(groups)
        calibration, data, seen = self.calibration, data_like_fit(self, labelled), Seen()
        apart = of == "accepted" or any(passes(each, "calibration") for each in self.each())
        self._check_weights()
        if apart:
            self.history.refuse_learned_from(data)
        self.history.refuse_ungrouped(groups)
        with self.probe:
            batches = self.passing(data, "control", batch_size, show_progress, seen, strict=False)
            judged = ((self.judge(acts), labels) for acts, labels in through(grouping, batches))
            samples = counted(grouping, judged)
            control = control_of(calibration, samples, error_rate, confidence, of)
        compare = self.history.check_fresh if apart else self.history.check_apart
        compare("labelled data", data, seen)
        self.control_ = control
        return self

    @property
    def calibrated(self) -> bool:
        """Whether it has a threshold."""
        return self._calibration is not None

    @property
    def calibration(self) -> Calibration:
        """Calibration scores, the threshold and the rate that it holds.

        Raises:
            NotFittedError: the guard was not fitted, or not calibrated.
        """
        calibration = self._calibration
        if calibration is None:
            raise NotFittedError("this guard has no threshold yet: call fit, then calibrate")
        return calibration

    @abstractmethod
    def judge(self, acts: Activations | Sample) -> Verdict:
        """The verdict on images from their activations, or from samples if inputs are needed."""
