"""Sounds on the command line: records, texts of files and folders, times of symbols, pictures, what is refused."""

import csv
import io
import json
import shutil
import wave

import numpy as np
import pytest

from rnnlab.cli.main import main
from rnnlab.data.morse import SAMPLE_RATE, MorseData
from tests.cli.conftest import finished_run


def write_wave(path, samples, rate=SAMPLE_RATE):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three sounds of Morse code."""
    folder = tmp_path_factory.mktemp("sounds")
    data = MorseData(num_train=1, num_val=1, num_test=3, max_symbols=4, corpus_seed=1)
    for number, (_, samples) in enumerate(data.waves("test")):
        write_wave(folder / f"{number}.wav", 0.5 * samples / np.abs(samples).max())
    return folder


def predict(run_dir, source, target, *words):
    return main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}", *words])


def table(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_of_a_run(sounds_run):
    metrics = json.loads((sounds_run / "metrics.json").read_text())
    assert metrics.keys() >= {f"{part}/{name}" for part in ("val", "test") for name in ("loss", "cer", "wer")}
    assert "test/infinite" not in metrics
    with (sounds_run / "metrics.csv").open(newline="") as file:
        assert [float(row["train/infinite"]) for row in csv.DictReader(file)] == [0, 0]
    assert "baseline/classical/test/cer" in metrics
    for name in ("learning_curves", "posteriors"):
        assert (sounds_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "right: " in (sounds_run / "run.log").read_text(encoding="utf-8")


def test_predict_of_a_folder_and_of_one_of_its_files(sounds_run, folder, tmp_path):
    assert predict(sounds_run, folder, tmp_path / "all.tsv") == 0
    rows = table(tmp_path / "all.tsv")
    assert [row[0] for row in rows] == [str(folder / f"{number}.wav") for number in range(3)]
    assert predict(sounds_run, folder / "1.wav", tmp_path / "one.tsv", "beam=3") == 0
    assert table(tmp_path / "one.tsv") == rows[1:2]
    assert predict(sounds_run, folder / "1.wav", tmp_path / "best.tsv", "n_best=2", "beam=4") == 0
    best = table(tmp_path / "best.tsv")
    assert len(best) == 2 and float(best[0][2]) >= float(best[1][2])


def test_a_sound_from_stdin_has_no_name_of_a_file(sounds_run, folder, tmp_path, monkeypatch, capsys):
    write_wave(tmp_path / "silent.wav", np.zeros(2_000))
    content = (tmp_path / "silent.wav").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert predict(sounds_run, "-", tmp_path / "a.tsv", "times=true") == 0
    assert [row[0] for row in table(tmp_path / "a.tsv")] == ["stdin"]
    assert all(row[0] == "stdin" for row in table(tmp_path / "a.times.tsv")[1:])
    assert capsys.readouterr().err.startswith("rnnlab: stdin: is silent\n")


def test_times_stand_beside_the_texts(sounds_run, folder, tmp_path):
    assert predict(sounds_run, folder, tmp_path / "all.tsv", "times=true") == 0
    texts = {row[0]: row[1] for row in table(tmp_path / "all.tsv")}
    head, *rows = table(tmp_path / "all.times.tsv")
    assert head == ["file", "symbol", "start", "end"]
    for file, text in texts.items():
        spans = [row for row in rows if row[0] == file]
        assert "".join(row[1] for row in spans) == text
        starts, ends = ([float(row[column]) for row in spans] for column in (2, 3))
        assert all(start < end for start, end in zip(starts, ends, strict=True))
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["times=maybe"], "times must be true or false, got 'maybe'"),
        (["n_best=3", "beam=2"], "n_best must be at most beam, got 3 and 2"),
    ],
)
def test_predict_refuses(sounds_run, folder, tmp_path, capsys, words, message):
    assert predict(sounds_run, folder, tmp_path / "out.tsv", *words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_times_are_of_sounds_and_in_files(sounds_run, addition_run, folder, tmp_path, capsys):
    assert predict(sounds_run, folder, "-", "times=true") == 2
    assert "times=true writes a second file beside output=FILE, which cannot be -" in capsys.readouterr().err
    (tmp_path / "in.txt").write_text("1+2\n")
    assert predict(addition_run, tmp_path / "in.txt", tmp_path / "out.txt", "times=true") == 2
    assert "times=true is for models of sounds" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all, but text"])
def test_a_broken_sound_leaves_nothing_behind(sounds_run, folder, tmp_path, capsys, content):
    (tmp_path / "bad.wav").write_bytes(content)
    assert predict(sounds_run, tmp_path / "bad.wav", tmp_path / "out.tsv", "times=true") == 2
    error = capsys.readouterr().err
    assert "bad.wav" in error and len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.wav"]


def test_diagnose_draws_posteriors_of_validation_or_of_a_file(sounds_run, folder, tmp_path, capsys):
    run_dir = tmp_path / "sounds"
    shutil.copytree(sounds_run, run_dir)
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    before = (run_dir / "figures" / "posteriors.png").read_bytes()
    assert main(["diagnose", f"run_dir={run_dir}", f"input={folder / '0.wav'}"]) == 0
    assert (run_dir / "figures" / "posteriors.png").read_bytes() != before
    assert main(["diagnose", f"run_dir={run_dir}", f"input={tmp_path / 'gone.wav'}"]) == 2
    assert main(["diagnose", f"run_dir={run_dir}", "length=100"]) == 2
    assert "length is for character models" in capsys.readouterr().err


def test_a_target_that_cannot_fit_is_told_before_training(tmp_path, capsys):
    words = ["data.num_train=12", "data.num_val=2", "data.num_test=2", "model.stack=200", "logger=csv"]
    assert main(["train", "experiment=ctc/morse", f"run_dir={tmp_path / 'run'}", *words]) == 2
    assert "in steps of model.stack: a target of" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.fixture(scope="module")
def letters_run(tmp_path_factory):
    """A character model of lines that have every symbol of Morse code."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("".join(f"{symbol}AB\n" for symbol in list(MorseData().symbols)[1:]) * 8)
    return finished_run(
        tmp_path_factory,
        "letters",
        "experiment=char_lm/tinyshakespeare",
        *(f"data.path={path}", "data.batch_size=2", "data.tbptt_steps=20", "rnn.hidden_size=8", "logger=csv"),
        *("callbacks=none", "trainer.max_epochs=2"),
    )


