"""Electrocardiograms on the command line: records of a run, answers to records, pictures, what is refused."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest

from rnnlab.baselines import match_beats
from rnnlab.cli.main import main
from rnnlab.data import ECGData
from rnnlab.data.heartbeats import Kinds, draw_beats, render
from rnnlab.data.physionet import read_beats

wfdb = pytest.importorskip("wfdb")
RATE = 200


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A minute of a heart in CSV, and the times of its beats."""
    beats = draw_beats(60.0, 70.0, Kinds(0.0, 0.0, 0.0), np.random.default_rng(0))
    signal = render(beats, RATE, 60 * RATE)
    file = tmp_path_factory.mktemp("records") / "heart.csv"
    file.write_text("time,II\n" + "".join(f"{n / RATE:.3f},{value:.4f}\n" for n, value in enumerate(signal)))
    true = beats.column("r")
    return file, true[(true > 1) & (true < 59)]


def predict(run_dir, source, target, *words):
    return main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}", *words])


def test_records_of_a_run(ecg_run):
    metrics = json.loads((ecg_run / "metrics.json").read_text())
    names = ("loss", "r_sensitivity", "r_precision", *(f"{name}_error_ms" for name in ("r", "q", "s", "qrs")))
    assert metrics.keys() >= {f"{part}/{name}" for part in ("val", "test") for name in names}
    assert "baseline/pan_tompkins/test/r_sensitivity" in metrics
    for name in ("learning_curves", "beats"):
        assert (ecg_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_beats(ecg_run, table, tmp_path, capsys):
    file, true = table
    assert predict(ecg_run, file, tmp_path / "beats.csv") == 0
    said = capsys.readouterr().out
    with (tmp_path / "beats.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == ["r_s", "q_s", "s_s", "qrs_on_s", "qrs_off_s", "qrs_ms", "wide"]
    assert f"{len(rows)} beats, " in said and " a minute, " in said and " of them wide, in " in said
    for row in rows:
        duration = 1000 * (float(row["qrs_off_s"]) - float(row["qrs_on_s"]))
        assert float(row["qrs_ms"]) == pytest.approx(duration, abs=0.2)
        assert row["wide"] == str(int(float(row["qrs_ms"]) > 100))
    found = np.array([float(row["r_s"]) for row in rows])
    assert (np.diff(found) >= 0.2).all() and len(match_beats(found, true, 0.05)) > 0.8 * len(true)
    assert predict(ecg_run, file, tmp_path / "lax.csv", "task.limit_ms=1000") == 0
    assert "0 of them wide" in capsys.readouterr().out


def test_pieces_and_windows_change_no_answer(ecg_run, table, tmp_path, monkeypatch):
    """A minute and its margins hold all of this record; here it is read in windows of ten seconds, 700 rows a time."""
    assert predict(ecg_run, table[0], tmp_path / "whole.csv") == 0
    monkeypatch.setattr("rnnlab.data.record_tables._PIECE", 700)
    assert predict(ecg_run, table[0], tmp_path / "pieces.csv") == 0
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    monkeypatch.setattr("rnnlab.models.delineator._WINDOW", 10.0)
    assert predict(ecg_run, table[0], tmp_path / "windows.csv") == 0
    whole, windows = (np.loadtxt(tmp_path / f"{n}.csv", delimiter=",", skiprows=1) for n in ("whole", "windows"))
    np.testing.assert_allclose(windows, whole, atol=2e-4)


def test_annotations(ecg_run, table, tmp_path):
    assert predict(ecg_run, table[0], tmp_path / "heart.ATR") == 0
    (tmp_path / "heart.ATR").rename(tmp_path / "heart.atr")
    assert predict(ecg_run, table[0], tmp_path / "heart.csv") == 0
    (tmp_path / "heart.hea").write_text(f"heart 1 {RATE} 12000\nheart.dat 16 200 16 0 0 0 0 II\n")
    times, _ = read_beats(tmp_path / "heart")
    found = np.loadtxt(tmp_path / "heart.csv", delimiter=",", skiprows=1)[:, 0]
    np.testing.assert_allclose(times, found, atol=0.5 / RATE + 1e-4)


def test_answers_go_to_stdout(ecg_run, table, capfdbinary):
    assert predict(ecg_run, table[0], "-") == 0
    assert capfdbinary.readouterr().out.startswith(b"r_s,q_s,")


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("II\n1\n2\n", [], "the sampling rate is not known, no column among II is called 'time'"),
        ("", [], "bad.csv: is empty"),
        ("time,II\n", [], "bad.csv: has 0 samples"),
        ("time;II\n0;1\n", [], ":1: columns are parted by commas, and none is in 'time;II'"),
        ("time,II\n" + "".join(f"{n / 100},1\n" for n in range(200)), [], "is a flat line"),
        ("time,II\n0,1\n0.01,nan\n", [], ":3, column 'II': expected a finite number, got 'nan'"),
        ("time,II\n0,1\n0.01\n", [], ":3: 1 values in 2 columns: leads of unequal length"),
        ("time,II\n0,1\n0.01,2\n", ["data.lead=V9"], "data.lead must be one of II, or a number from 0 on, got 'V9'"),
        (None, [], "no record at"),
    ],
)
def test_a_broken_record_leaves_nothing_behind(ecg_run, tmp_path, capsys, content, words, message):
    if content is not None:
        (tmp_path / "bad.csv").write_text(content)
    assert predict(ecg_run, tmp_path / "bad.csv", tmp_path / "out.csv", *words) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_physionet_needs_an_extra(ecg_run, table, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    (tmp_path / "heart.hea").write_text("heart 1 200 600\n")
    for source, name in ((tmp_path / "heart", "beats.csv"), (table[0], "beats.atr")):
        assert predict(ecg_run, source, tmp_path / name) == 2
        error = capsys.readouterr().err
        assert 'pip install "rnnlab[ecg]"' in error and len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["heart.hea"]


def test_a_folder_that_is_missing_and_a_file_that_is_no_record(ecg_run, table, tmp_path, capsys):
    assert predict(ecg_run, table[0], tmp_path / "no" / "beats.atr") == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "heart.txt").write_text(table[0].read_text())
    assert predict(ecg_run, tmp_path / "heart.txt", tmp_path / "beats.csv") == 2
    assert "heart.txt: is no record: a table ends in .csv, PhysioNet's files in" in capsys.readouterr().err


