"""Sounds on the command line: records, texts of files and folders, times of symbols, pictures, what is refused."""

import csv
import io
import json
import shutil
import wave

import numpy as np
import pytest

import rnnlab.data.sound_files
from rnnlab.cli.main import main
from rnnlab.data.morse import SAMPLE_RATE, MorseData
from rnnlab.models import Transcriber
from rnnlab.tasks import CTCTask
from tests.cli.conftest import finished_run

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


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


LONG = "data.eval_max_frames=20"  # what is longer is read in parts


@pytest.mark.parametrize("words", [["beam=1"], ["beam=3", "times=true"], ["beam=4", "n_best=2", "times=true"]], ids=str)
def test_a_long_sound_is_read_in_parts_as_the_whole(sounds_run, folder, tmp_path, words, monkeypatch, capsys):
    monkeypatch.setattr(rnnlab.data.sound_files, "_BLOCK", 500)
    assert predict(sounds_run, folder, tmp_path / "whole.tsv", *words) == 0
    assert any(row[1] for row in table(tmp_path / "whole.tsv")) or "beam=1" in words  # of little training
    monkeypatch.setattr(CTCTask, "search", None)  # whole sounds are searched by it
    assert predict(sounds_run, folder, tmp_path / "parts.tsv", *words, LONG) == 0
    assert table(tmp_path / "parts.tsv") == table(tmp_path / "whole.tsv")
    if "times=true" in words:
        assert table(tmp_path / "parts.times.tsv") == table(tmp_path / "whole.times.tsv")
    assert not capsys.readouterr().err


def test_windows_of_a_network_both_ways_are_told(sounds_run, folder, tmp_path, monkeypatch, capsys):
    assert predict(sounds_run, folder, tmp_path / "whole.tsv") == 0
    monkeypatch.setattr(Transcriber, "streams", False)
    assert predict(sounds_run, folder, tmp_path / "windows.tsv", LONG) == 0
    assert table(tmp_path / "windows.tsv") == table(tmp_path / "whole.tsv")  # each of one window
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3 and notes[0].startswith(f"rnnlab: {folder / '0.wav'}: is read in windows of 16384 frames")


def test_a_long_sound_makes_no_picture(sounds_run, folder, tmp_path, capsys):
    shutil.copytree(sounds_run, tmp_path / "run")
    assert main(["diagnose", f"run_dir={tmp_path / 'run'}", f"input={folder / '0.wav'}", LONG]) == 2
    assert "frames, too many to be told apart" in capsys.readouterr().err


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


def wave_of(samples, subtype):
    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, format="WAV", subtype=subtype)
    return content.getvalue()


NOISE = 0.1 * np.random.default_rng(0).standard_normal(8_000)
BROKEN = {
    "empty": (b"", "is empty"),
    "head": (b"RIFF", "is no sound that can be read"),
    "text": (b"no sound at all, but text", "is no sound that can be read"),
    "cut": (wave_of(NOISE, "PCM_16")[:9_000], "is cut short: its head promises more than the 1.12 s it has"),
    "bare": (wave_of(NOISE[:0], "PCM_16"), "has no samples"),
    "short": (wave_of(NOISE[:100], "PCM_16"), "has 100 samples, and a frame needs 128"),
    "NaN": (wave_of(np.append(NOISE, np.nan), "FLOAT"), "has samples that are not finite"),
}


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sound_leaves_nothing_behind(sounds_run, folder, tmp_path, capsys, name, length):
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "a.wav").write_bytes(BROKEN[name][0])
    words = ["times=true", *([LONG] if length == "long" else [])]
    assert predict(sounds_run, tmp_path / "in", tmp_path / "out.tsv", *words) == 2
    error = capsys.readouterr().err
    assert f"in/a.wav: {BROKEN[name][1]}" in error and len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT"])
def test_a_sound_of_any_width_and_of_two_channels_is_read(sounds_run, folder, tmp_path, capsys, subtype):
    samples, rate = soundfile.read(folder / "0.wav")
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), rate, subtype=subtype)
    assert predict(sounds_run, tmp_path / "stereo.wav", tmp_path / "out.tsv") == 0
    assert capsys.readouterr().err == f"rnnlab: {tmp_path / 'stereo.wav'}: 2 channels were mixed down to one\n"
    if subtype != "PCM_U8":
        assert predict(sounds_run, folder / "0.wav", tmp_path / "mono.tsv") == 0
        assert table(tmp_path / "out.tsv")[0][1] == table(tmp_path / "mono.tsv")[0][1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.wav\tAB!", "val.tsv:1: '!' is not among the symbols 'AB'"),
        ("gone.wav\tAB", "val.tsv:1: there is no file"),
        ("0.wav AB", "val.tsv:1: expected a file, one tab and a text"),
        ("cut.wav\tAB", "cut.wav: is cut short"),
    ],
)
def test_lists_that_cannot_be_trained_on(folder, tmp_path, capsys, line, message):
    for number in range(2):
        shutil.copy(folder / f"{number}.wav", tmp_path)
    (tmp_path / "cut.wav").write_bytes(BROKEN["cut"][0])
    (tmp_path / "train.tsv").write_text("1.wav\tAB\n")
    (tmp_path / "val.tsv").write_text(f"{line}\n")
    words = [f"data.train={tmp_path / 'train.tsv'}", f"data.val={tmp_path / 'val.tsv'}", "data.sample_rate=4000"]
    run = ["train", "experiment=ctc/digits", "data=sounds", *words, f"run_dir={tmp_path / 'run'}", "logger=csv"]
    assert main(run) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "metrics.csv").exists() and not (tmp_path / "run" / "checkpoints").exists()


def test_diagnose_draws_posteriors_of_validation_or_of_a_file(sounds_run, folder, tmp_path, capsys):
    run_dir = tmp_path / "sounds"
    shutil.copytree(sounds_run, run_dir)
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    before = (run_dir / "figures" / "posteriors.png").read_bytes()
    assert main(["diagnose", f"run_dir={run_dir}", f"input={folder / '0.wav'}"]) == 0
    assert (run_dir / "figures" / "posteriors.png").read_bytes() == before
    assert (run_dir / "figures" / "posteriors_0.png").read_bytes() != before
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
    assert predict(sounds_run, folder, tmp_path / "parts.tsv", *words, LONG) == 0
    plain, none, helped, parts = (table(tmp_path / f"{name}.tsv") for name in ("plain", "none", "helped", "parts"))
    assert none == plain != helped == parts


def test_language_models_that_are_refused(sounds_run, letters_run, char_run, folder, tmp_path, capsys):
    for words, message in (
        ([f"task.language_model={sounds_run}"], "task.language_model must be the directory of a run of char_lm"),
        ([f"task.language_model={char_run}"], "does not know"),
        ([f"task.language_model={tmp_path}"], "run_dir"),
        ([f"task.language_model={letters_run}", "task.beam=1"], "task.beam must be above 1 with task.language_model"),
        ([f"task.language_model={letters_run}", "beam=1"], "rnnlab: beam must be above 1 with task.language_model"),
        (["task.insertion_bonus=1", "beam=1"], "rnnlab: beam must be above 1 with task.insertion_bonus"),
        (["task.lm_weight=-1"], "task.lm_weight must be a finite number of at least 0, got -1"),
    ):
        assert predict(sounds_run, folder, tmp_path / "out.tsv", *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()
