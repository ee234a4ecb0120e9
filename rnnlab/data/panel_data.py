"""A table of series as a forecasting task: many columns, many series, covariates, with answers in the table's units.

Letters as in `rnnlab.data.panel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnnlab.baselines.forecast_errors import INTERVALS
from rnnlab.baselines.rivals import check_rival
from rnnlab.data.checks import check_batch_size, check_choice, check_fraction, check_integer
from rnnlab.data.clock import write_time
from rnnlab.data.files import sha256_of
from rnnlab.data.panel import Forecast, ForecastBatch, Panel, PanelSeries, columns_apart
from rnnlab.data.panel_answers import answer_columns
from rnnlab.data.panel_baselines import PanelBaselines
from rnnlab.data.panel_questions import PanelQuestions
from rnnlab.data.panel_scaling import PanelScaling
from rnnlab.data.panel_statistics import Denominators, constant_target, denominators, learn, learn_series
from rnnlab.data.panel_windows import PanelWindows
from rnnlab.data.tables import TableForm, read_table

_PARTS = ("train", "val", "test")
# Of a form, found out where they are not given.
_MEANINGS = ("targets", "categories", "frequency", "date_format", "decimal", "thousands")
_FITTING = ("log", "refit", "fit_last")  # options of any baseline


class PanelData(PanelQuestions):
    """The series of a table, split by time, in windows.

    The split is by time, for each series alone: test is its end, validation lies before it, the rest is train. A window
    belongs to the part that holds all its targets; its inputs may reach back across the border, as they would in use.
    Windows are gathered when they are asked for (`rnnlab.data.panel.ForecastBatch`).

    Args:
        table: arguments of `rnnlab.data.tables.TableForm`: which columns there are, and how the file is read.
        path: CSV or Parquet; a relative path is tried as given, then under the folder named by RNNLAB_DATA.
        window: W, steps the model sees.
        horizon: K, steps to forecast.
        columns: 'together': a window has all target columns; 'apart': each is a series of its own (`columns_apart`).
        transform, difference, seasonal_difference, scale: as in `PanelScaling`.
        season: steps of a season, for the seasonal naive forecast and the errors that are divided by its own.
        val_size, test_size: rows of a part of each series: an integer, or a fraction of its rows.
        max_rows: how many rows of each series are read at most, from its beginning.
        unseen: how many series of the table, the last by name, no model is trained on: they are the test part.
        stride: rows from a training window to the next; those of other parts are 1 apart.
        batch_size: windows a batch.
        eval_batch_size: windows a batch of the other parts.
        seed: decides the order of training.
        baselines: names of `rnnlab.baselines.forecast_by`, or a mapping of names to options.

    Raises:
        ValueError: an argument is out of range, a part is too short for one window, or as `read_table`.
    """

    remembers = True
    unit = "windows"

    def __init__(
        self,
        path: str | Path,
        table: Mapping[str, Any],
        window: int,
        horizon: int = 1,
        columns: str = "together",
        transform: str = "none",
        difference: bool = False,
        seasonal_difference: int | None = None,
        scale: str = "train",
        season: int | None = None,
        val_size: int | float = 0.1,
        test_size: int | float = 0.2,
        max_rows: int | None = None,
        unseen: int = 0,
        stride: int = 1,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        seed: int = 0,
        baselines: Sequence[str] | Mapping[str, Mapping[str, Any] | None] = ("naive",),
    ) -> None:
        super().__init__(check_integer("batch_size", batch_size, 1), seed)
        self.path, self.form = path, TableForm(**table)
        self.window = check_integer("window", window, 1)
        self.horizon = check_integer("horizon", horizon, 1)
        self.columns = check_choice("columns", columns, ("together", "apart"))
        self.scaling = PanelScaling(transform, difference, seasonal_difference, scale)
        self.season = None if season is None else check_integer("season", season, 1)
        self.val_size, self.test_size = _check_size("val_size", val_size), _check_size("test_size", test_size)
        self.max_rows = None if max_rows is None else check_integer("max_rows", max_rows, 1)
        self.unseen, self.stride = check_integer("unseen", unseen, 0), check_integer("stride", stride, 1)
        self.eval_batch_size = check_integer("eval_batch_size", eval_batch_size, 1)
        if self.form.missing == "mask" and self.scaling.context:
            raise ValueError("missing=mask leaves values out that differences need: missing=hold or linear fills them")
        baselines = [baselines] if isinstance(baselines, str) else baselines
        self.given_baselines = dict(baselines) if isinstance(baselines, Mapping) else dict.fromkeys(baselines)
        for name, options in self.given_baselines.items():
            check_rival(
                name, {key: value for key, value in (options or {}).items() if key not in _FITTING}, self.season
            )
        self._asked = self.horizon
        self._state: dict[str, Any] = {}

    # Reading.

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        self.panel = self._shortened(self._read(self.path))
        self.notes = list(self.panel.notes)
        series = self.panel.series
        columns_each = len(self.panel.form.targets or ()) if self.columns == "apart" else 1
        if self.unseen * columns_each >= len(series):
            there = len(series) // columns_each
            raise ValueError(f"unseen must be less than the {there} series of {self.path}, got {self.unseen}")
        self._num_seen = len(series) - self.unseen * columns_each
        self.borders = [self._borders(one) for one in series]
        splits = {part: (self._origins(part),) for part in _PARTS}  # refuses parts without a window
        self._num_train = [borders[1] for borders in self.borders]
        for one, num_train in zip(series, self._num_train, strict=True):
            if not num_train:
                raise ValueError(
                    f"{self.path}: series {one.name!r} has {one.num_rows} rows, of which val_size and test_size leave "
                    "none to train on, nor to scale it by"
                )
        name = None if self.scaling.scale == "none" else constant_target(self.panel, self._num_train)
        if name is not None:
            raise ValueError(f"{self.path}: target {name!r} is constant over the training part: scale must be none")
        self.measures = denominators(series, self._num_train, self.season or 1)  # (S, C)
        sha256 = sha256_of(self.path, "table")
        if not self._state:
            seen = self.panel._replace(series=series[: self._num_seen])
            state = learn(seen, self.scaling, self._num_train[: len(seen.series)])
            self._know(
                {
                    **state,
                    "form": {field: getattr(self.panel.form, field) for field in _MEANINGS},
                    "settings": self._settings(),
                    "sha256": sha256,
                }
            )
        elif self._state["sha256"] != sha256:
            self.notes.append(f"{self.path} is not, or no longer, the table that this run was trained on")
        self._check_columns(self.panel)
        answer_columns(self.panel, INTERVALS)  # refuses names that would stand there twice
        self.windows = self._lay(series, self._num_train)
        return splits

    def _read(self, path: str | Path, encoding: str | None = None, ahead: int = 0) -> Panel:
        """Read a table; what columns and dates mean is what a run found out, if there is one."""
        found = self._state["form"] if self._state else {}
        given = {field: value for field, value in self.form._asdict().items() if value is not None}
        form = TableForm(**{**found, **given, **({} if encoding is None else {"encoding": encoding})})
        panel = read_table(path, form, ahead=ahead)
        if self.scaling.log:
            _check_positive(path, panel)
        return columns_apart(panel) if self.columns == "apart" else panel

    def _shortened(self, panel: Panel) -> Panel:
        if self.max_rows is None:
            return panel
        cut = slice(self.max_rows)
        return panel._replace(
            series=[
                PanelSeries(one.name, one.times[cut], one.target[cut], one.past[cut], one.known[cut])
                for one in panel.series
            ]
        )

    def _borders(self, one: PanelSeries) -> list[int]:
        """Return the rows at which training, validation and test begin, and the end."""
        val, test = (
            max(1, round(size * one.num_rows)) if isinstance(size, float) else size
            for size in (self.val_size, self.test_size)
        )
        return [0, max(0, one.num_rows - val - test), max(0, one.num_rows - test), one.num_rows]

    def _origins(self, part: str) -> Tensor:
        """Return place and first target row (N, 2) of all windows of a part."""
        place, numbers = _PARTS.index(part), range(len(self.panel.series))
        if self.unseen:
            numbers = numbers[self._num_seen :] if part == "test" else numbers[: self._num_seen]
        spans = {number: self.borders[number][place : place + 2] for number in numbers}
        found = [self._rows_of(number, *span, self.stride if part == "train" else 1) for number, span in spans.items()]
        origins = torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found))
        if not len(origins):
            rows = f"{max(stop - start for start, stop in spans.values())} rows"
            rows += " of each series" if len(spans) > 1 else ""
            raise ValueError(
                f"{self.path}: the {part} part has at most {rows}, too few for a window: its "
                f"first target needs {self.context} rows before it, and horizon is {self.horizon}"
            )
        if part == "train":
            check_batch_size(self.batch_size, len(origins))
        return origins

    def _rows_of(self, number: int, start: int, stop: int, stride: int) -> np.ndarray:
        """Return place and first target row (N, 2) of the windows of a series whose targets are in these rows.

        With missing=mask, those of which some input and some target are known.
        """
        rows = np.arange(max(start, self.context), stop - self.horizon + 1, stride)
        if self.form.missing == "mask":
            is_known = np.isfinite(self.panel.series[number].target).any(axis=1)
            count = np.concatenate([[0], np.cumsum(is_known)])
            rows = rows[(count[rows + self.horizon] > count[rows]) & (count[rows] > count[rows - self.window])]
        return np.stack([np.full(len(rows), number), rows], axis=1)

    @property
    def context(self) -> int:
        """How many rows before its first target a window needs."""
        return self.window + self.scaling.context

    # What a run takes for granted.

    def _know(self, state: dict[str, Any]) -> None:
        self._state = state
        self._numbers = {name: number for number, name in enumerate(state["series"], start=1)}
        num_targets, num_known = len(state["targets"]), len(state["known"])
        seen = num_targets * (2 if self.form.missing == "mask" else 1)
        self.sizes = {
            "input_size": seen + len(state["past"]) + num_known,
            "future_size": num_known,
            "num_targets": num_targets,
            "horizon": self.horizon,
            "num_series": len(state["series"]),
        }

    def _settings(self) -> dict[str, Any]:
        """Return what decides how a model reads windows: it reads others without a complaint, and wrongly."""
        return {
            "columns": self.columns,
            "transform": "log" if self.scaling.log else "none",
            "difference": self.scaling.difference,
            "seasonal_difference": self.scaling.season or None,
            "scale": self.scaling.scale,
            "table.calendar": list(self.form.calendar),
        }

    def _check_columns(self, panel: Panel) -> None:
        for what, there in (("targets", panel.targets), ("past", panel.past), ("known", panel.known)):
            if there != self._state[what]:
                raise ValueError(
                    f"columns differ from those of training: {what} are {', '.join(there) or 'none'}, and "
                    f"{', '.join(self._state[what]) or 'none'} in the run"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: columns, and the scaling of each series."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know series and scaling of a run, without its table.

        Raises:
            ValueError: another table was read, and taken for the one to train on; or windows are scaled otherwise.
        """
        remembered = state_dict.get("settings", {})  # none of a run that is older than they
        for name, given in self._settings().items():
            if given != (trained := remembered.get(name, given)):
                raise ValueError(f"data.{name} is {trained!r} in the run, and cannot be {given!r} afterwards")
        if self._state and self._state["sha256"] != state_dict["sha256"]:
            raise ValueError(
                f"{self.path} is not the table this run was trained on: bring the former one back, or train anew"
            )
        self._know(state_dict)

    def _lay(self, series: Sequence[PanelSeries], num_train: Sequence[int]) -> PanelWindows:
        """Return the windows of series; one that the run does not know is scaled by its own first rows."""
        statistics = [
            self._state["series"].get(one.name) or learn_series(one, self.scaling, rows)
            for one, rows in zip(series, num_train, strict=True)
        ]

        def stacked(*names: str) -> tuple[Tensor, Tensor]:
            first, second = (torch.tensor([one[name] for one in statistics], dtype=torch.float64) for name in names)
            return first, second

        return PanelWindows(
            series,
            self.scaling,
            self.window,
            stacked("mean", "deviation"),
            stacked("past_mean", "past_deviation"),
            (torch.tensor(self._state["known_mean"]).double(), torch.tensor(self._state["known_deviation"]).double()),
            torch.tensor([self._numbers.get(one.name, 0) for one in series]),
            self.form.missing == "mask",
        )

    # Batches.

    def rehearsal_batch(self) -> ForecastBatch:
        return self.windows.gather(self.splits["train"][0][:2], self.horizon)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.batch_size, self.order_seed)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", self.eval_batch_size)

    def _loader(self, part: str, batch_size: int, shuffle_seed: int | None = None) -> DataLoader:
        origins = self.splits[part][0]
        return self.served(self.windows.loader(origins, self.horizon, batch_size, shuffle_seed, self.share))

    def inverse(self, values: Tensor) -> Tensor:
        """Return levels of values loc + scale * v."""
        return self.scaling.inverse(values)

    def in_levels(self, batch: ForecastBatch, forecast: Forecast) -> Forecast:
        """Return a forecast of a batch in levels, float64."""
        loc, scale = batch.loc, batch.scale
        return forecast._replace(
            mean=self.inverse(loc + scale * forecast.mean),
            quantiles=self.inverse(loc.unsqueeze(-1) + scale.unsqueeze(-1) * forecast.quantiles),
        )

    def denominators(self, batch: ForecastBatch) -> Denominators:
        """Return what errors of each window of a batch are divided by."""
        places = batch.origin[:, 0].cpu()
        return Denominators(*(part[places].to(batch.loc.device) for part in self.measures))

    # Baselines.

    def baselines(self) -> dict[str, float]:
        """Return the errors of baselines over the windows of test, keys 'baseline/<name>/test/<metric>'."""
        self.setup()
        return PanelBaselines(self).errors("test")


def _check_positive(path: str | Path, panel: Panel) -> None:
    for one in panel.series:
        for row, column in np.argwhere(one.target <= 0)[:1].tolist():
            whose = f" of series {one.name!r}" if one.name else ""
            time = write_time(one.times[row], panel.form.date_format, panel.zone)
            raise ValueError(
                f"{path}: transform=log needs positive values, got {one.target[row, column]:g} in column "
                f"{panel.targets[column]!r}{whose} at {panel.form.time_column or 'row'} {time}"
            )


def _check_size(name: str, size: int | float) -> int | float:
    return check_fraction(name, size) if isinstance(size, float) else check_integer(name, size, 1)
