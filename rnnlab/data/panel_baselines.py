"""Classical forecasts of the windows of a panel, in levels, and their errors.

N windows, K steps, C columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnnlab.baselines import forecast_by, forecast_errors

if TYPE_CHECKING:
    from rnnlab.data.panel_data import PanelData


class PanelBaselines:
    """Baselines of a data module that is set up.

    What has to be fitted is fitted on train and validation together, column by column, since none of these needs a
    validation part; on logarithms where the data say transform=log.
    """

    def __init__(self, data: PanelData) -> None:
        self.data = data

    def forecasts(self, name: str, origins: Tensor) -> np.ndarray:
        """Return the forecasts (N, K, C) of a method for windows (N, 2) of place and first target row."""
        data, options = self.data, {"log": self.data.scaling.log, **(self.data.given_baselines[name] or {})}
        num_columns = len(data.panel.targets)
        result = np.empty((len(origins), data.horizon, num_columns))
        places, rows = origins.numpy().T
        for place in np.unique(places):
            levels, chosen = data.panel.series[place].target, np.flatnonzero(places == place)
            num_fit = data.borders[place][2]
            for column in range(num_columns):
                result[chosen, :, column] = forecast_by(
                    name, levels[:, column], num_fit, rows[chosen], data.horizon, data.season, **options
                )
        return result

    def truth(self, origins: Tensor) -> np.ndarray:
        """Return the levels (N, K, C) that windows are to forecast."""
        steps = np.arange(self.data.horizon)
        return np.stack([self.data.panel.series[place].target[row + steps] for place, row in origins.tolist()])

    def errors(self, part: str) -> dict[str, float]:
        """Return the errors of all methods over a part."""
        origins = self.data.splits[part][0]
        truth, measures = self.truth(origins), [one[origins[:, 0]].numpy() for one in self.data.measures]
        return {
            f"baseline/{name}/{part}/{metric}": value
            for name in self.data.given_baselines
            for metric, value in forecast_errors(self.forecasts(name, origins), truth, *measures).items()
        }
