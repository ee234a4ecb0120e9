"""The NARX forecaster: its two forms, and what each is trained on."""

import pytest
import torch
from torch.nn.functional import mse_loss

from rnnlab.models import NARXForecaster
from rnnlab.nn import NARX, NARXCell
from rnnlab.tasks import ForecastingTask


def model_of(form="series_parallel", **options):
    torch.manual_seed(0)
    return NARXForecaster(**{"input_size": 1, "output_size": 4, "hidden_size": 6, "taps": 3, "form": form, **options})


def one_step(model, values):
    """Return what the equation gives behind the last three values of rows (B, T)."""
    hidden = sum(values[:, -k, None] * model.hidden.weight[:, 3 - k] for k in (1, 2, 3)) + model.hidden.bias
    return torch.tanh(hidden) @ model.head.weight.t() + model.head.bias


def test_it_is_the_layer_without_an_input():
    """As `NARX`, whose first tap is of the latest value, and with an input of zeros."""
    model, x = model_of(), torch.randn(5, 9, 1)
    layer = NARX(NARXCell(1, 6, output_size=1, input_taps=0, output_taps=3))
    with torch.no_grad():
        layer.cell.weight_hh.copy_(model.hidden.weight.flip(1).t().reshape(18, 1))
        layer.cell.bias_ih.copy_(model.hidden.bias)
        layer.cell.weight_out.copy_(model.head.weight)
        layer.cell.bias_out.copy_(model.head.bias)
    _, state = layer(torch.zeros(9, 5, 1), x.transpose(0, 1))
    expected = layer(torch.zeros(4, 5, 1), state=state)[0][:, :, 0].t()
    torch.testing.assert_close(model(x), expected)


def test_forecasts_are_fed_back():
    model, x = model_of(), torch.randn(5, 9, 1)
    values = x[:, :, 0]
    for _ in range(4):
        values = torch.cat([values, one_step(model, values)], dim=1)
    torch.testing.assert_close(model(x), values[:, 9:])


def test_given_targets_each_step_sees_true_values():
    model, x, y = model_of(), torch.randn(5, 9, 1), torch.randn(5, 4)
    true = torch.cat([x[:, :, 0], y], dim=1)
    expected = torch.cat([one_step(model, true[:, : 9 + k]) for k in range(4)], dim=1)
    torch.testing.assert_close(model(x, targets=y), expected)


@pytest.mark.parametrize("form", ["series_parallel", "parallel"])
def test_training_follows_the_form_and_measuring_does_not(form):
    model, batch = model_of(form), (torch.randn(5, 9, 1), torch.randn(5, 4))
    task = ForecastingTask(model, torch.optim.SGD)
    task.train_loss.add = lambda task, loss, count: loss
    x, y = batch
    expected = mse_loss(model(x, targets=y) if form == "series_parallel" else model(x), y)
    torch.testing.assert_close(task.training_step(batch, 0), expected)
    torch.testing.assert_close(task.predict_step(x), model(x))
    task.training_step(batch, 0).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_one_step_ahead_the_forms_are_one():
    x, y = torch.randn(5, 9, 1), torch.randn(5, 1)
    model = model_of(output_size=1)
    torch.testing.assert_close(model(x, targets=y), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "serial"}, "model.form must be one of series_parallel, parallel, got 'serial'"),
        ({"input_size": 2}, "feeds one series back, got 2 inputs"),
        ({"taps": 10}, "model.taps=10 must be at most the 9 steps"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)(torch.zeros(2, 9, 1))
