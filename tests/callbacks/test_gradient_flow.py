"""Runs whose gradients are recorded: what stands in the file, what is drawn, and that nothing else changes."""

import csv
import shutil
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

import rnnlab.nn
from rnnlab.analysis.gradient_flow import gradient_flow
from rnnlab.callbacks import GradientFlow
from rnnlab.callbacks.gradient_flow import (
    Number,
    _activated,
    _numbers,
    _of_gates,
    _of_weights,
    _share_of_loss,
    read_numbers,
    record_batch,
)
from rnnlab.cli.build import build
from rnnlab.cli.diagnose import _ONE_BATCH
from rnnlab.cli.main import main
from rnnlab.cli.rundir import read_config
from rnnlab.nn import GRUCell, MinGRUCell, MinLSTMCell, Recurrent
from rnnlab.nn.cells.scan import Hidden
from rnnlab.nn.recording import Flow
from tests.covering import few
from tests.nn.test_recording import Leaky

WORDS = [
    "logger=csv",
    "data.digits=2",
    "data.num_questions=400",
    "data.num_test=50",
    "data.batch_size=64",
    "rnn.hidden_size=8",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "callbacks.samples.num_samples=1",
]


def train(path, *words):
    assert main(["train", "--debug", f"run_dir={path}", *WORDS, *words]) == 0
    return path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "recorded"
    return train(path, "callbacks=[addition,gradient_flow]", "callbacks.gradient_flow.every_epochs=2")


def test_the_file_has_every_number_of_the_recorded_epochs(run_dir):
    rows = read_numbers(run_dir / "gradient_flow.csv")
    assert {row.epoch for row in rows if row.layer} == {0, 2}
    assert {row.epoch for row in rows if row.kind == "clip_rate"} == {0, 1, 2}
    assert {row.layer for row in rows} == {"", "encoder, layer 1", "decoder, layer 1"}
    own = [row for row in rows if row.layer == "encoder, layer 1" and row.epoch == 0]
    assert {row.name for row in own if row.kind == "gate"} == {"i", "f", "g", "o"}
    assert [row.back for row in own if (row.kind, row.name) == ("state", "c")] == [0, 1, 2, 3, 4]
    assert all(0 <= row.value <= 1 for row in rows if row.kind in ("open", "closed", "direct"))
    radius = {row.name: row.value for row in own if row.kind == "spectral_radius"}
    largest = {row.name: row.value for row in own if row.kind == "largest_singular_value"}
    assert all(radius[gate] <= largest[gate] for gate in "ifgo")
    assert (run_dir / "figures" / "gradient_flow.png").stat().st_size > 10_000


