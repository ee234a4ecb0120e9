"""Spelling to sounds without a network: each letter stands for no, one or two sounds.

Letters: N words of S letters and U sounds each, L different letters and P different sounds.

Which letter stands for which sounds is learnt from words alone, by expectation maximisation over all ways to divide the
sounds of a word among its letters in their order: P(sounds | letters) = sum over ways, prod over letters of P(chunk |
letter). A chunk is up to two sounds; words of more than twice as many sounds as letters are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.baselines.pairs import Answers, Tokens

LetterPairs = Sequence[tuple[Tokens, Tokens]]
Unit = tuple[str, Tokens]  # a letter and its chunk

_LONGEST = 2  # sounds of a chunk
_ROUNDS = 6  # of expectation maximisation; the likelihood changes little after them


class _Group(NamedTuple):
    """Words of as many letters and sounds: where they stand, letters (N, S) and sounds (N, U)."""

    places: list[int]
    letters: np.ndarray
    sounds: np.ndarray


def align(pairs: LetterPairs) -> list[list[Unit]]:
    """Return the letters of each word with the sounds each most likely stands for, of those words that can be divided.

    Example:
        >>> align([(("a", "x"), ("AE", "K", "S")), (("a",), ("AE",))])
        [[('a', ('AE',)), ('x', ('K', 'S'))], [('a', ('AE',))]]
    """
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (word, sounds) in enumerate(pairs):
        if word and len(sounds) <= _LONGEST * len(word):
            places[len(word), len(sounds)].append(place)
    usable = [pairs[row] for rows in places.values() for row in rows]
    letter_ids = {letter: k for k, letter in enumerate(sorted({letter for word, _ in usable for letter in word}))}
    sound_ids = {sound: k for k, sound in enumerate(sorted({sound for _, sounds in usable for sound in sounds}))}
    groups = [
        _Group(
            rows,
            np.array([[letter_ids[letter] for letter in pairs[row][0]] for row in rows]).reshape(len(rows), -1),
            np.array([[sound_ids[s] for s in pairs[row][1]] for row in rows], dtype=np.int64).reshape(len(rows), -1),
        )
        for rows in places.values()
    ]
    if not groups:
        return []
    shape = (len(letter_ids), len(sound_ids))
    tables = [np.full(shape[:1] + shape[1:] * size, float(max(1, shape[1])) ** -size) for size in range(_LONGEST + 1)]
    for _ in range(_ROUNDS):
        counts = [np.zeros_like(table) for table in tables]
        for group in groups:
            _add_expected(group, tables, counts)
        totals = sum(count.reshape(len(count), -1).sum(axis=1) for count in counts)
        tables = [count / totals.reshape(-1, *[1] * (count.ndim - 1)) for count in counts]
    result: dict[int, list[Unit]] = {}
    for group in groups:
        for place, sizes in zip(group.places, _best_sizes(group, tables).tolist(), strict=True):
            word, sounds = pairs[place]
            ends = np.cumsum(sizes).tolist()
            result[place] = [
                (letter, tuple(sounds[end - size : end])) for letter, size, end in zip(word, sizes, ends, strict=True)
            ]
    return [result[place] for place in sorted(result)]


def _factors(group: _Group, tables: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
    """Return P(chunk | letter) of one letter, for chunks of each size at each place, (N, U + 1 - size)."""
    letters = group.letters[:, step, None]
    num_sounds = group.sounds.shape[1]
    sounds = [group.sounds[:, size : num_sounds + 1 - _LONGEST + size] for size in range(_LONGEST)]
    return [
        np.broadcast_to(tables[0][letters], (len(letters), num_sounds + 1)),
        tables[1][letters, group.sounds],
        tables[2][letters, *sounds] if num_sounds >= _LONGEST else np.zeros((len(letters), 0)),
    ]


def _add_expected(group: _Group, tables: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> None:
    """Add how often each letter is expected to stand for each chunk, by the forward-backward algorithm."""
    num_words, num_letters = group.letters.shape
    num_sounds = group.sounds.shape[1]
    factors = [_factors(group, tables, step) for step in range(num_letters)]
    forward, backward = np.zeros((2, num_letters + 1, num_words, num_sounds + 1))
    forward[0, :, 0] = backward[-1, :, -1] = 1
    for step in range(num_letters):
        for size, factor in enumerate(factors[step][: num_sounds + 1]):
            forward[step + 1, :, size:] += forward[step, :, : num_sounds + 1 - size] * factor
    for step in reversed(range(num_letters)):
        for size, factor in enumerate(factors[step][: num_sounds + 1]):
            backward[step, :, : num_sounds + 1 - size] += backward[step + 1, :, size:] * factor
    whole = forward[-1, :, -1, None]
    for step in range(num_letters):
        letters = np.broadcast_to(group.letters[:, step, None], (num_words, num_sounds + 1))
        for size, factor in enumerate(factors[step][: num_sounds + 1]):
            width = num_sounds + 1 - size
            expected = forward[step, :, :width] * factor * backward[step + 1, :, size:] / whole
            index = (letters[:, :width], *(group.sounds[:, k : k + width] for k in range(size)))
            flat = np.ravel_multi_index(index, counts[size].shape).ravel()
            counts[size] += np.bincount(flat, expected.ravel(), counts[size].size).reshape(counts[size].shape)


def _best_sizes(group: _Group, tables: Sequence[np.ndarray]) -> np.ndarray:
    """Return how many sounds each letter has in the likeliest division, (N, S)."""
    num_words, num_letters = group.letters.shape
    num_sounds = group.sounds.shape[1]
    best = np.zeros((num_words, num_sounds + 1))
    best[:, 0] = 1
    choices = []
    for step in range(num_letters):
        options = np.zeros((_LONGEST + 1, num_words, num_sounds + 1))
        for size, factor in enumerate(_factors(group, tables, step)[: num_sounds + 1]):
            options[size, :, size:] = best[:, : num_sounds + 1 - size] * factor
        choices.append(options.argmax(axis=0))
        best = options.max(axis=0)
    at, rows, sizes = np.full(num_words, num_sounds), np.arange(num_words), []
    for choice in reversed(choices):
        sizes.append(choice[rows, at])
        at = at - sizes[-1]
    return np.stack(sizes[::-1], axis=1)


def letter_table(aligned: Sequence[Sequence[Unit]]) -> Answers:
    """Return a function that gives each letter its likeliest sounds between its neighbours, or else by itself.

    Args:
        aligned: words, as `align` returns them.
    """
    seen: dict[tuple[str, ...], Counter[Tokens]] = defaultdict(Counter)
    for units in aligned:
        for window, (_, chunk) in zip(_windows([letter for letter, _ in units]), units, strict=True):
            seen[window][chunk] += 1
            seen[window[1:2]][chunk] += 1
    table = {window: max(chunks, key=chunks.__getitem__) for window, chunks in seen.items()}

    def answer(sources: Sequence[Tokens]) -> list[Tokens]:
        return [
            tuple(
                sound
                for window in _windows(source)
                for sound in (table[window] if window in table else table.get(window[1:2], ()))
            )
            for source in sources
        ]

    return answer


def _windows(word: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return each letter between its neighbours, '' at the edges."""
    return list(zip(["", *word[:-1]], word, [*word[1:], ""], strict=True))
