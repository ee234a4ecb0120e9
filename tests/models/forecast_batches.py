"""Batches of windows for tests, made by hand."""

import torch

from rnnlab.data.panel import ForecastBatch


def make_batch(num_windows=4, window=9, horizon=3, num_targets=2, num_known=0, num_past=0, seed=0, scale=2.0):
    """Return windows of numbers from a generator, whose levels are 5 + scale * v."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(num_windows, *shape, generator=generator)

    shape = (num_windows, horizon, num_targets)
    return ForecastBatch(
        past=numbers(window, num_targets + num_past + num_known),
        future=numbers(horizon, num_known),
        series=torch.arange(num_windows) % 3,
        target=numbers(horizon, num_targets),
        loc=torch.full(shape, 5.0, dtype=torch.float64),
        scale=torch.full(shape, scale, dtype=torch.float64),
        origin=torch.stack([torch.zeros(num_windows, dtype=torch.long), torch.arange(num_windows) + window], dim=1),
    )


def sizes_of(batch):
    """Return what models of such batches take."""
    return {
        "input_size": batch.past.shape[2],
        "future_size": batch.future.shape[2],
        "num_targets": batch.target.shape[2],
        "horizon": batch.target.shape[1],
        "num_series": 2,
    }
