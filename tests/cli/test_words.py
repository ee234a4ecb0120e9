"""One grammar of `key=value` for all verbs: Hydra's, and plain text where Hydra reads nothing."""

import pytest

from rnnlab.cli.compose import override
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import options
from rnnlab.cli.words import read, readable
from tests.cli.test_conf import composed
from tests.covering import few

VALUES = [
    ("2016", 2016),
    ("1e-3", 1e-3),
    ("null", None),
    ("true", True),
    ("[1,a b,null]", [1, "a b", None]),
    ("{c:0.1}", {"c": 0.1}),
    ("'2016'", "2016"),
    ("", ""),
    ("010", "010"),
    ("12:30", "12:30"),
    ("no", "no"),
    ("a: b.conllu", "a: b.conllu"),
    ("#held.conllu", "#held.conllu"),
    ("set #2.conllu", "set #2.conllu"),
    ("données.csv", "données.csv"),
    ("数据.csv", "数据.csv"),
    ("lr=1.csv", "lr=1.csv"),
    ("sales(1).csv", "sales(1).csv"),
    ("Sales(kg)", "Sales(kg)"),
    ("~/x.csv", "~/x.csv"),
    ("CO2 [ppm]", "CO2 [ppm]"),
    ("it's", "it's"),
    ("a\\#b\\", "a\\#b\\"),
    ("x;y&z!\n", "x;y&z!\n"),
]


@pytest.mark.parametrize(("text", "expected"), few(VALUES, VALUES[::4], several=True))
def test_a_value_is_the_same_to_every_verb(text, expected):
    assert read(f"data.column={text}") == expected
    stored = {"data": {"column": "y"}}
    assert override(stored, [f"data.column={text}"]) == {"data": {"column": expected}}
    train = composed("data=csv", "data.path=x.csv", readable(f"data.column={text}"))
    assert train["data"]["column"] == expected


@pytest.mark.parametrize("word", ["-m", "--config-dir=a#b", "~logger", "key"])
def test_what_is_no_assignment_stays(word):
    assert readable(word) == word


def test_items_of_a_plain_list_are_texts_where_hydra_cannot_read_them():
    assert read("data.table.targets=[größe,#a,2]") == ["größe", "#a", 2]
    assert readable("data.table.targets=[größe]", sweeps=True) == "data.table.targets=['größe']"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=0,1", "seed=0,1"),
        ("seed=0:3", "seed=0,1,2"),
        ("seed=1:3,7", "seed=1,2,7"),
        ("data.path=0:3", "data.path=0:3"),
        ("data.column=#a,b", r"data.column='#a',b"),
        ("data.path=é", "data.path='é'"),
        ("experiment=glob(addition/lstm*)", "experiment=addition/lstm,addition/lstm_10digits,addition/lstm_5digits"),
        ("rnn=glob([l*,g*],exclude=gru)", "rnn=lstm"),
    ],
)
def test_words_of_a_sweep(word, expected):
    assert readable(word, sweeps=True) == expected


def test_glob_reaches_into_folders():
    assert readable("experiment=glob(*)", sweeps=True) == f"experiment={','.join(options('experiment'))}"


@pytest.mark.parametrize(
    ("word", "sweeps", "expected"),
    [
        ("optim.lr=[1", False, r"optim.lr: '[1' cannot be read; a text is quoted, 'optim.lr='"),
        ('data.column="a', False, "a text is quoted"),
        ("data.path=${oc.env:x", False, "a text is quoted"),
        ("data.column=a (m,kg)#", True, "a text is quoted"),
        ("seed=glob(*)", True, "glob chooses among the options of a group, seed is none"),
        ("experiment=glob(adition/*)", True, "no experiment is called so; there are addition/gru"),
    ],
)
def test_refusals_name_the_argument(word, sweeps, expected):
    with pytest.raises(UsageError, match="^" + word.partition("=")[0]) as caught:
        readable(word, sweeps)
    assert expected in str(caught.value)


def test_one_value_is_not_several():
    with pytest.raises(UsageError, match=r"'a,b' is several values; a list is \[a,b\], and a text is quoted"):
        read("data.test=a,b")
