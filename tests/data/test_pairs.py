"""Data of sequence-to-sequence models: symbols of training alone, batches in numbers and back, files of one's own."""

import gzip
import zlib
from types import SimpleNamespace

import pytest
import torch

from rnnlab.data import Pair, PairBatch, PairData, TSVPairs
from rnnlab.data.pair_rows import SPECIAL
from rnnlab.data.pairs import IMPOSSIBLE

TRAIN = [("ab", ["x y"]), ("b", ["y", "z z"]), ("abab", ["x <end> y"])]
VAL = [("ab", ["y", "x"]), ("aqb", ["x w"]), ("c", ["w", "y"])]


class Listed(PairData):
    """Pairs as they stand above."""

    def __init__(self, train=TRAIN, val=VAL, **arguments):
        super().__init__(target_tokens="words", **arguments)
        self.listed = {"train": train, "val": val}

    def read_parts(self):
        return {
            part: [Pair(tuple(source), tuple(tuple(text.split()) for text in texts)) for source, texts in rows]
            for part, rows in self.listed.items()
        }, {}


def made(data):
    data.setup()
    return data


def hypothesis(data, text, log_prob=-0.5):
    return SimpleNamespace(ids=tuple(data.target_symbols.encode(text.split())), log_prob=log_prob)


def test_symbols_are_those_of_training_and_its_first_answers():
    data = made(Listed())
    assert data.source_symbols.symbols == (*SPECIAL, "a", "b")
    assert data.target_symbols.symbols == (*SPECIAL, "x", "y")
    assert (
        data.sizes == {"source_size": 6, "target_size": 6, "shared_vocabulary": False} and data.unit == "target_symbols"
    )
    assert data.epoch_size == 3 + 2 + 4
    assert data.notes == [
        "val: 2 of 3 sources have a symbol that training lacks ('c', 'q'), which is read as unknown",
        "val: 1 of 3 pairs have no right answer without a symbol that training lacks ('w'); each counts as wrong",
    ]
    shared = made(Listed(shared_vocabulary=True, min_count=2))
    assert shared.source_symbols is shared.target_symbols and shared.source_symbols.symbols[4:] == ("a", "b", "x", "y")


def test_batches_hold_numbers_and_references_all_answers():
    data = made(Listed())
    (batch,) = data.val_dataloader()
    assert isinstance(batch, PairBatch)
    assert batch.source.tolist() == [[1, 0, 0], [4, 5, 0], [4, 1, 5]]
    assert batch.source_lengths.tolist() == [1, 2, 3] and batch.rows.tolist() == [2, 0, 1]
    assert batch.target.tolist() == [[1, 3, 0], [5, 3, 0], [4, 1, 3]]
    assert batch.unseen.tolist() == [True, False, True] and batch.weight.tolist() == [1, 1, 1]
    assert data.references("val", batch.rows) == [[[IMPOSSIBLE], [5]], [[5], [4]], [[4, IMPOSSIBLE]]]
    assert [data.source_text(ids) for ids in batch.source] == ["\ufffd", "ab", "a\ufffdb"]
    assert [data.target_text(ids) for ids in batch.target] == ["\ufffd", "y", "x \ufffd"]
    assert [tensor.dtype for tensor in batch] == [torch.int64] * 3 + [torch.float32, torch.bool, torch.int64]
    rehearsal = data.rehearsal_batch()
    assert rehearsal.source.tolist() == [[4, 5, 0, 0], [4, 5, 4, 5]]
    assert rehearsal.target.tolist() == [[4, 5, 3, 0], [4, 1, 5, 3]]  # a word like a special one is unknown


def test_a_trained_model_needs_no_files(tmp_path):
    trained = made(Listed())
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    absent = Listed()
    for _ in range(2):
        absent.load_state_dict(state)
    assert absent.sizes == trained.sizes and not absent.splits
    assert absent.source_symbols.symbols == trained.source_symbols.symbols
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        made(Listed(train=TRAIN[:2])).load_state_dict(state)
    other = Listed(train=TRAIN[:2])
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="the training part is not the one this run was trained on"):
        other.setup()


def test_symbols_of_the_run_stay_whatever_the_options_say():
    state = made(Listed()).state_dict()
    data = made(Listed(min_count=3))
    assert data.sizes["target_size"] < 6
    data.load_state_dict(state)
    assert data.sizes["target_size"] == 6
    (batch,) = data.val_dataloader()
    assert batch.target[1].tolist() == [5, 3, 0]
    data = Listed(min_count=3)
    data.load_state_dict(state)
    assert made(data).sizes["target_size"] == 6


