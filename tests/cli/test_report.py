"""`rnnlab report`: sweeps and folders of runs as one table."""

import csv
import json
import shutil
import statistics

import pytest
import yaml

from rnnlab.cli.main import main
from rnnlab.sweeps import ledger
from tests.cli.test_bad_input import refuse

GRU = {"_target_": "rnnlab.nn.Recurrent", "cell": {"_target_": "rnnlab.nn.GatedGRUCell", "reset_after": False}}


def make_run(folder, overrides, metrics, rnn=None, commit="c0ffee", is_dirty=False):
    """Write what a run leaves: its configuration and, if it is finished, its numbers."""
    folder.mkdir(parents=True)
    words = dict(word.split("=") for word in overrides)
    provenance = {"git_commit": commit, "git_dirty": is_dirty, "overrides": overrides}
    config = {
        "rnn": rnn or {"_target_": "rnnlab.nn.LSTM", "hidden_size": int(words.get("rnn.hidden_size", 128))},
        "optim": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": float(words.get("optim.lr", 1e-3))},
        "name": words.get("experiment", "addition/lstm"),
        "seed": int(words.get("seed", 0)),
        "provenance": provenance,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))


def numbers(value):
    return {"val/loss": 1.0, "test/loss": 2.0, "test/exact_match": value, "time/fit_s": 10.0 * value}


@pytest.fixture
def runs(tmp_path):
    """Two learning rates with three seeds, one not finished, at two depths."""
    for lr in ("1e-2", "1e-3"):
        for seed in range(3):
            value = None if (lr, seed) == ("1e-3", 2) else numbers(0.1 * seed + (0.5 if lr == "1e-3" else 0.0))
            folder = tmp_path / "runs" / ("deep/er" if seed == 2 else "") / f"lr{lr}-seed{seed}"
            make_run(folder, [f"optim.lr={lr}", f"seed={seed}", "logger=csv"], value)
    return tmp_path / "runs"


def table(capsys, *words):
    assert main(["report", *map(str, words), "format=csv"]) == 0
    shown = capsys.readouterr()
    return list(csv.DictReader(shown.out.splitlines())), shown.err


def test_seeds_become_one_row(capsys, runs):
    rows, told = table(capsys, runs, "metric=test/exact_match")
    assert [row["optim.lr"] for row in rows] == ["1e-3", "1e-2"]  # by size, not as texts
    assert [row["n"] for row in rows] == ["2", "3"] and [row["unfinished"] for row in rows] == ["1", "0"]
    values = [0.0, 0.1, 0.2]
    expected = [statistics.mean(values), statistics.stdev(values), 0.0, 0.2, 1.0]
    assert [float(rows[1][key]) for key in ("mean", "std", "min", "max", "time/fit_s")] == pytest.approx(expected)
    assert "6 runs: 5 finished, 1 unfinished" in told
    assert (runs / "report.png").stat().st_size > 1000


