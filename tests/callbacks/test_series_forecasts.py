"""Pictures of forecasts of a table: any head, any horizon, values that are missing."""

from functools import partial

import numpy as np
import pytest
import torch

import rnnlab.nn
from rnnlab.callbacks.series_forecasts import calibration, forecasts
from rnnlab.data import PanelData
from rnnlab.models import SeriesForecaster
from rnnlab.tasks import SeriesForecastingTask


@pytest.mark.parametrize("head", ["point", "gaussian"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_pictures(head, horizon, tmp_path):
    values = np.random.default_rng(0).normal(10, 1, 90)
    lines = ["" if k % 9 == 0 else f"{value:.3f}" for k, value in enumerate(values)]
    (tmp_path / "t.csv").write_text("y,z\n" + "".join(f"{line},1\n" for line in lines))
    table = {"targets": ["y"], "missing": "mask"}
    settings = {"window": 6, "val_size": 10, "test_size": 20, "batch_size": 4}
    data = PanelData(tmp_path / "t.csv", table, horizon=horizon, **settings)
    data.setup()
    model = SeriesForecaster(partial(rnnlab.nn.GRU, hidden_size=4), **data.sizes, head={"name": head})
    task = SeriesForecastingTask(model, partial(torch.optim.Adam, lr=0.1))
    figure = forecasts(data, task, 4, "title")
    figure.savefig(tmp_path / "forecasts.png")
    assert len(figure.axes) == 4
    labels = {text.get_text() for text in figure.legends[0].texts}
    assert labels == {"known", "truth", "forecast", *(("80%", "95%") if head == "gaussian" else ())}
    if head == "gaussian":
        figure = calibration(data, task, 10, "title")
        figure.savefig(tmp_path / "calibration.png")
        lines = figure.axes[0].get_legend_handles_labels()[1]
        assert lines == (["all steps"] if horizon == 1 else ["all steps", "step 1", "step 3"])
    assert task.training
