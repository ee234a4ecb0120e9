"""Ledger and checkpoint rules that whole runs do not show."""

import math
from types import SimpleNamespace

import pytest

from rnnlab.callbacks.checkpoint import LastAndBest
from rnnlab.callbacks.ledger import Ledger, read_rows, write_rows
from rnnlab.callbacks.reseed import reseed


def test_rows_survive_a_round_trip(tmp_path):
    rows = [{"epoch": 0, "step": 5, "a": 0.1}, {"epoch": 1, "step": 10, "a": 1e-12, "b": math.inf}]
    path = tmp_path / "metrics.csv"
    write_rows(path, rows)
    before = path.read_bytes()
    assert read_rows(path) == rows
    write_rows(path, read_rows(path))
    assert path.read_bytes() == before


def test_ledger_drops_rows_of_epochs_that_are_trained_again(tmp_path):
    logged = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics["epoch"], step)))
    path = tmp_path / "metrics.csv"
    write_rows(path, [{"epoch": epoch, "step": 5 * epoch + 5, "time/fit_s": epoch + 1.0} for epoch in range(3)])
    ledger = Ledger(path)
    ledger.on_train_start(SimpleNamespace(current_epoch=2, loggers=[logger], is_global_zero=True), None)
    assert [row["epoch"] for row in ledger.rows] == [0, 1]
    assert logged == [(0, 4), (1, 9)]  # by the number of the last update, as Lightning counts


def test_summary_leaves_the_first_epoch_out_of_the_median(tmp_path):
    path = tmp_path / "metrics.csv"
    times = [9.0, 1.0, 2.0, 3.0]
    write_rows(path, [{"epoch": i, "val/loss": i, "time/epoch_s": t, "time/fit_s": 15.0} for i, t in enumerate(times)])
    assert Ledger(path).summary() == {
        "time/epoch_s": 2.0,
        "time/fit_s": 15.0,
        "epochs": 4,
    }


@pytest.mark.parametrize(
    ("mode", "best", "value", "expected"),
    [
        ("max", None, math.nan, False),
        ("min", None, math.inf, False),
        ("max", None, 0.0, True),
        ("max", 0.5, 0.5, False),
        ("max", 0.5, 0.6, True),
        ("min", 0.5, 0.6, False),
        ("min", 0.5, 0.4, True),
        ("min", 0.5, math.nan, False),
    ],
)
def test_best_checkpoint_is_the_first_of_the_best(mode, best, value, expected, tmp_path):
    checkpoints = LastAndBest(tmp_path, ("val/loss", mode), payload={})
    checkpoints.best_value = best
    assert checkpoints._is_better(value) is expected


def test_reseed_is_a_function_of_seed_and_epoch():
    import torch

    def draw(*key):
        reseed(*key)
        return torch.rand(4).tolist()

    assert draw(0, 3) == draw(0, 3)
    assert len({tuple(draw(seed, epoch)) for seed in range(3) for epoch in range(-1, 3)}) == 12


def test_epochs_without_a_fresh_finite_value_are_never_the_best(tmp_path):
    checkpoints = LastAndBest(tmp_path, ("val/loss", "min"), payload={})
    values = [{}, {"val/loss": math.nan}, {"val/loss": 0.5}, {"val/loss": 0.5}, {"val/loss": math.nan}]
    for epoch, metrics in enumerate(values):
        trainer = SimpleNamespace(
            is_last_batch=True,
            is_global_zero=True,
            strategy=SimpleNamespace(barrier=lambda name: None),
            callback_metrics=metrics,
            current_epoch=epoch,
            save_checkpoint=lambda path, weights_only, epoch=epoch: path.write_text(str(epoch)),
        )
        checkpoints.on_train_epoch_end(trainer, None)
        assert checkpoints.last_path.read_text() == str(epoch)
        assert checkpoints.best_path.exists() is (epoch >= 2)
    assert (checkpoints.best_path.read_text(), checkpoints.best_epoch) == ("2", 2)
