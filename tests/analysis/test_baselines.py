"""Which baseline is the best, and whether it was beaten."""

import math

import pytest

from rnnlab.analysis.baselines import baselines_of, verdict

TAGGER = {
    "val/accuracy": 0.95,
    "test/accuracy": 0.94,
    "val/loss": 0.2,
    "baseline/suffix/val/accuracy": 0.9,
    "baseline/hmm/val/accuracy": 0.93,
    "baseline/hmm/val/accuracy_unseen": 0.99,
    "baseline/hmm/test/accuracy": 0.945,
    "optimum/test/accuracy": 0.99,
}


def test_baselines_of_a_metric_come_best_first():
    assert list(baselines_of(TAGGER, "val/accuracy").items()) == [("hmm", 0.93), ("suffix", 0.9)]
    errors = {"baseline/ols/test/rmse": 2.0, "baseline/naive/test/rmse": 1.0, "baseline/arima/test/rmse": math.nan}
    assert list(baselines_of(errors, "test/rmse")) == ["naive", "ols"]


def test_the_verdict_is_of_the_test_part_and_the_main_metric():
    assert verdict(TAGGER, "val/accuracy") == "best baseline hmm not beaten: test/accuracy 0.94 against 0.945"
    val = {key: value for key, value in TAGGER.items() if "test" not in key}
    assert verdict(val, "val/accuracy") == "best baseline hmm beaten: val/accuracy 0.95 against 0.93"


@pytest.mark.parametrize(("value", "word"), [(1.9, "beaten"), (2.0, "not beaten"), (math.nan, "not beaten")])
def test_errors_are_beaten_from_below(value, word):
    metrics = {"val/mse_last": 0.1, "test/rmse": value, "baseline/naive/test/rmse": 2.0}
    assert verdict(metrics, "val/mse_last").startswith(f"best baseline naive {word}: test/rmse {value:.5g} against 2")


def test_without_baselines_there_is_no_verdict():
    assert verdict({"val/loss": 1.0, "baseline/naive": 2.0}, "val/loss") is None  # a name of former versions
    assert verdict({"baseline/naive/test/rmse": 2.0}, "val/loss") is None
