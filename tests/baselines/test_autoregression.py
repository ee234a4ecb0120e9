"""Autoregression by least squares: exact on its own kind of series, and known errors on sunspots and two sines."""

import numpy as np
import pytest

from rnnlab.baselines import ar, fit_ols, iterate
from rnnlab.data import TwoSineData
from tests.baselines.classical import sunspots


def test_the_line_of_the_lecture_is_found_and_followed():
    """x_t = w_0 x_{t-1} + w_1 x_{t-2} + w_2."""
    series = [1.0, 3.0]
    for _ in range(30):
        series.append(1.6 * series[-1] - 0.8 * series[-2] + 2.0)
    forecast = ar(np.array(series[:24]), 20, [10, 22], horizon=8, order=2)
    np.testing.assert_allclose(forecast, [series[10:18], series[22:30]], rtol=1e-9)


@pytest.mark.parametrize(("order", "early", "late"), [(2, 283, 674), (9, 189, 524)])
def test_sunspots(order, early, late):
    """Fitted on 1700 to 1920, one step, 1921 to 1955 and 1956 to 1979."""
    pytest.importorskip("statsmodels")
    years = np.arange(221, 280)
    error = (ar(sunspots(), 221, years, order=order)[:, 0] - sunspots()[years]) ** 2
    assert (error[:35].mean(), error[35:].mean()) == (pytest.approx(early, abs=0.5), pytest.approx(late, abs=0.5))


def test_two_sines_one_step_iterated():
    data = TwoSineData(horizon=10)
    data.setup()
    (train, _), (known, truth) = ([value.numpy() for value in data.splits[part]] for part in ("train", "val"))
    whole = np.concatenate([train[:, :, 0], data.splits["train"][1].numpy()], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 51, axis=1).reshape(-1, 51)
    model = fit_ols(windows[:, :50], windows[:, 50:])
    assert np.mean((iterate(model, known[:, :, 0], 10) - truth) ** 2) == pytest.approx(0.01547, abs=5e-6)


@pytest.mark.parametrize(
    ("targets", "order", "message"), [([30], 0, "order"), ([30], 10, "order"), ([3], 4, "first_targets")]
)
def test_ranges_are_checked(targets, order, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        ar(np.arange(40.0) ** 2, 20, targets, order=order)
