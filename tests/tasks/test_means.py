"""Means over everything, and over nothing less."""

from types import SimpleNamespace

import torch

from rnnlab.tasks.means import EpochLoss, Means


def test_a_mean_counts_every_element():
    means = Means("a", "b")
    means.update(a=torch.tensor([1.0, 2.0]))
    means.update(a=torch.tensor([6.0]))
    assert {name: float(value) for name, value in means.report().items()} == {"a": 3.0}


def test_a_mean_with_a_nan_is_nan_and_starts_anew():
    means = Means("a")
    means.update(a=torch.tensor([1.0, torch.nan]))
    assert means.report()["a"].isnan()
    means.update(a=torch.tensor([1.0]))
    assert means.report()["a"] == 1


def test_a_nan_among_the_losses_leaves_no_other_mean():
    means = Means("loss", "right", "unseen")
    means.update(loss=torch.tensor([1.0, torch.nan]), right=torch.tensor([True]))
    means.update(loss=torch.tensor([1.0]), right=torch.tensor([True]))
    found = means.report()
    assert found.keys() == {"loss", "right"} and found["right"].isnan()
    means.update(loss=torch.tensor([]), right=torch.tensor([True]))  # nothing that could have one
    assert means.report()["right"] == 1


def test_elements_count_by_weight():
    means = Means("loss", "right")
    means.update(loss=torch.tensor([1.0, 4.0]), right=torch.tensor([True, False]), weight=torch.tensor([3.0, 1.0]))
    means.update(loss=torch.tensor([2.0]))
    assert means.report() == {"loss": (3 + 4 + 2) / 5, "right": 0.75}


def test_a_training_loss_counts_each_batch_by_its_items():
    logged, optimiser = {}, SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer = SimpleNamespace(is_last_batch=False, optimizers=[optimiser], datamodule=None)
    task = SimpleNamespace(trainer=trainer, log_dict=lambda values, **options: logged.update(values))
    loss = EpochLoss()
    loss.add(task, torch.tensor(1.0), 3)
    assert not logged
    trainer.is_last_batch = True
    loss.add(task, torch.tensor(5.0), 1)
    assert logged == {"train/loss": 2.0, "train/lr": 0.5}
