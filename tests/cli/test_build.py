"""Recurrent layers go to the models that are made of them."""

import warnings
from functools import partial

import pytest
from lightning.fabric.utilities.warnings import PossibleUserWarning

from rnnlab.cli.build import build_model
from rnnlab.cli.errors import UsageError
from rnnlab.cli.main import main
from tests.cli.conftest import TINY


def recurrent(rnn, size, width=1):
    return rnn, size, width


def either(size, rnn="its own"):
    return rnn, size


def others(size, **options):
    return options.get("rnn"), size


def feed_forward(size):
    return size


def test_a_model_gets_the_layers_that_it_names():
    assert build_model(partial(recurrent, width=3), "layers", {"size": 2}) == ("layers", 2, 3)
    assert build_model(either, "layers", {"size": 2}) == ("layers", 2)
    assert build_model(others, "layers", {"size": 2}) == ("layers", 2)


def test_without_layers_it_gets_none():
    assert build_model(either, None, {"size": 2}) == ("its own", 2)
    assert build_model(others, None, {"size": 2}) == (None, 2)
    assert build_model(partial(feed_forward, size=1), None, {"size": 2}) == 2


def test_layers_that_are_not_wanted_or_are_missing_are_refused():
    with pytest.raises(UsageError, match="feed_forward has no recurrent layers: it needs rnn=none"):
        build_model(partial(feed_forward), "layers", {"size": 2})
    with pytest.raises(UsageError, match="recurrent is made of recurrent layers: it needs rnn=lstm"):
        build_model(partial(recurrent), None, {"size": 2})


@pytest.mark.parametrize(
    "words, message",
    [
        (["rnn=none", "+rnn.hidden_size=4"], "there is no rnn for rnn.hidden_size to set: ~rnn.hidden_size takes"),
        (
            ["schedule=constant", "+schedule.max_lr=1"],
            "there is no schedule for schedule.max_lr to set: ~schedule.max_lr",
        ),
    ],
)
def test_settings_of_what_is_not_there(words, message, tmp_path, capsys):
    assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def test_nobody_is_warned_of_a_slurm_that_is_not_used(tmp_path, monkeypatch):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=":")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PossibleUserWarning)
        assert main(["train", *TINY, "logger=csv", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}"]) == 0
