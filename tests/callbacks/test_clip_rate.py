"""The clip rate is the share of what clipping changed, update by update and element by element."""

import csv
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from rnnlab.callbacks import ClipRate
from rnnlab.cli.main import main
from rnnlab.tasks import ForecastingTask
from tests.tasks.helpers import GivenData, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")  # on purpose: the data are in memory

ADAM = partial(torch.optim.Adam, lr=1e-2)


class Witness(pl.Callback):
    """Remembers the gradients of every update before and after clipping, epoch by epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append([])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.epochs[-1].append((gradient_of(pl_module), None))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        before, after = self.epochs[-1][-1] if self.epochs[-1] else (None, 0)
        if after is None:
            self.epochs[-1][-1] = before, gradient_of(pl_module)


def gradient_of(module):
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()]).clone()


class Metrics(pl.Callback):
    """Reads the metrics of every epoch where the ledger reads them."""

    def __init__(self):
        self.rows = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.rows.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def fit(tmp_path, optim=ADAM, measure=True, **arguments):
    """Train a small network for three epochs of five batches; return what was logged and what happened."""
    torch.manual_seed(0)
    data = GivenData((torch.randn(18, 3, 1), torch.randn(18, 1)), batch_size=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    metrics, witness = Metrics(), Witness()
    callbacks = [metrics, ClipRate(), witness] if measure else [witness]
    trainer = quiet_trainer(tmp_path, max_epochs=3, callbacks=callbacks, **arguments)
    trainer.fit(ForecastingTask(model, optim), datamodule=data)
    return metrics.rows, witness.epochs


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(("algorithm", "limit"), [(None, 1.8), ("norm", 1.8), ("value", 0.1)])
def test_rate_is_the_share_of_what_clipping_changed(algorithm, limit, accumulated, tmp_path):
    rows, epochs = fit(
        tmp_path, gradient_clip_val=limit, gradient_clip_algorithm=algorithm, accumulate_grad_batches=accumulated
    )
    assert [len(epoch) for epoch in epochs] == [5 if accumulated == 1 else 3] * 3
    rates = []
    for row, updates in zip(rows, epochs, strict=True):
        changed = torch.stack([(before - after).abs() > 1e-5 * before.abs() for before, after in updates])
        rates.append((changed if algorithm == "value" else changed.any(dim=1)).double().mean().item())
        assert row["train/clip_rate"] == pytest.approx(rates[-1])
        norms = torch.stack([before.norm() for before, _ in updates])
        assert row["train/grad_norm"] == pytest.approx(norms.mean().item())
    assert 0 < sum(rates) < len(rates)


@pytest.mark.parametrize("limit", [None, 0, 1e6])
def test_nothing_clipped_is_a_rate_of_zero(limit, tmp_path):
    rows, _ = fit(tmp_path, gradient_clip_val=limit)
    assert [row["train/clip_rate"] for row in rows] == [0, 0, 0]
    assert all(row["train/grad_norm"] > 0 for row in rows)


def test_clipping_is_measured_and_not_changed(tmp_path):
    _, with_rate = fit(tmp_path, gradient_clip_val=0.8)
    _, without = fit(tmp_path, measure=False, gradient_clip_val=0.8)
    for updates, expected in zip(with_rate, without, strict=True):
        for (_, found), (_, other) in zip(updates, expected, strict=True):
            assert torch.equal(found, other)


def test_a_gradient_that_is_not_finite_shows(tmp_path):
    rows, _ = fit(tmp_path, optim=partial(torch.optim.SGD, lr=1e30))
    assert not torch.tensor(rows[-1]["train/grad_norm"]).isfinite()


@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scale_is_no_part_of_the_norm(fused, tmp_path):
    plain, _ = fit(tmp_path)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17)  # overflows float16 until it has come down
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    rows, _ = fit(tmp_path, optim=partial(ADAM, fused=fused), plugins=[precision])
    assert scaler.get_scale() < 2.0**17
    for row, expected in zip(rows, plain, strict=True):
        assert row["train/grad_norm"] == pytest.approx(expected["train/grad_norm"], rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["trainer.gradient_clip_val=1e-6"], ["trainer.gradient_clip_algorithm=value"]], ids=["norm", "value"]
)
def test_command_line_chooses_how_to_clip(words, tmp_path):
    small = ["rnn.hidden_size=4", "data.num_steps=10", "+trainer.limit_train_batches=4", "trainer.max_epochs=1"]
    words = ["experiment=forecasting/one_step_gru", "logger=csv", "trainer.accelerator=cpu", *small, *words]
    assert main(["train", f"run_dir={tmp_path / 'run'}", *words]) == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["train/clip_rate"]) == ("1e-6" in words[-1]) and float(row["train/grad_norm"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1e6, 1e-9])
def test_clipping_between_steps_has_a_rate_of_its_own(limit, tmp_path):
    small = ["data.num_steps=10", "+trainer.limit_train_batches=4", "trainer.max_epochs=1", "logger=csv"]
    cell = ["rnn=cells/lstm", "rnn.cell.hidden_size=4", f"+rnn.clip_grad_step={limit}"]
    words = ["experiment=cells/ten_step", "trainer.accelerator=cpu", *small, *cell]
    assert main(["train", f"run_dir={tmp_path / 'run'}", *words]) == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    rate = float(row["train/step_clip_rate"])
    assert rate == 0 if limit > 1 else 0 < rate < 1


def test_an_unknown_algorithm_is_refused(tmp_path, capsys):
    assert main(["train", f"run_dir={tmp_path / 'run'}", "trainer.gradient_clip_algorithm=size"]) == 2
    assert "`gradient_clip_algorithm` size is invalid" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
