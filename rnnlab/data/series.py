"""The user's own series from a CSV file, split by time, with forecasts scored in the series' own units."""

from __future__ import annotations

import csv
import importlib.util
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnlab.baselines import arima, fit_ols, naive, seasonal_naive
from rnnlab.data.batches import InMemoryData, Queries
from rnnlab.data.checks import check_batch_size, check_choice, check_encoding, check_fraction, check_integer
from rnnlab.data.csv_text import read_columns, write_number
from rnnlab.data.files import sha256_of
from rnnlab.data.question_files import columns_file
from rnnlab.data.times import check_regular_times, read_times

# How many roundings of a value two transformed ones may differ by and still be taken for equal.
_ROUNDINGS = 8
# Beyond these, squares of errors leave float64.
_LEAST, _GREATEST = 1e-100, 1e100


class CSVData(InMemoryData):
    """One column of a CSV file as a forecasting task.

    The series is transformed (log, then difference, then z-score with mean and population deviation of the training
    part), and windows of stride 1 are cut from it. At each step the input holds the transformed value and, for every
    lag L in `lags`, the value L steps before the *next* one: with monthly data and lags (12,), the value one year
    before the month to be forecast. A batch is (x float32 (B, window, 1+len(lags)), y float32 (B, horizon), origin
    float64 (B,)), where origin is the last known value in the series' own units.

    The split is by time: test is the end of the file, validation lies before it, the rest is train. A window belongs to
    the part that holds all its targets; its inputs may reach back across the border, as they would in use.

    Args:
        path: CSV file with a header; a relative path is tried as given, then under the folder named by RNNLAB_DATA.
        column: name of the column to forecast; a whole number stands for its text.
        window: T, steps the model sees.
        horizon: steps to forecast.
        time_column: column of time stamps, checked to be regular; None trusts that rows are equally spaced.
        transform: 'none' or 'log' (the values must be positive).
        difference: forecast the change from step to step (after the log).
        lags: further inputs, each an integer >= 1.
        val_size: rows of the validation part: an integer, or a fraction of all rows.
        test_size: rows of the test part, likewise.
        scale: standardise with training statistics.
        batch_size: windows a batch; at most those of the training part.
        seed: decides the order of training.
        season: steps of one season, adds the seasonal naive baseline.
        arima_order: (p, d, q), adds an ARIMA baseline on the (log) values; needs statsmodels.
        arima_seasonal_order: (P, D, Q, season) of that baseline.
        encoding: of the file, as Python names it.

    Raises:
        ValueError: an argument is out of range, a part is too short for one window, or the file has gaps or cells that
            are no numbers; the latter names line and column.
    """

    def __init__(
        self,
        path: str | Path,
        column: str | int,
        window: int,
        horizon: int = 1,
        time_column: str | int | None = None,
        transform: str = "none",
        difference: bool = False,
        lags: Sequence[int] = (),
        val_size: int | float = 0.1,
        test_size: int | float = 0.2,
        scale: bool = True,
        batch_size: int = 32,
        seed: int = 0,
        season: int | None = None,
        arima_order: Sequence[int] | None = None,
        arima_seasonal_order: Sequence[int] = (0, 0, 0, 0),
        encoding: str = "utf-8",
    ) -> None:
        self.path, self.column = path, _column_name("column", column)
        self.time_column = None if time_column is None else _column_name("time_column", time_column)
        self.encoding = check_encoding(encoding)
        self.window = check_integer("window", window, 1)
        self.horizon = check_integer("horizon", horizon, 1)
        self.transform = check_choice("transform", transform, ("none", "log"))
        self.difference = difference
        self.lags = tuple(check_integer("lags", lag, 1) for lag in lags)
        self.season = None if season is None else check_integer("season", season, 1)
        if arima_order is not None and importlib.util.find_spec("statsmodels") is None:
            raise ValueError(
                'the ARIMA baseline needs statsmodels: pip install "rnnlab[baselines]", or set arima_order to null'
            )
        self.arima_order, self.arima_seasonal_order = arima_order, arima_seasonal_order

        # (rows,) in the series' own units; when they were, if there is a time column
        self.levels, self.times = self._read(path, self.encoding)
        self.sha256 = sha256_of(path, "CSV file")
        self.num_val = _part_size("val_size", val_size, len(self.levels))
        self.num_test = _part_size("test_size", test_size, len(self.levels))
        self.num_train = len(self.levels) - self.num_val - self.num_test
        self.first_targets = self._first_targets()
        if self.season is not None:
            check_integer("season", self.season, 1, int(self.first_targets["test"][0]))
        super().__init__(check_batch_size(batch_size, len(self.first_targets["train"])), seed)

        self.mean, self.deviation = self._scale() if scale else (0.0, 1.0)
        self.sizes = {"input_size": 1 + len(self.lags), "output_size": self.horizon}
        self._forecasts: dict[str, np.ndarray] | None = None  # of the baselines, whose fit may take seconds

    def _scale(self) -> tuple[float, float]:
        """Return mean and deviation of the transformed training part.

        Raises:
            ValueError: it varies no more than its values are rounded, or is too small to be squared.
        """
        levels = self.levels[: self.num_train]
        known, size = self._differenced(levels), np.abs(levels).max()
        # A level is off by half its last bit; a logarithm by that share of it, and by its own last bit.
        rounding = np.finfo(np.float64).eps * (1 + np.abs(np.log(levels)).max() if self.transform == "log" else size)
        if np.ptp(known) <= _ROUNDINGS * rounding:
            what = "the change of column" if self.difference else "column"
            raise ValueError(f"{what} {self.column!r} is constant over the training part: scale must be false")
        if size < _LEAST:
            raise ValueError(
                f"column {self.column!r} is at most {size:.3g}: give it in another unit, in which it is more"
            )
        return float(known.mean()), float(known.std())

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: the file it was trained on, and the scaling of that."""
        return {"sha256": self.sha256, "mean": self.mean, "deviation": self.deviation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scale as the run did that left this state.

        Raises:
            ValueError: the file is not the one of that run.
        """
        if state_dict["sha256"] != self.sha256:
            raise ValueError(
                f"{self.path} is not the file this run was trained on: its sha256 begins with {self.sha256[:12]}, not "
                f"{state_dict['sha256'][:12]}; bring the former file back, or train anew"
            )
        if (self.mean, self.deviation) != (state_dict["mean"], state_dict["deviation"]):
            self.mean, self.deviation = state_dict["mean"], state_dict["deviation"]
            self.splits = self.make_splits()

    @property
    def context(self) -> int:
        """How many rows before its first target a window needs."""
        return self.window + max((*self.lags, 1)) - 1 + int(self.difference)

    def _read(self, path: str | Path, encoding: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the column in its own units, float64 (rows,), and the times as `read_times` does, if there are any."""
        names = [self.column] if self.time_column is None else [self.column, self.time_column]
        column, *times = read_columns(path, names, encoding)
        values = column.numbers()
        for index in np.flatnonzero(np.abs(values) > _GREATEST)[:1]:
            raise ValueError(
                f"{column.place(index)}: values may be at most {_GREATEST:g} in size, got {values[index]:g}"
            )
        if self.transform == "log":
            for index in np.flatnonzero(values <= 0)[:1]:
                raise ValueError(f"{column.place(index)}: transform=log needs positive values, got {values[index]:g}")
        for stamps in times:
            check_regular_times(stamps)
        return values, read_times(times[0]) if times else None

    def _first_targets(self) -> dict[str, np.ndarray]:
        """Return, for each part, the row of the first target of its windows."""
        borders = np.array([0, self.num_train, self.num_train + self.num_val, len(self.levels)])
        result = {}
        for part, start, stop in zip(("train", "val", "test"), borders[:-1], borders[1:], strict=True):
            result[part] = np.arange(max(start, self.context), stop - self.horizon + 1)
            if not len(result[part]):
                raise ValueError(
                    f"the {part} part has {max(stop - start, 0)} of {len(self.levels)} rows, too few for a window: its "
                    f"first target needs {self.context} rows before it, and horizon is {self.horizon}"
                )
        return result

    def _differenced(self, levels: np.ndarray) -> np.ndarray:
        """Return the values after log and difference, one shorter if differenced."""
        values = np.log(levels) if self.transform == "log" else levels
        return np.diff(values) if self.difference else values

    def _windows(self, levels: np.ndarray, first_targets: np.ndarray) -> Tensor:
        """Return the inputs (N, window, 1+len(lags)) of the windows whose first targets are in these rows."""
        values = (self._differenced(levels) - self.mean) / self.deviation
        steps = first_targets[:, None] + np.arange(-self.window, 0) - int(self.difference)  # index of "now" in values
        channels = [values[steps], *(values[steps + 1 - lag] for lag in self.lags)]
        return self._to_single(np.stack(channels, axis=-1))

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        values = (self._differenced(self.levels) - self.mean) / self.deviation
        splits: dict[str, tuple[Tensor, ...]] = {}
        for part, rows in self.first_targets.items():
            targets = values[rows[:, None] + np.arange(self.horizon) - int(self.difference)]
            origin = torch.from_numpy(self.levels[rows - 1])
            splits[part] = (self._windows(self.levels, rows), self._to_single(targets), origin)
        return splits

    def _to_single(self, values: np.ndarray) -> Tensor:
        """Return scaled values in float32; ValueError if they are beyond it."""
        result = torch.from_numpy(values).float()
        if not result.isfinite().all():
            raise ValueError(f"column {self.column!r} holds values that, scaled as in training, are beyond float32")
        return result

    def to_level(self, forecast: Tensor, origin: Tensor) -> Tensor:
        """Undo scaling, difference and log.

        Args:
            forecast: transformed values (B, horizon).
            origin: last known value of each window, in the series' own units (B,).

        Returns:
            Values in the series' own units, float64 (B, horizon).
        """
        values = forecast.double() * self.deviation + self.mean
        origin = origin.double()
        if self.difference:
            start = origin.log() if self.transform == "log" else origin
            values = start[:, None] + values.cumsum(dim=1)
        return values.exp() if self.transform == "log" else values

    def baselines(self) -> dict[str, float]:
        """Return RMSE, MAE and MAPE (%) of classical forecasts of the test windows, in the series' own units.

        Keys are 'baseline/<name>/test/rmse' and so on with the names naive, seasonal_naive (given `season`), ols (same
        inputs as the model) and arima (given `arima_order`); they compare with 'test/rmse'. What has to be fitted is
        fitted on train and validation together, since none of these needs a validation part.
        """
        self.setup()
        rows = self.first_targets["test"]
        truth = self.levels[rows[:, None] + np.arange(self.horizon)]
        result = {}
        for name, forecast in self.baseline_forecasts("test").items():
            for metric, value in _errors(forecast, truth).items():
                result[f"baseline/{name}/test/{metric}"] = value
        return result

    def baseline_forecasts(self, split: str) -> dict[str, np.ndarray]:
        """Return forecasts (N, horizon) of the windows of the test part by name of the method, as `baselines`.

        Raises:
            ValueError: another split is asked for.
        """
        check_choice("split", split, ("test",))
        if self._forecasts is None:
            self._forecasts = self._fit_baselines(self.first_targets["test"])
        return self._forecasts

    def _fit_baselines(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the forecasts of the windows whose first targets are in these rows."""
        history = self.levels[rows[:, None] + np.arange(-(self.season or 1), 0)]
        forecasts = {"naive": naive(history, self.horizon), "ols": self._ols_forecast()}
        if self.season is not None:
            forecasts["seasonal_naive"] = seasonal_naive(history, self.horizon, self.season)
        if self.arima_order is not None:
            if importlib.util.find_spec("statsmodels") is None:
                warnings.warn("the ARIMA baseline is left out: it needs statsmodels, extra `baselines`", stacklevel=2)
            else:
                values = np.log(self.levels) if self.transform == "log" else self.levels
                num_fit = self.num_train + self.num_val
                order, seasonal_order = self.arima_order, self.arima_seasonal_order
                forecast = arima(values, num_fit, rows, self.horizon, order, seasonal_order)
                forecasts["arima"] = np.exp(forecast) if self.transform == "log" else forecast
        return forecasts

    def _ols_forecast(self) -> np.ndarray:
        """Return the test forecasts (N, horizon) of OLS on the model's own inputs."""
        known = [torch.cat(tensors) for tensors in zip(self.splits["train"], self.splits["val"], strict=True)]
        x, _, origin = self.splits["test"]
        ols = fit_ols(known[0].flatten(1).numpy(), known[1].numpy())
        return self.to_level(torch.from_numpy(ols(x.flatten(1).numpy())), origin).numpy()

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a file of the layout trained on; the question is what follows its last row.

        Raises:
            ValueError: as the constructor, or the file has too few rows.
        """
        levels, _ = self._read(path, encoding or self.encoding)
        if len(levels) < self.context:
            raise ValueError(f"{path}: a forecast needs at least {self.context} rows, got {len(levels)}")
        inputs = self._windows(levels, np.array([len(levels)]))
        return Queries(inputs, torch.from_numpy(levels[-1:]))

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return CSV lines "step,<column>", steps counted from the last row read, in the series' own units.

        Each number has the digits that read back to the same float64.
        """
        forecast = self.answers(queries, outputs)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", self.column])
        writer.writerows((step, write_number(value)) for step, value in enumerate(forecast.tolist(), start=1))
        return text.getvalue()

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return a data frame with the columns trained on, or the values of a series without times, as a question."""
        if isinstance(questions, Path):
            return self.read_queries(questions)
        if hasattr(questions, "to_csv"):
            questions.to_csv(folder / "questions.csv", index=False)
            return self.read_queries(folder / "questions.csv", "utf-8")
        if self.time_column is not None:
            raise ValueError(f"expected a data frame with the columns {self.time_column} and {self.column}, or a Path")
        values = np.asarray(questions, dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f"expected the values of a series (N,), got shape {values.shape}")
        return self.read_queries(columns_file({self.column: values.tolist()}, folder), "utf-8")

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> np.ndarray:
        """Return the forecast (horizon,) in the series' own units."""
        return self.to_level(torch.cat(list(outputs)), queries.context)[0].numpy()


def _column_name(argument: str, name: str | int) -> str:
    """Return the name of a column, which YAML may have taken for a number."""
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise ValueError(f"{argument} must be the name of a column, got {name!r}")
    return str(name)


def _part_size(name: str, size: int | float, num_rows: int) -> int:
    """Return the rows of a part given as a count or as a fraction of all rows."""
    if isinstance(size, float):
        return max(1, round(check_fraction(name, size) * num_rows))
    return check_integer(name, size, 1, max(num_rows - 1, 1))


def _errors(forecast: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return RMSE, MAE and MAPE (%); the latter only where no true value is 0."""
    error = forecast - truth
    result = {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}
    if (truth != 0).all():
        result["mape"] = float(100 * np.mean(np.abs(error / truth)))
    return result
