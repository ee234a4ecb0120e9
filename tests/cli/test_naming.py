"""What runs are called."""

import pytest

from rnnlab.cli.naming import group_of, name_of, title_of


@pytest.mark.parametrize(
    ("name", "word", "expected"),
    [
        ("char_lm/tinyshakespeare", "data.path=/home/me/emma.v2.txt", "char_lm/emma"),
        ("char_lm/tinyshakespeare", "data.path=books/*.txt", "char_lm/books"),
        ("char_lm/char_rnn", "+data.path=tinyshakespeare/input.txt", "char_lm/tinyshakespeare"),
        ("char_lm/stdlib", "data.path=*", "char_lm/stdlib"),
        ("pos_tagging/ewt", "data.train=de_gsd-ud-train.conllu.gz", "pos_tagging/de_gsd-ud-train"),
        ("pos_tagging/ewt", "data.column=xpos", "pos_tagging/ewt"),
    ],
)
def test_data_of_ones_own_name_the_run(name, word, expected):
    key, _, value = word.partition("=")
    config = {"name": name, "data": {key.partition("data.")[2]: value}}
    assert name_of(config, [word]) == expected
    assert name_of(config, []) == name
    assert name_of(config, [word, f"name={name}"]) == name


def test_title_tells_seed_and_overrides():
    given = [
        "experiment=addition/lstm",
        "seed=1",
        "rnn.hidden_size=64",
        "threads=1",
        "paths.run_dir=/tmp/x",
        "logger=csv",
    ]
    config = {"name": "addition/lstm", "seed": 1, "provenance": {"overrides": given}}
    assert title_of(config) == "addition/lstm seed=1 rnn.hidden_size=64"
    assert title_of({**config, "name": "mine"}) == "mine seed=1 experiment=addition/lstm rnn.hidden_size=64"
    assert title_of({**config, "provenance": {}}) == "addition/lstm seed=1"  # of a run that was made before
    assert len(title_of({**config, "name": "n" * 200})) == 128


def test_group_is_the_sweep_or_the_name():
    config = {"name": "addition/lstm", "paths": {"root": "runs"}, "provenance": {"sweep": None}}
    assert group_of(config) == "addition/lstm"
    assert group_of({**config, "provenance": {"sweep": "runs/addition/lstm/sweep_1"}}) == "addition/lstm/sweep_1"
    assert group_of({**config, "provenance": {"sweep": "/elsewhere/sweep_2"}}) == "sweep_2"