def test_what_symbols_are_cannot_change_afterwards():
    state = made(Listed()).state_dict()
    for option, message in (
        ({"shared_vocabulary": True}, "shared_vocabulary is False in the run, and cannot be True afterwards"),
        ({"source_tokens": "words"}, "source_tokens is 'characters' in the run, and cannot be 'words' afterwards"),
    ):
        with pytest.raises(ValueError, match=message):
            Listed(**option).load_state_dict(state)


def test_a_long_target_does_not_widen_a_batch_of_many():
    pairs = [("ab", ["x"]), ("abc", ["y " * 400]), *[("abc", ["z"])] * 20]
    data = made(Listed(train=pairs, max_tokens=100))
    (alone,) = [batch for batch in data.train_dataloader() if batch.target.shape[1] > 9]
    assert alone.rows.tolist() == [1] and alone.source_lengths.tolist() == [3]
    assert data.rehearsal_batch().target.shape == (2, 401)


def test_no_symbol_is_left():
    with pytest.raises(ValueError, match="min_count=100000 leaves no symbol of sources"):
        made(Listed(min_count=100_000))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_ranks_of_a_trainer_share_the_pairs(rank):
    data = made(Listed(train=TRAIN * 20, max_tokens=12))
    data.trainer = SimpleNamespace(world_size=2, global_rank=rank, overfit_batches=0)
    mine = [row for batch in data.train_dataloader() for row in batch.rows.tolist()]
    data.trainer.global_rank = 1 - rank
    others = [row for batch in data.train_dataloader() for row in batch.rows.tolist()]
    assert sorted(mine + others) == list(range(60))
    data.trainer.overfit_batches = 1
    fixed = [[batch.rows.tolist() for batch in data.train_dataloader()] for _ in range(2)]
    assert fixed[0] == fixed[1] and len(fixed[0]) == 1


def test_most_batches_of_training_need_no_padding():
    data = made(Listed(train=[("ab" * (1 + k % 9), ["x"]) for k in range(900)], max_tokens=100))
    batches = list(data.train_dataloader())
    even = [batch for batch in batches if len(batch.source_lengths.unique()) == 1]
    assert len(even) > 0.9 * len(batches)


def test_questions_are_answered_in_their_order(tmp_path):
    data = made(Listed(eval_max_tokens=6))
    path = tmp_path / "q.txt"
    path.write_text("abab\n b \nqa\n\n")
    queries = data.read_queries(path)
    batches = data.query_batches(queries)
    assert len(queries.inputs) == 3 and [batch.rows.tolist() for batch in batches] == [[1, 2], [0]]
    assert [batch.target.tolist() for batch in batches] == [[[3], [3]], [[3]]]
    assert not any(batch.unseen.any() for batch in batches)
    outputs = [[[hypothesis(data, "y")], [hypothesis(data, "x y")]], [[hypothesis(data, "")]]]
    assert data.write_answers(queries, outputs) == "abab\t\nb\ty\nqa\tx y\n"
    outputs[1][0] = [hypothesis(data, "x"), hypothesis(data, "y", -1.25)]
    assert data.write_answers(queries, outputs) == (
        "abab\tx\t-0.5000\nabab\ty\t-1.2500\nb\ty\t-0.5000\nqa\tx y\t-0.5000\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [(" \n\n", r"q\.txt: is empty, a source a line is expected"), ("a\n\nb", r"q\.txt:2: is empty, a source is")],
)
def test_broken_questions_are_refused(tmp_path, text, message):
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        made(Listed()).read_queries(tmp_path / "q.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
        ({"min_count": 0}, "min_count must be an integer of at least 1, got 0"),
        ({"source_tokens": "letters"}, "source_tokens must be one of characters, words, got 'letters'"),
        ({"encoding": "klingon"}, "encoding must be one that Python knows"),
        ({"val": []}, "the val part has no pair"),
    ],
)
def test_what_cannot_be_learnt_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(Listed(**arguments))


@pytest.fixture
def write(tmp_path):
    def write_text(name, text, encoding="utf-8"):
        content = text.encode(encoding)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    return write_text


def listed(data, part):
    return [(data.join_source(pair.source), *map(data.join_target, pair.targets)) for pair in made(data).pairs[part]]


@pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz"])
def test_files_are_read_line_by_line(write, name):
    text = "\ufeffein Haus\ta house\r\nHund\tdog\r\n ein  Haus\tone house\r\nHund\tdog \r\n\r\n"
    train = write(name, text, "utf-16")
    data = TSVPairs(train, write("val.tsv", "Hund\tthe dog\nKatze\tcat", "utf-16"), tokens="words", encoding="utf-16")
    assert listed(data, "train") == [("ein Haus", "a house", "one house"), ("Hund", "dog")]
    assert data.source_symbols.symbols[4:] == ("Haus", "Hund", "ein") and "test" not in data.pairs
    assert data.notes == [
        f"{train}: 1 of 4 rows come again and are read once, the first in line 4",
        f"{train}: 1 of 2 sources have several right answers, the first of which is trained on",
        "val: 1 of 2 sources are in train too, as 'Hund'; they do not show what is learnt of new ones",
        "val: 1 of 2 sources have a symbol that training lacks ('Katze'), which is read as unknown",
        "val: 2 of 2 pairs have no right answer without a symbol that training lacks ('cat', 'the'); each counts as "
        "wrong",
    ]


def test_sides_may_be_cut_differently_and_long_rows_are_left_out(write):
    train = write("t.tsv", "ab c\tx y\nabcd\tx\nab\tx y z\n")
    data = TSVPairs(train, train, source_tokens="words", target_tokens="characters", max_source=2, max_target=4)
    assert made(data).pairs["train"] == [Pair(("ab", "c"), (tuple("x y"),)), Pair(("abcd",), (("x",),))]
    assert data.notes[0] == f"{train}: 1 of 3 rows are longer than max_source=2 or max_target=4 and left out, " + (
        "the first in line 3"
    )
    assert data.baselines() == {"baseline/copy/val/exact_match": 0}


def test_without_a_validation_file_a_hash_of_the_source_decides(write):
    train = write("t.tsv", "".join(f"w{number}\t{number}\nw{number}\tx\n" for number in range(400)))
    data = made(TSVPairs(train, val_percent=10, test_percent=20))
    sources = {part: {pair.source for pair in pairs} for part, pairs in data.pairs.items()}
    assert sources["test"] == {tuple(f"w{n}") for n in range(400) if zlib.crc32(f"w{n}".encode()) % 100 < 20}
    assert sources["val"] == {tuple(f"w{n}") for n in range(400) if 20 <= zlib.crc32(f"w{n}".encode()) % 100 < 30}
    assert sum(map(len, sources.values())) == 400
    sizes = [len(sources[part]) for part in ("train", "val", "test")]
    assert data.notes[1] == (
        f"{train}: is split by a hash of the source: {sizes[0]} train, {sizes[1]} val, {sizes[2]} test"
    )
    # Whoever measures it on another file compares it with what learnt from the same pairs.
    other = TSVPairs(train, val_percent=50, test=write("other.tsv", "w1\t1"))
    other.load_state_dict(data.state_dict())
    assert made(other).pairs["train"] == data.pairs["train"] and len(other.pairs["test"]) == 1
    # With a file for test, no more is spared than validation needs.
    spared = made(TSVPairs(train, val_percent=10, test_percent=20, test=write("test.tsv", "w1\t1")))
    assert len(spared.pairs["train"]) + len(spared.pairs["val"]) == 400
    whole = made(TSVPairs(train, train))
    assert len(whole.pairs["train"]) == 400
    again = TSVPairs(train)
    again.load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="trained on all of its training file, and there is no val: give val=FILE"):
        again.setup()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nab\n", r"t\.tsv:2: expected a source, one tab and a target, got 0 tabs: 'ab'"),
        ("a\tb\tc\n", r"t\.tsv:1: expected a source, one tab and a target, got 2 tabs"),
        ("a\tb\n\nc\td", r"t\.tsv:2: expected a source, one tab and a target, got 0 tabs: ''"),
        ("a\tb\n \tb", r"t\.tsv:2: the source is empty"),
        ("a\tb\na\t ", r"t\.tsv:2: the target is empty"),
        ("", r"t\.tsv: is empty, lines of a source, a tab and a target are expected"),
        ("a\tb", r"are validation, by a hash: of its 1 that is 1, and 0 are train; give val=FILE"),
    ],
)
def test_broken_files_are_refused(write, text, message):
    path = write("t.tsv", text)
    with pytest.raises(ValueError, match=message):
        made(TSVPairs(path, None if "hash" in message else path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_percent": 0}, "val_percent must be an integer from 1 to 99, got 0"),
        ({"test_percent": 95}, "test_percent must be an integer from 0 to 94, got 95"),
        ({"max_source": 0}, "max_source must be an integer of at least 1, got 0"),
        ({"tokens": "bytes"}, "source_tokens must be one of characters, words, got 'bytes'"),
        ({}, "no file of pairs at absent.tsv"),
        ({"train": None}, "train must name a file of pairs, got None"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(TSVPairs(**{"train": "absent.tsv", **arguments}))
