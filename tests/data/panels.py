"""Panels for tests, made by hand."""

import numpy as np

from rnnlab.data.panel import Panel, PanelSeries


def make_panel(num_rows=(40, 30), num_targets=2, num_past=1, num_known=2, ahead=0, seed=0) -> Panel:
    """Return series of positive random walks, with noise as covariates."""
    generator = np.random.default_rng(seed)
    series = []
    for number, rows in enumerate(num_rows):
        target = np.exp(0.1 * generator.standard_normal((rows, num_targets)).cumsum(axis=0)) * 10.0**number
        past = generator.standard_normal((rows, num_past)) * 5 + 100
        known = generator.standard_normal((rows + ahead, num_known)) * 3 - 7
        times = np.datetime64("2020-01-01", "ns") + np.arange(rows + ahead) * np.timedelta64(1, "h")
        series.append(PanelSeries(f"s{number}" if len(num_rows) > 1 else "", times, target, past, known))
    return Panel(
        series,
        [f"y{k}" for k in range(num_targets)],
        [f"p{k}" for k in range(num_past)],
        [f"k{k}" for k in range(num_known)],
        [],
    )
