"""Forecasts as a table: a line for each step of each series, in the units of its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from rnnlab.baselines.forecast_errors import INTERVALS
from rnnlab.data.clock import write_time
from rnnlab.data.csv_text import write_number
from rnnlab.data.panel import Forecast, Panel


def answer_columns(panel: Panel, intervals: Iterable[int]) -> list[str]:
    """Return the names of the columns of `write_forecasts`.

    Raises:
        ValueError: two would be called the same.
    """
    columns = [panel.form.series_column or "series"] if has_names(panel) else []
    columns.append(panel.form.time_column or "row")
    for target in panel.targets:
        columns += [target, *(f"{target}_{end}{percent}" for percent in intervals for end in ("lo", "hi"))]
    for name in columns:
        if columns.count(name) > 1:
            raise ValueError(
                f"two columns of forecasts would be called {name!r}: give a column of the table another name"
            )
    return columns


def has_names(panel: Panel) -> bool:
    """Return whether series are told apart by name."""
    return len(panel.series) > 1 or panel.series[0].name != ""


def write_forecasts(panel: Panel, forecasts: Sequence[Forecast]) -> str:
    """Return CSV lines: series, if they have names, time, and of each target its forecast and its intervals.

    The intervals of 80 and 95% are columns TARGET_lo80, TARGET_hi80, TARGET_lo95 and TARGET_hi95, of models that give a
    distribution. Each number has the digits that read back to the same float64.

    Args:
        panel: the series, with the times of the forecasts behind their last rows.
        forecasts: in levels, of all series in their order.
    """
    shown = {
        percent: tuple(forecasts[0].levels.index(level) for level in ends)
        for percent, ends in INTERVALS.items()
        if set(ends) <= set(forecasts[0].levels)
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer_columns(panel, shown))
    rows = ((mean, quantiles) for part in forecasts for mean, quantiles in zip(part.mean, part.quantiles, strict=True))
    for one, (mean, quantiles) in zip(panel.series, rows, strict=True):
        times = one.times[one.num_rows :]
        for time, means, spread in zip(times, mean.tolist(), quantiles.tolist(), strict=False):
            line = [one.name] if has_names(panel) else []
            line.append(write_time(time, panel.form.date_format, panel.zone))
            for value, levels in zip(means, spread, strict=True):
                line.append(write_number(value))
                line += [write_number(levels[place]) for ends in shown.values() for place in ends]
            writer.writerow(line)
    return text.getvalue()
