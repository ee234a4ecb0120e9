"""The adding problem (Hochreiter & Schmidhuber, 1997): the sum of the two marked numbers of a long sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnnlab.data.batches import BatchLoader, EpochSampler, InMemoryData, Queries, SharedBatches
from rnnlab.data.checks import check_batch_size, check_integer
from rnnlab.data.csv_text import read_number
from rnnlab.data.files import read_text

CHANCE = 1 / 6  # mean squared error of always answering 1: the variance of the sum of two numbers from U(0, 1)
_STREAMS = {"train": 0, "val": 1, "test": 2}


def draw_sequence(length: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return numbers from U(0, 1) and their marks, float32 (T, 2), and the sum of the two that are marked.

    One mark stands in the first half, `length // 2` steps, and one in the second.
    """
    half = length // 2
    sequence = np.zeros((length, 2), dtype=np.float32)
    sequence[:, 0] = rng.random(length, dtype=np.float32)
    marked = [int(rng.integers(half)), int(rng.integers(half, length))]
    sequence[marked, 1] = 1.0
    return sequence, float(sequence[marked, 0].sum())


class FreshRows(Dataset):
    """Training sequences drawn when they are read, each a pure function of its number, which never comes twice.

    Number n belongs to epoch n // num_rows, which decides how long it is; a batch is of one epoch.
    """

    def __init__(self, num_rows: int, lengths: Sequence[int], seed: int) -> None:
        self.num_rows, self.lengths, self.seed = num_rows, lengths, seed

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        epoch = min(numbers[0] // self.num_rows, len(self.lengths) - 1)
        return _drawn(self.lengths[epoch], self.seed, "train", numbers)


class NextRows(EpochSampler):
    """The numbers of an epoch's rows, which follow on those of the epoch before; whatever the seed."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.num_items, (self.epoch + 1) * self.num_items))


class AddingData(InMemoryData):
    """Sequences of numbers, two of which are marked, and the sum of these two.

    Inputs are (B, T, 2), a number from U(0, 1) and its mark, 0 or 1; one mark stands in each half, as in Le et al.
    (2015). Targets (B, 1) belong to the last step. Training sequences are drawn anew in each epoch.

    Args:
        length: T, in training, validation and test.
        num_train: sequences an epoch.
        num_val, num_test: of these parts, the same in all epochs.
        start_length: T of the first epoch, where training starts with shorter sequences.
        growing_epochs: so many epochs it takes from `start_length` to `length`, by equal steps; 0 for none.
        batch_size: sequences a batch.
        corpus_seed: decides all sequences.
        seed: of the run; as no order is drawn, it decides nothing here.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        length: int = 600,
        num_train: int = 5_000,
        num_val: int = 1_000,
        num_test: int = 2_000,
        start_length: int = 50,
        growing_epochs: int = 0,
        batch_size: int = 50,
        corpus_seed: int = 0,
        seed: int = 0,
    ) -> None:
        self.length = check_integer("length", length, 2)
        given = {"train": num_train, "val": num_val, "test": num_test}
        self.num_rows = {part: check_integer(f"num_{part}", number, 2) for part, number in given.items()}
        growing_epochs = check_integer("growing_epochs", growing_epochs, 0)
        # A length that does not count may be any.
        check_integer("start_length", start_length, 2, length if growing_epochs else None)
        grown = [start_length + (length - start_length) * epoch // growing_epochs for epoch in range(growing_epochs)]
        self.lengths = [*grown, length]
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0)
        super().__init__(check_batch_size(batch_size, num_train), seed)
        self.sizes = {"input_size": 2, "output_size": 1}

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        """Return validation and test, and of training what a model is tried on."""
        sizes = {**self.num_rows, "train": 2}
        return {part: _drawn(self.length, self.corpus_seed, part, range(size)) for part, size in sizes.items()}

    @property
    def epoch_size(self) -> int:
        return self.num_rows["train"]

    def train_dataloader(self) -> DataLoader:
        rows = FreshRows(self.epoch_size, self.lengths, self.corpus_seed)
        order = NextRows(len(rows), self.shuffle_seed)
        return self.served(BatchLoader(rows, SharedBatches(order, self.batch_size, self.share)))

    def baselines(self) -> dict[str, float]:
        """Return what it costs to answer 1 always, 'baseline/chance/<part>/mse_last'."""
        return {f"baseline/chance/{part}/mse_last": CHANCE for part in ("val", "test")}

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a sequence a line, numbers between spaces, the two to be added with a star: "0.1 0.5* 0.3 0.2*".

        Raises:
            ValueError: the file is missing or empty, or a line holds no number, one that is none, or not two stars.
        """
        file, text = read_text(path, "file of sequences", encoding or self.encoding)
        lines = enumerate(text.rstrip().split("\n"), start=1)
        return Queries([_read_sequence(line, f"{file}:{number}") for number, line in lines], None)

    def query_batches(self, queries: Queries) -> list[tuple[Tensor]]:
        """Return each sequence as a batch of its own, since they may differ in length."""
        return [(sequence.unsqueeze(0),) for sequence in queries.inputs]

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return a sum a line, of outputs (1, 1)."""
        return "".join(f"{answer:.4f}\n" for answer in self.answers(queries, outputs))

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> list[float]:
        return [float(output) for output in outputs]


def _drawn(length: int, seed: int, part: str, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the sequences of these numbers (B, T, 2) and their sums (B, 1)."""
    drawn = [draw_sequence(length, np.random.default_rng([seed, _STREAMS[part], number])) for number in numbers]
    sequences, sums = zip(*drawn, strict=True)
    return torch.from_numpy(np.stack(sequences)), torch.tensor(sums).unsqueeze(1)


def _read_sequence(line: str, place: str) -> Tensor:
    cells = line.split()
    if sum(cell.endswith("*") for cell in cells) != 2:
        raise ValueError(
            f"{place}: expected numbers, two of them with a star, as '0.1 0.5* 0.3 0.2*', got {line[:60]!r}"
        )
    rows = [(read_number(cell.removesuffix("*"), place), float(cell.endswith("*"))) for cell in cells]
    return torch.tensor(rows)
