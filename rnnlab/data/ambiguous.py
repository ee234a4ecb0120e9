"""A small made-up language with ambiguous words, and the best that can be said of their tags.

Sentences are drawn from a hidden Markov model with known tables. Who knows these can compute how likely each tag of a
word is, given the whole sentence, and no tagger is right more often than one that takes the likeliest each time. How
far a trained network stays below that is what it has not learnt.

The K = 8 tags follow each other in a ring, whose order is drawn: after each tag its successor has a probability of
0.65, and 0.35 are divided evenly among all eight; the first tag of a sentence is any. Half of the words of a tag belong
to it alone. The others belong to two tags, neighbours in a second ring, and are as likely under both. There are thus 16
ambiguity classes (the term is of Cutting et al., 1992) of 12 forms each. Within a class, the form of rank r, counted
from 0, has a weight of 1 / (r + 3). A form ends in the suffix of one of its tags, so that spelling says something about
the tag, but not all.

With these numbers, who knows the tables is right for 94% of the words, and who looks at each word alone for 75%.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.data.conllu_text import Sentence

TAGS = ("ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "PRON", "VERB")

_SUFFIXES = ("al", "o", "ly", "u", "e", "ion", "i", "en")  # one a tag
_CONSONANTS, _VOWELS = tuple("bdfgklmnprstvz"), tuple("aeiou")
_SUCCESSOR, _AMBIGUOUS = 0.65, 0.5
_FORMS_OF_A_CLASS = 12
_SHORTEST, _LONGEST = 5, 15


class Language(NamedTuple):
    """A hidden Markov model of K tags and F forms, in float64.

    Attributes:
        forms: the words, all different.
        start: probability of each tag at the first word (K,).
        transition: probability of each tag (column) after each tag (row), (K, K).
        emission: probability of each form (column) under each tag (row), (K, F).
    """

    forms: tuple[str, ...]
    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray


def make_language(seed: int = 0) -> Language:
    """Return the language of a seed, which decides the two rings and the spelling."""
    rng = np.random.default_rng([seed, 0])
    num_tags = len(TAGS)
    ring, pairs = rng.permutation(num_tags), rng.permutation(num_tags)
    transition = np.full((num_tags, num_tags), (1 - _SUCCESSOR) / num_tags)
    transition[ring, np.roll(ring, -1)] += _SUCCESSOR
    neighbours = np.stack([pairs, np.roll(pairs, -1)], axis=1)
    classes = [[tag] for tag in range(num_tags)] + neighbours.tolist()
    share = np.zeros((num_tags, len(classes)))  # of each class under each tag
    for index, tags in enumerate(classes):
        share[tags, index] = 1 - _AMBIGUOUS if len(tags) == 1 else _AMBIGUOUS / 2
    weight = 1 / (np.arange(_FORMS_OF_A_CLASS) + 3)
    emission = np.kron(share, weight / weight.sum())
    return Language(_spell(classes, rng), np.full(num_tags, 1 / num_tags), transition, emission)


def _spell(classes: Sequence[Sequence[int]], rng: np.random.Generator) -> tuple[str, ...]:
    """Return the forms of all classes: one or two syllables, a consonant and the suffix of one of their tags."""
    forms: dict[str, None] = {}
    while len(forms) < len(classes) * _FORMS_OF_A_CLASS:
        tags = classes[len(forms) // _FORMS_OF_A_CLASS]
        syllables = [rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.integers(1, 3))]
        forms["".join([*syllables, rng.choice(_CONSONANTS), _SUFFIXES[rng.choice(tags)]])] = None  # once each
    return tuple(forms)


def draw_sentences(language: Language, num_sentences: int, seed: int | Sequence[int]) -> list[Sentence]:
    """Draw sentences of 5 to 15 words, each length as likely; their lines are numbered as if they stood in one file."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(_SHORTEST, _LONGEST + 1, size=num_sentences)
    tags = np.empty((num_sentences, _LONGEST), dtype=np.int64)
    for step in range(_LONGEST):
        previous = language.start[None] if step == 0 else language.transition[tags[:, step - 1]]
        tags[:, step] = _draw_rows(np.broadcast_to(previous, (num_sentences, len(TAGS))), rng)
    words = _draw_rows(language.emission[tags.ravel()], rng).reshape(tags.shape)
    sentences, line = [], 1
    for length, row_tags, row_words in zip(lengths.tolist(), tags.tolist(), words.tolist(), strict=True):
        forms = [language.forms[word] for word in row_words[:length]]
        lines = list(range(line, line + length))
        sentences.append(Sentence(forms, [TAGS[tag] for tag in row_tags[:length]], lines))
        line += length + 1
    return sentences


def _draw_rows(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a column (N,) from each row of probabilities (N, columns)."""
    cumulative = probabilities.cumsum(axis=1)
    point = rng.random(len(cumulative)) * cumulative[:, -1]  # whose last column is 1 up to rounding
    return (cumulative <= point[:, None]).sum(axis=1)


def posteriors(language: Language, forms: Sequence[str]) -> np.ndarray:
    """Return the probability of each tag of each word, given the sentence, (T, K), by the forward-backward algorithm.

    Both passes are scaled at each step, so that sentences of any length can be computed (Rabiner, 1989).

    Raises:
        ValueError: a word is none of the language, or the sentence has no word.
    """
    likelihood = language.emission[:, _indices(language, forms)].T  # (T, K)
    forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
    before = language.start
    for step, here in enumerate(likelihood):
        forward[step] = before * here / (before @ here)
        before = forward[step] @ language.transition
    for step in range(len(forms) - 2, -1, -1):
        after = language.transition @ (likelihood[step + 1] * backward[step + 1])
        backward[step] = after / after.sum()
    joint = forward * backward
    return joint / joint.sum(axis=1, keepdims=True)


def _indices(language: Language, forms: Sequence[str]) -> list[int]:
    known = {form: index for index, form in enumerate(language.forms)}
    strange = [form for form in forms if form not in known]
    if strange or not forms:
        raise ValueError(f"a sentence consists of words of the language, got {strange[0] if strange else 'no word'!r}")
    return [known[form] for form in forms]


def bayes_tags(language: Language, sentences: Sequence[Sentence]) -> list[list[str]]:
    """Return the likeliest tag of each word, given its whole sentence: the most accurate tags there are."""
    return [[TAGS[tag] for tag in posteriors(language, sentence.forms).argmax(axis=1)] for sentence in sentences]


def bayes_accuracy(language: Language, sentences: Sequence[Sentence]) -> float:
    """Return the share of words that `bayes_tags` gets right."""
    best = bayes_tags(language, sentences)
    pairs = [
        pair for row, sentence in zip(best, sentences, strict=True) for pair in zip(row, sentence.tags, strict=True)
    ]
    return sum(tag == truth for tag, truth in pairs) / len(pairs)


def bayes_expected(language: Language, sentences: Sequence[Sentence]) -> float:
    """Return the share of words that `bayes_tags` is expected to get right, given their forms alone."""
    return float(np.concatenate([posteriors(language, sentence.forms).max(axis=1) for sentence in sentences]).mean())
