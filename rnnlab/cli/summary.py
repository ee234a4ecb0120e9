"""Many runs as few rows: which settings tell them apart, and what their seeds come to."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnnlab.analysis.baselines import compared
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.naming import UNTOLD
from rnnlab.cli.records import Record, cell_of


@dataclass
class Row:
    """The runs of one configuration.

    Attributes:
        settings: values of the keys that tell configurations apart.
        metric: its name; None if no run is finished.
        values: the metric of each finished run that has it.
        seconds: mean time of training, NaN if none is known.
        states: how many runs are in which state.
    """

    settings: tuple[str, ...]
    metric: str | None
    values: list[float]
    seconds: float
    states: Counter[str]

    @property
    def statistics(self) -> dict[str, float]:
        """Return n, mean, standard deviation (n - 1), minimum and maximum; NaN where there are too few values."""
        values, n = self.values, len(self.values)
        if not n:
            return {"n": 0, "mean": math.nan, "std": math.nan, "min": math.nan, "max": math.nan}
        if not all(map(math.isfinite, values)):  # a run that diverged is no reason to speak of the others alone
            return {"n": n, "mean": math.nan, "std": math.nan, "min": math.nan, "max": math.nan}
        std = statistics.stdev(values) if n > 1 else math.nan
        return {"n": n, "mean": statistics.fmean(values), "std": std, "min": min(values), "max": max(values)}


def summarise(records: Sequence[Record], by: Sequence[str], metric: str | None) -> list[Row]:
    """Return a row for each configuration, in the order of its settings, numbers by their size.

    Args:
        records: the runs.
        by: keys that tell configurations apart.
        metric: of all rows; None for what `choose_metric` says of each.

    Raises:
        UsageError: no run has such a key, or such a metric.
    """
    if metric is not None:
        choose_metric(records, metric)
    columns = [_column(records, key) for key in by]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record, *settings in zip(records, *columns, strict=True):
        groups.setdefault(tuple(settings), []).append(record)
    return [_row(settings, groups[settings], metric) for settings in sorted(groups, key=_natural)]


def _row(settings: tuple[str, ...], records: list[Record], metric: str | None) -> Row:
    metric = metric or choose_metric(records, None)
    values = [float(record.metrics[metric]) for record in records if metric in record.metrics]
    seconds = [record.metrics["time/fit_s"] for record in records if "time/fit_s" in record.metrics]
    mean_seconds = math.fsum(seconds) / len(seconds) if seconds else math.nan
    return Row(settings, metric, values, mean_seconds, Counter(record.state for record in records))


def differing_keys(records: Sequence[Record]) -> list[str]:
    """Return which keys the command lines set differently, seed and places of files aside."""
    keys = dict.fromkeys(key for record in records for key in record.words if not key.startswith(UNTOLD))
    return [key for key in keys if len({record.words.get(key) for record in records}) > 1]


def choose_metric(records: Sequence[Record], wanted: str | None) -> str | None:
    """Return the metric to report: the one that is wanted, or else the first of the test part that has a baseline.

    Where nothing has, it is the first of the test part, or of the validation part; None if no run is finished.

    Raises:
        UsageError: no finished run has the metric.
    """
    names = dict.fromkeys(name for record in records for name in record.metrics)
    if wanted is not None:
        if names and wanted not in names:
            there = [name for name in names if not name.startswith(("baseline/", "optimum/"))]
            raise UsageError(f"no run has metric={wanted}{nearest(wanted, names)}; there are {', '.join(there)}")
        return wanted if names else None
    measured = [name for name in names if name.startswith(("test/", "val/"))]
    first = next((record.metrics for record in records if record.metrics), {})
    has_baseline = set(compared(first))

    def rank(name: str) -> tuple[bool, bool, bool]:
        return not name.startswith("test/"), name not in has_baseline, name.endswith("/loss")

    return min(measured or names, key=rank, default=None)


def _column(records: Sequence[Record], key: str) -> list[str]:
    """Return the value of a key for each run: the word of the command line, or that of its configuration.

    Raises:
        UsageError: no run has such a key.
    """
    words = [record.words.get(key) for record in records]
    if None not in words:
        return [str(word) for word in words]
    configured = [_configured(record.config, key) for record in records]
    if not any((*words, *configured)):
        known = {name for record in records[:1] for name in (*record.words, *_keys(record.config))}
        raise UsageError(f"by={key}: no run has such a setting{nearest(key, known)}")
    return [in_config or word or "" for in_config, word in zip(configured, words, strict=True)]


def _configured(config: dict[str, Any], key: str) -> str | None:
    """Return what a configuration says of a key as text, of an object its class; None where it says nothing."""
    if key == "experiment":
        return config.get("name")
    if key in ("rnn", "cell"):
        return cell_of(config) or None
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    if isinstance(value, dict):
        return str(value["_target_"]).rpartition(".")[2] if "_target_" in value else None
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _keys(value, f"{prefix}{key}.")
    return names


def _natural(settings: Sequence[str]) -> list[tuple[int, float, str]]:
    """Return what texts are sorted by: numbers by their size, and before words."""
    order = []
    for text in settings:
        try:
            order.append((0, float(text), text))
        except ValueError:
            order.append((1, 0.0, text))
    return order
