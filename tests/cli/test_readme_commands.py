"""The commands of README.md run as they stand, but for sizes: words are added that make them small."""

import re
import shlex
import shutil
import wave
from importlib import import_module
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rnnlab.cli.main import main
from rnnlab.studies import QUESTIONS
from rnnlab.studies.outcome import Claim, Outcome
from tests.covering import few

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
IN_TEXT = re.findall(r"`(rnnlab \w+ [^`]+)`", README)
COMMANDS = [shlex.split(line, comments=True)[1:] for line in SHELL.splitlines() if line.startswith("rnnlab ")]
COMMANDS += [shlex.split(command)[1:] for command in IN_TEXT if "..." not in command and "--help" not in command]

SMALL = ["++trainer.limit_train_batches=2", "++trainer.limit_val_batches=2", "trainer.max_epochs=1", "logger=csv"]
SMALL += ["trainer.accelerator=cpu", "rnn.hidden_size=4"]
# By experiment, or what it begins with; "" is the default.
SMALLER = {
    "": ["data.num_questions=300", "data.num_test=50"],
    "addition": ["data.num_questions=300", "data.num_test=50"],
    "classification": ["data.batch_steps=60"],
    "ecg": ["data.num_train=16", "data.num_val=2", "data.num_test=2", "data.batch_size=4", "data.seconds=5"],
    "char_lm": ["data.batch_size=2", "data.ngram_order=1"],
}
# What a study finds: tests/studies runs them.
OUTCOME = Outcome([Claim("one", 1.0, "=", 1.0)], "so it is", [{"x": 1.0}], Figure())


def value_of(words, key):
    return next((word.partition("=")[2] for word in words if word.startswith(f"{key}=")), "")


@pytest.fixture
def ready(tmp_path, monkeypatch, text_file, conllu_file, pairs_file, labelled_file):
    """A working directory with the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "books").mkdir()
    shutil.copy(text_file, tmp_path / "books" / "a.txt")
    shutil.copy(conllu_file, tmp_path / "FILE.conllu")
    shutil.copy(pairs_file, tmp_path / "FILE.tsv")
    hours = (f"2024-01-{k // 24 + 1:02d} {k % 24:02d}:00,{k % 7 + k % 12 + 1}\n" for k in range(200))
    (tmp_path / "FILE.csv").write_text("TIME,NAME\n" + "".join(hours))
    shutil.copy(labelled_file, tmp_path / "TEXTS")
    (tmp_path / "FILE").write_text("1+34\n")
    for number in range(40):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8_000, 0, "NONE", ""))
            file.writeframes(bytes(range(1, 201)) * 50)
    rows = [f"{k % 2 + 1}\t" + "\t".join(f"{k % 7 * t}" for t in range(10)) for k in range(40)]
    (tmp_path / "SERIES.tsv").write_text("\n".join(rows))
    beats = ["0.1" if n % 200 else "1.5" for n in range(4_000)]
    (tmp_path / "RECORD.csv").write_text("time,II\n" + "".join(f"{n / 200:.3f},{mv}\n" for n, mv in enumerate(beats)))
    (tmp_path / "LIST.tsv").write_text("".join(f"{number}.wav\tab\n" for number in range(40)))
    return tmp_path


@pytest.mark.parametrize(
    "words", few(COMMANDS, [words for words in COMMANDS if words[0] not in ("train", "search")]), ids=" ".join
)
def test_command_runs(
    words,
    ready,
    addition_run,
    char_run,
    tagger_run,
    sounds_run,
    ecg_run,
    table_run,
    labelled_run,
    table_file,
    capsys,
    monkeypatch,
):
    verb, experiment = words[0], value_of(words, "experiment")
    if words[1:2] == ["plugins=[mylab]"] or "cell=mylab" in " ".join(words):
        return  # tests/cli/test_plugins.py
    run = {"sample": char_run, "diagnose": char_run}.get(verb, addition_run)
    if "wav" in " ".join(words) or "data=sounds" in words:
        pytest.importorskip("soundfile")
        run, words = sounds_run, [word.replace("FILE.wav|FOLDER", "0.wav") for word in words]
    if "input=RECORD" in words:
        run, words = ecg_run, [word.replace("RECORD", "RECORD.csv") for word in words]
    if "data.test=FILE" in words:
        run, words = tagger_run, [word.replace("FILE", "FILE.conllu") for word in words]
    if "backtest" in " ".join(words):
        run = table_run
    if "horizon=24" in words:
        # Whole words: a "24" may stand in the path of the file, too.
        small = {"input=FILE.csv": f"input={table_file}", "horizon=24": "horizon=3"}
        run, words = table_run, [small.get(word, word) for word in words]
    if "label=NAME" in words:
        run, words = labelled_run, [word.replace("NAME", "loud") for word in words]
    if verb == "sweep":
        (ready / "SWEEP").mkdir()
        (ready / "SWEEP" / "sweep.yaml").write_text("words: []\nhow: []\n")  # tests/cli/test_sweep.py has one with jobs
    if verb == "search":
        words = [*words, "search.trials=2", *(word for word in SMALL if not word.startswith("rnn"))]
    run = shutil.copytree(run, ready / "DIR")
    words = [word.replace("run_dir=DIR", f"run_dir={run}").replace("column=xpos", "column=upos") for word in words]
    words = [word.replace("output=FILE", "output=ANSWERS") for word in words]
    if verb == "train" and "resume=true" in words:
        # It is finished, its schedule laid out over its length; tests/invariants/test_resume.py goes on with others.
        assert main(words) == (2 if "trainer.max_epochs=40" in words else 0)
        return
    if "init_from=DIR" in words:
        words += ["rnn.hidden_size=8", "data.digits=2"]  # as that run has them
    if verb == "train":
        family = experiment if experiment in SMALLER else experiment.split("/")[0]
        words += [
            word for word in [*SMALL, *SMALLER.get(family, [])] if f"{word.split('=')[0]}=" not in " ".join(words)
        ]
        words += ["paths.root=runs"]
    if verb == "sample":
        words = [*words, "prompt=bird", "length=20"]
    if verb == "study":
        for name in QUESTIONS:
            monkeypatch.setattr(import_module(f"rnnlab.studies.{name}"), "study", lambda: OUTCOME)
    if verb == "bench":
        return  # tests/cli/test_bench.py: two minutes
    assert main(words) == 0, capsys.readouterr().err


def test_commands_are_found():
    assert {words[0] for words in COMMANDS} >= {"train", "evaluate", "predict", "sample", "diagnose", "study", "doctor"}
    assert len(COMMANDS) > 12
