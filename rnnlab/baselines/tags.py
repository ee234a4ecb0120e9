"""Taggers that count: the most frequent tag of each word, endings of unseen words, and a hidden Markov model.

Letters: T tokens of a sentence, K tags.

All three learn from sentences that are pairs (forms, tags) and tag sentences of the same kind, whose own tags they do
not read. A token without a tag (None) is not learnt from and not scored, but is tagged. Words are compared as they are
written, capitals and all. Ties go to the tag that comes first in the training sentences: first with that word where
the counts of one word tie, first of all elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Sentences = Sequence[tuple[Sequence[str], Sequence[str | None]]]

# Words that come at most this often stand for unseen ones (Brants, 2000), and this much of their end is looked at.
_RARE, _LONGEST_ENDING = 10, 5


class TagScores(NamedTuple):
    """Shares of 1 over tokens that have a tag; NaN where there is no such token.

    Attributes:
        accuracy: tokens tagged right.
        unseen_accuracy: the same over tokens whose form never occurs in the training sentences.
        unseen_share: how many tokens these are.
    """

    accuracy: float
    unseen_accuracy: float
    unseen_share: float


def score_tags(train: Sentences, test: Sentences, predicted: Sequence[Sequence[str]]) -> TagScores:
    """Compare predicted tags with those of `test`.

    Raises:
        ValueError: the predictions are not one tag for each token of `test`.
    """
    if [len(tags) for tags in predicted] != [len(tags) for _, tags in test]:
        raise ValueError("predicted must hold one tag for each token of test, sentence by sentence")
    seen = {form for forms, _ in train for form in forms}
    right, unseen = [], []
    for (forms, tags), guesses in zip(test, predicted, strict=True):
        for form, tag, guess in zip(forms, tags, guesses, strict=True):
            if tag is not None:
                right.append(guess == tag)
                unseen.append(form not in seen)
    right_unseen = [flag for flag, new in zip(right, unseen, strict=True) if new]
    return TagScores(_share(right), _share(right_unseen), _share(unseen))


def most_frequent(train: Sentences, test: Sentences) -> list[list[str]]:
    """Give each word its most frequent tag, and an unseen word the most frequent tag of all.

    Raises:
        ValueError: no token of `train` has a tag.

    Example:
        >>> train = [(["the", "can", "can", "leak"], ["DET", "NOUN", "AUX", "VERB"]), (["a", "can"], ["DET", "NOUN"])]
        >>> most_frequent(train, [(["the", "can"], [None, None])])
        [['DET', 'NOUN']]
    """
    words, tags = _count(train)
    usual = {form: _largest(counts) for form, counts in words.items()}
    otherwise = _largest(tags)
    return [[usual.get(form, otherwise) for form in forms] for forms, _ in test]


def suffix_backoff(train: Sentences, test: Sentences) -> list[list[str]]:
    """Give each word its most frequent tag, and an unseen word the most likely tag of its ending and shape.

    Raises:
        ValueError: no token of `train` has a tag.
    """
    words, tags = _count(train)
    names = list(tags)
    usual = {form: _largest(counts) for form, counts in words.items()}
    tags_of_unseen = _unseen_words(train, words, tags)

    def tag(form: str, first: bool) -> str:
        return usual[form] if form in usual else names[tags_of_unseen(form, first).argmax()]

    return [[tag(form, index == 0) for index, form in enumerate(forms)] for forms, _ in test]


def hmm(train: Sentences, test: Sentences) -> list[list[str]]:
    """Give each sentence its most likely tags under a trigram hidden Markov model, TnT (Brants, 2000).

    The tags maximise prod_t P(tag_t | tag_{t-2}, tag_{t-1}) P(word_t | tag_t), the end of the sentence being one tag
    more. A word has the tags it was seen with; for an unseen one P(word | tag) goes as P(tag | ending) / P(tag). The
    search is exact, without a beam: 8 (K + 1)^3 bytes, and a run of unseen words takes K^3 sums a word.

    Raises:
        ValueError: no token of `train` has a tag.
    """
    words, tags = _count(train)
    names = {tag: number for number, tag in enumerate(tags)}
    totals = np.array(list(tags.values()), dtype=np.float64)
    transitions = log_transitions(
        [[-1 if tag is None else names[tag] for tag in sentence_tags] for _, sentence_tags in train], len(names)
    )
    tags_of_unseen = _unseen_words(train, words, tags)

    def emission(form: str, first: bool) -> np.ndarray:
        counts = _vector(words[form], names) if form in words else tags_of_unseen(form, first)
        return np.log(counts / totals, out=np.full(len(totals), -np.inf), where=counts > 0)

    by_number, result = list(tags), []
    for forms, _ in test:
        path = viterbi([emission(form, index == 0) for index, form in enumerate(forms)], transitions)
        result.append([by_number[number] for number in path])
    return result


def log_transitions(sequences: Sequence[Sequence[int]], num_tags: int) -> np.ndarray:
    """Return log P(c | a, b) of trigrams of tags by deleted interpolation (Brants, 2000, figure 1).

    P = l3 c(abc) / c(ab) + l2 c(bc) / c(b) + l1 c(c) / n: each trigram that was seen votes, as often as it was, for
    the order that predicts it best when one occurrence of it is taken away; ties are votes for the higher order.

    Args:
        sequences: numbers of tags; -1 is an unknown tag, and trigrams over it are left out.
        num_tags: K.

    Returns:
        (K + 1, K + 1, K + 1), where K is the edge of a sentence: two stand before it and one behind. What has
        probability 0 gets the logarithm of the smallest number instead, for there must be a best path.
    """
    edge, size = num_tags, num_tags + 1
    trigrams = []
    for sequence in sequences:
        path = [edge, edge, *sequence, edge]
        trigrams += [trigram for trigram in zip(path, path[1:], path[2:], strict=False) if min(trigram) >= 0]
    shape = (size, size, size)
    columns = np.array(trigrams, dtype=np.int64).reshape(-1, 3).T
    codes, count = np.unique(np.ravel_multi_index(tuple(columns), shape), return_counts=True)
    a, b, c = np.unravel_index(codes, shape)
    pairs_before, pairs = np.zeros((2, size, size))
    np.add.at(pairs_before, (a, b), count)
    np.add.at(pairs, (b, c), count)
    before, single = pairs.sum(axis=1), pairs.sum(axis=0)

    left_out = [
        _ratio(count - 1, pairs_before[a, b] - 1),
        _ratio(pairs[b, c] - 1, before[b] - 1),
        _ratio(single[c] - 1, single.sum() - 1),
    ]
    votes = np.bincount(np.argmax(left_out, axis=0), weights=count, minlength=3)
    weight_3, weight_2, weight_1 = votes / max(1, votes.sum())
    lower = weight_2 * _ratio(pairs, before[:, None]) + weight_1 * _ratio(single, single.sum())
    table = np.repeat(lower[None], size, axis=0)
    table[a, b, c] += weight_3 * count / pairs_before[a, b]
    return np.log(np.maximum(table, np.finfo(np.float64).tiny, out=table), out=table)


def viterbi(emissions: Sequence[np.ndarray], transitions: np.ndarray) -> list[int]:
    """Return the best path of a trigram model; of equal ones the one of lower tags, compared from its end.

    A tag whose emission is -inf is not considered.

    Args:
        emissions: T rows of log P(word | tag), each (K,) with one finite number at least.
        transitions: from `log_transitions`.
    """
    edge = transitions.shape[0] - 1
    last = second_last = np.array([edge])
    score = np.zeros((1, 1))  # of the best path that ends in (second_last, last)
    candidates, best_before = [], []
    for emission in emissions:
        tags = np.flatnonzero(emission > -np.inf)
        scores = score[:, :, None] + transitions[np.ix_(second_last, last, tags)]
        best_before.append(scores.argmax(axis=0))
        candidates.append(tags)
        score = scores.max(axis=0) + emission[tags]
        second_last, last = last, tags
    score = score + transitions[np.ix_(second_last, last, [edge])][:, :, 0]
    left, right = np.unravel_index(score.argmax(), score.shape)
    path = []
    for tags, best in zip(reversed(candidates), reversed(best_before), strict=True):
        path.append(int(tags[right]))
        left, right = best[left, right], left
    return path[::-1]


def _unseen_words(
    train: Sentences, words: dict[str, Counter[str]], tags: Counter[str]
) -> Callable[[str, bool], np.ndarray]:
    """Return a function from an unseen form, and whether it is the first of its sentence, to P(tag | ending) (K,).

    Learnt from the rare words of `train`, each of which counts once with each of its tags. Endings of one shape are
    abstracted one by one, as in TnT, but with the weights of Witten and Bell (1991) in place of a constant:
    P_k = (c(ending of k letters, tag) + n P_{k-1}) / (c(ending) + n), n different tags of this ending, below which
    stands the share of each tag among all tokens.
    """
    names = {tag: number for number, tag in enumerate(tags)}
    rare = {(form, _shape(form, first), tag) for form, tag, first in _tokens(train) if words[form].total() <= _RARE}
    counts: dict[tuple[str, str], np.ndarray] = {}
    for form, shape, tag in rare:
        for ending in _endings(form):
            counts.setdefault((shape, ending), np.zeros(len(names)))[names[tag]] += 1
    share = _vector(tags, names) / tags.total()

    def distribution(form: str, first: bool) -> np.ndarray:
        shape, result = _shape(form, first), share
        for ending in _endings(form):
            if (shape, ending) not in counts:
                break
            seen = counts[shape, ending]
            different = np.count_nonzero(seen)
            result = (seen + different * result) / (seen.sum() + different)
        return result

    return distribution


def _shape(form: str, first: bool) -> str:
    """Return what a word looks like; capitals say less at the beginning of a sentence."""
    if any(character.isdigit() for character in form):
        kind = "digits"
    elif not any(character.isalpha() for character in form):
        kind = "no letters"
    elif len(form) > 1 and form.isupper():
        kind = "capitals"
    elif form[0].isupper():
        kind = "first, capital" if first else "capital"
    else:
        kind = "small"
    return f"{kind}, hyphen" if "-" in form[1:-1] else kind


def _endings(form: str) -> list[str]:
    """Return the ends of a word in small letters, the empty one first."""
    small = form.lower()
    return [small[len(small) - length :] for length in range(min(_LONGEST_ENDING, len(small)) + 1)]


def _tokens(train: Sentences) -> Iterator[tuple[str, str, bool]]:
    """Yield form, tag and whether it is the first of its sentence, of each token with a tag."""
    for forms, tags in train:
        for index, (form, tag) in enumerate(zip(forms, tags, strict=True)):
            if tag is not None:
                yield form, tag, index == 0


def _count(train: Sentences) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """Return the tags of each form with their counts, and those of all tokens, each in the order they come in."""
    words: dict[str, Counter[str]] = {}
    tags: Counter[str] = Counter()
    for form, tag, _ in _tokens(train):
        words.setdefault(form, Counter())[tag] += 1
        tags[tag] += 1
    if not tags:
        raise ValueError("the sentences to learn from must hold at least one token with a tag, got none")
    return words, tags


def _largest(counts: Counter[str]) -> str:
    return max(counts, key=counts.__getitem__)


def _vector(counts: Counter[str], names: dict[str, int]) -> np.ndarray:
    result = np.zeros(len(names))
    for tag, count in counts.items():
        result[names[tag]] = count
    return result


def _ratio(top: np.ndarray, bottom: np.ndarray | float) -> np.ndarray:
    """Divide; 0 where the divisor is not above 0."""
    return np.divide(top, bottom, out=np.zeros_like(top, dtype=np.float64), where=bottom > 0)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")
