"""Streams of text: no character lost or seen twice, resets where documents begin, a vocabulary of training alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data import TextData
from rnnlab.data.documents import Document
from rnnlab.data.text import IGNORED, encode, fold, to_stream
from rnnlab.data.vocabulary import START, UNKNOWN, Vocabulary
from tests.corpora import corpus

LETTERS = Vocabulary((UNKNOWN, START, *"abcd"))
DOCUMENTS = st.lists(
    st.builds(Document, st.text("abcd", min_size=1, max_size=12), st.text("abcd", max_size=4)), min_size=1, max_size=6
)


def read(windows):
    """Return what each row of consecutive windows holds, window after window: (inputs, targets, reset)."""
    return [
        torch.cat(tensors, dim=1) for tensors in zip(*((w.inputs, w.targets, w.reset) for w in windows), strict=True)
    ]


def test_encode_numbers_characters():
    assert encode("ab\U0001f600a", LETTERS).tolist() == [2, 3, 0, 2]
    assert encode("", LETTERS).tolist() == []


@settings(deadline=None)
@given(documents=DOCUMENTS, num_rows=st.integers(1, 7))
def test_every_character_is_a_target_once_and_predicted_from_the_one_before(documents, num_rows):
    inputs, targets, reset = fold(to_stream(documents, LETTERS), num_rows)
    assert inputs.shape == targets.shape == reset.shape and len(inputs) == num_rows
    expected, text = [], []
    for document in documents:
        whole = document.context + document.text
        previous = [LETTERS[START], *LETTERS.encode(whole[:-1])]
        scored = [IGNORED] * len(document.context) + LETTERS.encode(document.text)
        expected += list(zip(previous, scored, [True] + [False] * (len(whole) - 1), strict=True))
        text += LETTERS.encode(document.text)
    flat = list(zip(inputs.flatten().tolist(), targets.flatten().tolist(), reset.flatten().tolist(), strict=True))
    width = inputs.shape[1]
    for place, (before, target, is_start) in enumerate(expected):
        assert flat[place] == (before, target, is_start or place % width == 0)
    assert all(target == IGNORED for _, target, _ in flat[len(expected) :])
    assert targets[targets != IGNORED].tolist() == text
    assert reset[:, 0].all()


@settings(deadline=None, max_examples=25)
@given(text=st.text("abcd\n", min_size=20, max_size=200), batch_size=st.integers(1, 5), steps=st.integers(1, 30))
def test_windows_of_training_hold_each_character_once(tmp_path_factory, text, batch_size, steps):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    data = TextData(path, batch_size=batch_size, tbptt_steps=steps)
    data.setup()
    loader = data.train_dataloader()
    windows = list(loader)
    assert len(windows) == len(loader)
    assert all(window.inputs.shape[1] == steps for window in windows[:-1])
    inputs, targets, reset = read(windows)
    num_train = len(text) * 90 // 100
    served = [data.vocabulary.symbols[index] for index in targets.flatten().tolist() if index != IGNORED]
    assert "".join(served) == text[:num_train] and data.epoch_size == num_train
    assert torch.equal(reset.nonzero()[:, 1], torch.zeros(batch_size, dtype=torch.int64))
    inputs, targets, _ = read(data.val_dataloader())
    assert len(inputs) == 1
    assert (targets != IGNORED).sum() == len(text) - num_train
    assert inputs[0, 0] == data.vocabulary[START]


@pytest.fixture
def files(tmp_path):
    """Ten files of which the last has a character of its own."""
    for index in range(10):
        (tmp_path / f"{index}.txt").write_text("abcdefghij"[: 3 + index] * 20 + ("~" if index == 9 else ""))
    return str(tmp_path / "*.txt")


def test_vocabulary_is_that_of_training(files):
    data = TextData(files, split="files", batch_size=2)
    data.setup()
    assert data.vocabulary.symbols == (UNKNOWN, START, *"abcdefghij")
    assert data.sizes == {"vocab_size": 12}
    assert data.splits["val"][1][0, -1] == data.vocabulary[UNKNOWN] == 0


def test_documents_begin_with_a_reset_and_start(files):
    data = TextData(files, split="files", batch_size=1, tbptt_steps=50)
    data.setup()
    inputs, _, reset = read(data.train_dataloader())
    begins = np.cumsum([0, *map(len, data.texts["train"][:-1])]).tolist()
    assert reset[0].nonzero()[:, 0].tolist() == begins
    assert (inputs[0] == data.vocabulary[START]).nonzero()[:, 0].tolist() == begins
    flags = [window.resets_inside for window in data.train_dataloader()]
    assert flags == [any(start < begin < start + 50 for begin in begins) for start in range(0, len(inputs[0]), 50)]


def test_parts_from_files_of_their_own(tmp_path):
    for name, text in (("train", "ab" * 50), ("val", "ba" * 5), ("test", "bb")):
        (tmp_path / name).write_text(text)
    data = TextData(tmp_path / "train", split="none", val=tmp_path / "val", test=tmp_path / "test", batch_size=4)
    data.setup()
    assert data.texts == {"train": ["ab" * 50], "val": ["ba" * 5], "test": ["bb"]}
    assert [len(part[0]) for part in data.splits.values()] == [4, 1, 1]
    held_out = TextData(tmp_path / "train", test=tmp_path / "test", batch_size=4)
    held_out.setup()
    assert held_out.texts == {"train": ["ab" * 45], "val": ["ab" * 5], "test": ["bb"]}


def test_a_trained_model_needs_no_text(files):
    data = TextData(files, batch_size=2)
    data.setup()
    later = TextData("nowhere.txt", batch_size=2)
    later.load_state_dict(data.state_dict())
    assert later.remembers and later.sizes == data.sizes and later.vocabulary.symbols == data.vocabulary.symbols


def test_another_text_is_refused(files):
    data, other = TextData(files, batch_size=2), TextData(files, split="files", batch_size=2)
    data.setup()
    other.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="not the one this run was trained on"):
        other.setup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "80/20"}, "split must be one of 90/10, 90/5/5, char-rnn, files, files/test, none, got '80/20'"),
        ({"split": "none"}, "split=none leaves nothing for validation"),
        ({"tbptt_steps": 0}, "tbptt_steps must be an integer of at least 1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"ngram_order": 11}, "ngram_order must be an integer from 0 to 10"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextData(None, **arguments)


def test_a_batch_needs_a_character_for_each_stream(tmp_path):
    (tmp_path / "short.txt").write_text("a" * 20)
    with pytest.raises(ValueError, match="batch_size must be at most the 18 characters of training, got 50"):
        TextData(tmp_path / "short.txt").setup()


def test_baselines_are_in_bits(tmp_path):
    (tmp_path / "ab.txt").write_text("ab" * 500)
    data = TextData(tmp_path / "ab.txt", batch_size=2, ngram_order=2)
    data.setup()
    baselines = data.baselines()
    assert baselines.keys() == {f"baseline/{n}gram/val/{metric}" for n in (1, 2) for metric in ("bits", "perplexity")}
    assert baselines["baseline/1gram/val/perplexity"] == pytest.approx(2 ** baselines["baseline/1gram/val/bits"])
    assert baselines["baseline/1gram/val/bits"] == pytest.approx(1, abs=0.01)
    assert baselines["baseline/2gram/val/bits"] < 0.02
    assert TextData(tmp_path / "ab.txt", batch_size=2, ngram_order=0).baselines() == {}


@pytest.mark.parametrize(("split", "nats"), [("90/10", 1.669), ("char-rnn", 1.463)])
def test_five_grams_of_tinyshakespeare(split, nats):
    data = TextData(corpus("tinyshakespeare/input.txt"), split=split)
    data.setup()
    assert data.baselines()["baseline/5gram/val/bits"] * math.log(2) == pytest.approx(nats, abs=5e-4)
    if split == "90/10":
        assert [sum(map(len, data.texts[part])) for part in ("train", "val")] == [1_003_854, 111_540]
