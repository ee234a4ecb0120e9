"""Optimiser and schedule are completed with the length of training."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from rnnlab.tasks import ForecastingTask
from rnnlab.tasks.schedule import one_cycle
from tests.tasks.helpers import GivenData, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

SGD = partial(torch.optim.SGD, lr=1e-2, momentum=0.9)


class RateRecorder(pl.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_index):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates_of(tmp_path, schedule, **arguments):
    recorder = RateRecorder()
    data = GivenData((torch.randn(10, 3, 1), torch.randn(10, 1)), batch_size=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    trainer = quiet_trainer(tmp_path, callbacks=[recorder], **arguments)
    trainer.fit(ForecastingTask(model, SGD, schedule), datamodule=data)
    return recorder.rates


def test_one_cycle_spans_the_whole_training_update_by_update(tmp_path):
    rates = rates_of(tmp_path, partial(one_cycle, max_lr=0.1), max_epochs=10)
    assert len(rates) == 30
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1) and rates.index(max(rates)) == 8
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)


def test_no_schedule_keeps_the_rate(tmp_path):
    assert rates_of(tmp_path, None, max_epochs=2) == [1e-2] * 6


def test_accumulated_batches_count_as_one_update(tmp_path):
    rates = rates_of(tmp_path, partial(one_cycle, max_lr=0.1), max_epochs=4, accumulate_grad_batches=3)
    assert len(set(rates)) == 4


def test_schedule_needs_an_end(tmp_path):
    with pytest.raises(ValueError, match="training of known length: set trainer.max_epochs"):
        rates_of(tmp_path, partial(one_cycle, max_lr=0.1), max_epochs=-1)
