"""Records of any tree of detectors: what JSON keeps is the same detector again."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from offmap.detectors import Composite, Detector, catalogue, detector
from offmap.errors import OffmapError
from offmap.guard.schema import DetectorRecord

PLAIN = sorted(n for n, m in catalogue().items() if not isinstance(m.default(), Composite))
AROUND = ("react", "scale", "ashs", "dice", "ras", "vra", "membermean", "perturbed")
ARGUMENTS = (
    *("Energy(temperature=2.5)", "ViM(dim=3)", "KNN(k=7, bank=100, precision='float64')"),
    *("GEN(gamma=0.25)", "NECO(scale=False)", "mds++", "Mahalanobis(ridge=0.0)"),
)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=2, max_size=3).map(", ".join)
    how = st.sampled_from(["softplus", "fisher", "max", "mean_rank"])
    return st.one_of(
        st.tuples(st.sampled_from(AROUND), inner).map(lambda pair: f"{pair[0]}({pair[1]})"),
        st.tuples(several, how).map(lambda pair: f"Combine([{pair[0]}], how={pair[1]!r})"),
    )


TREES = st.recursive(st.sampled_from([*PLAIN, *ARGUMENTS]), grown, max_leaves=5)


def made(text: str) -> Detector:
    try:
        return detector(text)
    except OffmapError:  # some do not go around each other, which the tests of composition hold
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_a_tree_of_detectors_is_the_same_after_json(text: str) -> None:
    tree = made(text)
    record = json.loads(json.dumps(tree.record(), allow_nan=False))
    again = detector(record)
    assert again.record() == record
    assert repr(again) == repr(tree)
    assert detector(repr(tree)).record() == record
    assert msgspec.convert(record, DetectorRecord).detector == record["detector"]


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_a_record_with_a_name_that_is_not_there_is_refused_at_any_depth(text: str) -> None:
    record = json.dumps(made(text).record())
    last = record.rindex('"detector": "') + len('"detector": "')
    wrong = json.loads(record[:last] + "zz" + record[last:])
    with pytest.raises(OffmapError, match="zz"):
        detector(wrong)
