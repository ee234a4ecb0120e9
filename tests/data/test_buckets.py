"""Batches of similar lengths lose no sequence, repeat none, keep within their size, and are resumed in mid-epoch."""

import inspect
from itertools import islice

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

import rnnlab.data
from rnnlab.data.buckets import BucketData, BucketLoader, LengthBucketBatchSampler
from rnnlab.data.shares import BorrowedRows
from tests.tasks.helpers import quiet_trainer

SIZES = {
    "lengths": st.lists(st.integers(1, 150), min_size=4, max_size=120),
    "max_tokens": st.integers(1, 600),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 3),
    "epoch": st.integers(0, 3),
    "max_sentences": st.none() | st.integers(1, 9),
    "even": st.booleans(),
}


def make(lengths, max_tokens, shuffle, seed, epoch, max_sentences, even=False, num_replicas=1, rank=0):
    sampler = LengthBucketBatchSampler(lengths, max_tokens, seed, shuffle, num_replicas, rank, max_sentences, even)
    sampler.set_epoch(epoch)
    return sampler


@settings(deadline=None)
@given(**SIZES)
def test_every_index_comes_once_and_batches_keep_within_their_size(lengths, **sizes):
    batches = list(make(lengths, **sizes))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= sizes["max_tokens"]
        assert sizes["max_sentences"] is None or len(batch) <= sizes["max_sentences"]


@settings(deadline=None)
@given(**SIZES, num_replicas=st.integers(2, 4))
def test_the_batches_of_all_processes_are_those_of_one_with_as_many_times_the_size(num_replicas, **sizes):
    by_rank = [list(make(**sizes, num_replicas=num_replicas, rank=rank)) for rank in range(num_replicas)]
    larger = {
        **sizes,
        "max_tokens": sizes["max_tokens"] * num_replicas,
        "max_sentences": sizes["max_sentences"] and sizes["max_sentences"] * num_replicas,
    }
    for shares, whole in zip(zip(*by_rank, strict=True), make(**larger), strict=True):
        own = [share for share in shares if not isinstance(share, BorrowedRows)]
        assert [index for share in own for index in share] == whole
        assert all(len(share) == 1 and share[0] in whole for share in shares if share not in own)


@settings(deadline=None)
@given(**SIZES)
def test_order_and_content_are_a_function_of_seed_and_epoch(epoch, **sizes):
    sampler = make(epoch=epoch, **sizes)
    batches = list(sampler)
    assert list(sampler) == batches == list(make(epoch=epoch, **sizes))
    other = make(epoch=epoch + 1, **sizes)
    assert len(other) == len(sampler)  # schedules count on it
    assert sorted(map(len, other)) == sorted(map(len, batches))
    if not sizes["shuffle"]:
        assert list(other) == batches
        served = [sizes["lengths"][index] for batch in batches for index in batch]
        assert served == sorted(served)


@settings(deadline=None)
@given(**SIZES, data=st.data())
def test_a_position_is_resumed_once(data, **sizes):
    interrupted, resumed = make(**sizes), make(**{**sizes, "epoch": 0})
    whole = list(make(**sizes))
    count = data.draw(st.integers(0, len(whole) - 1))
    assert list(islice(interrupted, count)) == whole[:count]
    resumed.load_state_dict(interrupted.state_dict())
    assert len(resumed) == len(whole)
    assert list(resumed) == whole[count:]
    assert list(resumed) == whole


def test_a_position_at_the_end_of_an_epoch_is_the_start_of_the_next():
    sizes = {"lengths": list(range(1, 40)), "max_tokens": 60, "shuffle": True, "seed": 0, "max_sentences": None}
    ended, resumed = make(epoch=0, **sizes), make(epoch=0, **sizes)
    whole = list(ended)
    resumed.load_state_dict(ended.state_dict())
    assert list(resumed) == whole
    resumed.load_state_dict(ended.state_dict())
    resumed.set_epoch(1)
    assert list(resumed) == list(make(epoch=1, **sizes))


