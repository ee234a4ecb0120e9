"""Generated electrocardiograms: a function of their seed, with the truth beside them."""

import numpy as np
import pytest
import torch

from rnnlab.data import ECGData
from rnnlab.data.ecg import MARKS, RATES

SMALL = {"num_train": 6, "num_val": 3, "num_test": 3, "seconds": 6, "batch_size": 2}


def test_records_are_a_function_of_their_seed():
    data, again, other = ECGData(**SMALL), ECGData(**SMALL), ECGData(**SMALL, corpus_seed=1)
    for module in (data, again, other):
        module.setup()
    for one, same, different in zip(*(module.splits["train"] for module in (data, again, other)), strict=True):
        assert torch.equal(one.nan_to_num(-1), same.nan_to_num(-1))
        assert one.shape != different.shape or not torch.equal(one, different)
    assert data.state_dict() == again.state_dict() != other.state_dict()
    again.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        other.load_state_dict(data.state_dict())
    longer = ECGData(**SMALL | {"num_test": 50})
    longer.load_state_dict(data.state_dict())  # a larger test part can be measured
    first, second = next(iter(longer.records("test"))), next(iter(data.records("test")))
    np.testing.assert_array_equal(first.signal, second.signal)


def test_a_batch_is_signal_points_and_what_counts():
    data = ECGData(**SMALL)
    data.setup()
    signal, points, is_scored = next(iter(data.train_dataloader()))
    assert signal.shape == (2, 1_500) and signal.dtype == torch.float32 and signal.isfinite().all()
    assert points.shape == (2, is_scored.shape[1], len(MARKS)) and points.dtype == torch.float64
    is_beat = ~points[..., 0].isnan()
    assert not (is_scored & ~is_beat).any() and is_scored.sum() > 5
    scored = points[is_scored]
    assert (scored[:, 3] >= 0).all() and (scored[:, 4] <= 6).all()  # whole in the record
    assert (scored[:, 3] < scored[:, 1]).all() and (scored[:, 2] < scored[:, 4]).all()
    assert data.epoch_size == 6 and data.sizes == {"num_points": 5, "sample_rate": 250}


def test_records_come_at_all_rates_and_what_is_read_does_not_tell_them():
    data = ECGData(**SMALL | {"num_train": 60, "max_level": 0.3, "gaps": 0.0})
    records = list(data.records("train"))
    assert {record.rate for record in records} == set(RATES)
    for record in records:
        assert len(record.signal) == 6 * record.rate and len(data.features_of(record.signal, record.rate)) == 1_500
        assert np.allclose(record.signal / 0.005, np.rint(record.signal / 0.005))  # in steps of a converter
        assert 0.2999 < record.level < 0.3001


def test_beats_in_gaps_are_not_scored():
    data = ECGData(**SMALL | {"num_train": 40, "min_level": 1e-3, "max_level": 1e-3, "gaps": 1.0, "block": 0.0})
    data.setup()
    for record in data.records("train"):
        for (*_, on, off), counts in zip(record.beats.points, record.is_scored, strict=True):
            part = record.signal[max(0, round(on * record.rate)) : max(0, round(off * record.rate))]
            if counts:
                assert np.ptp(part) > 0.2  # there is a QRS
    assert any((~record.is_scored[2:-3]).any() for record in data.records("train"))


def test_baselines_are_of_the_classical_detector():
    baselines = ECGData(**SMALL | {"max_level": 0.3}).baselines()
    names = ("r_sensitivity", "r_precision", "r_error_ms")
    assert set(baselines) == {f"baseline/pan_tompkins/{part}/{name}" for part in ("val", "test") for name in names}
    assert baselines["baseline/pan_tompkins/val/r_sensitivity"] > 0.9
    assert baselines["baseline/pan_tompkins/test/r_error_ms"] < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_rate": 90, "max_rate": 60}, "max_rate must lie from 20 to 250, the lower end first, got 90 and 60"),
        ({"muscle": -1}, "muscle must lie from 0 to 10, got -1"),
        ({"gaps": 2}, "gaps must lie from 0 to 1, got 2"),
        ({"num_val": 0}, "num_val must be an integer of at least 1, got 0"),
        ({"batch_size": 6_000}, "batch_size must be at most the size of the training part, 5000, got 6000"),
        ({"record_rate": 5}, "record_rate must lie from 50 to 10000, got 5"),
        ({"seconds": 1}, "seconds must lie from 2 to 3600, got 1"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ECGData(**arguments)
