import subprocess
import sys

import pytest

from rnnlab import __version__
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import questions
from rnnlab.cli.main import VERBS, main


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(words, capsys):
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("train", "evaluate", "predict", "doctor"))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_verb(verb, flag, capsys):
    assert main([verb, flag]) == 0
    assert capsys.readouterr().out.startswith(f"usage: rnnlab {verb}")


def test_help_of_train_lists_the_experiments_with_their_questions(capsys):
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for experiment, question in questions().items():
        assert question and any(line.split() == [experiment, *question.split()] for line in lines), experiment


def test_verbs_are_frozen():
    verbs = "train search sweep evaluate predict sample diagnose report export study bench list show completion doctor"
    assert list(VERBS) == verbs.split()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_unknown_verb_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean 'train'?" in error


def test_help_loads_nothing_heavy():
    code = "import sys; from rnnlab.cli.main import main; main([]); assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_console_script_and_module_are_the_same():
    result = subprocess.run([sys.executable, "-m", "rnnlab", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, __version__)


def test_unexpected_errors_are_one_line_and_code_1(monkeypatch, capsys):
    monkeypatch.setattr("rnnlab.cli.doctor.main", lambda words: 1 / 0)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "rnnlab: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    with pytest.raises(ZeroDivisionError):
        main(["doctor", "--debug"])


def test_nearest_prefers_the_whole_name_then_the_last_part():
    assert nearest("addition/lsmt", ["addition/lstm", "forecasting/x"]) == ", did you mean 'addition/lstm'?"
    assert nearest("hidden_size", ["rnn.hidden_size", "optim.lr"]) == ", did you mean 'rnn.hidden_size'?"
    assert nearest("qqq", ["rnn.hidden_size"]) == ""


def test_usage_errors_are_one_line():
    assert str(UsageError("a\n  b")) == "a b"
