"""Tab completion, and the verbs that tell what there is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlab.cli.completion import SCRIPTS, answer
from rnnlab.cli.groups import heads, options
from rnnlab.cli.main import VERBS, main
from tests.cli.test_bad_input import refuse
from tests.runs import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rnnlab ", sorted(VERBS)),
        ("rnnlab eva", ["evaluate"]),
        (
            "rnnlab train experiment=addition/l",
            ["experiment=addition/lstm"] + [f"experiment=addition/lstm_{n}digits" for n in (10, 5)],
        ),
        ("rnnlab train rnn=lstm,g", ["rnn=lstm,gru"]),
        ("rnnlab train optim=ada", ["optim=adam", "optim=adamw"]),
        ("rnnlab train rnn.hid", ["rnn.hidden_size="]),
        (
            "rnnlab train experiment=forecasting/table data.table.t",
            ["data.table.targets=", "data.table.thousands=", "data.table.time_column="],
        ),
        ("rnnlab train data=csv data.wi", ["data.window="]),
        ("rnnlab train +trainer=d", ["+trainer=default"]),
        ("rnnlab train -", ["--cfg", "--debug", "--help", "-m"]),
        ("rnnlab predict out", ["output="]),
        ("rnnlab study vani", ["vanishing"]),
        ("rnnlab list char_lm/st", ["char_lm/stdlib"]),
        ("rnnlab completion b", ["bash"]),
        ("rnnlab search search=", ["search=lr_and_size"]),
        ("rnnlab sweep res", ["resume"]),
        ("rnnlab train -m hydra/launcher=jo", ["hydra/launcher=joblib"]),
        ("rnnlab nothing x", []),
        ("rnnlab train 'open", []),
        ("rnnlab", []),
    ],
)
def test_answers(line, expected):
    assert answer(line) == sorted(expected)


def test_files_and_settings_of_a_run(addition_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "inner").mkdir(parents=True)
    (tmp_path / "some.csv").touch()
    assert answer("rnnlab predict input=so") == ["input=some.csv", "input=some/"]
    assert answer("rnnlab report some/") == ["some/inner/"]
    assert "data.digits=" in answer(f"rnnlab evaluate run_dir={addition_run} data.")


def ask_shell(*words):
    """Return the lines that a shell prints which finds `rnnlab` on its path."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    result = subprocess.run(words, capture_output=True, text=True, env=os.environ | here, timeout=PATIENCE_S)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rnnlab eva", "evaluate"),
        ("rnnlab train rnn=lstm,g", "lstm,gru"),  # what stands behind the equals sign is a word of its own
        ("rnnlab train rnn.hid", "rnn.hidden_size="),
    ],
)
def test_bash(line, expected):
    code = (
        'eval "$(rnnlab completion bash)"; COMP_LINE="$1"; COMP_POINT=${#1}; _rnnlab; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert ask_shell("bash", "-c", f"compopt() {{ :; }}; {code}", "bash", line) == [expected]


@pytest.mark.parametrize(
    ("line", "expected"), [("rnnlab eva", "evaluate"), ("rnnlab train rnn.hid", "rnn.hidden_size=")]
)
def test_fish(line, expected):
    assert ask_shell("fish", "-c", "rnnlab completion fish | source; complete -C $argv[1]", line) == [expected]


# A shell that is typed to; what it writes is only read as far as is waited for.
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -D -u; eval "$(rnnlab completion zsh)"; print rea""dy'
zpty -r shell seen '*ready*'
zpty -n -w shell "$1"$'\t'
zpty -r shell seen "*$2*"
zpty -d shell
"""


@pytest.mark.parametrize(("line", "rest"), [("rnnlab eva", "luate"), ("rnnlab train rnn.hid", "den_size=")])
def test_zsh(line, rest):
    ask_shell("zsh", "-f", "-c", ZSH, "zsh", line, rest)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_whole(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "rnnlab completion answer" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True, check=True)


def test_nothing_heavy_is_imported():
    code = "import sys; from rnnlab.cli.main import main; main(['completion', 'answer', 'rnnlab train rnn.h'])"
    code += "; assert not {'torch', 'hydra', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_list(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name}\n" in f"\n{shown}" for name in options("experiment"))
    assert main(["list", "addition/*digits"]) == 0
    first, question, command, expected, hardware = capsys.readouterr().out.split("\n\n")[0].splitlines()
    head = heads()[first]
    assert list(head) == ["question", "command", "expected", "hardware"] and first == "addition/lstm_10digits"
    assert [line.split(": ", 1)[1].strip() for line in (question, command, expected, hardware)] == list(head.values())


def test_show(capsys):
    assert main(["show", "experiment=addition/gru", "rnn.hidden_size=8", "logger=csv"]) == 0
    shown = capsys.readouterr().out
    assert "question: does a GRU learn" in shown
    assert (
        "  rnn.hidden_size: 8 (default 128)\n" in shown
        and "  logger.wandb.project: left out (default rnnlab)\n" in shown
    )
    assert (
        "\nconfiguration:\n  name: addition/gru\n" in shown
        and "  task:\n    _target_: rnnlab.tasks.AdditionTask" in shown
        and "parameters" not in shown
    )
    assert main(["show"]) == 0
    assert "differs from the defaults:\n  in nothing\n" in capsys.readouterr().out


@pytest.mark.slow
def test_show_counts_parameters(capsys):
    small = [
        "data.digits=1",
        "data.num_questions=40",
        "data.num_test=5",
        "data.batch_size=8",
        "trainer.accelerator=cpu",
    ]
    assert main(["show", *small, "parameters=true"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" parameters")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "additon"], "no experiment is like 'additon', did you mean 'addition/"),
        (["list", "a", "b"], "list takes one PATTERN"),
        (["list", "plugins=[nowhere_at_all]"], "no plugin 'nowhere_at_all'"),
        (["show", "experiment=addition/gruu"], "no experiment is called 'addition/gruu', did you mean 'addition/gru'"),
        (["show", "addition/gru"], "expected key=value, got 'addition/gru'"),
        (["show", "parameters=yes"], "parameters must be true or false"),
        (["completion"], "give one of bash, zsh, fish"),
        (["completion", "bahs"], "did you mean 'bash'"),
    ],
)
def test_refusals(capsys, words, message):
    refuse(capsys, words, message)
