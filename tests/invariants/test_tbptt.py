"""Truncated backpropagation: one window is none, many are a hand-written loop, and an interruption leaves no trace."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch.nn.functional import mse_loss

import rnnlab.nn
from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.main import main
from rnnlab.data import window_loader
from rnnlab.models import Forecaster
from rnnlab.tasks import ForecastingTask
from rnnlab.tasks.schedule import one_cycle
from tests.covering import few
from tests.tasks.helpers import GivenData, Windowed, quiet_trainer

pytestmark = [
    pytest.mark.invariant,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # on purpose: the data are in memory
]

LAYERS = {"RNN": rnnlab.nn.RNN, "LSTM": rnnlab.nn.LSTM, "GRU": rnnlab.nn.GRU}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
NUM_ROWS, NUM_STEPS, BATCH_SIZE = 22, 10, 8  # three batches of rows, the last one smaller


def series():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(NUM_ROWS, NUM_STEPS, width, generator=generator) for width in (1, 2))


def new_task(layer, optim=None, schedule=None, dropout=0.0):
    torch.manual_seed(0)
    model = Forecaster(partial(layer, hidden_size=9, num_layers=2, dropout=dropout), 1, 2, all_steps=True)
    return ForecastingTask(model, optim or partial(torch.optim.Adam, lr=1e-2), schedule)


def fit(task, data, tmp_path, ckpt_path=None, **arguments):
    torch.manual_seed(1)  # of dropout
    trainer = quiet_trainer(tmp_path, max_epochs=3, **arguments)
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def assert_equal_weights(first, second):
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


@layers
@pytest.mark.parametrize(("steps", "accumulated"), [(NUM_STEPS, 1), (NUM_STEPS + 3, 2)])
def test_a_window_of_the_whole_series_is_no_truncation(layer, steps, accumulated, tmp_path):
    arguments = {"gradient_clip_val": 0.1, "accumulate_grad_batches": accumulated}
    schedule = partial(one_cycle, max_lr=1e-2)
    whole, windowed = (new_task(layer, schedule=schedule, dropout=0.3) for _ in range(2))
    fit(whole, GivenData(series(), BATCH_SIZE), tmp_path, **arguments)
    trainer = fit(windowed, Windowed(series(), BATCH_SIZE, steps), tmp_path, **arguments)
    assert trainer.global_step == 3 * (3 if accumulated == 1 else 2)
    assert_equal_weights(whole, windowed)


def train_by_hand(task, steps, accumulated, algorithm, limit):
    """Do what Lightning does with windows, without Lightning: three epochs of SGD."""
    x, y = series()
    loader = window_loader(x, y, BATCH_SIZE, steps, shuffle_seed=0)
    parameters = list(task.model.parameters())
    optimizer, num_updates, state = task.optim(parameters), 0, None
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for index, (inputs, targets, reset, *_) in enumerate(loader):
            output, state = task.model.rnn(inputs.transpose(0, 1), None if reset[0, 0] else state)
            state = rnnlab.nn.detach_state(state)
            (mse_loss(task.model.head(output.transpose(0, 1)), targets) / accumulated).backward()
            if (index + 1) % accumulated == 0 or index + 1 == len(loader):
                if algorithm == "norm":
                    torch.nn.utils.clip_grad_norm_(parameters, limit)
                else:
                    torch.nn.utils.clip_grad_value_(parameters, limit)
                optimizer.step()
                optimizer.zero_grad()
                num_updates += 1
    return num_updates


@layers
@pytest.mark.parametrize(
    ("steps", "accumulated", "algorithm", "limit"),
    few([(5, 1, "norm", 0.1), (4, 2, "value", 0.01), (3, 4, "norm", 0.1)], [(4, 2, "value", 0.01)], several=True),
)
def test_windows_train_as_a_loop_written_by_hand(layer, steps, accumulated, algorithm, limit, tmp_path):
    expected, found = (new_task(layer, partial(torch.optim.SGD, lr=0.5)) for _ in range(2))
    num_updates = train_by_hand(expected, steps, accumulated, algorithm, limit)
    trainer = fit(
        found,
        Windowed(series(), BATCH_SIZE, steps),
        tmp_path,
        accumulate_grad_batches=accumulated,
        gradient_clip_algorithm=algorithm,
        gradient_clip_val=limit,
    )
    assert trainer.global_step == num_updates
    assert_equal_weights(expected, found)


class Stop(Exception):
    """Ends a training as a kill would."""


class SaveAndStop(pl.Callback):
    """Save a checkpoint after a number of batches, then train one batch more and stop."""

    def __init__(self, path, num_batches):
        self.path, self.num_batches = path, num_batches
        self.counted = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.counted += 1
        if self.counted == self.num_batches:
            trainer.save_checkpoint(self.path)
        if self.counted == self.num_batches + 1:
            raise Stop


def stopped_run(task, data, path, num_batches):
    with pytest.raises(Stop):
        fit(task, data, path.parent, callbacks=[SaveAndStop(path, num_batches)])


# Nine windows an epoch, three to a batch of rows: within rows, between rows, in a later epoch, between epochs.
@pytest.mark.parametrize(
    ("layer", "num_batches"),
    few(
        [*((rnnlab.nn.LSTM, count) for count in (2, 3, 17, 18)), (rnnlab.nn.GRU, 13), (rnnlab.nn.RNN, 13)],
        [(rnnlab.nn.LSTM, 17), (rnnlab.nn.GRU, 13)],
        several=True,
    ),
)
@pytest.mark.parametrize("schedule", [None, partial(one_cycle, max_lr=1e-2)], ids=["constant", "one_cycle"])
def test_a_run_stopped_in_mid_epoch_goes_on_with_its_carry(layer, num_batches, schedule, tmp_path):
    data, path = partial(Windowed, series(), BATCH_SIZE, 4), tmp_path / "mid.ckpt"
    whole, stopped, resumed = (new_task(layer, schedule=schedule) for _ in range(3))
    fit(whole, data(), tmp_path)
    stopped_run(stopped, data(), path, num_batches)
    trainer = fit(resumed, data(), tmp_path, ckpt_path=path)
    assert trainer.global_step == 27
    assert_equal_weights(whole, resumed)


def test_a_checkpoint_that_lost_its_carry_is_refused(tmp_path):
    data, path = partial(Windowed, series(), BATCH_SIZE, 4), tmp_path / "mid.ckpt"
    stopped_run(new_task(rnnlab.nn.GRU), data(), path, 2)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint.pop("carry").shape == (2, BATCH_SIZE, 9)
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="8 rows go on from a former window, but the carry holds 0 rows"):
        fit(new_task(rnnlab.nn.GRU), data(), tmp_path, ckpt_path=path)


def test_the_command_line_resumes_windows_and_their_records(tmp_path, monkeypatch):
    small = ["data.num_steps=8", "data.tbptt_steps=3", "data.horizon=1", "rnn.hidden_size=4", "trainer.max_epochs=2"]
    limits = ["+trainer.limit_train_batches=7", "+trainer.limit_val_batches=2", "+trainer.limit_test_batches=2"]
    words = ["experiment=forecasting/sequence_tbptt_lstm", *small, *limits, "trainer.accelerator=cpu"]
    words += ["logger=csv", "~callbacks.pictures", "~callbacks.forecasts"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", f"run_dir={whole}", *words]) == 0

    with monkeypatch.context() as patch:
        train, count = ForecastingTask.training_step, iter(range(100))

        def stop_in_the_second_epoch(*args):
            if next(count) == 10:
                raise Stop
            return train(*args)

        patch.setattr(ForecastingTask, "training_step", stop_in_the_second_epoch)
        assert main(["train", f"run_dir={killed}", *words]) == 1
    assert main(["train", f"run_dir={killed}", "resume=true"]) == 0

    first, second = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, killed))
    assert [part.shape for part in first["carry"]] == [(2, 32, 4)] * 2
    for key in ("state_dict", "carry"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    for expected, found in zip(read_rows(whole / "metrics.csv"), read_rows(killed / "metrics.csv"), strict=True):
        for key in expected:
            assert key.startswith("time/") or expected[key] == found[key], key
