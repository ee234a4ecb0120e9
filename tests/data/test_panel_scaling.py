"""Scaling of windows: every choice is one affine map, which brings the levels back."""

import itertools

import pytest
import torch

from rnnlab.data.panel_scaling import SCALES, PanelScaling

CHOICES = [
    dict(transform=transform, difference=difference, seasonal_difference=season, scale=scale)
    for transform, difference, season, scale in itertools.product(("none", "log"), (False, True), (None, 3), SCALES)
    if scale != "window_last" or not (difference or season)
]


def levels(num_rows: int, num_windows: int = 4, num_columns: int = 2) -> torch.Tensor:
    walk = torch.randn(
        num_windows, num_rows, num_columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return (0.1 * walk.cumsum(dim=1)).exp() * torch.tensor([1.0, 1000.0], dtype=torch.float64)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(map(str, choice.values())))
def test_levels_come_back(choice):
    scaling, window, horizon = PanelScaling(**choice), 6, 7
    known = scaling.context + window
    truth = levels(known + horizon)
    values = scaling.forward(truth)
    mean, deviation = scaling.statistics(values[0])
    scaled = scaling.window(values[:, :known], mean.expand(4, 2), deviation.expand(4, 2), horizon)
    target = (values[:, known:] - scaled.loc) / scaled.scale
    assert scaled.inputs.shape == (4, window, 2) and target.shape == (4, horizon, 2)
    back = scaling.inverse(scaled.loc + scaled.scale * target)
    torch.testing.assert_close(back, truth[:, known:], rtol=1e-13, atol=0)
    assert (scaled.scale > 0).all()


def test_what_is_forecast_is_a_change_from_known_values():
    """Differences, step by step, in the plainest form."""
    values = levels(20)
    known, horizon, season = 13, 7, 3
    mean, deviation = torch.full((4, 2), 0.5).double(), torch.full((4, 2), 2.0).double()

    def loc(**choice):
        scaling = PanelScaling(**choice)
        return scaling.window(values[:, known - 6 - scaling.context : known], mean, deviation, horizon).loc

    plain, change, seasonal, both = (
        loc(),
        loc(difference=True),
        loc(seasonal_difference=season),
        loc(difference=True, seasonal_difference=season),
    )
    for step in range(horizon):
        ahead = step // season + 1
        last_season = values[:, known + step - ahead * season]
        assert torch.equal(plain[:, step], mean)
        torch.testing.assert_close(change[:, step], values[:, known - 1] + 0.5 * (step + 1))
        torch.testing.assert_close(seasonal[:, step], last_season + 0.5 * ahead)
        moved = values[:, known - 1] - values[:, known - 1 - season]
        torch.testing.assert_close(both[:, step], last_season + ahead * moved)


def test_inputs_are_changes():
    values = levels(12)
    scaling = PanelScaling(difference=True, seasonal_difference=2, scale="none")
    inputs = scaling.window(values, torch.zeros(4, 2).double(), torch.ones(4, 2).double(), 1).inputs
    change = values[:, 1:] - values[:, :-1]
    assert torch.equal(inputs, change[:, 2:] - change[:, :-2])


@pytest.mark.parametrize("scale", SCALES)
def test_constant_windows_are_safe(scale):
    values = torch.full((3, 8, 1), 0.1).double() * torch.tensor([0.0, 1.0, 1e12])[:, None, None]
    scaling = PanelScaling(scale=scale)
    mean, deviation = scaling.statistics(values[2])
    scaled = scaling.window(values, mean.expand(3, 1), deviation.expand(3, 1), 2)
    assert scaled.inputs.isfinite().all() and scaled.loc.isfinite().all() and (scaled.scale > 0).all()
    if scale in ("train", "window", "window_last"):
        assert scaled.inputs[2].abs().max() < 1e-2  # of 1e11


@pytest.mark.parametrize("scale", SCALES)
def test_the_training_part_stands_for_what_a_window_does_not_know(scale):
    values = levels(9)
    values[1, :, 1] = torch.nan
    mean, deviation = torch.tensor([1.0, 900.0]).double().expand(4, 2), torch.tensor([0.1, 30.0]).double().expand(4, 2)
    scaled = PanelScaling(scale=scale).window(values, mean, deviation, 2)
    loc, width = scaled.loc[1, 0, 1].item(), scaled.scale[1, 0, 1].item()
    expected = (0, 1) if scale == "none" else (900, 30)
    assert (loc, width) == expected


@pytest.mark.parametrize("scale", SCALES)
def test_missing_values_are_left_out_of_statistics(scale):
    values = levels(9)
    values[:, 4, 0] = torch.nan
    values[1, :, 1] = torch.nan
    scaling = PanelScaling(scale=scale)
    mean, deviation = scaling.statistics(values[0])
    scaled = scaling.window(values, mean.expand(4, 2), deviation.expand(4, 2), 2)
    assert torch.equal(scaled.inputs.isnan(), values.isnan())
    assert scaled.loc.isfinite().all() and scaled.scale.isfinite().all()
    if scale == "window":
        without = values[0, [0, 1, 2, 3, 5, 6, 7, 8], 0]
        torch.testing.assert_close(scaled.loc[0, 0, 0], without.mean())
        torch.testing.assert_close(scaled.scale[0, 0, 0], without.std(correction=0))
    if scale == "window_last":
        assert torch.equal(scaled.loc[0, 0], values[0, -1])
    if scale == "window_mean":
        torch.testing.assert_close(scaled.scale[0, 0, 1], values[0, :, 1].mean())


def test_the_last_known_value_is_taken_where_the_last_is_missing():
    values = levels(9)
    values[:, -2:, 0] = torch.nan
    loc = PanelScaling(scale="window_last").window(values, torch.zeros(4, 2), torch.ones(4, 2), 1).loc
    assert torch.equal(loc[:, 0, 0], values[:, 6, 0]) and torch.equal(loc[:, 0, 1], values[:, 8, 1])


@pytest.mark.parametrize(
    "choice, message",
    [
        (dict(transform="ln"), "transform must be one of log, none, got 'ln'"),
        (dict(scale="minmax"), "scale must be one of none, train, window, window_last, window_mean, got 'minmax'"),
        (dict(seasonal_difference=0), "seasonal_difference must be an integer of at least 1, got 0"),
        (dict(scale="window_last", difference=True), "scale=window_last takes the last value away"),
    ],
)
def test_refusals(choice, message):
    with pytest.raises(ValueError, match=message):
        PanelScaling(**choice)
