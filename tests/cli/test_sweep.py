"""A sweep is a thing on disk: it outlives its jobs, its launchers and their deaths."""

import os
import signal

import pytest
import yaml

from rnnlab.cli import sweeping
from rnnlab.cli.main import main
from rnnlab.sweeps.ledger import Story, read
from tests.cli.conftest import TINY
from tests.covering import few
from tests.runs import PATIENCE_S, running, same_weights, wait_for

SMALL = ["logger=csv", "callbacks=none", *TINY]
# Epochs that take a second in all, so that there is time to kill within them.
LONGER = ["trainer.max_epochs=30", "schedule=constant"]


def sweep(sweep_dir, *words):
    return ["train", "-m", f"sweep_dir={sweep_dir}", *SMALL, *words]


def starts(sweep_dir):
    return Story(sweep_dir).attempts


def test_a_folder_for_each_job_and_a_failing_one_stops_no_other(tmp_path, capsys, addition_run):
    assert main(sweep(tmp_path / "s", "data.batch_size=64,4000", "seed=0:2", "max_jobs=2")) == 1
    captured, story = capsys.readouterr(), Story(tmp_path / "s")
    names = [f"data.batch_size={size},seed={seed}" for size in (64, 4000) for seed in (0, 1)]
    assert [story.state(name) for name in names] == ["finished", "finished", "failed", "failed"]
    assert captured.out.splitlines()[-2:] == ["4 jobs: 2 finished, 2 failed", str(tmp_path / "s")]
    for line, name in zip(captured.err.splitlines()[-2:], names[2:], strict=True):
        log = tmp_path / "s" / "logs" / f"{name}.log"
        assert line.startswith(f"rnnlab: {name} failed: ") and "batch_size must be at most" in line
        assert line.endswith(f"; {log}") and "Traceback" in log.read_text()
    assert not (tmp_path / "s" / names[2]).exists()
    config = yaml.safe_load((tmp_path / "s" / names[1] / "config.yaml").read_text())
    assert config["seed"] == 1 and config["provenance"]["sweep"] == str(tmp_path / "s")
    assert f"{names[1]}" not in config["provenance"]["command"] and "seed=1" in config["provenance"]["command"]
    assert same_weights(addition_run, tmp_path / "s" / names[0])  # the same words without a sweep


def test_the_same_command_runs_what_is_missing(tmp_path, capsys):
    words = sweep(tmp_path / "s", "seed=0:2", "data.batch_size=64,4000")
    assert main(words) == 1
    assert main(words) == 1
    assert set(starts(tmp_path / "s").values()) == {1}  # what failed is not tried again by itself
    assert "2 finished, 2 failed" in capsys.readouterr().out
    assert main(["sweep", "resume", str(tmp_path / "s"), "retry_failed=true", "max_jobs=2"]) == 1
    expected = {f"data.batch_size={size},seed={seed}": tries for size, tries in ((64, 1), (4000, 2)) for seed in (0, 1)}
    assert starts(tmp_path / "s") == expected


def test_finished_jobs_run_again_on_request_and_their_runs_are_kept(tmp_path):
    words = sweep(tmp_path / "s", "seed=0:2")
    assert main(words) == main([*words, "skip_finished=false"]) == 0
    assert set(starts(tmp_path / "s").values()) == {2}
    assert same_weights(tmp_path / "s" / "seed=1~1", tmp_path / "s" / "seed=1")


def test_a_launcher_that_is_refused_sets_no_run_aside(tmp_path, capsys):
    assert main(sweep(tmp_path / "s", "seed=0", "max_jobs=2")) == 0
    resume, before = ["sweep", "resume", str(tmp_path / "s"), "skip_finished=false"], read(tmp_path / "s")
    capsys.readouterr()
    for wrong in ("max_jobs=0", "max_jobs=two", "hydra/launcher=joblin"):
        assert main([*resume, wrong]) == 2 and capsys.readouterr().err.count("\n") == 1
        assert (
            main([*resume[:-1], wrong]) == 2 and capsys.readouterr().err.count("\n") == 1
        )  # and nothing is left to run
    assert read(tmp_path / "s") == before and not (tmp_path / "s" / "run~1").exists()


