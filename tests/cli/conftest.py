"""Runs small enough to be made in a second."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnnlab.cli.main import main

# Overrides that shrink the default experiment.
TINY = [
    "data.digits=2",
    "data.num_questions=400",
    "data.num_test=50",
    "data.batch_size=64",
    "rnn.hidden_size=8",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]


# What `finished_run` made, with the times of its files.
SHARED: dict[Path, dict[Path, int]] = {}


def times(run_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}


@pytest.fixture(autouse=True)
def _shared_runs_stay() -> Iterator[None]:
    """A test that writes into a run of all tests changes what others find, in some order of theirs: it takes a copy."""
    yield
    changed = [run_dir.name for run_dir, before in SHARED.items() if times(run_dir) != before]
    SHARED.update({run_dir: times(run_dir) for run_dir in SHARED if run_dir.name in changed})  # said once
    assert not changed, f"this test wrote into a run that other tests read: {changed}"


def finished_run(tmp_path_factory, name, *words):
    """Train on the CPU and return the run directory, whose last part is `name`."""
    run_dir = tmp_path_factory.mktemp("runs") / name
    assert main(["train", "--debug", f"run_dir={run_dir}", "trainer.accelerator=cpu", *words]) == 0
    SHARED[run_dir] = times(run_dir)
    return run_dir


@pytest.fixture(scope="session")
def addition_run(tmp_path_factory):
    """A finished run of the addition task with the CSV records only."""
    return finished_run(tmp_path_factory, "addition", "logger=csv", *TINY)


@pytest.fixture(scope="session")
def csv_file(tmp_path_factory):
    """Sixty rows of a noisy straight line, with a month column."""
    path = tmp_path_factory.mktemp("data") / "series.csv"
    months = [f"{2000 + month // 12}-{month % 12 + 1:02d}" for month in range(60)]
    rows = [f"{month},{100 + 2 * index + (7 * index) % 5}" for index, month in enumerate(months)]
    path.write_text("\n".join(["month,level", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def series_run(tmp_path_factory, csv_file):
    """A finished run on the user's own series."""
    return finished_run(
        tmp_path_factory,
        "series",
        "experiment=forecasting/air_passengers",
        f"data.path={csv_file}",
        "data.column=level",
        "data.test_size=10",
        "data.val_size=5",
        "data.window=6",
        "data.arima_order=null",
        "rnn.hidden_size=4",
        "trainer.max_epochs=2",
        "logger=csv",
    )


@pytest.fixture(scope="session")
def table_run(tmp_path_factory, table_file):
    """A finished run on a table, with its pictures."""
    return finished_run(
        tmp_path_factory,
        "table",
        "experiment=forecasting/table",
        f"data.path={table_file}",
        *("data.window=12", "data.horizon=3", "data.val_size=12", "data.test_size=12", "data.batch_size=8"),
        *("rnn.hidden_size=4", "trainer.max_epochs=2", "logger=csv"),
    )


@pytest.fixture(scope="session")
def char_run(tmp_path_factory, text_file):
    """A finished run of a character model with W&B offline, so that its tables are made."""
    return finished_run(
        tmp_path_factory,
        "characters",
        "experiment=char_lm/tinyshakespeare",
        f"data.path={text_file}",
        "data.batch_size=5",
        "data.tbptt_steps=40",
        "rnn.hidden_size=24",
        "trainer.max_epochs=2",
        "callbacks.samples.length=40",
    )


@pytest.fixture(scope="session")
def labelled_run(tmp_path_factory, labelled_file):
    """A finished run of a character model that is told labels."""
    return finished_run(
        tmp_path_factory,
        "labelled",
        *("experiment=char_lm/labelled", "data=labelled_text", f"data.path={labelled_file}", "data.split=files/test"),
        *("data.tbptt_steps=12", "data.batch_size=4", "rnn.hidden_size=32", "model.dropout=0", "optim.lr=0.01"),
        *("trainer.max_epochs=6", "logger=csv"),
    )


@pytest.fixture(scope="session")
def tagger_run(tmp_path_factory, conllu_file):
    """A finished run of a tagger with the CSV records only."""
    return finished_run(
        tmp_path_factory,
        "tagger",
        "experiment=pos_tagging/ewt",
        f"data.train={conllu_file}",
        f"data.val={conllu_file}",
        "data.max_tokens=100",
        "rnn.hidden_size=8",
        "model.char_hidden=8",
        "model.dropout=0",
        "optim.lr=0.02",
        "trainer.max_epochs=12",
        "logger=csv",
    )


@pytest.fixture(scope="session")
def pairs_run(tmp_path_factory, pairs_file):
    """A finished run on the user's own pairs, with W&B offline."""
    return finished_run(
        tmp_path_factory,
        "pairs",
        "experiment=seq2seq/dates",
        "data=pairs",
        f"data.train={pairs_file}",
        "data.max_tokens=60",
        "rnn.hidden_size=16",
        "model.embedding_size=12",
        "trainer.max_epochs=16",
        "callbacks.samples.num_samples=2",
    )


@pytest.fixture(scope="session")
def sounds_run(tmp_path_factory):
    """A finished run on a little Morse code, onwards alone."""
    return finished_run(
        tmp_path_factory,
        "sounds",
        "experiment=ctc/morse",
        "logger=csv",
        *("data.num_train=24", "data.num_val=6", "data.num_test=4", "data.max_symbols=4", "data.min_speed=25"),
        *("rnn.hidden_size=6", "rnn.bidirectional=false", "task.beam=3", "trainer.max_epochs=2"),
    )


@pytest.fixture(scope="session")
def ecg_run(tmp_path_factory):
    """A finished run on a few electrocardiograms with little noise."""
    return finished_run(
        tmp_path_factory,
        "ecg",
        "experiment=ecg/delineation",
        "logger=csv",
        *("data.num_train=48", "data.num_val=5", "data.num_test=5", "data.seconds=5", "data.max_level=0.5"),
        *("data.batch_size=8", "data.gaps=0", "data.block=0", "data.inverted=0", "rnn.hidden_size=12"),
        *("optim.lr=0.01", "trainer.max_epochs=12"),
    )


@pytest.fixture
def begin():
    """Begin commands in processes of their own, and leave none behind."""
    begun = []

    def start(*words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "rnnlab", *words]
        begun.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()