def test_a_record_without_header(ecg_run, tmp_path, capsys):
    assert predict(ecg_run, tmp_path / "gone", tmp_path / "out.csv") == 2
    assert "no header of a record at" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when it writes
def test_answers_never_replace_a_record(ecg_run, tmp_path, capsys):
    wave = np.sin(np.arange(600) / 9)[:, None]
    wfdb.wrsamp("heart", RATE, ["mV"], ["II"], p_signal=wave, fmt=["16"], write_dir=str(tmp_path))
    wfdb.wrann("heart", "atr", np.array([100]), ["N"], write_dir=str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for source in ("heart", "heart.hea", "heart.dat"):
        for suffix in ("hea", "dat", "atr"):
            assert predict(ecg_run, tmp_path / source, tmp_path / f"heart.{suffix}") == 2
            assert "which is read: it needs another name" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_diagnose_draws_beats_of_validation_or_of_a_record(ecg_run, table, tmp_path, capsys):
    run_dir = tmp_path / "ecg"
    shutil.copytree(ecg_run, run_dir)
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    before = (run_dir / "figures" / "beats.png").read_bytes()
    assert main(["diagnose", f"run_dir={run_dir}", f"input={table[0]}"]) == 0
    assert (run_dir / "figures" / "beats.png").read_bytes() == before
    assert (run_dir / "figures" / "beats_heart.png").read_bytes() != before
    assert main(["diagnose", f"run_dir={run_dir}", f"input={tmp_path / 'gone.csv'}"]) == 2
    assert "no record at" in capsys.readouterr().err


def test_a_trained_model_answers_without_its_training_records(ecg_run, table, tmp_path, monkeypatch):
    monkeypatch.setattr(ECGData, "make_splits", lambda self: pytest.fail("made records"))
    assert predict(ecg_run, table[0], tmp_path / "beats.csv") == 0


def test_a_delay_is_for_onwards_layers(tmp_path, capsys):
    words = ["data.num_train=2", "data.batch_size=2", "data.num_val=1", "data.num_test=1", "logger=csv"]
    command = ["train", "experiment=ecg/delineation", f"run_dir={tmp_path / 'run'}", *words, "model.delay_ms=200"]
    assert main(command) == 2
    assert "model.delay_ms is for layers that go onwards alone" in capsys.readouterr().err
