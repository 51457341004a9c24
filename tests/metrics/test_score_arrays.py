import numpy as np
import pytest
import torch
from hypothesis import given
from slow_metrics import two_samples

from offmap.errors import DataError, NonFiniteError, ShapeError
from offmap.metrics import auroc, detection, roc_curve

ID = [0.25, 0.5, 0.5, 1.0]
OOD = [0.5, 2.0, 3.0]


@given(two_samples())
def test_tensors_arrays_and_lists_give_the_same(samples):
    found = auroc(*samples)
    assert auroc(*map(torch.from_numpy, samples)) == found
    assert auroc(*(part.tolist() for part in samples)) == found


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2]
)
def test_every_float_type_of_torch_is_read(dtype):
    assert auroc(torch.tensor(ID).to(dtype), torch.tensor(OOD).to(dtype)) == auroc(ID, OOD)


def test_a_tensor_with_a_gradient_is_read_and_left_alone():
    scores = torch.tensor(OOD, requires_grad=True)
    assert auroc(torch.tensor(ID), scores) == auroc(ID, OOD)
    assert scores.requires_grad
    assert scores.tolist() == OOD


def test_the_arrays_are_not_sorted_in_place():
    id_scores, ood_scores = np.array([3.0, 1.0]), np.array([2.0, 0.0])
    detection(id_scores, ood_scores)
    assert id_scores.tolist() == [3.0, 1.0]
    assert ood_scores.tolist() == [2.0, 0.0]


def test_two_float32_arrays_stay_float32_and_others_become_float64():
    single, double = np.array(ID, np.float32), np.array(ID, np.float64)
    assert roc_curve(single, single).thresholds.dtype == np.float32
    assert roc_curve(single, double).thresholds.dtype == np.float64
    assert roc_curve(single.astype(np.float16), single).thresholds.dtype == np.float64


def test_a_float64_score_just_above_a_float32_score_is_above_it():
    low = np.array([1.0], np.float32)
    assert auroc(low, np.array([np.nextafter(1.0, 2.0)])) == 1.0


def test_minus_zero_ties_with_zero():
    assert auroc([-0.0], [0.0]) == 0.5


def test_integers_and_booleans_are_scores():
    assert auroc(np.array([1, 2]), torch.tensor([2, 3])) == 0.875
    assert auroc(np.array([False, True]), np.array([True, True])) == 0.75


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_scores_are_counted_and_located(bad):
    scores = np.zeros(100)
    scores[[3, 7, 20, 21, 22, 40, 99]] = bad
    where = r"ood_scores .* 7 of 100 places \(index 3, 7, 20, 21, 22, \.\.\.\)"
    with pytest.raises(NonFiniteError, match=where):
        auroc(ID, scores)
    with pytest.raises(NonFiniteError, match=r"id_scores .* 1 of 2 places \(index 1\)"):
        auroc(torch.tensor([0.0, bad]), OOD)


def test_five_places_are_all_named_and_nothing_hints_at_more():
    with pytest.raises(NonFiniteError, match=r"5 of 6 places \(index 0, 1, 2, 3, 4\): look"):
        auroc(ID, [np.nan] * 5 + [0.0])


def test_empty_arrays_are_refused_by_name():
    with pytest.raises(DataError, match="id_scores is empty"):
        auroc([], OOD)
    with pytest.raises(DataError, match="ood_scores is empty"):
        auroc(ID, torch.empty(0))


@pytest.mark.parametrize("shape", [(), (3, 1), (1, 3)])
def test_anything_but_one_dimension_is_refused_with_its_shape(shape):
    with pytest.raises(ShapeError, match="ood_scores must have one dimension"):
        auroc(ID, np.zeros(shape))
    with pytest.raises(ShapeError, match="id_scores must have one dimension"):
        auroc(torch.zeros(shape), OOD)


def test_numbers_beside_lists_are_refused(as_users_run_it):
    with pytest.raises(ShapeError, match="id_scores must hold one number a sample"):
        auroc([0.1, [0.5, 0.6]], [0.5])


def test_what_float64_cannot_hold_is_refused_and_the_limit_is_not():
    limit = 2**53
    assert auroc(np.array([limit - 1]), np.array([limit])) == 1.0
    for scores in [limit + 1, -limit - 1, -(2**63), 2**63]:
        with pytest.raises(DataError, match="2\\*\\*53"):
            auroc(np.array([0]), np.array([scores]))


@pytest.mark.parametrize("dtype", [np.complex128, object, "U4", np.longdouble])
def test_other_types_are_refused_by_name(dtype):
    with pytest.raises(DataError, match="id_scores holds"):
        auroc(np.array([1, 2]).astype(dtype), OOD)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_on_a_gpu_are_read():
    assert auroc(torch.tensor(ID, device="cuda"), torch.tensor(OOD, device="cuda")) == auroc(
        ID, OOD
    )