def test_the_metric_is_that_of_the_test_part_with_a_baseline(capsys, runs):
    assert table(capsys, runs)[0][0]["metric"] == "test/exact_match"
    for path in runs.rglob("metrics.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "baseline/none/test/loss": 9.0}))
    assert table(capsys, runs)[0][0]["metric"] == "test/loss"


def test_keys_are_words_or_settings(capsys, tmp_path):
    make_run(tmp_path / "a", ["rnn.hidden_size=64"], numbers(0.1))
    make_run(tmp_path / "b", ["seed=1"], numbers(0.3))
    make_run(tmp_path / "c", ["experiment=addition/gru"], numbers(0.2), rnn=GRU)
    rows, _ = table(capsys, tmp_path, "by=rnn.hidden_size")
    assert [row["rnn.hidden_size"] for row in rows] == ["64", "128", ""]
    rows, _ = table(capsys, tmp_path, "by=cell,optim")
    assert [(row["cell"], row["optim"], row["n"]) for row in rows] == [
        ("GatedGRUCell(reset_after=False)", "Adam", "1"),
        ("LSTM", "Adam", "2"),
    ]
    rows, _ = table(capsys, tmp_path)
    assert [(row["experiment"], row["rnn.hidden_size"]) for row in rows] == [
        ("addition/lstm", "64"),
        ("addition/lstm", "128"),
        ("addition/gru", ""),
    ]


def test_runs_without_notes_of_their_words(capsys, tmp_path):
    for seed in range(2):
        words = [f"seed={seed}"]
        make_run(tmp_path / str(seed), words, numbers(0.1))
        path = tmp_path / str(seed) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        del config["provenance"]["overrides"]
        config["provenance"]["command"] = ["rnnlab", "train", *words]
        path.write_text(yaml.safe_dump(config))
    (row,), _ = table(capsys, tmp_path)
    assert row["n"] == "2" and list(row)[0] == "metric"


def test_a_sweep_is_told_by_its_ledger(capsys, tmp_path):
    for job, state, more in (("a", "finished", {}), ("b", "failed", {"error": "ValueError: broken"})):
        ledger.append(tmp_path, job=job, state="queued", overrides=[f"rnn={job}", "seed=0"])
        ledger.append(tmp_path, job=job, state="started")
        ledger.append(tmp_path, job=job, state=state, **more)
    ledger.append(tmp_path, job="c", state="queued", overrides=["rnn=a", "seed=1"])
    ledger.append(tmp_path, job="d", state="started")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.json").write_text(json.dumps(numbers(0.5)))
    rows, told = table(capsys, tmp_path, "by=rnn")
    assert [[row[key] for key in ("rnn", "n", "failed", "unfinished")] for row in rows] == [
        ["", "0", "0", "1"],
        ["a", "1", "0", "1"],
        ["b", "0", "1", "0"],
    ]
    assert "4 runs: 1 finished, 1 failed, 1 unfinished, 1 not started" in told
    assert f"failed: {tmp_path / 'b'}: ValueError: broken" in told


def test_a_run_that_diverged_hides_no_other(capsys, tmp_path):
    make_run(tmp_path / "a", ["seed=0"], numbers(0.5))
    make_run(tmp_path / "b", ["seed=1"], numbers(float("nan")))
    (row,), _ = table(capsys, tmp_path)
    assert (row["n"], row["mean"], row["max"]) == ("2", "", "")


def test_rows_of_runs_are_the_tables_of_experiments(capsys, tmp_path):
    make_run(tmp_path / "a-seed0", [], {"test/exact_match": 0.5}, is_dirty=True)
    make_run(tmp_path / "a", ["seed=3"], {"test/exact_match": 0.1 + 0.2, "epochs": 2}, rnn=GRU, commit=None)
    make_run(tmp_path / "unfinished", [], None)
    assert main(["report", str(tmp_path), "rows=runs"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "run,experiment,cell,seed,commit,test/exact_match,epochs\n"
        "a,addition/lstm,GatedGRUCell(reset_after=False),3,unknown,0.30000000000000004,2\n"
        "a-seed0,addition/lstm,LSTM,0,c0ffee+changes,0.5,\n"
    )
    assert "1 unfinished" in shown.err and not list(tmp_path.glob("*.png"))


def test_folders_patterns_and_links(capsys, runs, monkeypatch):
    (runs / "link").symlink_to(runs / "deep", target_is_directory=True)
    (runs / "deep" / "up").symlink_to(runs, target_is_directory=True)
    assert "6 runs" in table(capsys, runs)[1]
    monkeypatch.chdir(runs)
    assert "4 runs" in table(capsys, "lr*", "picture=none")[1]
    assert "5 runs" in table(capsys, "lr*", "deep/er/lr1e-2*", "lr1e-2-seed0")[1]
    assert (runs / "report.png").exists()


def test_outputs(capsys, runs, tmp_path):
    target = tmp_path / "table.md"
    assert main(["report", str(runs), "format=md", f"output={target}"]) == 0
    assert target.read_text().splitlines()[2].startswith("| 1e-3 | test/exact_match | 2 | 0.55 | ")
    assert (tmp_path / "table.png").exists() and not (runs / "report.png").exists()
    capsys.readouterr()
    assert main(["report", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "optim.lr metric n mean std min max time/fit_s failed unfinished".split()
    assert lines[-1] == str(runs / "report.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing DIR"),
        (["RUNS", "metric=test/exact_mach"], "no run has metric=test/exact_mach, did you mean 'test/exact_match'"),
        (["RUNS", "by=optim.lrr"], "no run has such a setting, did you mean 'optim.lr'"),
        (["RUNS", "format=cvs"], "format must be table or csv or md, got 'cvs', did you mean 'csv'"),
        (["RUNS", "fromat=csv"], "report has no option 'fromat', did you mean 'format'"),
        (["RUNS", "rows=runs", "by=seed"], "rows=runs goes without by"),
        (["RUNZ"], "RUNZ is no directory, did you mean 'RUNS'"),
        (["empty"], "no runs in empty"),
        (["RUNS/no*"], "is no directory"),
        (["RUNS", "output=no/table.csv"], "the folder no does not exist"),
        (["RUNS", "picture=report.pdf"], "written as PNG"),
        (["RUNS", "output=RUNS/lr1e-2-seed0/metrics.csv"], "is among what is read"),
    ],
)
def test_refusals(capsys, runs, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    runs.rename("RUNS")
    (tmp_path / "empty").mkdir()
    refuse(capsys, ["report", *words], message)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
def test_a_broken_file_is_named(capsys, runs, name):
    broken = next(runs.rglob(name))
    broken.write_text("[")
    refuse(capsys, ["report", str(runs)], f"{broken} cannot be read")


def test_a_real_run(capsys, addition_run, tmp_path):
    shutil.copytree(addition_run, tmp_path / "seed0")
    (row,), _ = table(capsys, tmp_path)
    assert row["metric"] == "test/exact_match" and row["n"] == "1"
