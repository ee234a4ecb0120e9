"""Runs that are pruned while they train: what they keep, record and resume."""

import csv
import functools
import json

import lightning.pytorch as pl
import pytest
import torch

import rnnlab.nn
from rnnlab.callbacks import EarlyStop, LastAndBest, Prune
from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli.main import main
from rnnlab.models import Forecaster
from rnnlab.nn.pruning import masks, sparsity
from rnnlab.tasks import AdditionTask, ForecastingTask
from tests.covering import few
from tests.runs import weights
from tests.tasks.helpers import GivenData

# Two layers with dropout draw random numbers; AdamW moves parameters whose gradient is zero. Seven batches an epoch.
WORDS = [
    "logger=csv",
    "callbacks=[addition,prune]",
    "callbacks.prune.start=1",
    "callbacks.prune.every_epochs=2",
    "callbacks.prune.amounts=[0.5,0.75]",
    "callbacks.samples.num_samples=1",
    "optim=adamw",
    "data.digits=2",
    "data.num_questions=400",
    "data.num_test=50",
    "data.batch_size=64",
    "rnn.hidden_size=8",
    "rnn.num_layers=2",
    "rnn.dropout=0.2",
    "trainer.max_epochs=5",
    "trainer.accelerator=cpu",
]
AMOUNTS = [0.0, 0.5, 0.5, 0.75, 0.75]  # of each epoch
WEIGHTS = [
    f"model.{part}.weight_{kind}_l{layer}"
    for part in ("encoder", "decoder")
    for layer in (0, 1)
    for kind in ("ih", "hh")
]


class Killed(BaseException):
    pass