def test_another_launcher_does_not_inherit_settings():
    former = ["hydra/launcher=local", "max_jobs=2", "hydra.launcher.max_jobs=3"]
    assert sweeping.renewed(former, ["hydra/launcher=joblib"]) == ["hydra/launcher=joblib"]
    assert sweeping.renewed(former, ["max_jobs=5"]) == ["hydra/launcher=local", "max_jobs=5"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=0,2"], "is the sweep of another command: it has seed=0,1; the command line has seed=0,2"),
        (["seed=0,1", "rnn=lstm,grru"], "no rnn is called 'grru', did you mean 'gru'"),
        (["seed=0,1", "rnn.hiden_size=1"], "did you mean 'rnn.hidden_size'"),
        (["seed=3:1"], "it ends before it begins"),
        (["seed=0,1,0"], "seed=0 is among the values of this sweep twice"),
        (["seed=0,1", "run_dir=here"], "a directory for each job"),
        (["seed=0,1", "paths.run_dir=here"], "a directory for each job"),
        (["seed=0,1", "resume=true"], "the same command goes on with it"),
        (["seed=0,1", "max_jobs=0"], "max_jobs must be an integer of at least 1, got 0"),
        (["seed=0,1", "max_jobs=many"], "max_jobs"),
        (["seed=0,1", "hydra.launcher.max_job=2"], "max_job"),
        (["seed=0,1", "hydra/launcher=basic"], "rnnlab has its own"),
        (["seed=0,1", "optim.lr=interval(0,1)"], "is a range without steps"),
        (["seed=0,1", "retry_failed=yes"], "retry_failed must be true or false"),
        (["seed=0,1", "--hydra-help"], "is for a single run"),
        (["seed=0,1", "--config-dir=nowhere"], "there is no folder"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, capsys, words, expected):
    (tmp_path / "s").mkdir()
    text = yaml.safe_dump({"words": [*SMALL, "seed=0,1"], "how": []})
    (tmp_path / "s" / "sweep.yaml").write_text(text)
    assert main(sweep(tmp_path / "s", *words)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and expected in captured.err
    assert read(tmp_path / "s")[0] == [] and (tmp_path / "s" / "sweep.yaml").read_text() == text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give `rnnlab sweep resume DIR`"),
        (["start", "DIR"], "give `rnnlab sweep resume DIR`"),
        (["resume", "DIR"], "DIR holds no sweep: DIR/sweep.yaml is missing"),
        (["resume", "SWEEP", "seed=1"], "the jobs of a sweep stay as they are; "),
        (["resume", "SWEEP", "max_job=1"], "the jobs of a sweep stay as they are, did you mean 'max_jobs'?"),
        (["resume", "SWEEP", "word"], "expected key=value, got 'word'"),
    ],
)
def test_resume_refuses(tmp_path, capsys, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SWEEP").mkdir()
    (tmp_path / "SWEEP" / "sweep.yaml").write_text("words: []\nhow: []\n")
    assert main(["sweep", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_directory_of_other_things_is_no_sweep(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(sweep(tmp_path, "seed=0,1")) == 2
    assert f"sweep_dir={tmp_path} holds no sweep, but notes.txt" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_default_directory_is_named_after_experiment_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # after the server of the jobs was started elsewhere
    assert main(["train", "-m", "paths.root=runs", *SMALL, "seed=0"]) == 0
    (found,) = (tmp_path / "runs" / "addition" / "lstm").iterdir()
    assert found.name.startswith("sweep_20") and (found / "run" / "metrics.json").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep of two jobs that nobody disturbed."""
    sweep_dir = tmp_path_factory.mktemp("undisturbed")
    assert main(sweep(sweep_dir, *LONGER, "seed=0,1")) == 0
    return sweep_dir


def is_whole(sweep_dir, undisturbed):
    for job in ("seed=0", "seed=1"):
        assert same_weights(undisturbed / job, sweep_dir / job)
        rows = (sweep_dir / job / "metrics.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows[1:]] == [str(epoch) for epoch in range(30)]


def test_a_job_that_is_killed_goes_on(tmp_path, begin, undisturbed):
    launcher = begin(*sweep(tmp_path / "s", *LONGER, "seed=0,1"))
    os.kill(wait_for(lambda: running(tmp_path / "s", 3)), signal.SIGKILL)
    _, err = launcher.communicate(timeout=PATIENCE_S)
    assert launcher.returncode == 1 and b"rnnlab: seed=0 interrupted: killed by SIGKILL; " in err
    assert main(["sweep", "resume", str(tmp_path / "s")]) == 0
    assert starts(tmp_path / "s") == {"seed=0": 2, "seed=1": 1}
    is_whole(tmp_path / "s", undisturbed)


@pytest.mark.parametrize(
    ("number", "code", "how"),
    few(
        [
            (signal.SIGKILL, -9, "max_jobs=2"),
            (signal.SIGTERM, 143, "max_jobs=2"),
            (signal.SIGINT, 130, "max_jobs=2"),
            (signal.SIGKILL, -9, "hydra/launcher=joblib"),
        ],
        [(signal.SIGKILL, -9, "max_jobs=2")],
        several=True,
    ),
    ids=lambda value: str(value),
)
def test_jobs_end_with_their_launcher_and_go_on_with_the_next(tmp_path, begin, undisturbed, number, code, how):
    launcher = begin(*sweep(tmp_path / "s", *LONGER, "seed=0,1", how))
    job = wait_for(lambda: running(tmp_path / "s", 3))
    launcher.send_signal(number)
    _, err = launcher.communicate(timeout=PATIENCE_S)
    assert launcher.returncode == code
    assert code < 0 or f"go on with: rnnlab sweep resume {tmp_path / 's'}".encode() in err
    wait_for(lambda: not os.path.exists(f"/proc/{job}"))
    ended = {line["pid"]: line for line in read(tmp_path / "s")[0]}[job]
    assert ended["state"] == "interrupted" and ended["reason"] == "SIGTERM"  # not by itself
    assert main(["sweep", "resume", str(tmp_path / "s")]) == 0
    is_whole(tmp_path / "s", undisturbed)


@pytest.mark.slow
def test_two_launchers_run_each_job_once(tmp_path, begin):
    launchers = [begin(*sweep(tmp_path / "s", "seed=0:6", "data.batch_size=64,4000", "max_jobs=2")) for _ in range(2)]
    for launcher in launchers:
        out, _ = launcher.communicate(timeout=PATIENCE_S)
        assert launcher.returncode == 1 and b"12 jobs: 6 finished, 6 failed" in out
    assert set(starts(tmp_path / "s").values()) == {1} and len(starts(tmp_path / "s")) == 12
