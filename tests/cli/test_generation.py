"""From a vector to a sequence on the command line: records, answers, a picture, what is refused."""

import json
import shutil

import pytest

from rnnlab.cli.main import main
from tests.cli.conftest import finished_run


@pytest.fixture(scope="session")
def wave_run(tmp_path_factory):
    words = ["data.num_train=7_000", "data.num_steps=4", "data.batch_size=1000", "trainer.max_epochs=1", "logger=csv"]
    sizes = ["rnn.hidden_size=4", "model.code_size=4"]
    return finished_run(tmp_path_factory, "wave", "experiment=generation/wave", *words, *sizes)


@pytest.fixture(scope="session")
def numbers_run(tmp_path_factory):
    words = ["data.num_digits=1", "data.num_train=7", "data.num_val=2", "trainer.max_epochs=2", "rnn.hidden_size=4"]
    return finished_run(tmp_path_factory, "numbers", "experiment=generation/numbers", *words, "logger=csv")


@pytest.fixture
def copy(wave_run, tmp_path):
    return shutil.copytree(wave_run, tmp_path / "run")


def predict(run_dir, source, target, *words):
    return main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}", *words])


def test_records_of_waves(copy):
    metrics = json.loads((copy / "metrics.json").read_text())
    assert metrics.keys() >= {"test/mse", "baseline/mean/test/mse", "optimum/test/mse"}
    assert metrics["test/mse"] > metrics["optimum/test/mse"]
    lines = (copy / "errors.csv").read_text().splitlines()
    assert lines[0] == "step,model,mean" and len(lines) == 1 + 16
    errors = [float(line.split(",")[1]) for line in lines[1:5]]  # the steps of training
    assert sum(errors) / 4 == pytest.approx(metrics["test/mse"], rel=1e-5)
    (copy / "figures" / "waves.png").unlink()
    assert main(["diagnose", f"run_dir={copy}"]) == 0
    assert (copy / "figures" / "waves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", f"run_dir={copy}"]) == 0
    assert json.loads((copy / "evaluate.json").read_text())["metrics"]["test/mse"] == metrics["test/mse"]


def test_a_wave_is_as_long_as_one_asks_for(wave_run, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("0.1,0.2,0.3,0.4\n0.5,0.6,0.7,2\n")
    assert predict(wave_run, tmp_path / "in.csv", tmp_path / "out.csv") == 0
    assert predict(wave_run, tmp_path / "in.csv", tmp_path / "long.csv", "task.num_steps=9") == 0
    assert "1 of 2 rows have a number outside 0 to 1" in capsys.readouterr().err
    short, long = (
        [[float(cell) for cell in line.split(",")] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("out.csv", "long.csv")
    )
    assert [len(row) for row in short] == [4, 4] and [len(row) for row in long] == [9, 9]
    assert long[0][:4] == pytest.approx(short[0], rel=1e-4)


def test_numbers_are_named(numbers_run, tmp_path):
    assert "test/exact_match" in json.loads((numbers_run / "metrics.json").read_text())
    (tmp_path / "in.txt").write_text("4\n7\n")
    assert predict(numbers_run, tmp_path / "in.txt", tmp_path / "out.tsv", "n_best=2") == 0
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["4", "4", "7", "7"] and all(len(row) == 3 for row in rows)
    assert main(["diagnose", f"run_dir={shutil.copytree(numbers_run, tmp_path / 'run')}"]) == 0


def refused(capsys, target, code):
    """Return the one line that a command said on its way to exit code 2, having written nothing."""
    out, err = capsys.readouterr()
    assert (code, out, target.exists()) == (2, "", False) and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1,0.2,0.3\n", "in:1: expected 4 numbers, f1,f2,o1,o2, got 3"),
        ("f1,f2,o1,o2\n0.1,0.2,nan,0.4\n", "in:2, o1: "),
        ("0.1,0.2,0.3,0.4\n0.1,0.2,0.3,inf\n", "in:2, o2: "),
        ("", "in: is empty"),
    ],
)
def test_vectors_that_are_none_are_refused(wave_run, tmp_path, capsys, text, message):
    (tmp_path / "in").write_text(text)
    assert message in refused(capsys, tmp_path / "out", predict(wave_run, tmp_path / "in", tmp_path / "out"))


@pytest.mark.parametrize("line", ["77", "-1", "nan", "1.5"])
def test_numbers_that_are_none_are_refused(numbers_run, tmp_path, capsys, line):
    (tmp_path / "in").write_text(f"4\n{line}\n")
    err = refused(capsys, tmp_path / "out", predict(numbers_run, tmp_path / "in", tmp_path / "out"))
    assert f"in:2: a number from 0 to 9 is expected, got '{line}'" in err
    (tmp_path / "in").write_text("")
    err = refused(capsys, tmp_path / "out", predict(numbers_run, tmp_path / "in", tmp_path / "out"))
    assert "in: is empty" in err


def test_steps_stay_as_long_as_they_were(wave_run, tmp_path, capsys):
    (tmp_path / "in").write_text("0.1,0.2,0.3,0.4\n")
    code = predict(wave_run, tmp_path / "in", tmp_path / "out", "data.num_steps=9")
    assert "this run has learnt waves of 4 steps" in refused(capsys, tmp_path / "out", code)
    assert main(["evaluate", f"run_dir={wave_run}", "data.num_steps=9"]) == 2