def read(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "pruned"
    assert main(["train", "--debug", f"run_dir={path}", *WORDS]) == 0
    return path


def test_records_say_what_was_pruned(run_dir):
    assert [float(row["sparsity/total"]) for row in read(run_dir / "metrics.csv")] == pytest.approx(AMOUNTS, abs=2e-3)
    rows = read(run_dir / "pruning.csv")
    assert [(float(row["amount"]), int(row["epochs"])) for row in rows] == [(0.0, 1), (0.5, 2), (0.75, 2)]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for name in WEIGHTS:
        assert metrics[f"sparsity/{name}"] == float(rows[2][f"sparsity/{name}"]) == pytest.approx(0.75, abs=3e-3)
    assert float(rows[2]["val/exact_match"]) == read_rows(run_dir / "metrics.csv")[-1]["val/exact_match"]
    assert metrics["best_epoch"] > 3, "the best checkpoint is one of the last amount"
    log = (run_dir / "run.log").read_text()
    assert "pruned to 50.0%: model.encoder.weight_ih_l0 50.0%" in log and "sparsity 0.0% for 1 epochs: val/" in log


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_hold_plain_weights(run_dir, name):
    state = weights(run_dir, name)
    assert not [key for key in state if "parametrizations" in key]
    for key in WEIGHTS:
        assert float((state[key] == 0).double().mean()) == pytest.approx(0.75, abs=3e-3)
    assert not (state["model.head.weight"] == 0).any()


def test_evaluate_and_predict_know_nothing_of_pruning(run_dir, tmp_path):
    assert main(["evaluate", "--debug", f"run_dir={run_dir}"]) == 0
    final = json.loads((run_dir / "metrics.json").read_text())
    found = json.loads((run_dir / "evaluate.json").read_text())["metrics"]
    assert found == {key: final[key] for key in found}
    (tmp_path / "in.txt").write_text("12+34\n")
    assert (
        main(["predict", f"run_dir={run_dir}", f"input={tmp_path / 'in.txt'}", f"output={tmp_path / 'out.txt'}"]) == 0
    )
    assert (tmp_path / "out.txt").read_text().startswith("12+34\t")


@pytest.mark.parametrize("epoch", few([1, 2, 3], [2]), ids=["first_pruning", "retraining", "second_pruning"])
def test_killed_run_resumes_to_the_same_weights(epoch, run_dir, tmp_path, monkeypatch):
    killed, calls = tmp_path / "killed", 0

    def step(self, batch, batch_index, original=AdditionTask.training_step):
        nonlocal calls
        calls += 1
        if self.trainer.current_epoch == epoch and calls % 3 == 0:
            raise Killed
        return original(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(AdditionTask, "training_step", step)
        with pytest.raises(Killed):
            main(["train", "--debug", f"run_dir={killed}", *WORDS])
    assert len(read(killed / "metrics.csv")) == epoch
    assert main(["train", "--debug", f"run_dir={killed}", "resume=true"]) == 0
    for name in ("last", "best"):
        expected, found = weights(run_dir, name), weights(killed, name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[key]) for key, value in expected.items()), name
    for name in ("metrics.csv", "pruning.csv"):
        assert read(killed / name) == read(run_dir / name)


class Watch(pl.Callback):
    """Notes the sparsity after every update."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(sparsity(pl_module)["total"])


def fit(tmp_path, prune, *others, **options):
    """Train a forecaster on noise with SGD, momentum and weight decay; two batches an epoch."""
    torch.manual_seed(0)
    model = Forecaster(functools.partial(rnnlab.nn.GRU, hidden_size=8, backend="aten"), 1, 1)
    task = ForecastingTask(model, functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1))
    names = list(task.state_dict())
    watch, best = Watch(), LastAndBest(tmp_path / "checkpoints", task.monitor, payload={})
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        callbacks=[prune, *others, watch, best],
        **options,
    )
    trainer.fit(task, GivenData((torch.randn(8, 5, 1), torch.randn(8, 1)), batch_size=4))
    assert not masks(task) and list(task.state_dict()) == names
    return task, watch, best


def test_masks_last_from_update_to_update(tmp_path):
    task, watch, _ = fit(tmp_path, Prune([0.5, 0.75], every_epochs=2), max_epochs=5)
    assert watch.seen == pytest.approx([0.0] * 4 + [0.5] * 4 + [0.75] * 2)
    assert sparsity(task)["total"] == 0.75


def test_pruning_from_the_start_and_in_part(tmp_path):
    task, watch, _ = fit(tmp_path, Prune([0.5], 1, start=0, scope="global", names=["weight_hh"]), max_epochs=1)
    assert sparsity(task) == {"model.rnn.weight_ih_l0": 0.0, "model.rnn.weight_hh_l0": 0.5, "total": 96 / 216}


def test_a_metric_of_less_pruned_weights_is_never_the_best(tmp_path, capsys):
    """Validated after epochs 1 and 3; pruned before epochs 2 and 4."""
    prune = Prune([0.5, 0.75], every_epochs=2)
    _, _, best = fit(tmp_path, prune, max_epochs=5, check_val_every_n_epoch=2)
    assert (best.best_value, best.best_epoch) == (None, None)
    stored = torch.load(best.best_path, weights_only=True)
    assert stored["epoch"] == 3
    assert float((stored["state_dict"]["model.rnn.weight_hh_l0"] == 0).double().mean()) == 0.5
    assert ["val/mse_last" in row for row in prune.rows] == [True, True, False]
    assert "sparsity 75.0% for 1 epochs: not validated" in capsys.readouterr().out


def test_the_final_numbers_are_of_the_last_amount_also_where_it_was_not_validated(tmp_path, capsys):
    words = [*WORDS, "callbacks.prune.amounts=[0.5]", "callbacks.prune.start=2", "trainer.max_epochs=3"]
    run = f"run_dir={tmp_path / 'run'}"
    assert main(["train", run, *words, "+trainer.check_val_every_n_epoch=2"]) == 0
    assert "final numbers are of the last checkpoint" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["sparsity/total"] == 0.5 and metrics["best_epoch"] == 3
    assert main(["evaluate", run]) == 0
    assert json.loads((tmp_path / "run" / "evaluate.json").read_text())["metrics"]["val/loss"] == pytest.approx(
        metrics["val/loss"]
    )


def test_early_stopping_begins_anew_with_each_amount(tmp_path):
    stop, prune = EarlyStop("val/mse_last", patience=50), Prune([0.95], every_epochs=3, scope="global")
    fit(tmp_path, prune, stop, max_epochs=6)
    best = [row["val/mse_last_best"] for row in prune.rows]
    assert best[0] < best[1] == pytest.approx(float(stop.best_score))


def test_training_too_short_for_the_amounts_is_said(tmp_path, capsys):
    fit(tmp_path, Prune([0.5, 0.75], every_epochs=2), max_epochs=3)
    assert "note: 3 epochs end at a sparsity of 0.5, before 0.75" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        {"amounts": []},
        {"amounts": [0.5, 0.5]},
        {"amounts": [0.5, 1.0]},
        {"amounts": [0.0]},
        {"every_epochs": 0},
        {"start": -1},
        {"scope": "network"},
    ],
    ids=str,
)
def test_refusals(arguments):
    with pytest.raises(ValueError, match="must ascend|must be at least|must be one of"):
        Prune(**{"amounts": [0.5], "every_epochs": 1, **arguments})


def test_refusals_of_the_command_line(tmp_path, capsys):
    assert main(["train", f"run_dir={tmp_path / 'run'}", *WORDS, "callbacks.prune.amounts=[0.7,0.5]"]) == 2
    assert "amounts must ascend between 0 and 1, got [0.7, 0.5]" in capsys.readouterr().err
    assert main(["train", f"run_dir={tmp_path / 'run'}", *WORDS, "callbacks=[addition,prune,ema]"]) == 2
    assert "Prune does not go with WeightAverage" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
