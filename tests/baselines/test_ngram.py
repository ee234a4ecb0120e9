"""Witten-Bell n-grams: the recursion written down with dictionaries, and known results on tinyshakespeare."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.baselines import NGram, witten_bell
from tests.corpora import corpus

START = "start"


class Recursion:
    """The equation as it stands, over tuples: contexts go back to the start symbol and no further."""

    def __init__(self, train, num_symbols, order):
        self.num_symbols, self.order = num_symbols, order
        self.behind = defaultdict(Counter)
        for document in train:
            read = [START, *document]
            for end in range(1, len(read)):
                for length in range(min(order, end + 1)):
                    self.behind[tuple(read[end - length : end])][read[end]] += 1

    def probability(self, symbol, context):
        shorter = self.probability(symbol, context[1:]) if context else 1 / self.num_symbols
        counts = self.behind.get(tuple(context), Counter())
        if not counts:
            return shorter
        return (counts[symbol] + len(counts) * shorter) / (counts.total() + len(counts))

    def nats(self, test, context):
        rows = [[] for _ in range(self.order)]
        for head, document in zip(context, test, strict=True):
            read = [START, *head, *document]
            for end in range(1 + len(head), len(read)):
                for length, row in enumerate(rows):
                    row.append(-math.log(self.probability(read[end], read[max(0, end - length) : end])))
        return np.array(rows)


@st.composite
def problems(draw):
    num_symbols = draw(st.integers(1, 4))
    documents = st.lists(st.lists(st.integers(0, num_symbols - 1), max_size=12), max_size=4)
    train, test = draw(documents), draw(documents)
    document = st.lists(st.integers(0, num_symbols - 1), max_size=7)
    context = draw(st.lists(document, min_size=len(test), max_size=len(test)))
    return train, test, context, num_symbols, draw(st.integers(1, 6))


def arrays(documents, dtype=np.int64):
    return [np.array(document, dtype=dtype) for document in documents]


@settings(deadline=None, max_examples=200)
@given(problems())
def test_equals_the_recursion(problem):
    train, test, context, num_symbols, order = problem
    recursion = Recursion(train, num_symbols, order)
    nats = witten_bell(arrays(train), arrays(test, np.uint8), num_symbols, order, arrays(context))
    np.testing.assert_allclose(nats, recursion.nats(test, context).reshape(nats.shape), rtol=1e-12, atol=1e-12)
    whole = witten_bell(arrays(train), arrays(test), num_symbols, order)
    np.testing.assert_allclose(
        whole, recursion.nats(test, [[]] * len(test)).reshape(nats.shape), rtol=1e-12, atol=1e-12
    )


@settings(deadline=None, max_examples=50)
@given(problems())
def test_probabilities_of_all_symbols_sum_to_one(problem):
    train, _, context, num_symbols, order = problem
    seen = [document[:end] for document in train for end in range(len(document))]
    heads = [head for head in [*seen, *context] for _ in range(num_symbols)]
    symbols = [[symbol] for symbol in range(num_symbols)] * (len(heads) // num_symbols)
    nats = witten_bell(arrays(train), arrays(symbols), num_symbols, order, arrays(heads))
    np.testing.assert_allclose(np.exp(-nats).reshape(order, -1, num_symbols).sum(axis=2), 1, rtol=1e-12)


def test_many_symbols_and_long_contexts():
    """900 symbols to the tenth are more than 64 bits hold; repeats make long contexts that were seen."""
    rng = np.random.default_rng(0)
    phrases = rng.integers(0, 900, (20, 15))
    train, test = (phrases[rng.integers(0, 20, count)].ravel() for count in (60, 10))
    expected = Recursion([train.tolist()], 900, 10).nats([test.tolist()], [[]])
    np.testing.assert_allclose(witten_bell([train], [test], 900, 10), expected, rtol=1e-12)


def test_context_is_read_and_not_scored():
    text = np.random.default_rng(0).integers(0, 3, 60)
    whole = witten_bell([text], [text], 3, 4)
    split = witten_bell([text], [text[:25], text[25:]], 3, 4, context=[text[:0], text[:25]])
    np.testing.assert_array_equal(split, whole)
    assert (witten_bell([text], [text[:25], text[25:]], 3, 4)[:, 25] != whole[:, 25]).any()


def test_nothing_to_learn_from_or_to_score():
    np.testing.assert_allclose(witten_bell([], [np.array([0, 3])], 4, 3), np.full((3, 2), math.log(4)))
    assert witten_bell([np.array([0, 3])], [], 4, 3).shape == (3, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 0}, "^order must be at least 1, got 0$"),
        ({"num_symbols": 2}, "^symbols must be from 0 to 1, got 0 to 2$"),
        ({"test": [np.array([1, -1])]}, "^symbols must be from 0 to 2, got -1 to 1$"),
        ({"context": []}, "^context must hold one array for each of the 1 test documents, got 0$"),
    ],
)
def test_ranges_are_checked(changes, message):
    given = {"train": [np.array([0, 2])], "test": [np.array([1])], "num_symbols": 3, "order": 2}
    with pytest.raises(ValueError, match=message):
        witten_bell(**(given | changes))


@pytest.fixture(scope="module")
def tinyshakespeare():
    symbols, text = np.unique(np.fromfile(corpus("tinyshakespeare/input.txt"), dtype=np.uint8), return_inverse=True)
    assert (len(symbols), len(text)) == (65, 1_115_394)
    return text


def test_tinyshakespeare_90_10(tinyshakespeare):
    train, test = tinyshakespeare[:1_003_854], tinyshakespeare[1_003_854:]
    nats = witten_bell([train], [test], 65, 6, context=[train])
    assert nats.shape == (6, 111_540)
    assert nats.mean(axis=1)[2:] == pytest.approx([2.049, 1.774, 1.669, 1.698], abs=5e-4)


def test_tinyshakespeare_in_the_streams_of_char_rnn(tinyshakespeare):
    """Each of 50 streams is a document whose first 423 of 446 windows are for training."""
    streams = tinyshakespeare[: 446 * 2500].reshape(50, 446 * 50)
    train, test = list(streams[:, : 423 * 50]), list(streams[:, 423 * 50 :])
    nats = witten_bell(train, test, 65, 5, context=train)
    assert nats.mean(axis=1)[4] == pytest.approx(1.463, abs=5e-4)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=8), max_size=4),
    st.lists(st.integers(0, 2), max_size=6),
    st.integers(1, 4),
)
def test_symbol_by_symbol_it_is_the_same(train, text, order):
    documents = [np.array(document, dtype=np.int64) for document in train]
    expected = witten_bell(documents, [np.array(text, dtype=np.int64)], 3, order)[-1]
    model = NGram(train, 3, order)
    state = model.start()
    for symbol, nats in zip(text, expected, strict=True):
        log_prob, state = model.score(state, symbol)
        assert -log_prob == pytest.approx(nats, rel=1e-9)


def test_what_an_ngram_cannot_count_is_told():
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGram([], 3, 0)
    with pytest.raises(ValueError, match="symbols must be from 0 to 2, got 1 to 3"):
        NGram([[1, 3]], 3, 2)