def test_little_is_padding_and_company_changes():
    lengths = np.random.default_rng(0).geometric(1 / 16, size=12_000)
    sampler = LengthBucketBatchSampler(lengths, 2_000)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([set(batch) for batch in sampler])
        padded = sum(len(batch) * lengths[list(batch)].max() for batch in epochs[-1])
        assert lengths.sum() > 0.96 * padded
        assert lengths.sum() > 0.96 * 2_000 * (len(sampler) - 1)
    # Of the sequences of a batch, few are together again, also of long ones.
    again = [max(len(batch & other) / len(batch) for other in epochs[1]) for batch in epochs[0] if len(batch) > 4]
    assert np.mean(again) < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": []}, "lengths must be those of one sequence or more, each at least 1"),
        ({"lengths": [3, 0]}, "lengths must be those of one sequence or more, each at least 1"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
        ({"max_sentences": 0}, "max_sentences must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"num_replicas": 0}, "num_replicas must be an integer of at least 1, got 0"),
        ({"num_replicas": 2, "rank": 2}, "rank must be an integer from 0 to 1, got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LengthBucketBatchSampler(**{"lengths": [5, 6, 7], "max_tokens": 7, **arguments})


@pytest.mark.parametrize(
    "module",
    [
        one
        for one in vars(rnnlab.data).values()
        if isinstance(one, type) and issubclass(one, BucketData) and one is not BucketData
    ],
)
def test_sizes_of_batches_are_refused_by_the_names_that_they_have(module):
    assert set(module.size_names) <= inspect.signature(module).parameters.keys()
    data = module.__new__(module)
    for sizes, name in (((0, 1), module.size_names[0]), ((1, 0), module.size_names[1])):
        with pytest.raises(ValueError, match=f"^{name} must be an integer of at least 1, got 0"):
            BucketData.__init__(data, *sizes, seed=0)


class Rows(Dataset):
    def __getitem__(self, indices):
        return torch.tensor(indices)


class Recorder(pl.LightningModule):
    """Trains one number and remembers which rows it saw; it leaves a checkpoint in the middle of an epoch."""

    def __init__(self, path=None, epoch=None, step=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []
        self.saves_at, self.path = (epoch, step), path

    def train_dataloader(self):
        return BucketLoader(Rows(), LengthBucketBatchSampler([1, 2, 3, 4] * 20, 40, seed=7))

    def training_step(self, batch, batch_index):
        self.seen.append((self.current_epoch, batch_index, batch.tolist()))
        return (self.weight - batch).square().mean()

    def on_train_batch_end(self, outputs, batch, batch_index):
        if (self.current_epoch, batch_index) == self.saves_at:
            self.trainer.save_checkpoint(self.path)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory
@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (1, 2), (2, 4)])
def test_lightning_resumes_in_the_middle_of_an_epoch(tmp_path, epoch, step):
    whole, resumed = Recorder(tmp_path / "a.ckpt", epoch, step), Recorder()
    quiet_trainer(tmp_path, max_epochs=3).fit(whole)
    quiet_trainer(tmp_path, max_epochs=3).fit(resumed, ckpt_path=tmp_path / "a.ckpt")
    assert len(whole.seen) == 3 * len(whole.train_dataloader()) > 15
    assert len({str(rows) for *_, rows in whole.seen}) == len(whole.seen)
    assert resumed.seen == [entry for entry in whole.seen if entry[:2] > (epoch, step)]
    assert torch.equal(resumed.weight, whole.weight)


def test_a_loader_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(Recorder().train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_even_batches_end_where_the_length_changes_once_they_are_half_full():
    lengths = [1] * 2 + [2] * 3 + [3] * 5

    def served(even):
        return [[lengths[index] for index in batch] for batch in make(lengths, 12, False, 0, 0, None, even)]

    assert served(even=False) == [[1, 1, 2, 2, 2], [3, 3, 3, 3], [3]]
    assert served(even=True) == [[1, 1, 2, 2, 2], [3, 3, 3, 3], [3]]
    lengths = [2] * 3 + [3] * 5
    assert served(even=False) == [[2, 2, 2, 3], [3, 3, 3, 3]]
    assert served(even=True) == [[2, 2, 2], [3, 3, 3, 3], [3]]
