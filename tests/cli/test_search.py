"""A search is a sweep whose jobs a study chooses; both outlive their processes."""

import json
import os
import shlex
import signal

import pytest
import yaml

from rnnlab.cli import search, sweeping, trial
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import searches
from rnnlab.cli.main import main
from rnnlab.sweeps import ledger, study
from rnnlab.sweeps.ledger import Story
from rnnlab.sweeps.lock import JOB_LOCK, locked
from tests.cli.conftest import TINY
from tests.covering import few
from tests.runs import PATIENCE_S, running, wait_for

optuna = pytest.importorskip("optuna")

SMALL = ["logger=csv", "callbacks=none", *(word for word in TINY if "hidden_size" not in word and "epochs" not in word)]
SPACE = ["rnn.hidden_size=int(interval(2,9))", "optim.lr=tag(log,interval(0.001,0.1))", "rnn=choice(lstm,gru)"]


def words(sweep_dir, *more):
    return ["search", "search=lr_and_size", f"sweep_dir={sweep_dir}", *SMALL, "trainer.max_epochs=3", *SPACE, *more]


def settings(*given):
    return search._settings(sweeping.parse(["search", "search=lr_and_size", *given]).words)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optim.lr=interval(0,1)", study.Range(0.0, 1.0, None, False, False)),
        ("optim.lr=tag(log,interval(0.1,1))", study.Range(0.1, 1.0, None, True, False)),
        ("rnn.hidden_size=int(interval(2,9))", study.Range(2, 9, None, False, True)),
        ("rnn.hidden_size=range(2,9,3)", study.Range(2, 8, 3, False, True)),
        ("rnn.hidden_size=range(2,8,1.5)", study.Range(2, 6.5, 1.5, False, False)),
        ("rnn.hidden_size=range(2,8,3)", study.Range(2, 5, 3, False, True)),
        ("rnn=choice(lstm,gru)", study.Choice(("lstm", "gru"))),
        ("rnn=lstm,gru", study.Choice(("lstm", "gru"))),
        ("+rnn.zoneout=choice(0.05,0.1)", study.Choice(("0.05", "0.1"))),
    ],
)
def test_the_space_is_written_in_hydras_grammar(word, expected):
    assert settings(word)[2][word.partition("=")[0]] == expected


def test_what_is_said_is_not_searched():
    found, fixed, space = settings("optim.lr=0.1", "search.trials=7", "search.pruner=null")
    assert "optim.lr" not in space and fixed == ["optim.lr=0.1"]
    assert found["trials"] == 7 and found["pruner"] is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["search=lr_and_sise"], "no search is called 'lr_and_sise', did you mean 'lr_and_size'"),
        (["search.trials=0"], "search.trials must be an integer of at least 1, got 0"),
        (["search.trial=3"], "no setting of this run is called 'search.trial', did you mean 'search.trials'"),
        (["search.space.rnn=choice(lstm,gru)"], "what is searched is given as it is, rnn=choice(lstm,gru)"),
        (["search.metric=test/loss"], "search.metric=test/loss needs search.mode=min or max"),
        (["optim.lrr=interval(0.1,1)"], "did you mean 'optim.lr'"),
        (["search.mode=least"], "search.mode must be min or max, got 'least'"),
        (["optim.lr=interval(1,0.1)"], "optim.lr: "),
        (["optim.lr=tag(log,interval(0,1))"], "optim.lr: "),
        (["search.storage=postgres://nowhere/db"], "search.storage=postgres://nowhere/db cannot be opened: "),
        (["search.sampler._target_=optuna.samplers.TPESample"], "TPESample"),
        (["search.pruner._target_=os.system"], "_target_ 'os.system' is not allowed"),
        (["rnn.hiden_size=3"], "did you mean 'rnn.hidden_size'"),
        (["data.batch_size=100000"], "batch_size must be at most"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, capsys, given, expected):
    assert main(words(tmp_path / "s", *given)) == 2
    captured = capsys.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1 and not (tmp_path / "s").exists()