def test_what_is_trained_is_what_is_trained_without_it(run_dir, tmp_path):
    plain = train(tmp_path / "plain")
    for one, other in zip(*(_weights(path) for path in (run_dir, plain)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _weights(path):
    return torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"].values()


def test_a_finished_run_is_drawn_again(run_dir, capsys):
    picture = run_dir / "figures" / "gradient_flow.png"
    picture.unlink()
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    assert str(picture) in capsys.readouterr().out and picture.exists()
    path = run_dir / "gradient_flow.csv"
    kept = path.read_text()
    path.write_text(kept.splitlines()[0] + "\n0,encoder,state,h,x,1\n")
    assert main(["diagnose", f"run_dir={run_dir}"]) == 2
    assert "gradient_flow.csv:2" in capsys.readouterr().err
    header, *rows = kept.splitlines()
    path.write_text("\n".join([header, *(row for row in rows if ",clip_rate," in row), ""]))
    curves = run_dir / "figures" / "learning_curves.png"
    curves.unlink(missing_ok=True)
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    assert "no picture of gradient flow: gradient_flow.csv has no recorded layer" in capsys.readouterr().out
    assert curves.exists()
    path.write_text(kept)


def test_a_run_without_the_callback_is_recorded_from_a_batch(run_dir, tmp_path, capsys):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    (copy / "gradient_flow.csv").unlink()
    picture = copy / "figures" / "gradient_flow.png"
    picture.unlink()
    assert main(["diagnose", f"run_dir={copy}"]) == 0
    assert str(picture) in capsys.readouterr().out and picture.stat().st_size > 10_000
    assert not (copy / "gradient_flow.csv").exists()
    picture.unlink()
    assert main(["diagnose", f"run_dir={copy}", "rnn.backend=aten"]) == 0
    assert 'no picture of gradient flow: encoder: backend="aten" cannot run' in capsys.readouterr().out
    assert not picture.exists() and (copy / "figures" / "learning_curves.png").exists()


def test_a_batch_is_that_of_training_and_changes_no_weight(run_dir):
    """Of the first epoch, before any update, as the callback met it."""
    config = read_config(run_dir)
    run = build({**config, "trainer": _ONE_BATCH})
    before = [parameter.detach().clone() for parameter in run.task.parameters()]
    found = record_batch(run.trainer, run.task, run.data, epoch=0)
    assert all(torch.equal(a, b) for a, b in zip(run.task.parameters(), before, strict=True))
    expected = [row for row in read_numbers(run_dir / "gradient_flow.csv") if row.epoch == 0 and row.layer]
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-6), one
    later = record_batch(build({**config, "trainer": _ONE_BATCH}).trainer, run.task, run.data, epoch=7)
    assert {row.epoch for row in later} == {7}


def test_a_step_that_fails_leaves_no_layer_recording():
    callback, layer = GradientFlow(), rnnlab.nn.GRU(2, 3)
    callback.on_train_batch_start(SimpleNamespace(current_epoch=0), layer, None, 0)
    assert layer.recording is not None
    callback.on_exception(None, layer, ValueError())
    assert layer.recording is None


def test_rows_outlive_a_checkpoint():
    callback, other = GradientFlow(), GradientFlow()
    callback.rows = [Number(0, "rnn, layer 1", "state", "h", 0, 0.5), Number(0, "", "clip_rate", "", None, 0.1)]
    other.load_state_dict(callback.state_dict())
    assert other.rows == callback.rows


@pytest.mark.parametrize(
    "rnn", few(["gru", "rnn", "cells/layer_norm_lstm", "cells/min_gru", "cells/lru"], ["cells/lru"])
)
def test_every_cell_can_be_drawn(tmp_path, rnn):
    train(tmp_path / "run", "callbacks=[addition,gradient_flow]", f"rnn={rnn}", "trainer.max_epochs=1")
    rows = read_numbers(tmp_path / "run" / "gradient_flow.csv")
    assert {"state", "direct"} <= {row.kind for row in rows}


def test_a_backend_that_records_nothing_is_refused_before_anything_is_written(tmp_path, capsys):
    words = [f"run_dir={tmp_path / 'run'}", *WORDS, "callbacks=[addition,gradient_flow]", "rnn.backend=aten"]
    assert main(["train", *words]) == 2
    assert 'GradientFlow: encoder: backend="aten" cannot run this call' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every_epochs must be a positive integer, got 0"):
        GradientFlow(0)
    with pytest.raises(ValueError, match="no layer was recorded"):
        gradient_flow([], "")
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="expected the columns epoch, layer"):
        read_numbers(tmp_path / "other.csv")
    with (tmp_path / "empty.csv").open("w", newline="") as file:
        csv.writer(file).writerow(Number._fields)
    assert read_numbers(tmp_path / "empty.csv") == []


@pytest.mark.parametrize(("cell", "bias"), [(GRUCell, 3.0), (MinGRUCell, -3.0)])
def test_time_constants_are_of_what_is_kept(cell, bias):
    """GRU keeps z of a state, minGRU 1 - z."""
    layer = Recurrent(cell(2, 4))
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    rows = 4 if cell is MinGRUCell else 8
    layer.cells[0].bias_ih.data[rows - 4 : rows] = bias  # of z
    with layer.record(values=True) as recording:
        layer(torch.randn(5, 3, 2))[0].sum().backward()
    found = [row.value for row in _numbers(0, "rnn", layer, 0, recording) if row.kind == "time_constant"]
    assert found == pytest.approx(3 * [-1 / torch.tensor(3.0).sigmoid().log().item()], rel=1e-4)


@pytest.mark.parametrize(("f", "i"), [(0.0, 0.0), (4.0, -3.0), (-6.0, 2.0), (-5.0, -5.0), (9.0, 9.0)])
def test_gates_of_a_min_lstm_are_told(f, i):
    """It keeps shares of them alone."""
    layer = Recurrent(MinLSTMCell(2, 4), backend="fused")
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    layer.cells[0].bias_ih.data[:8] = torch.tensor([f, i]).repeat_interleave(4)
    with layer.record(values=True) as recording:
        layer(torch.randn(5, 3, 2), (Hidden(torch.ones(3, 4)),))[0].sum().backward()
    found, kept = _activated(recording[0], layer, 0)
    opened, shut = torch.sigmoid(torch.tensor([f, i], dtype=torch.float64))
    for gate, right in (("f", opened), ("i", shut)):
        torch.testing.assert_close(found[gate], right.expand(5, 3, 4), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept, (opened / (opened + shut)).expand(5, 3, 4), rtol=1e-5, atol=1e-6)
    rows = {(row.kind, row.name) for row in _numbers(0, "rnn", layer, 0, recording)}
    assert {("open", "f"), ("closed", "i"), ("time_constant", "0.5")} <= rows


class Summed(pl.LightningModule):
    """Its loss is the sum of what a leaky cell says last."""

    def __init__(self):
        super().__init__()
        self.model = Recurrent(Leaky())

    def training_step(self, batch, batch_idx):
        return self.model(batch[:, None].expand(5, 2, 3))[0][-1].sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("accumulated", [1, 4])