def test_a_character_model_helps_to_read(sounds_run, letters_run, folder, tmp_path):
    words = (f"task.language_model={letters_run}", "task.lm_weight=4", "beam=4")
    assert predict(sounds_run, folder, tmp_path / "plain.tsv", "beam=4") == 0
    assert predict(sounds_run, folder, tmp_path / "none.tsv", "task.lm_weight=0", words[0], "beam=4") == 0
    assert predict(sounds_run, folder, tmp_path / "helped.tsv", *words) == 0
    plain, none, helped = (table(tmp_path / f"{name}.tsv") for name in ("plain", "none", "helped"))
    assert none == plain != helped


def test_language_models_that_are_refused(sounds_run, letters_run, char_run, folder, tmp_path, capsys):
    for words, message in (
        ([f"task.language_model={sounds_run}"], "task.language_model must be the directory of a run of char_lm"),
        ([f"task.language_model={char_run}"], "does not know"),
        ([f"task.language_model={tmp_path}"], "run_dir"),
        ([f"task.language_model={letters_run}", "task.beam=1"], "task.beam must be above 1 with task.language_model"),
        (["task.lm_weight=-1"], "task.lm_weight must be a finite number of at least 0, got -1"),
    ):
        assert predict(sounds_run, folder, tmp_path / "out.tsv", *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()
