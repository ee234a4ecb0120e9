"""What a study tells of its trials."""

import math
import subprocess
import sys
import threading

import pytest

from rnnlab.analysis.search import draw_search
from rnnlab.sweeps import study

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("prunes", [False, True])
def test_importances_find_what_decides(tmp_path, mode, prunes):
    search = {"study": "s", "storage": None, "mode": mode}
    opened = study.open_study(tmp_path, search, optuna.samplers.RandomSampler(seed=0))
    sign = 1 if mode == "min" else -1
    for number in range(40):
        trial = opened.ask()
        lr, size = trial.suggest_float("lr", 1e-4, 1e-1, log=True), trial.suggest_int("size", 8, 128)
        value = sign * ((math.log10(lr) + 2.5) ** 2 + 0.001 * (size % 7))
        is_bad = prunes and number > 5 and abs(math.log10(lr) + 2.5) > 0.5
        trial.report(-9 * sign if is_bad else value, 0)  # what was given up looked best, for a moment
        opened.tell(trial, None if is_bad else value, optuna.trial.TrialState.PRUNED if is_bad else None)
    found = study.importances(opened)
    assert found["lr"] > 0.7 and sum(found.values()) == pytest.approx(1)
    trials = study.tried(opened)
    finished = [t.value for t in trials if t.state == "complete"]
    assert study.best(trials, mode).value == (min if mode == "min" else max)(finished)
    draw_search(trials, found, "val/loss", mode)


def test_a_journal_that_a_killed_process_held_is_free_at_once(tmp_path):
    code = "import sys, time; from pathlib import Path; from rnnlab.sweeps import study; "
    code += "study.storage(Path(sys.argv[1]), None)._backend._lock.acquire(); print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"1\n"
    asked = []
    search = {"study": "s", "storage": None, "mode": "min"}
    asking = threading.Thread(target=lambda: asked.append(study.open_study(tmp_path, search).ask().number))
    try:
        asking.start()
        asking.join(1)
        assert not asked  # it is held
    finally:
        holder.kill()
        holder.communicate()
    asking.join(10)
    assert asked == [0]


def test_few_trials_tell_nothing(tmp_path):
    opened = study.open_study(tmp_path, {"study": "s", "storage": None, "mode": "min"})
    for _ in range(11):
        trial = opened.ask()
        opened.tell(trial, trial.suggest_float("lr", 0, 1))
    assert study.importances(opened) == {}
    draw_search(study.tried(opened), {}, "val/loss", "min")
    draw_search([], {}, "val/loss", "max")
