"""Forecasting of panels: a batch by heart, errors in levels, missing targets, intervals of a process that is known."""

from functools import partial

import numpy as np
import pytest
import torch

import rnnlab.nn
from rnnlab.baselines import forecast_errors
from rnnlab.data import PanelData
from rnnlab.models import RecursiveForecaster, SeriesForecaster
from rnnlab.models.heads import HEADS, LEVELS
from rnnlab.tasks import SeriesForecastingTask
from tests.tasks.helpers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

ADAM = partial(torch.optim.Adam, lr=1e-2)
MODELS = {"direct": SeriesForecaster, "recursive": RecursiveForecaster}
SETTINGS = {"window": 8, "horizon": 3, "val_size": 20, "test_size": 20, "batch_size": 16, "baselines": []}


@pytest.fixture
def panel(tmp_path):
    """Return a function that makes data of a table (rows, C), columns y0, y1 and so on, empty where NaN."""

    def make(values, **settings):
        names = [f"y{column}" for column in range(values.shape[1])]
        lines = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in values]
        (tmp_path / "table.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
        table = {"targets": names, **settings.pop("table", {})}
        data = PanelData(tmp_path / "table.csv", table, **{**SETTINGS, **settings})
        data.setup()
        return data

    return make


def walks(num_rows=120, num_columns=2, seed=0):
    return np.exp(3 + 0.1 * np.random.default_rng(seed).standard_normal((num_rows, num_columns)).cumsum(axis=0))


def task_of(kind, data, head="gaussian", hidden_size=6, **options):
    torch.manual_seed(0)
    rnn = partial(rnnlab.nn.GRU, hidden_size=hidden_size)
    return SeriesForecastingTask(MODELS[kind](rnn, **data.sizes, head={"name": head}, **options), ADAM)


def result_of(task, data, tmp_path):
    (result,) = quiet_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("head", ["point", "quantile", "student_t"])
def test_one_batch_is_learnt_by_heart(kind, head, panel, tmp_path):
    data = panel(walks(60), batch_size=8)
    data.splits = dict.fromkeys(data.splits, (data.splits["train"][0][:8],))
    trainer = quiet_trainer(tmp_path, max_epochs=400, check_val_every_n_epoch=400, gradient_clip_val=1.0)
    trainer.fit(task_of(kind, data, head, hidden_size=32), datamodule=data)
    variance = data.rehearsal_batch().target.var().item()
    assert trainer.callback_metrics["val/mse"] < 0.1 * max(variance, 0.1)


@pytest.mark.parametrize("head", ["point", "quantile"])
@pytest.mark.parametrize("settings", [{}, {"transform": "log", "difference": True}, {"scale": "window_mean"}])
def test_errors_are_those_of_forecasts_in_levels(head, settings, panel, tmp_path):
    data = panel(walks(), eval_batch_size=5, **settings)
    task = task_of("direct", data, head)
    found = result_of(task, data, tmp_path)
    batch = data.windows.gather(data.splits["test"][0], data.horizon)
    with torch.inference_mode():
        mean, quantiles = task.model.forecast(batch, LEVELS)
        loss = task.model.loss(batch)[0].mean().item()
    to_levels = np.exp if settings.get("transform") == "log" else lambda values: values
    loc, scale = batch.loc.numpy(), batch.scale.numpy()
    truth = np.stack([data.panel.series[0].target[row : row + 3] for _, row in batch.origin.tolist()])
    expected = forecast_errors(
        to_levels(loc + scale * mean.numpy()),
        truth,
        *(part.numpy() for part in data.denominators(batch)),
        to_levels(loc[..., None] + scale[..., None] * quantiles.numpy()),
        LEVELS if head == "quantile" else (),
    )
    assert found.pop("test/loss") == pytest.approx(loss, rel=1e-5)
    assert found == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-5)
    assert ("test/crps" in found) == (head == "quantile")
    assert task.monitor == ("val/crps" if head == "quantile" else "val/mse", "min")


def test_missing_targets_have_no_part(panel, tmp_path):
    values = walks()
    values[np.random.default_rng(1).uniform(size=values.shape) < 0.2] = np.nan
    data = panel(values, table={"missing": "mask"})
    task = task_of("direct", data, "quantile")
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=data)
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    assert all(parameter.isfinite().all() for parameter in task.parameters())
    assert all(np.isfinite(value) for value in result_of(task, data, tmp_path).values())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", MODELS)
def test_every_head_trains_and_answers(kind, head, panel, tmp_path):
    counts = np.random.default_rng(0).poisson(7, (120, 1)).astype(float)
    data = panel(counts, scale="window_mean")
    task = task_of(kind, data, head)
    task.check(data.rehearsal_batch())
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(task, datamodule=data)
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    forecast = task.eval().predict_step(data.rehearsal_batch())
    assert forecast.levels == (() if head == "point" else LEVELS)
    assert forecast.quantiles.shape == (2, 3, 1, len(forecast.levels))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("head", ["gaussian", "quantile"])
def test_intervals_of_a_known_process(kind, head, panel, tmp_path):
    """An AR(1) process: its intervals have their share, and its CRPS is that of the right distribution."""
    rng, rho = np.random.default_rng(0), 0.8
    noise, values = rng.standard_normal(6000), np.zeros(6000)
    for step in range(1, 6000):
        values[step] = rho * values[step - 1] + noise[step]
    settings = {"val_size": 500, "test_size": 2000, "batch_size": 64, "scale": "none"}
    data = panel(values[:, None], **settings)
    task = task_of(kind, data, head, hidden_size=8)
    quiet_trainer(tmp_path, max_epochs=8, check_val_every_n_epoch=8).fit(task, datamodule=data)
    found = result_of(task, data, tmp_path)
    # 2000 dependent values: some 700 independent ones, a deviation of 0.015 and 0.008.
    assert found["test/coverage_80"] == pytest.approx(0.80, abs=0.045)
    assert found["test/coverage_95"] == pytest.approx(0.95, abs=0.025)
    deviations = np.sqrt(np.cumsum(rho ** (2 * np.arange(3))))
    best = deviations.mean() * np.pi**-0.5 / data.measures.deviation.item()
    assert found["test/crps"] == pytest.approx(best, rel=0.05)


def test_what_cannot_be_forecast_is_refused(panel):
    data = panel(walks(), difference=True)
    with pytest.raises(ValueError, match="data.difference=false"):
        task_of("recursive", data).check(data.rehearsal_batch())
    with pytest.raises(ValueError, match="is for counts"):
        task_of("direct", data, "negative_binomial").check(data.rehearsal_batch())
    with pytest.raises(ValueError, match="whole numbers from 0, and the targets have"):
        task_of("direct", data, "negative_binomial").check_data(data)
