"""The forecasting task learns one batch by heart, and its metrics are what they are called."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.data import CSVData, TwoSineData
from rnnlab.models import Forecaster
from rnnlab.tasks import ForecastingTask
from tests.tasks.helpers import GivenData, first_rows, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = partial(torch.optim.Adam, lr=1e-2)


@pytest.fixture
def csv_data(tmp_path):
    rng = np.random.default_rng(0)
    values = np.exp(4 + np.cumsum(0.1 * rng.standard_normal(60)))
    (tmp_path / "s.csv").write_text("v\n" + "".join(f"{value!r}\n" for value in values.tolist()))
    return CSVData(
        tmp_path / "s.csv",
        "v",
        window=6,
        horizon=2,
        transform="log",
        difference=True,
        lags=(3,),
        val_size=10,
        test_size=13,
        batch_size=5,
    )


DATA = {
    "one step": lambda _: TwoSineData(num_steps=20),
    "ten steps": lambda _: TwoSineData(num_steps=20, horizon=10),
    "sequence": lambda _: TwoSineData(num_steps=20, horizon=3, target="sequence"),
    "csv": lambda csv_data: csv_data,
}


@pytest.mark.slow
@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_one_batch_is_learnt_by_heart(make, csv_data, tmp_path):
    torch.manual_seed(0)
    data = make(csv_data)
    all_steps = getattr(data, "target", "last") == "sequence"
    model = Forecaster(partial(rnnlab.nn.GRU, hidden_size=32), **data.sizes, all_steps=all_steps)
    trainer = quiet_trainer(tmp_path, max_epochs=300, check_val_every_n_epoch=300, gradient_clip_val=1.0)
    batch = first_rows(data, 8)
    trainer.fit(ForecastingTask(model, ADAM), datamodule=batch)
    variance = batch.splits["train"][1].var().item()
    assert (
        trainer.callback_metrics["val/mse" if all_steps else "val/mse_last"] < (0.1 if all_steps else 0.02) * variance
    )


class Scaled(nn.Module):
    """Forecasts a multiple of the last value, at every step or at the last."""

    def __init__(self, horizon, all_steps=False):
        super().__init__()
        self.weight = nn.Parameter(torch.full((), 0.5))
        self.horizon, self.all_steps = horizon, all_steps

    def forward(self, x):
        forecast = self.weight * x[:, :, :1].expand(-1, -1, self.horizon)
        return forecast if self.all_steps else forecast[:, -1]


def result_of(task, data, tmp_path):
    (result,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    return result


def test_mse_is_a_sum_over_counts(tmp_path):
    x, y = torch.randn(7, 5, 1), torch.randn(7, 3)
    result = result_of(ForecastingTask(Scaled(3), ADAM), GivenData((x, y), batch_size=3), tmp_path)
    mse = (0.5 * x[:, -1] - y).square().mean().item()
    assert result == {"test/mse_last": pytest.approx(mse)}  # and under no other name


def test_mse_last_is_that_of_the_last_step(tmp_path):
    x, y = torch.randn(7, 5, 1), torch.randn(7, 5, 3)
    result = result_of(ForecastingTask(Scaled(3, all_steps=True), ADAM), GivenData((x, y), batch_size=3), tmp_path)
    error = (0.5 * x - y).square()
    assert result["test/mse"] == pytest.approx(error.mean().item())
    assert result["test/mse_last"] == pytest.approx(error[:, -1].mean().item())


def test_level_metrics_are_in_original_units(csv_data, tmp_path):
    result = result_of(ForecastingTask(Scaled(2), ADAM), csv_data, tmp_path)
    x, _, origin = csv_data.splits["test"]
    forecast = csv_data.to_level(0.5 * x[:, -1, :1].expand(-1, 2), origin).numpy()
    truth = csv_data.levels[csv_data.first_targets["test"][:, None] + np.arange(2)]
    error = forecast - truth
    assert result["test/rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert result["test/mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-4)
    assert result["test/mape"] == pytest.approx(100 * np.mean(np.abs(error / truth)), rel=1e-4)


def test_mape_is_left_out_where_a_true_value_is_zero(tmp_path):
    data = GivenData((torch.ones(4, 3, 1), torch.tensor([[0.5], [0.0], [1.0], [2.0]]), torch.ones(4)), batch_size=3)
    data.to_level = lambda forecast, origin: forecast.double()
    result = result_of(ForecastingTask(Scaled(1), ADAM), data, tmp_path)
    assert result["test/mae"] == pytest.approx((0 + 0.5 + 0.5 + 1.5) / 4)
    assert "test/mape" not in result


def test_logged_names(csv_data, tmp_path):
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(ForecastingTask(Scaled(2), ADAM), datamodule=csv_data)
    names = {"mse_last", "rmse", "mae", "mape"}  # the error has one name: forecasts are of the last step alone
    assert set(trainer.callback_metrics) == {"train/loss", "train/lr", *(f"val/{name}" for name in names)}
    assert ForecastingTask.monitor == ("val/mse_last", "min")


def test_targets_and_forecasts_must_agree_in_shape(tmp_path):
    data = TwoSineData(horizon=3, target="sequence")
    with pytest.raises(ValueError, match="data.target=sequence goes with model.all_steps=true"):
        quiet_trainer(tmp_path, max_epochs=1).fit(ForecastingTask(Scaled(3), ADAM), datamodule=data)


def test_predict_step_forecasts_from_the_last_step():
    x = torch.randn(4, 5, 1)
    for all_steps in (False, True):
        task = ForecastingTask(Scaled(3, all_steps), ADAM)
        torch.testing.assert_close(task.predict_step(x), 0.5 * x[:, -1].expand(-1, 3))
        torch.testing.assert_close(task.predict_step((x, x)), 0.5 * x[:, -1].expand(-1, 3))
