"""Linear forecasters: what they compute, and that gradient descent ends where least squares is."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from rnnlab.baselines import ar, fit_ols
from rnnlab.models import LinearForecaster, LinearSeriesForecaster
from rnnlab.models.linear_forecaster import LinearMap
from tests.models.forecast_batches import make_batch, sizes_of


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def noisy_ar(num_steps=400):
    rng = np.random.default_rng(0)
    series = [0.0, 0.0]
    for noise in 0.1 * rng.standard_normal(num_steps):
        series.append(1.2 * series[-1] - 0.6 * series[-2] + 0.3 + noise)
    return np.array(series)


def test_gradient_descent_ends_at_the_closed_form():
    """x_t = w_0 x_{t-1} + w_1 x_{t-2} + w_2."""
    series = noisy_ar()
    windows = np.lib.stride_tricks.sliding_window_view(series, 3)
    x, y = (torch.from_numpy(part.copy()) for part in (windows[:, :2, None], windows[:, 2:]))
    model = LinearForecaster(input_size=1, output_size=1, window=2).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(20_000):
        optimiser.zero_grad()
        mse_loss(model(x), y).backward()
        optimiser.step()
    closed = fit_ols(windows[:, :2], windows[:, 2:])
    np.testing.assert_allclose(model.map.linear.weight.detach().numpy(), closed.weight.T, rtol=1e-6)
    np.testing.assert_allclose(model.map.linear.bias.detach().numpy(), closed.intercept, rtol=1e-6)
    one_step = ar(series, len(series), [len(series)], order=2)
    assert model(torch.from_numpy(series[None, -2:, None])).item() == pytest.approx(one_step.item(), rel=1e-6)


def test_nlinear_knows_no_level():
    model = LinearForecaster(1, 5, window=20, kind="nlinear")
    x = torch.randn(3, 20, 1)
    torch.testing.assert_close(model(x + 100), model(x) + 100, rtol=0, atol=1e-4)


def test_dlinear_is_two_maps_of_a_mean_and_the_rest():
    x = torch.randn(2, 9)
    mapped = LinearMap(9, 4, "dlinear", moving_average=5)
    longer = torch.cat([x[:, :1], x[:, :1], x, x[:, -1:], x[:, -1:]], dim=1)
    mean = longer.unfold(1, 5, 1).mean(2)
    torch.testing.assert_close(mapped.level(x), mean)
    torch.testing.assert_close(mapped(x)[:, :, 0], mapped.trend(mean) + mapped.linear(x - mean))
    torch.testing.assert_close(mapped(x.reshape(1, 2, 9)), mapped(x)[None])


@pytest.mark.parametrize("kind", ["ar", "nlinear", "dlinear"])
def test_the_last_steps_and_all_inputs_are_seen(kind):
    model = LinearForecaster(3, 2, window=6, kind=kind, moving_average=3)
    x = torch.randn(4, 10, 3, requires_grad=True)
    assert model(x).shape == (4, 2)
    model(x).square().sum().backward()
    assert not x.grad[:, :4].any() and (x.grad[:, 4:] != 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LinearForecaster, 1, 1, 8, kind="linear"), "model.kind must be one of ar, nlinear, dlinear"),
        (partial(LinearForecaster, 1, 1, 8, moving_average=24), "model.moving_average must be odd, got 24"),
        (partial(LinearForecaster, 1, 1, 0), "model.window must be at least 1"),
        (lambda: LinearForecaster(1, 1, 8)(torch.zeros(2, 5, 1)), "model.window=8 must be at most the 5 steps"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ["ar", "nlinear", "dlinear"])
@pytest.mark.parametrize("head", ["point", "quantile", "gaussian"])
def test_one_map_for_the_windows_of_all_targets(kind, head):
    batch = make_batch(window=9, horizon=3, num_targets=2, num_past=1, num_known=2)
    model = LinearSeriesForecaster(**sizes_of(batch), head={"name": head}, window=8, kind=kind, moving_average=5)
    mean, quantiles = model.forecast(batch, [0.1, 0.5, 0.9])
    assert mean.shape == (4, 3, 2) and quantiles.shape == (4, 3, 2, 0 if head == "point" else 3)
    turned = batch._replace(past=torch.cat([batch.past[:, :, [1, 0]], batch.past[:, :, 2:] + 1], dim=2))
    torch.testing.assert_close(model.forecast(turned, [])[0], mean[:, :, [1, 0]])
    loss, weight = model.loss(batch)
    assert loss.shape == (4, 3, 2) and weight.all()
    loss.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    torch.testing.assert_close(model.forecast(batch, [], num_steps=2)[0], mean[:, :2])


@pytest.mark.parametrize("head", ["quantile", "gaussian", "student_t"])
def test_nlinear_moves_a_distribution_as_a_whole(head):
    batch = make_batch(num_targets=1)
    model = LinearSeriesForecaster(**sizes_of(batch), head={"name": head}, window=9, kind="nlinear")
    moved = batch._replace(past=batch.past + 100)
    for here, there in zip(model.forecast(batch, [0.1, 0.9]), model.forecast(moved, [0.1, 0.9]), strict=True):
        torch.testing.assert_close(there, here + 100, rtol=0, atol=1e-4)


def test_a_window_that_is_too_long_is_refused():
    batch = make_batch(window=9)
    model = LinearSeriesForecaster(**sizes_of(batch), head={"name": "point"}, window=10)
    with pytest.raises(ValueError, match="model.window=10 must be at most data.window=9"):
        model.loss(batch)