def test_norms_are_of_the_loss_by_steps_before_the_last_even_of_states_alone(tmp_path, accumulated):
    callback = GradientFlow()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulated,
        callbacks=[callback],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Summed(), torch.utils.data.DataLoader(torch.randn(20, 3), batch_size=5))
    rows = read_numbers(tmp_path / "gradient_flow.csv")
    assert {(row.layer, row.kind, row.name) for row in rows} == {("model, layer 1", "state", "0")}
    assert {row.back: row.value for row in rows} == pytest.approx({k: 0.5**k * 16**0.5 for k in range(5)}, rel=1e-5)
    gradient_flow(rows, "states alone").savefig(tmp_path / "flow.png")


def test_a_scaled_loss_is_scaled_back():
    scaler = SimpleNamespace(get_scale=lambda: 1024.0)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), accumulate_grad_batches=4)
    assert _share_of_loss(trainer) == 256


LSTM, GRU = "ifgo", "rzn"
R = {
    "LSTM": (lambda: rnnlab.nn.LSTM(3, 6), LSTM, True),
    "projection": (lambda: rnnlab.nn.LSTM(3, 6, proj_size=4), LSTM, False),
    "projection by which rows divide": (lambda: rnnlab.nn.LSTM(3, 6, proj_size=3), LSTM, False),
    "GRU": (lambda: rnnlab.nn.GRU(3, 6), GRU, True),
    "RNN": (lambda: rnnlab.nn.RNN(3, 6), "h", True),
    "LSTMCell": (lambda: Recurrent(rnnlab.nn.LSTMCell(3, 6)), LSTM, True),
    "GRUCell": (lambda: Recurrent(rnnlab.nn.GRUCell(3, 6)), GRU, True),
    "RNNCell": (lambda: Recurrent(rnnlab.nn.RNNCell(3, 6)), "h", True),
    "CIFG": (lambda: Recurrent(rnnlab.nn.CIFGCell(3, 6)), rnnlab.nn.CIFGCell.gates, True),
    "Jordan": (lambda: Recurrent(rnnlab.nn.JordanCell(3, 6, output_size=2)), "a", False),
    "state space": (lambda: Recurrent(rnnlab.nn.StateSpaceCell(3, 6, transition_size=12)), "a", False),
    "NARX": (lambda: Recurrent(rnnlab.nn.NARXCell(3, 6, output_taps=2)), ("R_1", "R_2"), True),
    "NARX, one tap": (lambda: Recurrent(rnnlab.nn.NARXCell(3, 6, output_size=2)), "a", False),
}


@pytest.mark.parametrize("name", R)
def test_blocks_of_r_are_those_of_its_gates(name):
    make, names, is_square = R[name]
    layer = make()
    weight = getattr(layer, "weight_hh_l0", None) if hasattr(layer, "mode") else layer.cells[0].weight_hh
    found = {(kind, block): value for kind, block, value in _of_weights(layer, 0)}
    kinds = ["largest_singular_value", *(["spectral_radius"] if is_square else [])]
    assert found.keys() == {(kind, block) for kind in kinds for block in names}
    height = len(weight) // len(names)
    for k, block in enumerate(names):
        part = weight.detach().double()[k * height : (k + 1) * height]
        assert found["largest_singular_value", block] == pytest.approx(float(torch.linalg.svdvals(part)[0]))
        if is_square:
            assert found["spectral_radius", block] == pytest.approx(float(torch.linalg.eigvals(part).abs().max()))


def test_heads_are_one_block_diagonal_r():
    layer = Recurrent(rnnlab.nn.ElmanCell(3, 6, num_heads=2))
    whole = torch.block_diag(*layer.cells[0].weight_hh.detach().double().split(3))
    found = {(kind, name): value for kind, name, value in _of_weights(layer, 0)}
    assert found == {
        ("spectral_radius", "a"): pytest.approx(float(torch.linalg.eigvals(whole).abs().max())),
        ("largest_singular_value", "a"): pytest.approx(float(torch.linalg.svdvals(whole)[0])),
    }


@pytest.mark.parametrize(
    ("gates", "constant"),
    [((0.99966, 0.00034), 0.250), ((1.0, 1.0), 1e6), ((0.5, 1.0), 2.885), ((0.0, 1.0), 0.0229), ((0.0, 0.0), 0.01145)],
)
def test_time_constants_are_of_the_mean_logarithm(gates, constant):
    """What is kept over steps is the product of their gates; 0 counts as the smallest normal float32."""
    f = torch.tensor(gates).repeat(4)[:, None, None].expand(8, 2, 3)
    flow = Flow({"c": torch.ones(8, 2)}, {}, {}, {}, {"f": f})
    found = [value for kind, _, value in _of_gates(flow, rnnlab.nn.LSTM(2, 3), 0) if kind == "time_constant"]
    assert found == pytest.approx(3 * [constant], rel=2e-3)
