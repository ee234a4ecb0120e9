"""`rnnlab.load`: a trained run as objects, which answer as `rnnlab predict` does."""

import shutil

import numpy as np
import pandas
import pytest
import torch
import yaml

import rnnlab
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import main


def by_verb(run_dir, tmp_path, questions, *words, suffix=".txt"):
    """Return the lines that `rnnlab predict` writes for a file of questions, cells parted."""
    source, target = tmp_path / f"in{suffix}", tmp_path / "out"
    if questions is not None:
        source.write_text(questions, encoding="utf-8")
    assert main(["predict", f"run_dir={run_dir}", f"input={source}", f"output={target}", *words]) == 0
    return [line.split("\t") for line in target.read_text(encoding="utf-8").splitlines()]


def test_what_a_run_is_made_of(addition_run):
    run = rnnlab.load(addition_run)
    assert run.config["data"]["digits"] == 2 and run.metrics["epochs"] == 2
    assert list(run.history["epoch"]) == [0, 1] and "val/exact_match" in run.history
    assert not run.model.training and "addition/lstm" in repr(run)
    best = torch.load(run.checkpoint, weights_only=True)
    torch.testing.assert_close(run.task.state_dict(), best["state_dict"])
    assert run.epoch == best["epoch"] + 1
    run.data.setup()
    assert len(run.data.splits["train"][0])
    changed = rnnlab.load(addition_run, "last", ["data.batch_size=7"])
    assert changed.data.batch_size == 7 == changed.config["data"]["batch_size"]
    assert changed.checkpoint.name == "last.ckpt"


def test_a_run_leaves_the_threads_of_the_process_alone(addition_run, tmp_path):
    run_dir = shutil.copytree(addition_run, tmp_path / "run")
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    (run_dir / "config.yaml").write_text(yaml.safe_dump({**config, "threads": 7}))
    before = torch.get_num_threads()
    rnnlab.load(run_dir)
    assert torch.get_num_threads() == before


def test_texts(addition_run, tmp_path):
    run = rnnlab.load(addition_run)
    answers = run.predict(["1+2", "34+5"])
    assert answers == [answer for _, answer in by_verb(addition_run, tmp_path, "1+2\n34+5\n")]
    assert run.predict("34+5") == answers[1]
    (tmp_path / "file").write_text("1+2\n34+5\n")
    assert run.predict(tmp_path / "file") == answers


def test_pairs_with_several_answers(pairs_run, pairs_file, tmp_path):
    run, source = rnnlab.load(pairs_run), pairs_file.read_text().split("\t")[0]
    (best,), (several,) = run.predict([source]), run.predict([source], n_best=3)
    lines = by_verb(pairs_run, tmp_path, f"{source}\n", "n_best=3")
    assert [(text, f"{log_prob:.4f}") for text, log_prob in several] == [tuple(line[1:]) for line in lines]
    assert run.predict([source]) == [best]  # the search is what it was
    with pytest.raises(UsageError, match="n_best must be at most beam"):
        run.predict([source], n_best=3, beam=2)
    assert run.predict(source) == best


def test_tags(tagger_run, tmp_path):
    words = [["The", "bird", "sings"], ["Birds", "sing"]]
    tags = rnnlab.load(tagger_run).predict(words)
    lines = [line for line in by_verb(tagger_run, tmp_path, "The bird sings\nBirds sing\n") if len(line) == 10]
    assert [tag for sentence in tags for tag in sentence] == [line[3] for line in lines]
    assert rnnlab.load(tagger_run).predict("The bird sings") == tags[0]


def test_labels_of_texts(labelled_run, tmp_path):
    answers = rnnlab.load(labelled_run).predict(["AHA", "hm"])
    lines = by_verb(labelled_run, tmp_path, "AHA\nhm\n")
    assert [(label, f"{share:.4f}") for label, share in answers] == [tuple(line[1:]) for line in lines]