def test_without_a_space_there_is_nothing_to_search():
    with pytest.raises(UsageError, match="there is nothing to search"):
        settings("optim.lr=0.1", "rnn.hidden_size=3", "rnn.num_layers=1")


def test_trials_are_jobs_and_the_best_is_an_experiment(tmp_path, capsys):
    found = tmp_path / "s"
    assert main(words(found, "search.trials=6", "max_jobs=2", "search.pruner.n_startup_trials=2")) == 0
    out = capsys.readouterr().out
    assert {line["state"] for line in Story(found).jobs.values()} <= {"finished", "pruned"}
    record = yaml.safe_load((found / "sweep.yaml").read_text())["search"]
    trials = study.tried(study.open_study(found, record))
    assert len(trials) == 6 and (record["metric"], record["mode"]) == ("val/exact_match", "max")
    for one in trials:
        if one.state == "complete":
            assert json.loads((found / one.job / "metrics.json").read_text())["val/exact_match"] == one.value
    best = study.best(trials, "max")
    assert f"of {best.job}: {' '.join(best.words)}" in out and (found / "search.png").exists()
    run = ["train", "--config-dir", str(found / "conf"), "experiment=best", f"run_dir={tmp_path / 'run'}"]
    assert main(run) == 0  # the same number, from the file alone
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["val/exact_match"] == best.value
    assert main(words(found, "search.trials=6")) == 2  # pruned in another way: another command
    assert "is the sweep of another command" in capsys.readouterr().err


def test_the_configuration_as_it_is_goes_first(tmp_path):
    space = ["rnn.hidden_size=int(interval(2,200))", "optim.lr=interval(0.001,0.1)"]
    assert main(words(tmp_path, "search.trials=1", *space, "rnn=choice(gru,lstm)", "trainer.max_epochs=1")) == 0
    record = yaml.safe_load((tmp_path / "sweep.yaml").read_text())["search"]
    (only,) = study.tried(study.open_study(tmp_path, record))
    assert sorted(only.words) == ["optim.lr=0.005", "rnn.hidden_size=128", "rnn.num_layers=1", "rnn=lstm"]


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(tmp_path, begin):
    given = words(tmp_path / "s", "search.trials=4", "trainer.max_epochs=20", "max_jobs=2", "search.pruner=null")
    launcher = begin(*given)
    process = wait_for(lambda: running(tmp_path / "s", 3))
    launcher.send_signal(signal.SIGKILL)
    launcher.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not os.path.exists(f"/proc/{process}"))
    assert main(["sweep", "resume", str(tmp_path / "s"), "max_jobs=1"]) == 0
    record = yaml.safe_load((tmp_path / "s" / "sweep.yaml").read_text())["search"]
    trials = study.tried(study.open_study(tmp_path / "s", record))
    assert sorted(one.job for one in trials) == [f"trial={number}" for number in range(4)]
    assert {one.state for one in trials} == {"complete"} and max(Story(tmp_path / "s").attempts.values()) == 2


def test_a_lost_storage_is_said(tmp_path, capsys):
    given = words(tmp_path, "search.trials=1", "trainer.max_epochs=1")
    assert main(given) == 0
    (tmp_path / study.JOURNAL).unlink()
    assert main(given) == 2
    assert f"{tmp_path / study.JOURNAL} has lost the trials of {tmp_path}" in capsys.readouterr().err


