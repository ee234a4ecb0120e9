"""Batches of sequences of similar length, as large as a number of tokens allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from rnnlab.data.batches import BatchLoader, InMemoryData, Queries
from rnnlab.data.checks import check_integer
from rnnlab.data.shares import Share


class LengthBucketBatchSampler(DistributedSampler[list[int]]):
    """Deal indices of sequences in batches, each index once an epoch over all ranks.

    A batch is padded to its longest sequence, and its padded size, sequences times steps, is at most `max_tokens`; only
    a sequence that is longer by itself makes a batch of its own. Sequences are sorted by length, those of equal length
    in an order drawn anew each epoch, and cut into batches, whose order is drawn too. Lengths of 32 and more count as
    equal within a sixteenth, so that long sequences, too, change their company. Where the cuts lie depends on lengths
    alone: an epoch always has as many batches, as a schedule by steps needs it. Without `shuffle` lengths are taken as
    they are, and the batches come in one order, the shortest sequences first.

    An `even` sampler cuts where the length changes, too, once a batch is half full: most batches then have no padding,
    which a recurrence on a CPU rewards.

    Processes that train together have each their `rnnlab.data.shares.Share` of every batch, which for all of them has
    as many times `max_tokens`. Where its sequences cannot be dealt evenly, the first ones have one more.

    Order and content are a pure function of (seed, epoch), and a position in mid-epoch can be resumed: after
    `load_state_dict` the next iteration over the same epoch goes on behind it. Derived from torch's
    `DistributedSampler` so that Lightning sets the epoch and leaves the ranks to it.

    Args:
        lengths: steps of each sequence, at least 1, (N,).
        max_tokens: largest padded size of a batch in one process.
        seed: any integer >= 0.
        shuffle: False for evaluation.
        num_replicas: processes that train together.
        rank: which of them this is.
        max_sentences: largest number of sequences in a batch of one process; None for no limit.
        even: whether a change of length ends a batch that is half full.
        ascending: so many epochs come from the shortest batch to the longest, before their order is drawn: a curriculum
            (Amodei et al., 2016, section 3.3).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        seed: int = 0,
        shuffle: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
        max_sentences: int | None = None,
        even: bool = False,
        ascending: int = 0,
    ) -> None:
        check_integer("num_replicas", num_replicas, 1)
        check_integer("rank", rank, 0, num_replicas - 1)
        super().__init__(lengths, num_replicas, rank, shuffle, check_integer("seed", seed, 0))
        check_integer("max_tokens", max_tokens, 1)
        if max_sentences is not None:
            check_integer("max_sentences", max_sentences, 1)
        exact = np.asarray(lengths, dtype=np.int64)
        if not len(exact) or exact.min() < 1:
            raise ValueError("lengths must be those of one sequence or more, each at least 1")
        self._keys = _rounded(exact) if shuffle else exact
        limits = max_tokens * num_replicas, (max_sentences or math.inf) * num_replicas
        self._cuts = _cuts(np.sort(self._keys), *limits, even)
        self.share = Share(rank, num_replicas)
        self.ascending = check_integer("ascending", ascending, 0)
        self._num_served = 0  # batches of the running epoch
        self._resume_from: dict[str, int] | None = None

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self._cuts) + 1

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that this runs with the first batch: Lightning asks for iterators before it sets the epoch.
        state, self._resume_from = self._resume_from, None
        first = state["num_served"] % len(self) if state is not None and state["epoch"] == self.epoch else 0
        for index, batch in enumerate(islice(self._batches(), first, None), start=first):
            self._num_served = index + 1
            yield batch

    def _batches(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.shuffle:
            rows = rng.permutation(len(self._keys))
            rows = rows[np.argsort(self._keys[rows], kind="stable")]
        else:
            rows = np.argsort(self._keys, kind="stable")
        batches = np.split(rows, self._cuts)
        is_drawn = self.shuffle and self.epoch >= self.ascending
        order = rng.permutation(len(batches)) if is_drawn else np.arange(len(batches))
        return (self.share.of(batches[index].tolist()) for index in order)

    def state_dict(self) -> dict[str, int]:
        """Return the position: how many batches of which epoch have been dealt."""
        return {"epoch": self.epoch, "num_served": self._num_served}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a position with the next iteration, unless `set_epoch` chooses another epoch before."""
        self.epoch, self._resume_from = state_dict["epoch"], state_dict


def _rounded(lengths: np.ndarray) -> np.ndarray:
    """Return lengths rounded up: to even ones from 32, to multiples of 4 from 64, and so on."""
    step = 2 ** np.maximum(np.frexp(lengths)[1] - 5, 0)
    return -(-lengths // step) * step


def _cuts(lengths: np.ndarray, max_tokens: int, max_sentences: float, even: bool) -> list[int]:
    """Return where to cut sequences of these ascending lengths."""
    borders, before = [0], 0
    for index, length in enumerate(lengths.tolist()):
        count = index - borders[-1]
        is_full = (count + 1) * length > max_tokens or count == max_sentences
        is_half_full = 2 * count * before >= max_tokens or 2 * count >= max_sentences
        if count and (is_full or (even and is_half_full and length > before)):
            borders.append(index)
        before = length
    return borders[1:]


class BucketLoader(BatchLoader):
    """Serve the batches of a `LengthBucketBatchSampler`, whose position travels in Lightning's checkpoints."""

    sampler: LengthBucketBatchSampler

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state_dict)


