"""A listener on the command line: trained, measured, asked and drawn as CTC is; what is refused."""

import json
import shutil

import numpy as np
import pytest

from rnnlab.cli.main import main
from rnnlab.data.morse import MorseData
from tests.cli.conftest import finished_run
from tests.cli.test_sounds import predict, table, write_wave


@pytest.fixture(scope="module")
def listen_run(tmp_path_factory):
    """A finished run on a little Morse code."""
    return finished_run(
        tmp_path_factory,
        "listen",
        *("experiment=seq2seq/digits", "data=morse", "logger=csv", "task.beam=3", "trainer.max_epochs=2"),
        *("data.num_train=24", "data.num_val=6", "data.num_test=4", "data.max_symbols=4", "data.min_speed=25"),
        *("rnn.hidden_size=6", "model.embedding_size=6", "task.max_length=5"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three sounds of Morse code."""
    folder = tmp_path_factory.mktemp("sounds")
    data = MorseData(num_train=1, num_val=1, num_test=3, max_symbols=4, corpus_seed=1)
    for number, (_, samples) in enumerate(data.waves("test")):
        write_wave(folder / f"{number}.wav", 0.5 * samples / np.abs(samples).max())
    return folder


def test_records_of_a_run(listen_run):
    metrics = json.loads((listen_run / "metrics.json").read_text())
    assert metrics.keys() >= {f"{part}/{name}" for part in ("val", "test") for name in ("loss", "cer", "wer")}
    assert "right: " in (listen_run / "run.log").read_text(encoding="utf-8")


def test_sounds_are_written_down(listen_run, folder, tmp_path):
    assert predict(listen_run, folder, tmp_path / "all.tsv") == 0
    rows = table(tmp_path / "all.tsv")
    assert [row[0] for row in rows] == [str(folder / f"{number}.wav") for number in range(3)]
    assert predict(listen_run, folder / "1.wav", tmp_path / "best.tsv", "n_best=2", "beam=4") == 0
    best = table(tmp_path / "best.tsv")
    assert len(best) == 2 and float(best[0][2]) >= float(best[1][2])


def test_it_is_measured_again(listen_run, tmp_path, capsys):
    listen_run = shutil.copytree(listen_run, tmp_path / "run")
    metrics = json.loads((listen_run / "metrics.json").read_text())
    assert main(["evaluate", f"run_dir={listen_run}"]) == 0
    found = json.loads((listen_run / "evaluate.json").read_text())["metrics"]
    assert found["test/cer"] == metrics["test/cer"]
    assert main(["evaluate", f"run_dir={listen_run}", "data.max_symbols=6"]) == 0
    assert main(["evaluate", f"run_dir={listen_run}", "data.corpus_seed=9"]) == 2
    assert "the training part is not the one this run was trained on" in capsys.readouterr().err


def test_it_is_drawn_without_posteriors(listen_run, folder, tmp_path, capsys):
    listen_run = shutil.copytree(listen_run, tmp_path / "run")
    assert main(["diagnose", f"run_dir={listen_run}"]) == 0
    assert (listen_run / "figures" / "learning_curves.png").is_file()
    assert not (listen_run / "figures" / "posteriors.png").exists()
    assert main(["diagnose", f"run_dir={listen_run}", f"input={folder}"]) == 2
    assert "input is for character models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.stack=0"], "model.stack must be an integer of at least 1, got 0"),
        (["model.attention=near"], "model.attention must be"),
        (["task.beam=0"], "task.beam must be an integer of at least 1, got 0"),
    ],
)
def test_settings_that_are_refused(words, message, tmp_path, capsys):
    base = ["train", "experiment=seq2seq/digits", "data=morse", "logger=csv", f"run_dir={tmp_path / 'run'}"]
    assert main([*base, "data.num_train=4", "data.num_val=2", "data.num_test=2", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_times_are_for_ctc(listen_run, folder, tmp_path, capsys):
    assert predict(listen_run, folder, tmp_path / "all.tsv", "times=true") == 2
    assert "times=true is for models of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