def test_a_database_serves_as_well(tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    assert main(words(tmp_path / "s", "search.trials=2", f"search.storage={url}", "trainer.max_epochs=1")) == 0
    assert not (tmp_path / "s" / study.JOURNAL).exists() and (tmp_path / "trials.db").exists()


def test_a_metric_that_is_never_measured_ends_a_trial_at_its_first_epoch(tmp_path, capsys):
    given = words(tmp_path, "search.trials=1", "search.metric=val/f1", "search.mode=max", "trainer.max_epochs=30")
    assert main(given) == 1
    captured = capsys.readouterr()
    assert "1 job: 1 failed" in captured.out
    assert (
        "search.metric=val/f1 is none of what validation measures, val/char_accuracy, val/exact_match" in captured.err
    )
    assert max(line["epoch"] for line in ledger.read(tmp_path)[0] if line["state"] == "epoch") <= 1
    assert main(["sweep", "resume", str(tmp_path)]) == 1  # and says so again


def test_trials_at_work_are_not_settled_by_another_launcher(tmp_path):
    assert main(words(tmp_path, "search.trials=1", "trainer.max_epochs=1")) == 0
    record, states = yaml.safe_load((tmp_path / "sweep.yaml").read_text())["search"], optuna.trial.TrialState
    opened = study.open_study(tmp_path, record)
    begun = study.trial_of(opened, "trial=1", trial.space_of(record))
    (tmp_path / "trial=1").mkdir()
    ledger.append(tmp_path, "trial=1", "failed")
    with locked(tmp_path / "trial=1", JOB_LOCK):
        lost = opened.ask()  # not yet told its job
        trial.settle(tmp_path, record, Story(tmp_path))
        assert [opened.trials[one.number].state for one in (begun, lost)] == [states.RUNNING, states.RUNNING]
    trial.settle(tmp_path, record, Story(tmp_path))
    assert [opened.trials[one.number].state for one in (begun, lost)] == [states.FAIL, states.FAIL]


def test_a_trial_that_the_pruner_gives_up_ends_there(tmp_path, capsys):
    given = words(tmp_path, "search.trials=2", "search.pruner={_target_:optuna.pruners.ThresholdPruner,upper:-1}")
    assert main(given) == 0
    assert "2 jobs: 2 pruned" in capsys.readouterr().out
    assert [line["epoch"] for line in ledger.read(tmp_path)[0] if line["state"] == "epoch"].count(2) == 0
    record = yaml.safe_load((tmp_path / "sweep.yaml").read_text())["search"]
    assert [one.state for one in study.tried(study.open_study(tmp_path, record))] == ["pruned", "pruned"]


def test_a_search_of_ones_own_and_the_words_that_its_best_needs(tmp_path, capsys):
    mine, out = tmp_path / "mine", tmp_path / "s"
    (mine / "search").mkdir(parents=True)
    (mine / "experiment").mkdir()
    lr_and_size = yaml.safe_load(searches()["lr_and_size"].read_text())
    (mine / "search" / "my.yaml").write_text(
        yaml.safe_dump({**lr_and_size, "trials": 1, "space": {"optim.lr": "choice(0.1,1)"}})
    )
    (mine / "experiment" / "own.yaml").write_text("# @package _global_\ndefaults: [addition/lstm]\n")
    given = ["search", "--config-dir", str(mine), "search=my", "experiment=own", *SMALL, f"sweep_dir={out}"]
    assert main([*given, "search.first=false"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("train it: rnnlab train ")
    assert main([*shlex.split(told.removeprefix("train it: rnnlab ")), f"run_dir={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize("launcher", few(["local", "joblib"], ["local"]))
def test_each_trial_draws_numbers_of_its_own(tmp_path, launcher):
    sampler = "search.sampler={_target_:optuna.samplers.RandomSampler}"
    given = words(tmp_path, "search.trials=3", sampler, "search.first=false", "trainer.max_epochs=1")
    assert main([*given, f"hydra/launcher={launcher}"]) == 0
    record = yaml.safe_load((tmp_path / "sweep.yaml").read_text())["search"]
    assert len({tuple(one.words) for one in study.tried(study.open_study(tmp_path, record))}) == 3


def test_failed_trials_stop_no_other_and_are_told(tmp_path, capsys):
    given = words(tmp_path, "search.trials=3", "rnn.hidden_size=choice(-1,-2)", "search.first=false", "rnn=lstm")
    assert main(given) == 1
    captured = capsys.readouterr()
    assert "3 jobs: 3 failed" in captured.out and "no trial is complete" in captured.out
    assert captured.err.count("failed: ") == 3
    assert main(["sweep", "resume", str(tmp_path), "retry_failed=true"]) == 2
