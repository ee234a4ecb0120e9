"""Order and content of batches: a pure function of (seed, epoch), also through a resumed Lightning run."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from rnnlab.data.batches import EpochSampler, InMemoryData, batch_loader, split_rows
from rnnlab.data.shares import Borrowed, Share


def test_sampler_permutes_all_items():
    assert sorted(EpochSampler(100, seed=3)) == list(range(100))


def test_sampler_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    sampler = EpochSampler(50, seed=1)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert list(sampler) == list(sampler) == order(1, epoch)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize(("num_items", "seed"), [(0, 0), (5, -1), (5, 1.5), (5, True)])
def test_sampler_refuses_bad_arguments(num_items, seed):
    with pytest.raises(ValueError, match="must be an integer of at least"):
        EpochSampler(num_items, seed)


def test_loader_serves_each_row_once_with_its_companions():
    a, b = torch.arange(10), torch.arange(10) * 2
    batches = list(batch_loader([a, b], batch_size=4, shuffle_seed=0))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert not torch.equal(x, a) and torch.equal(x.sort().values, a) and torch.equal(y, 2 * x)


def test_loader_without_seed_keeps_the_order():
    assert torch.cat([x for (x,) in batch_loader([torch.arange(7)], batch_size=3)]).tolist() == list(range(7))


def test_loader_leaves_the_global_generator_alone():
    loader = batch_loader([torch.arange(10)], batch_size=4, shuffle_seed=0)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("num_rows", "num_ranks"), [(12, 2), (10, 2), (9, 2), (10, 4), (3, 4)])
def test_processes_share_the_batches_of_one_that_has_as_many_times_the_rows(num_rows, num_ranks):
    def served(batch_size, share):
        loader = batch_loader([torch.arange(num_rows)], batch_size, 0, share)
        loader.sampler.set_epoch(1)
        assert len(list(loader)) == len(loader)
        return list(loader)

    by_rank = [served(2, Share(rank, num_ranks)) for rank in range(num_ranks)]
    for shares, (whole,) in zip(zip(*by_rank, strict=True), served(2 * num_ranks, Share()), strict=True):
        own = [share[0] for share in shares if not isinstance(share, Borrowed)]
        assert torch.equal(torch.cat(own), whole)
        assert max(map(len, own)) <= min(map(len, own)) + 1
        assert all(len(share.batch[0]) == 1 for share in shares if isinstance(share, Borrowed))


def test_split_rows_cuts_in_order():
    parts = split_rows((torch.arange(6), torch.arange(6) + 10), [3, 2, 1])
    assert {name: [tensor.tolist() for tensor in tensors] for name, tensors in parts.items()} == {
        "train": [[0, 1, 2], [10, 11, 12]],
        "val": [[3, 4], [13, 14]],
        "test": [[5], [15]],
    }


class CountingData(InMemoryData):
    def __init__(self):
        super().__init__(batch_size=4, shuffle_seed=5)

    def make_splits(self):
        return split_rows((torch.arange(14.0),), [10, 2, 2])


class Recorder(pl.LightningModule):
    """Trains one number and remembers which rows it saw."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_index):
        self.seen.append((self.current_epoch, batch[0].tolist()))
        return (self.weight - batch[0]).square().mean()

    def validation_step(self, batch, batch_index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAtEpochEnd(pl.Callback):
    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory
@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_order_survives_a_resume(tmp_path, killed_after):
    def fit(max_epochs, ckpt_path=None, callbacks=()):
        module = Recorder()
        trainer = pl.Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
        )
        trainer.fit(module, datamodule=CountingData(), ckpt_path=ckpt_path)
        return module

    path = tmp_path / "epoch.ckpt"
    whole = fit(4, callbacks=[SaveAtEpochEnd(path, killed_after)])
    resumed = fit(4, ckpt_path=path)
    assert resumed.seen == [entry for entry in whole.seen if entry[0] > killed_after]
    assert len({str(rows) for _, rows in whole.seen}) > 4 * 2
    assert torch.equal(resumed.weight, whole.weight)
