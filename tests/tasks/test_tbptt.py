"""Training on windows: what is carried, when it is dropped, and that it travels in checkpoints."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.data import TwoSineData, window_loader
from rnnlab.models import Forecaster, TimeDelay
from rnnlab.tasks import ForecastingTask
from rnnlab.tasks.carry import Carry
from tests.tasks.helpers import GivenData, Windowed, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

LAYERS = {"RNN": rnnlab.nn.RNN, "LSTM": rnnlab.nn.LSTM, "GRU": rnnlab.nn.GRU, "torch.nn": nn.LSTM}
STILL = partial(torch.optim.SGD, lr=0.0)
BEGIN, GO_ON = torch.tensor([[True, False]] * 3), torch.tensor([[False, False]] * 3)


def forecaster(layer=rnnlab.nn.GRU, **options):
    torch.manual_seed(0)
    return Forecaster(partial(layer, hidden_size=5, num_layers=2), 1, 2, all_steps=True, **options)


def series(num_rows=7, num_steps=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_rows, num_steps, 1, generator=generator), torch.randn(
        num_rows, num_steps, 2, generator=generator
    )


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_windows_of_a_series_forecast_as_the_whole_series(layer):
    model, (x, y) = forecaster(layer), series()
    task, forecasts = ForecastingTask(model, STILL), []
    model.register_forward_hook(lambda *args: forecasts.append(args[-1][0]))
    task.train_loss.add = lambda task, loss, count: loss
    loader = window_loader(x, y, batch_size=7, steps=4)
    for _ in range(2):  # the second epoch begins anew, whatever the first one has left
        forecasts.clear()
        for index, window in enumerate(loader):
            task.training_step(window, index)
        found = torch.cat(forecasts, dim=1)
        torch.testing.assert_close(found, model(x))
    assert not torch.allclose(found[:, 4:8], model(x[:, 4:8]))  # it matters what is carried


def test_a_layer_that_carries_nothing_is_found_out_before_training():
    data = TwoSineData(num_steps=8, target="sequence", tbptt_steps=4)
    data.setup()
    window = data.rehearsal_batch()
    task = ForecastingTask(Forecaster(partial(TimeDelay, hidden_size=5, taps=3), 1, 1, all_steps=True), STILL)
    with pytest.raises(ValueError, match="^TimeDelay carries no state"):
        task.check(window)
    task.check(tuple(window[:2]))
    task = ForecastingTask(Forecaster(partial(rnnlab.nn.GRU, hidden_size=5), 1, 1, all_steps=True), STILL)
    task.check(window)
    assert task.carry.enter(window.reset) is None  # nothing is left of the rehearsal


def test_no_gradient_crosses_the_border_of_a_window():
    (x, y), task = series(), ForecastingTask(forecaster(), STILL)
    task.train_loss.add = lambda task, loss, count: loss
    x.requires_grad_()
    first, second, _ = window_loader(x, y, batch_size=7, steps=4)
    task.training_step(first, 0)
    task.training_step(second, 1).backward()
    assert not x.grad[:, :4].any() and (x.grad[:, 4:8] != 0).all()


def test_training_loss_is_the_mean_over_all_steps_of_all_windows(tmp_path):
    model, (x, y) = forecaster(), series()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(ForecastingTask(model, STILL), datamodule=Windowed((x, y), batch_size=4, steps=3))
    # Validation reads whole series, and the weights stood still.
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], trainer.callback_metrics["val/mse"].float())


def test_validation_in_mid_epoch_leaves_the_carry_of_training_alone(tmp_path):
    def weights(**arguments):
        task = ForecastingTask(forecaster(), partial(torch.optim.SGD, lr=0.1))
        trainer = quiet_trainer(tmp_path, max_epochs=2, **arguments)
        trainer.fit(task, datamodule=Windowed(series(), batch_size=4, steps=3))
        return list(task.parameters())

    for once, often in zip(weights(limit_val_batches=0), weights(val_check_interval=1), strict=True):
        assert torch.equal(once, often)


class State(NamedTuple):
    h: torch.Tensor
    c: torch.Tensor


FORMS = {
    "GRU": lambda: torch.randn(2, 3, 5),
    "LSTM": lambda: (torch.randn(2, 3, 5), torch.randn(2, 3, 4)),
    "cells": lambda: (State(torch.randn(3, 5), torch.randn(3, 4)), State(torch.randn(3, 2), torch.randn(3, 2))),
}


def leaves(state):
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


forms = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@forms
def test_carry_is_detached_and_begins_where_rows_do(make):
    carry, initial = Carry(), make()
    assert carry.enter(BEGIN) is None
    assert carry.enter(BEGIN, initial) is initial
    state = make()
    for part in leaves(state):
        part.requires_grad_()
    carry.leave(state)
    some = torch.tensor([[False, True], [True, False], [False, False]])  # inside a window, a reset is the layer's
    entered = [leaves(carry.enter(*args)) for args in ((GO_ON,), (some,), (some, initial))]
    goes_on = [0, 2]
    for all_go_on, zeroed, begun, before, first in zip(*entered, leaves(state), leaves(initial), strict=True):
        assert not all_go_on.requires_grad and torch.equal(all_go_on, before)
        assert torch.equal(zeroed[..., goes_on, :], before[..., goes_on, :]) and not zeroed[..., 1, :].any()
        assert torch.equal(begun[..., goes_on, :], before[..., goes_on, :])
        assert torch.equal(begun[..., 1, :], first[..., 1, :])


def test_a_state_that_diverged_ends_with_its_row():
    carry = Carry()
    carry.leave(torch.full((1, 3, 5), torch.nan))
    for initial in (None, torch.zeros(1, 3, 5)):
        assert torch.equal(carry.enter(BEGIN, initial), torch.zeros(1, 3, 5))


def test_a_batch_of_another_size_must_begin_anew():
    carry = Carry()
    with pytest.raises(ValueError, match="3 rows go on from a former window, but the carry holds 0 rows"):
        carry.enter(GO_ON)
    carry.leave(torch.randn(1, 2, 5))
    assert carry.enter(BEGIN) is None
    with pytest.raises(ValueError, match="3 rows go on from a former window, but the carry holds 2 rows"):
        carry.enter(GO_ON)


@forms
def test_carry_survives_a_checkpoint_of_plain_tensors(make, tmp_path):
    checkpoint = {}
    Carry().save(checkpoint)
    assert checkpoint == {}
    carry, restored = Carry(), Carry()
    carry.leave(make())
    carry.save(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    restored.load(torch.load(tmp_path / "a.ckpt", weights_only=True))
    torch.testing.assert_close(restored.enter(GO_ON), carry.enter(GO_ON), rtol=0, atol=0)
    restored.load({})
    assert restored.enter(BEGIN) is None


def test_a_final_state_is_stored_without_the_outputs_it_is_a_view_of(tmp_path):
    carry, checkpoint = Carry(), {}
    carry.leave(torch.zeros(1000, 3, 5)[-1:])
    carry.save(checkpoint)
    assert checkpoint["carry"].untyped_storage().nbytes() == 3 * 5 * 4


def test_evaluation_and_plain_batches_leave_no_carry(tmp_path):
    task = ForecastingTask(forecaster(), STILL)
    quiet_trainer(tmp_path, max_epochs=1).fit(task, datamodule=GivenData(series(), batch_size=4))
    checkpoint = {}
    task.on_save_checkpoint(checkpoint)
    assert checkpoint == {}


def test_windows_train_under_autocast(tmp_path):
    task = ForecastingTask(forecaster(rnnlab.nn.LSTM), partial(torch.optim.SGD, lr=0.1))
    trainer = quiet_trainer(tmp_path, max_epochs=2, precision="bf16-mixed")
    trainer.fit(task, datamodule=Windowed(series(), batch_size=4, steps=3))
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_a_model_without_a_head_is_carried_too():
    model = Forecaster(partial(rnnlab.nn.RNN, hidden_size=2), 1, 2, head=False, all_steps=True)
    x, _ = series()
    first, state = model(x[:, :6], return_state=True)
    torch.testing.assert_close(torch.cat([first, model(x[:, 6:], state)], dim=1), model(x))
    assert isinstance(model.rnn, nn.Module) and state.shape == (1, 7, 2)
