"""Optimiser and schedule are completed with the length of training."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from rnnlab.tasks import ForecastingTask
from rnnlab.tasks.schedule import cosine, late_decay, one_cycle, plateau
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


def test_cosine_falls_to_its_end_after_a_warm_up(tmp_path):
    rates = rates_of(tmp_path, partial(cosine, warmup_steps=4, final_factor=0.1), max_epochs=10)
    assert rates[:4] == pytest.approx([0.002, 0.004, 0.006, 0.008])
    assert rates[4] == max(rates) == pytest.approx(1e-2) and rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[17] == pytest.approx(0.0055) and rates[-1] == pytest.approx(1e-3, rel=0.05)


def test_late_decay_is_that_of_char_rnn(tmp_path):
    rates = rates_of(tmp_path, late_decay, max_epochs=50)
    epochs = [rates[3 * epoch] for epoch in range(50)]
    assert epochs == pytest.approx([1e-2 * 0.97 ** max(0, epoch - 9) for epoch in range(50)])
    assert all(rates[3 * epoch] == rates[3 * epoch + 2] for epoch in range(50))


def test_plateau_lowers_the_rate_of_a_loss_that_stays(tmp_path):
    rates = rates_of(tmp_path, partial(plateau, factor=0.1, patience=1), max_epochs=6, limit_train_batches=1)
    assert rates[0] == 1e-2 and min(rates) >= 1e-3
    stuck = rates_of(tmp_path, partial(plateau, factor=0.1, patience=1), max_epochs=6, gradient_clip_val=1e-12)
    assert stuck[::3] == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