class BucketData(InMemoryData):
    """Base of data modules of sequences that differ in length; a subclass writes `make_splits`.

    A part has `lengths`, the steps of each of its sequences (N,), and answers a list of indices with a batch. Training
    reads sequences of similar length together, in an order drawn anew each epoch, validation and test from the shortest
    to the longest.

    Attributes:
        even, ascending: see `LengthBucketBatchSampler`.
        size_names: what a subclass calls `max_tokens` and `eval_max_tokens`.
        former: settings of runs that were made before these were remembered.

    Args:
        max_tokens: padded size of a training batch, sequences times steps.
        eval_max_tokens: the same of all other batches.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range.
    """

    splits: dict[str, Any]
    even = False
    ascending = 0
    size_names: ClassVar[tuple[str, str]] = ("max_tokens", "eval_max_tokens")
    former: ClassVar[dict[str, Any]] = {}

    def __init__(self, max_tokens: int, eval_max_tokens: int, seed: int) -> None:
        name, eval_name = self.size_names
        super().__init__(check_integer(name, max_tokens, 1), seed)  # the size of a batch is counted in tokens
        self.eval_max_tokens = check_integer(eval_name, eval_max_tokens, 1)
        self._state: dict[str, Any] = {}  # what a trained model takes for granted, once it is known
        self._reading_notes: list[str] = []  # what is to be told of how the parts were read

    def _keep(self, state: dict[str, Any]) -> None:
        """Take for granted what a run remembers, 'sha256' of its training part among it.

        Raises:
            ValueError: the training part is another one than that known so far.
        """
        former = self._state.get("sha256", state["sha256"])
        if former != state["sha256"]:
            raise ValueError(
                "the training part is not the one this run was trained on: the hashes begin with "
                f"{state['sha256'][:12]} and {former[:12]}; bring the former one back, or train anew"
            )
        self._state = state

    def _check_settings(self, state: dict[str, Any], settings: dict[str, Any]) -> None:
        """Refuse settings other than those that a run was trained with, and remembers as 'settings'.

        What a run of an older version does not remember is taken to be `former`, or else as given.

        Raises:
            ValueError: one is another, with its name and both values.
        """
        remembered = state.get("settings", {})
        for name, given in settings.items():
            trained = remembered.get(name, self.former.get(name, given))
            if given != trained:
                raise ValueError(f"{name} is {trained!r} in the run, and cannot be {given!r} afterwards")

    @property
    def epoch_size(self) -> int:
        return len(self.splits["train"])

    def query_batches(self, queries: Queries) -> Any:
        """Return the sequences that are asked about in batches, from the shortest to the longest.

        The last part of the context of `queries` are the numbers of each batch.
        """
        return [queries.inputs[indices] for indices in queries.context[-1]]

    def rehearsal_batch(self) -> Any:
        return self.splits["train"][[0, len(self.splits["train"]) - 1]]

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", self.eval_max_tokens)

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", self.eval_max_tokens)

    def _loader(self, part: str, max_tokens: int) -> DataLoader:
        sequences = self.splits[part]
        sampler = LengthBucketBatchSampler(
            sequences.lengths,
            max_tokens,
            self.shuffle_seed,
            part == "train" and self.order_seed is not None,
            self.share.num_ranks,
            self.share.rank,
            even=self.even,
            ascending=self.ascending,
        )
        return self.served(BucketLoader(sequences, sampler))

    def _fixed_batches(self, sequences: Any, max_tokens: int) -> list[list[int]]:
        """Return the indices of sequences in batches, from the shortest to the longest."""
        return list(LengthBucketBatchSampler(sequences.lengths, max_tokens, shuffle=False, even=self.even))
