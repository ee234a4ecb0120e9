"""Classifiers on the command line: records of a run, classes of files and sounds, pictures, what is refused."""

import csv
import json
import shutil
import wave

import numpy as np
import pytest

from rnnlab.cli.main import main
from tests.cli.conftest import finished_run


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Curves of 6 to 12 steps that rise or fall."""
    rng = np.random.default_rng(0)
    lines = []
    for row in range(60):
        steps = np.arange(rng.integers(6, 13)) - 4.0
        curve = (1 if row % 2 else -1) * steps + 0.3 * rng.standard_normal(len(steps))
        lines.append(["down", "up"][row % 2] + "".join(f"\t{value:.3f}" for value in curve) + "\n")
    path = tmp_path_factory.mktemp("curves") / "curves.tsv"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def curves_run(tmp_path_factory, table):
    """A finished run on the user's own sequences."""
    return finished_run(
        tmp_path_factory,
        "curves",
        "experiment=classification/ecg5000",
        "data=series",
        f"data.train={table}",
        "data.fold=1",
        "data.batch_steps=100",
        "rnn.hidden_size=8",
        "model.stack=1",
        "model.distortion.roll=0",
        "model.dropout=0",
        "trainer.max_epochs=12",
        "optim.lr=0.02",
        "logger=csv",
    )


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A finished run on tones that stand for digits, and the folder of them."""
    folder = tmp_path_factory.mktemp("tones")
    for value in (0, 1):
        for index in range(8):
            tone = 0.3 * np.sin(2 * np.pi * (400 + 900 * value) * np.arange(1200 + 80 * index) / 8_000)
            with wave.open(str(folder / f"{value}_ann_{index}.wav"), "wb") as file:
                file.setparams((1, 2, 8_000, 0, "NONE", ""))
                file.writeframes((tone * 32767).astype("<i2").tobytes())
    words = ["experiment=classification/digits", f"data.path={folder}", "data.num_val=1", "data.copies=2", "logger=csv"]
    words += ["rnn.hidden_size=4", "trainer.max_epochs=2"]
    return finished_run(tmp_path_factory, "tones", *words), folder


def predict(run_dir, source, target):
    return main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}"])


def rows_of(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_of_a_run(curves_run):
    metrics = json.loads((curves_run / "metrics.json").read_text())
    assert metrics.keys() >= {f"{part}/{name}" for part in ("val", "test") for name in ("accuracy", "macro_f1", "loss")}
    assert metrics["test/accuracy"] > 0.8 and metrics["test/macro_f1"] > 0.8
    assert metrics["baseline/most_frequent/test/accuracy"] == 0.5
    assert "baseline/nearest/test/macro_f1" in metrics and "time/sequences_per_s" in metrics
    with (curves_run / "confusion.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    counts = np.array([[int(cell) for cell in row[1:]] for row in rows])
    assert head == ["true", "down", "up"] and [row[0] for row in rows] == ["down", "up"]
    assert counts.sum(axis=1).tolist() == [6, 6] and metrics["test/accuracy"] == pytest.approx(counts.trace() / 12)
    with (curves_run / "classes.csv").open(newline="") as file:
        assert [row["support"] for row in csv.DictReader(file)] == ["6", "6"]
    assert (curves_run / "figures" / "confusion_test.png").read_bytes().startswith(b"\x89PNG")
    log = (curves_run / "run.log").read_text(encoding="utf-8")
    assert "best baseline" in log and "test/accuracy" in log


def test_predict_of_each_layout(curves_run, tmp_path):
    (tmp_path / "asked.tsv").write_text("?\t4\t3\t2\t1\t0\t-1\t-2\n?\t-4\t-3\t-2\t-1\t0\t1\t2\t3\n")
    (tmp_path / "asked.ts").write_text("@classLabel false\n@data\n4,3,2,1,0,-1,-2\n-4,-3,-2,-1,0,1,2,3\n")
    rows = [
        (name, step, value)
        for name, sign in (("falls", -1), ("rises", 1))
        for step, value in enumerate(sign * np.arange(-4, 4))
    ]
    (tmp_path / "asked.csv").write_text("id,time,level\n" + "".join(f"{n},{s},{v}\n" for n, s, v in rows))
    expected = {"asked.tsv": ("1", "2"), "asked.ts": ("1", "2"), "asked.csv": ("falls", "rises")}
    for name, (first, second) in expected.items():
        assert predict(curves_run, tmp_path / name, tmp_path / "answers.tsv") == 0
        answers = rows_of(tmp_path / "answers.tsv")
        assert [row[:2] for row in answers] == [[first, "down"], [second, "up"]]
        assert all(0.5 <= float(row[2]) <= 1 for row in answers)


def test_predict_of_a_folder_of_sounds_and_of_one(digits_run, tmp_path):
    run_dir, folder = digits_run
    assert predict(run_dir, folder, tmp_path / "all.tsv") == 0
    rows = rows_of(tmp_path / "all.tsv")
    assert len(rows) == 16 and rows[3][0] == str(folder / "0_ann_3.wav") and {row[1] for row in rows} <= {"0", "1"}
    assert predict(run_dir, folder / "0_ann_3.wav", tmp_path / "one.tsv") == 0
    (one,) = rows_of(tmp_path / "one.tsv")
    assert one[:2] == rows[3][:2] and float(one[2]) == pytest.approx(float(rows[3][2]), abs=2e-4)


def test_evaluate_gives_the_numbers_of_training(curves_run, tmp_path, capsys):
    run_dir = tmp_path / "curves"
    shutil.copytree(curves_run, run_dir)
    assert main(["evaluate", f"run_dir={run_dir}", "trainer.accelerator=cpu"]) == 0
    found = json.loads((run_dir / "evaluate.json").read_text())["metrics"]
    trained = json.loads((run_dir / "metrics.json").read_text())
    assert found == pytest.approx({key: trained[key] for key in found})


def test_diagnose_draws_confusions(curves_run, tmp_path, capsys):
    run_dir = tmp_path / "curves"
    shutil.copytree(curves_run, run_dir)
    before = (run_dir / "figures" / "confusion_test.png").read_bytes()
    assert main(["diagnose", f"run_dir={run_dir}"]) == 0
    assert (run_dir / "figures" / "confusion_val.png").exists()
    assert (run_dir / "figures" / "confusion_test.png").read_bytes() == before
    assert main(["diagnose", f"run_dir={run_dir}", "input=x.tsv"]) == 2
    assert "input is for character models, models of pairs and of CTC, and delineators" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.tsv", "?\t1\tx\n", "bad.tsv:1, value 2: expected a finite number, got 'x'"),
        ("bad.ts", "@classLabel false\n@data\n1:2\n", "bad.ts: has 2 values a step, the run 1"),
        ("bad.csv", "id,time,level\n1,0,2\n1,0,3\n", "bad.csv:3, column 'time'"),
        ("bad.wav", "RIFF", "sequences are read from .ts, .tsv, .txt, .csv, not from '.wav'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(curves_run, tmp_path, capsys, name, content, message):
    (tmp_path / name).write_text(content)
    assert predict(curves_run, tmp_path / name, tmp_path / "out.tsv") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_training_refuses_a_broken_file_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "bad.tsv").write_text("a\t1\t2\nb\t3\tNaN\t4\n")
    words = ["experiment=classification/ecg5000", "data=series", f"data.train={tmp_path / 'bad.tsv'}", "logger=csv"]
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "bad.tsv:2, value 2: expected a finite number, got 'NaN'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.csv").exists()
