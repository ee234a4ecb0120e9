"""The two-sine series from what they are made of: f1, f2, o1 and o2 as one vector, the whole wave as its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.batches import InMemoryData, Queries, split_rows
from rnnlab.data.checks import check_batch_size, check_integer
from rnnlab.data.csv_text import read_cells, read_number, write_number
from rnnlab.data.sines import pure_waves

PARAMETERS = ("f1", "f2", "o1", "o2")
NOISE_FLOOR = 0.1**2 / 12  # the variance of 0.1 (U - 0.5): the error of who knows everything else

_PARTS = {"train": 7_000, "val": 2_000, "test": 1_000}


class WaveData(InMemoryData):
    """Two-sine series with what they were drawn from: 7,000 or more for training, 2,000 validation, 1,000 test.

    A batch is (vectors float32 (B, 4), waves float32 (B, T)). The vectors and the T steps are those of
    `rnnlab.data.sines.two_sines`, number by number, as far as these go: training waves beyond 7,000 are drawn apart, so
    that the others stay what they are. The steps go on behind time 1 at the same distance, for who wants
    to see what a model writes past what it was trained on.

    Attributes:
        longer: vectors and waves of T * `times_longer` steps of validation and test, known after `setup`; the first T
            are those of the batches.
        vector_names: what the numbers of a vector are called.
        noise_floor: variance of the noise.

    Args:
        num_steps: T, at least 2: time runs from 0 to 1.
        times_longer: how many times T the longer waves are.
        num_train: training waves, at least 7,000.
        batch_size: waves a batch; at most `num_train`.
        seed: decides the waves.
        shuffle_seed: decides the order of training only.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    unit = "waves"
    vector_names = PARAMETERS
    noise_floor = NOISE_FLOOR

    def __init__(
        self,
        num_steps: int = 50,
        times_longer: int = 4,
        num_train: int = 7_000,
        batch_size: int = 64,
        seed: int = 42,
        shuffle_seed: int = 0,
    ) -> None:
        self.num_steps = check_integer("num_steps", num_steps, 2)
        self.times_longer = check_integer("times_longer", times_longer, 1)
        self.seed = check_integer("seed", seed, 0, 2**32 - 1)
        self.num_train = check_integer("num_train", num_train, _PARTS["train"])
        super().__init__(check_batch_size(batch_size, num_train), shuffle_seed)
        self.sizes = {"vector_size": len(PARAMETERS), "num_steps": self.num_steps}
        self.longer: dict[str, tuple[Tensor, ...]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: how long a step is."""
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make sure that a step is as long as it was in training.

        Raises:
            ValueError: it is not.
        """
        if state_dict["num_steps"] != self.num_steps:
            raise ValueError(
                f"this run has learnt waves of {state_dict['num_steps']} steps from time 0 to 1, got num_steps="
                f"{self.num_steps}, of another length each; task.num_steps says how many are written"
            )

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        num_waves = sum(_PARTS.values())
        rng = np.random.RandomState(self.seed)
        parameters = rng.rand(len(PARAMETERS), num_waves, 1)
        time = np.arange(self.num_steps * self.times_longer) / (self.num_steps - 1)
        waves = pure_waves(parameters, time)
        for first in range(0, len(time), self.num_steps):  # what comes later does not change what was drawn before
            waves[:, first : first + self.num_steps] += 0.1 * (rng.rand(num_waves, self.num_steps) - 0.5)
        vectors = torch.from_numpy(parameters[..., 0].T.astype(np.float32))
        longer = split_rows((vectors, torch.from_numpy(waves.astype(np.float32))), list(_PARTS.values()))
        self.longer = {part: longer[part] for part in ("val", "test")}
        splits = {part: (x, y[:, : self.num_steps].contiguous()) for part, (x, y) in longer.items()}
        more = self._draw_more(self.num_train - _PARTS["train"])
        splits["train"] = tuple(map(torch.cat, zip(splits["train"], more, strict=True)))
        return splits

    def _draw_more(self, num_waves: int) -> tuple[Tensor, Tensor]:
        """Return vectors (N, 4) and waves (N, T) of a generator of their own."""
        rng = np.random.default_rng([self.seed, 1])
        parameters = rng.random((len(PARAMETERS), num_waves, 1))
        waves = pure_waves(parameters, np.arange(self.num_steps) / (self.num_steps - 1))
        waves += 0.1 * (rng.random(waves.shape) - 0.5)
        return torch.from_numpy(parameters[..., 0].T.astype(np.float32)), torch.from_numpy(waves.astype(np.float32))

    def baselines(self) -> dict[str, float]:
        """Return the MSE of the mean wave of training, 'baseline/mean/<part>/mse', and the noise floor.

        'optimum/<part>/mse' is the error of the waves without noise, which no model can undercut but by chance:
        `NOISE_FLOOR`, as it came out on the waves of the part.
        """
        self.setup()
        result = {}
        mean = self.splits["train"][1].double().mean(dim=0)
        for part in ("val", "test"):
            vectors, waves = self.splits[part]
            result[f"baseline/mean/{part}/mse"] = float((waves - mean).square().mean())
            noise = waves - without_noise(vectors, self.num_steps, self.num_steps)
            result[f"optimum/{part}/mse"] = float(noise.square().mean())
        return result

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a vector a line, f1,f2,o1,o2; a first line of just these names is a header.

        Raises:
            ValueError: the file is missing or empty, a line has not four cells, or a cell is no finite number.
        """
        file, rows = read_cells(path, encoding or self.encoding)
        if tuple(rows[0][1]) == PARAMETERS:
            rows = rows[1:]
        if not rows:
            raise ValueError(f"{file}: has a header and no row, {','.join(PARAMETERS)} are expected")
        for line, cells in rows:
            if len(cells) != len(PARAMETERS):
                raise ValueError(
                    f"{file}:{line}: expected {len(PARAMETERS)} numbers, {','.join(PARAMETERS)}, got {len(cells)}"
                )
        values = [
            [read_number(cell, f"{file}:{line}, {name}") for name, cell in zip(PARAMETERS, cells, strict=True)]
            for line, cells in rows
        ]
        vectors = torch.tensor(values, dtype=torch.float32)
        for (line, cells), vector in zip(rows, vectors, strict=True):
            if not vector.isfinite().all():
                raise ValueError(f"{file}:{line}: a number is too large: {','.join(cells)[:60]}")
        outside = int(((vectors < 0) | (vectors > 1)).any(dim=1).sum())
        note = f"{file}: {outside} of {len(vectors)} rows have a number outside 0 to 1, where no model was trained"
        return Queries(vectors, None, [note] if outside else [])

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return one line of comma-separated values for each wave (N, T), of all batches together."""
        return "".join(",".join(map(write_number, row)) + "\n" for row in self.answers(queries, outputs))

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> np.ndarray:
        return torch.cat(list(outputs)).float().numpy(force=True)


def without_noise(vectors: Tensor, num_steps: int, num_trained: int) -> Tensor:
    """Return the waves of vectors (N, 4) without noise, float64 (N, num_steps).

    Args:
        vectors: f1, f2, o1, o2 of each.
        num_steps: of the waves.
        num_trained: T, the steps from time 0 to time 1.
    """
    parameters = vectors.double().numpy(force=True).T[..., None]
    return torch.from_numpy(pure_waves(parameters, np.arange(num_steps) / (num_trained - 1)))
