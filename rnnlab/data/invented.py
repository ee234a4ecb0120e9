"""Made-up words that are inflected as known ones are, so that a network learns to copy a stem that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

Word = tuple[str, str]  # a form and its lemma

_KEPT = 3  # letters at the end of a form, which say how it is inflected
_BEFORE_CHANGE = 2  # letters before the first that form and lemma do not share, which may bear on it


def invent_words(words: Sequence[Word], number: int, seed: int) -> list[tuple[int, str, str]]:
    """Put other letters into the stems of words drawn from those given (Anastasopoulos and Neubig, 2019).

    A stem is what a form and its lemma begin with, but for case, without its last letters. A letter becomes one of the
    alphabet of the words, as likely as it is there, of the same case; a digit becomes a digit; the rest stays.

    Args:
        words: forms and lemmas, at least one.
        number: words to draw; those with a stem of less than two letters are dropped.
        seed: of the random numbers.

    Returns:
        Of each word left: the index of the one it is like, its form and its lemma.

    Example:
        >>> invent_words([("walked", "walk")], 2, seed=0)
        [(0, 'aelked', 'aelk'), (0, 'aalked', 'aalk')]
    """
    rng = np.random.default_rng([seed, number])
    letters = Counter(letter.lower() for form, _ in words for letter in form if letter.isalpha())
    alphabet = sorted(letters)
    shares = np.array([letters[letter] for letter in alphabet], dtype=np.float64)
    result = []
    for index in rng.integers(len(words), size=number).tolist():
        form, lemma = words[index]
        stem = _stem_length(form, lemma)
        if stem < 2:
            continue
        drawn = rng.choice(len(alphabet), size=stem, p=shares / shares.sum()) if alphabet else np.zeros(stem, int)
        digits = rng.integers(10, size=stem)
        new = [
            (str(digit), str(digit))
            if old.isdecimal()
            else (_cased(alphabet[letter], old), _cased(alphabet[letter], kept))
            if old.isalpha()
            else (old, kept)
            for old, kept, letter, digit in zip(form[:stem], lemma[:stem], drawn, digits, strict=True)
        ]
        heads = ("".join(part) for part in zip(*new, strict=True))
        result.append((index, next(heads) + form[stem:], next(heads) + lemma[stem:]))
    return result


def _stem_length(form: str, lemma: str) -> int:
    shared = 0
    while shared < min(len(form), len(lemma)) and form[shared].lower() == lemma[shared].lower():
        shared += 1
    if shared < max(len(form), len(lemma)):
        shared -= _BEFORE_CHANGE
    return min(shared, len(form) - _KEPT)


def _cased(letter: str, like: str) -> str:
    """Return a letter in the case of another; one without that case, such as 'ß', as it is."""
    other = letter.upper() if like.isupper() else letter.lower()
    return other if len(other) == 1 else letter