def test_beats_of_a_lead(ecg_run, tmp_path):
    signal = np.tile(np.r_[1.5, np.full(199, 0.1)], 20)
    beats = rnnlab.load(ecg_run).predict((signal, 200))
    table = "time,II\n" + "".join(f"{n / 200!r},{value!r}\n" for n, value in enumerate(signal.tolist()))
    assert len(beats) == len(by_verb(ecg_run, tmp_path, table, suffix=".csv")) - 1
    with pytest.raises(UsageError, match="expected \\(samples, samples a second\\)"):
        rnnlab.load(ecg_run).predict(7)


def test_sounds(sounds_run):
    pytest.importorskip("soundfile")
    run = rnnlab.load(sounds_run)
    answers = run.predict([(np.sin(np.arange(16_000) / 2), 8_000), (np.sin(np.arange(9_000) / 3), 16_000)])
    assert len(answers) == 2 and all(isinstance(answer, str) for answer in answers)


def test_a_table_as_a_data_frame(table_run, table_file, tmp_path):
    run, table = rnnlab.load(table_run), pandas.read_csv(table_file)
    forecast = run.predict(table)
    assert len(run.predict(table, horizon=2)) < len(forecast)
    assert run.predict(table).equals(forecast)  # of the horizon trained on, again
    (tmp_path / "in.csv").write_text(table_file.read_text())
    lines = by_verb(table_run, tmp_path, None, suffix=".csv")
    pandas.testing.assert_frame_equal(forecast, pandas.read_csv(tmp_path / "out"))
    assert len(lines) == 1 + len(forecast)


def test_a_series_whose_file_has_moved(series_run, csv_file, tmp_path, monkeypatch, capsys):
    moved = shutil.copytree(series_run, tmp_path / "elsewhere")
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace(str(csv_file), "/nowhere/of/mine/series.csv"))
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    with pytest.raises(UsageError, match=r"no CSV file at /nowhere/of/mine/series.csv.*overrides=\['data.path=FILE'\]"):
        rnnlab.load(moved)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    shutil.copy(csv_file, tmp_path / "data" / "mine")
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "data"))
    table = pandas.read_csv(csv_file)
    forecast = rnnlab.load(moved).predict(table)
    assert "is read in its place" in capsys.readouterr().err
    monkeypatch.delenv("RNNLAB_DATA")
    np.testing.assert_array_equal(rnnlab.load(moved, overrides=f"data.path={csv_file}").predict(table), forecast)
    lines = by_verb(series_run, tmp_path, csv_file.read_text(), suffix=".csv")
    assert [float(cell) for line in lines[1:] for cell in line[0].split(",")[1:]] == forecast.tolist()


def test_refusals(addition_run, char_run, tmp_path):
    run = rnnlab.load(addition_run)
    for questions, message in (
        (["1+2", "x"], "expected a question like"),
        (["1+2\n3+4"], "question 1: a question is one line"),
        ([{}], "question 1: expected a text or a row of numbers"),
        (5, "expected texts, rows of numbers or a Path, got int"),
    ):
        with pytest.raises(UsageError, match=message):
            run.predict(questions)
    with pytest.raises(UsageError, match="horizon is for models of tables"):
        run.predict("1+2", horizon=3)
    with pytest.raises(UsageError, match="are for models of pairs"):
        run.predict("1+2", n_best=3, beam=3)
    with pytest.raises(UsageError, match="holds no run"):
        rnnlab.load(tmp_path)
    with pytest.raises(UsageError, match="use `rnnlab sample`"):
        rnnlab.load(char_run).predict(["a"])
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        rnnlab.laod  # noqa: B018


def test_an_unfinished_run(addition_run, tmp_path, monkeypatch):
    copy = shutil.copytree(addition_run, tmp_path / "run")
    (copy / "metrics.json").unlink()
    run = rnnlab.load(copy)
    assert run.metrics == {}
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"rnnlab\[forecast\]"):
        run.history  # noqa: B018
