from dataclasses import FrozenInstanceError, fields, is_dataclass
from inspect import Parameter, signature

import pytest

import offmap.metrics as metrics

RECORDS = [value for name in metrics.__all__ if is_dataclass(value := getattr(metrics, name))]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_cannot_be_changed(record):
    with pytest.raises(FrozenInstanceError):
        record.__new__(record).anything = 1


@pytest.mark.parametrize("record", RECORDS)
def test_records_of_arrays_are_equal_to_themselves_alone(record):
    """Compared field by field, arrays of more than one number have no truth value."""
    arrays = any("ndarray" in field.type for field in fields(record))
    assert (record.__eq__ is object.__eq__) == arrays


def test_records_of_many_figures_are_made_by_name():
    """Two floats in each other's place would go unseen; a curve has its arrays in one order."""
    by_name = {
        record.__name__
        for record in RECORDS
        if {p.kind for p in signature(record).parameters.values()} == {Parameter.KEYWORD_ONLY}
    }
    assert by_name == {"Detection", "Difference", "OpenSet", "Outcomes", "Selection"}
