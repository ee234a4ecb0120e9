"""Sentences become padded batches of numbers that say what the sentences say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.data.conllu_text import Sentence
from rnnlab.data.sentences import IGNORED, UNKNOWN_TAG, Symbols, TaggedSentences
from rnnlab.data.vocabulary import PADDING, UNKNOWN

COUNTS = {"The": 3, "the": 1, "dog": 2, "ran": 1, UNKNOWN: 2}
FORM = st.sampled_from([*COUNTS, "THE", "cat", "a" * 12, "ö"])
TOKEN = st.tuples(FORM, st.sampled_from(["DET", "NOUN", None]))
SENTENCES = st.lists(st.lists(TOKEN, min_size=1, max_size=6), min_size=1, max_size=6)


def symbols(min_count=1, lowercase=False, max_chars=5):
    return Symbols.of(COUNTS, ["DET", "NOUN"], min_count, lowercase, max_chars)


@pytest.mark.parametrize(
    ("min_count", "lowercase", "words"),
    [
        (1, False, ["The", "dog", "ran", "the"]),
        (2, False, ["The", "dog"]),
        (2, True, ["dog", "the"]),
        (4, True, ["the"]),
    ],
)
def test_words_are_counted_as_they_are_looked_up(min_count, lowercase, words):
    found = symbols(min_count, lowercase)
    assert found.words.symbols == (PADDING, UNKNOWN, *words)
    assert found.chars.symbols == (PADDING, UNKNOWN, *sorted(set("".join(COUNTS))))


@settings(deadline=None, max_examples=60)
@given(rows=SENTENCES, data=st.data(), lowercase=st.booleans(), min_count=st.integers(1, 3))
def test_a_batch_says_what_its_sentences_say(rows, data, lowercase, min_count):
    known = symbols(min_count, lowercase)
    sentences = [Sentence([form for form, _ in row], [tag for _, tag in row], [1] * len(row)) for row in rows]
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    batch = TaggedSentences(sentences, known)[indices]
    assert batch.lengths.tolist() == [len(rows[index]) for index in indices]
    num_steps = max(batch.lengths.tolist())
    assert {tuple(t.shape) for t in (batch.words, batch.forms, batch.unseen, batch.tags)} == {(len(indices), num_steps)}
    spelt = [
        "".join(known.chars.decode(row[:length]))
        for row, length in zip(batch.chars.tolist(), batch.char_lengths.tolist(), strict=True)
    ]
    assert batch.chars.shape[1] == batch.char_lengths.max() and (batch.char_lengths >= 1).all()
    assert len(spelt) == len({form for index in indices for form, _ in rows[index]})
    for row, length in zip(batch.chars, batch.char_lengths, strict=True):
        assert not row[length:].any()
    for i, index in enumerate(indices):
        for step in range(num_steps):
            at = (i, step)
            found = [int(t[at]) for t in (batch.words, batch.forms, batch.unseen, batch.tags)]
            if step >= len(rows[index]):
                assert found == [0, 0, 0, IGNORED]
                continue
            form, tag = rows[index][step]
            word = form.lower() if lowercase else form
            count = sum(n for other, n in COUNTS.items() if (other.lower() if lowercase else other) == word)
            has_number = count >= min_count and word != UNKNOWN
            assert known.words.symbols[found[0]] == (word if has_number else UNKNOWN)
            assert spelt[found[1]] == "".join(char if char in known.chars else UNKNOWN for char in form[:5])
            assert found[2] == (form not in COUNTS)
            assert found[3] == (IGNORED if tag is None else ["DET", "NOUN"].index(tag))


def test_types_and_single_indices():
    sentences = TaggedSentences([Sentence(["a", "b"], ["DET", None], [1, 2]), Sentence(["c"], [None], [4])], symbols())
    batch = sentences[0]
    assert len(sentences) == 2 and sentences.num_tokens == 3
    assert all(torch.equal(found, expected) for found, expected in zip(batch, sentences[[0]], strict=True))
    assert [tensor.dtype for tensor in batch] == [torch.int64] * 5 + [torch.bool, torch.int64]


def test_a_tag_that_is_not_known_has_a_number_of_its_own():
    sentences = TaggedSentences([Sentence(["a", "a", "a"], ["VERB", None, "DET"], [1, 2, 3])], symbols())
    assert sentences[0].tags.tolist() == [[UNKNOWN_TAG, IGNORED, 0]]
