"""In-memory data sets, served in whole batches and in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from rnnlab.data.checks import check_integer
from rnnlab.data.question_files import lines_file
from rnnlab.data.shares import ALONE, Borrowed, BorrowedRows, Share

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


class SharedBatches(DistributedSampler[list[int]]):
    """Cut an order of rows into batches, of which each process that trains together is given its `Share`.

    The batches of all processes together are those of a single one whose `batch_size` is as many times as large. All
    processes have the same number of them, the last of which may be smaller. Derived from torch's `DistributedSampler`
    so that Lightning sets the epoch and leaves the sharing to it.

    Args:
        order: numbers of the rows, in the order of an epoch.
        batch_size: rows of a batch in one process.
        share: which process this is.
    """

    def __init__(self, order: EpochSampler | range, batch_size: int, share: Share = ALONE) -> None:
        super().__init__(order, share.num_ranks, share.rank, shuffle=isinstance(order, EpochSampler))
        self.order, self.share = order, share
        self.size = batch_size * share.num_ranks

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if isinstance(self.order, EpochSampler):
            self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that this runs with the first batch: Lightning asks for iterators before it sets the epoch.
        rows = list(self.order)
        for start in range(0, len(rows), self.size):
            yield self.share.of(rows[start : start + self.size])

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)


class TensorRows(Dataset):
    """Rows of tensors that share their first dimension; a list of indices is answered by one gather, as one batch."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        rows = torch.tensor(indices)
        return tuple(tensor.index_select(0, rows) for tensor in self.tensors)


class BatchLoader(DataLoader):
    """Serve `dataset[rows]` for the lists of rows that a sampler deals out, as `Borrowed` where they count for nothing.

    In this process: data in memory are served in whole batches, and workers would only add copies.

    Args:
        dataset: answers a list of indices with a batch.
        sampler: deals the lists, such as `SharedBatches`.
    """

    sampler: Any

    def __init__(self, dataset: Dataset, sampler: Any) -> None:
        super().__init__(dataset, batch_size=None, sampler=sampler)

    def __iter__(self) -> Iterator[Any]:
        for rows in self.sampler:
            yield as_served(self.dataset[rows], rows)


def as_served(batch: Any, rows: list[int]) -> Any:
    """Return a batch of these rows, as `Borrowed` where they count for nothing."""
    return Borrowed(batch) if isinstance(rows, BorrowedRows) else batch


def batch_loader(
    tensors: Sequence[Tensor], batch_size: int, shuffle_seed: int | None = None, share: Share = ALONE
) -> BatchLoader:
    """Make a loader over rows of `tensors`; the last batch may be smaller.

    Args:
        tensors: one or more tensors with equal first dimension.
        batch_size: rows a batch in one process.
        shuffle_seed: seed of an `EpochSampler`; None keeps the order.
        share: of this process, where several train together.
    """
    rows = TensorRows(*tensors)
    return BatchLoader(rows, SharedBatches(row_order(len(rows), shuffle_seed), batch_size, share))


def row_order(num_rows: int, shuffle_seed: int | None = None) -> EpochSampler | range:
    """Return the numbers of rows shuffled anew each epoch, or as they are where there is no seed."""
    return range(num_rows) if shuffle_seed is None else EpochSampler(num_rows, shuffle_seed)


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

    A subclass checks its arguments in the constructor, sets `sizes` and writes `make_splits`. A loader of its own is
    given `share`, so that processes that train together have each their rows of a batch.

    Attributes:
        sizes: constructor arguments of the models of this data, known after `setup`.
        splits: 'train', 'val' and, unless there is none, 'test', each a tuple of tensors with equal first dimension;
            empty before `setup`.
        remembers: whether `load_state_dict` alone, without `setup` and the files it would read, is enough to build a
            trained model and to answer queries.
        unit: what `epoch_size` counts, in the plural.
        encoding: of text files, as Python names it.
        notes: what a user should be told of how the data were read, a line each; known after `setup`.
        is_borrowed: whether the batch that is trained or measured on is that of another process and counts for nothing.

    Args:
        batch_size: rows a batch, in every split and process.
        shuffle_seed: seed of the order of the training rows; any integer >= 0.
    """

    sizes: dict[str, Any]
    remembers = False
    unit = "sequences"
    encoding = "utf-8"
    notes: Sequence[str] = ()
    is_borrowed = False

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

    @property
    def share(self) -> Share:
        """Return which of the processes that train together this is."""
        return ALONE if self.trainer is None else Share(self.trainer.global_rank, self.trainer.world_size)

    @property
    def order_seed(self) -> int | None:
        """Return the seed of the order of training, None where the same few batches are trained on again and again."""
        return None if self._overfit else self.shuffle_seed

    @property
    def _overfit(self) -> int | float:
        return 0 if self.trainer is None else self.trainer.overfit_batches

    def served(self, loader: DataLoader) -> DataLoader:
        """Return a loader, or where Lightning overfits one of fixed batches, whose sampler it need not replace."""
        if not self._overfit:
            return loader
        count = self._overfit if isinstance(self._overfit, int) else None  # a share is of all batches
        return DataLoader(list(islice(loader, count)), batch_size=None)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note whether a batch counts, and hand on what a task knows."""
        self.is_borrowed = isinstance(batch, Borrowed)
        return batch.batch if self.is_borrowed else batch

    def train_dataloader(self) -> DataLoader:
        return self.served(batch_loader(self.splits["train"], self.batch_size, self.order_seed, self.share))

    def val_dataloader(self) -> DataLoader:
        return self.served(batch_loader(self.splits["val"], self.batch_size, share=self.share))

    def test_dataloader(self) -> DataLoader:
        return self.served(batch_loader(self.splits["test"], self.batch_size, share=self.share))

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

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return Python objects as questions: what `read_queries` reads, a line each, or the path of such a file.

        Args:
            questions: a path; or texts, or rows of numbers.
            folder: where files may be written that are needed as long as the queries are.

        Raises:
            ValueError: they are of another kind, or as for `read_queries`.
        """
        if isinstance(questions, Path):
            return self.read_queries(questions)
        return self.read_queries(lines_file(questions, folder), "utf-8")

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

    def answers(self, queries: Queries, outputs: Sequence[Any]) -> Sequence[Any]:
        """Return the answers as Python objects, one a question: lines of `write_answers`, where nothing else is said.

        Args:
            queries, outputs: as for `write_answers`.
        """
        return self.write_answers(queries, outputs).splitlines()

    def encode_answers(self, queries: Queries, outputs: Sequence[Any], suffix: str) -> bytes:
        """Return the content of the answer file: the text of `write_answers`, unless a suffix means another format."""
        return self.write_answers(queries, outputs).encode("utf-8")

    def told(self, queries: Queries, outputs: Sequence[Any]) -> str:
        """Return in words what an answer file holds."""
        return f"{len(queries.inputs)} answers"
