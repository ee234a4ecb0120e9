"""What the numbers of a run say about its baselines, whose names are 'baseline/NAME/SPLIT/METRIC'."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Parts of the names of metrics that are better when higher; of all others less is better.
_RISING = ("accuracy", "exact_match", "f1", "precision", "sensitivity")


def baselines_of(metrics: Mapping[str, float], key: str) -> dict[str, float]:
    """Return the baselines that compare with a metric, as 'val/accuracy', by name, the best first."""
    found = {}
    for name, value in metrics.items():
        parts = name.split("/", 2)
        if parts[0] == "baseline" and parts[2:] == [key] and math.isfinite(float(value)):
            found[parts[1]] = float(value)
    return dict(sorted(found.items(), key=lambda item: item[1], reverse=_rises(key)))


def compared(metrics: Mapping[str, float]) -> list[str]:
    """Return the metrics of a run, as 'test/rmse', that it has baselines of, in the order of these."""
    keys = [key.split("/", 2)[2] for key in metrics if key.startswith("baseline/") and key.count("/") == 3]
    return [key for key in dict.fromkeys(keys) if key in metrics and baselines_of(metrics, key)]


def verdict(metrics: Mapping[str, float], monitor: str) -> str | None:
    """Return one line, whether the best baseline was beaten and by which numbers; None if there is none to compare.

    It is of the test part if that has baselines, and of the metric that picks the best checkpoint if they have it.

    Args:
        metrics: final numbers of a run, baselines among them.
        monitor: the metric that picks the best checkpoint, as 'val/accuracy'.
    """
    keys = compared(metrics)
    if not keys:
        return None
    wanted = monitor.partition("/")[2]
    key = min(keys, key=lambda key: (not key.startswith("test/"), key.partition("/")[2] != wanted))
    (name, best), *_ = baselines_of(metrics, key).items()
    value = float(metrics[key])
    is_beaten = value > best if _rises(key) else value < best
    return f"best baseline {name} {'beaten' if is_beaten else 'not beaten'}: {key} {value:.5g} against {best:.5g}"


def _rises(key: str) -> bool:
    return any(part in key for part in _RISING)
