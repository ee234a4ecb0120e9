"""In-memory data sets, served in whole batches and in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rnnlab.data.checks import check_integer

IGNORED = -100  # target that is not scored; torch's cross-entropy leaves it out

_QUERIES_A_BATCH = 1024


class EpochSampler(Sampler[int]):
    """Permute `num_items` indices anew each epoch, from (seed, epoch) alone.

    No generator state is carried from epoch to epoch, so a run that was killed and resumed sees the same order as one
    that was not. Lightning calls `set_epoch` before every training epoch, also after a resume.

    Args:
        num_items: how many items there are; at least 1.
        seed: any integer >= 0.
    """

    def __init__(self, num_items: int, seed: int = 0) -> None:
        self.num_items = check_integer("num_items", num_items, 1)
        self.seed = check_integer("seed", seed, 0)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of `epoch`, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.num_items).tolist())

    def __len__(self) -> int:
        return self.num_items


class TensorRows(Dataset):
    """Rows of tensors that share their first dimension; a list of indices is answered by one gather, as one batch."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        rows = torch.tensor(indices)
        return tuple(tensor.index_select(0, rows) for tensor in self.tensors)


def batch_loader(tensors: Sequence[Tensor], batch_size: int, shuffle_seed: int | None = None) -> DataLoader:
    """Make a loader over rows of `tensors`; the last batch may be smaller.

    Args:
        tensors: one or more tensors with equal first dimension.
        batch_size: rows a batch.
        shuffle_seed: seed of an `EpochSampler`; None keeps the order.
    """
    return dataset_loader(TensorRows(*tensors), batch_size, shuffle_seed)


def dataset_loader(
    rows: Dataset,
    batch_size: int,
    shuffle_seed: int | None = None,
    kind: type[DataLoader] = DataLoader,
    sampler: type[EpochSampler] = EpochSampler,
) -> DataLoader:
    """Make a loader over a data set whose `__getitems__` answers a list of indices with a batch, as `batch_loader`."""
    return kind(
        rows,
        batch_size=batch_size,
        sampler=None if shuffle_seed is None else sampler(len(rows), shuffle_seed),  # type: ignore[arg-type]
        collate_fn=_identity,
        # A loader draws one number from its generator per epoch; an own one leaves torch's global stream to the model.
        generator=torch.Generator(),
    )


def _identity(batch: Any) -> Any:
    return batch


def split_rows(tensors: Sequence[Tensor], sizes: Sequence[int]) -> dict[str, tuple[Tensor, ...]]:
    """Cut tensors along their first dimension into 'train', 'val' and 'test' of these sizes, in this order."""
    parts = zip(*(tensor.split(list(sizes)) for tensor in tensors), strict=True)
    return dict(zip(("train", "val", "test"), parts, strict=True))


class Queries(NamedTuple):
    """What a user asks a trained model, read from a file.

    Attributes:
        inputs: the model's input, one row a query (N, T) or (N, T, I), or a list where queries differ in length.
        context: whatever the data module needs to write the answers.
        notes: what the user should be told of how they were read, a line each.
        files: what is read, where that is more than the file of the name that was given.
    """

    inputs: Any
    context: Any
    notes: Sequence[str] = ()
    files: Sequence[Path] = ()


class InMemoryData(pl.LightningDataModule):
    """Base of the data modules: splits of tensors, made once from arguments and seed.

    A subclass checks its arguments in the constructor, sets `sizes` and writes `make_splits`.

    Attributes:
        sizes: constructor arguments of the models of this data, known after `setup`.
        splits: 'train', 'val' and, unless there is none, 'test', each a tuple of tensors with equal first dimension;
            empty before `setup`.
        remembers: whether `load_state_dict` alone, without `setup` and the files it would read, is enough to build a
            trained model and to answer queries.
        unit: what `epoch_size` counts, in the plural.
        encoding: of text files, as Python names it.
        notes: what a user should be told of how the data were read, a line each; known after `setup`.

    Args:
        batch_size: rows a batch, in every split.
        shuffle_seed: seed of the order of the training rows; any integer >= 0.
    """

    sizes: dict[str, Any]
    remembers = False
    unit = "sequences"
    encoding = "utf-8"
    notes: Sequence[str] = ()

    def __init__(self, batch_size: int, shuffle_seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.shuffle_seed = check_integer("seed", shuffle_seed, 0)
        self.splits: dict[str, tuple[Tensor, ...]] = {}

    def make_splits(self) -> dict[str, tuple[Tensor, ...]]:
        """Return the tensors of 'train', 'val' and perhaps 'test'."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Make the splits, once whatever the stage: they are drawn together so that they stay apart."""
        if not self.splits:
            self.splits = self.make_splits()

    @property
    def epoch_size(self) -> int:
        """Return how much of `unit` an epoch of training reads."""
        return len(self.splits["train"][0])

    def rehearsal_batch(self) -> Any:
        """Return a batch of two training rows, to try a model on."""
        return tuple(tensor[:2] for tensor in self.splits["train"])

    def train_dataloader(self) -> DataLoader:
        return batch_loader(self.splits["train"], self.batch_size, self.shuffle_seed)

    def val_dataloader(self) -> DataLoader:
        return batch_loader(self.splits["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return batch_loader(self.splits["test"], self.batch_size)

    def baselines(self) -> dict[str, float]:
        """Return what the network must beat, by metric name; empty where there is nothing sensible to compare with."""
        return {}

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a user's questions for a trained model.

        Args:
            path: their file.
            encoding: of that file, as Python names it; None for that of the data.

        Raises:
            ValueError: the file is missing, or a line is not a question of this kind ("file:line: what is wrong").
        """
        raise NotImplementedError

    def query_batches(self, queries: Queries) -> Iterable[Any]:
        """Return the queries as batches for a task's `predict_step`, in their order, made when they are asked for."""
        return [(rows,) for rows in queries.inputs.split(_QUERIES_A_BATCH)]

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return the text of the answer file.

        Args:
            queries: what `read_queries` returned.
            outputs: the task's `predict_step` on each of `query_batches(queries)`.
        """
        raise NotImplementedError

    def encode_answers(self, queries: Queries, outputs: Sequence[Any], suffix: str) -> bytes:
        """Return the content of the answer file: the text of `write_answers`, unless a suffix means another format."""
        return self.write_answers(queries, outputs).encode("utf-8")

    def told(self, queries: Queries, outputs: Sequence[Any]) -> str:
        """Return in words what an answer file holds."""
        return f"{len(queries.inputs)} answers"
