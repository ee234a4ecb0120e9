"""Data of sequence-to-sequence models: symbols of training alone, batches in numbers and back, files of one's own."""

from types import SimpleNamespace

import pytest
import torch

from rnnlab.data import Pair, PairBatch, PairData
from rnnlab.data.pairs import IMPOSSIBLE, SPECIAL

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
    assert data.sizes == {"source_size": 6, "target_size": 6} and data.unit == "target symbols"
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
    assert fixed[0] == fixed[1] and sum(map(len, fixed[0])) == 60


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
