"""Symbols have fixed numbers, unknown ones that of the unknown symbol."""

import pytest

from rnnlab.data.vocabulary import PADDING, UNKNOWN, Vocabulary


def test_order_is_special_then_sorted():
    words = Vocabulary.of(["b", "a", "b", "c"], special=(PADDING, UNKNOWN), min_count=2)
    assert words.symbols == (PADDING, UNKNOWN, "b") and len(words) == 3 and "a" not in words
    assert words.encode(["a", "b", PADDING]) == [1, 2, 0]
    assert words.decode([2, 1]) == ["b", UNKNOWN]


def test_what_is_not_there_is_refused_without_an_unknown_symbol():
    with pytest.raises(KeyError, match="z"):
        Vocabulary("ab")["z"]


def test_symbols_differ():
    with pytest.raises(ValueError, match="'a' comes twice"):
        Vocabulary("aba")
