"""Counting taggers: their models written down with dictionaries, all paths tried, and known results on UD English."""

import gzip
import itertools
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab.baselines import hmm, most_frequent, score_tags, suffix_backoff
from rnnlab.baselines.tags import log_transitions, viterbi
from tests.corpora import corpus


class Sentence(NamedTuple):
    forms: tuple[str, ...]
    tags: tuple[str | None, ...]


def sentence(text):
    """Return a sentence from `form/TAG form ...`."""
    pairs = [token.partition("/") for token in text.split()]
    return Sentence(tuple(form for form, _, _ in pairs), tuple(tag or None for _, _, tag in pairs))


TRAIN = [sentence("the/DET can/NOUN can/AUX leak/VERB"), sentence("a/DET can/NOUN"), sentence("the/DET leak/NOUN")]
TAGGERS = pytest.mark.parametrize("tagger", [most_frequent, suffix_backoff, hmm])


def test_most_frequent():
    test = [sentence("can leak oil"), sentence("The the")]
    # "leak" was a verb first and a noun as often; of all tags DET and NOUN are most frequent; "The" is not "the".
    assert most_frequent(TRAIN, test) == [["NOUN", "VERB", "DET"], ["DET", "DET"]]
    assert most_frequent([*TRAIN, sentence("can/NOUN")], test) == [["NOUN", "VERB", "NOUN"], ["NOUN", "DET"]]


def test_suffix_backoff_knows_endings_and_shapes():
    texts = ["she/PRON sees/VERB Ann/PROPN", "he/PRON hears/VERB Bob/PROPN in/ADP 1990/NUM", "it/PRON eats/VERB 7/NUM"]
    train = [*map(sentence, texts), *[sentence("the/DET")] * 20]
    assert suffix_backoff(train, [sentence("the knows Tim 1,5 she")]) == [["DET", "VERB", "PROPN", "NUM", "PRON"]]
    assert most_frequent(train, [sentence("knows Tim 1,5")]) == [["DET"] * 3]


def test_suffix_backoff_falls_back_on_the_most_frequent_tag():
    assert suffix_backoff([*TRAIN, sentence("a/DET")], [sentence("?! 3 X-Y")]) == [["DET"] * 3]


def test_hmm_reads_the_neighbours():
    train = [sentence("the/DET can/NOUN leaks/VERB"), sentence("they/PRON can/AUX leak/VERB")] * 3
    assert hmm(train, [sentence("the can"), sentence("they can leak")]) == [["DET", "NOUN"], ["PRON", "AUX", "VERB"]]


@TAGGERS
def test_tokens_without_a_tag_are_tagged_and_not_learnt(tagger):
    holes = [*TRAIN, sentence("the can of"), sentence("of the/DET can/NOUN")]
    test = [sentence("the can of"), Sentence((), ())]
    predicted = tagger(holes, test)
    assert [len(tags) for tags in predicted] == [3, 0]
    assert all(tag in ("DET", "NOUN", "AUX", "VERB") for tag in predicted[0])
    # What they predict does not depend on the tags of the test sentences.
    assert tagger(holes, [sentence("the/VERB can/VERB of/VERB"), Sentence((), ())]) == predicted


@TAGGERS
def test_nothing_to_learn_from(tagger):
    with pytest.raises(ValueError, match="must hold at least one token with a tag, got none"):
        tagger([sentence("the can")], [sentence("the")])


@TAGGERS
def test_a_single_token_is_enough(tagger):
    assert tagger([sentence("no/A hole"), sentence("b")], [sentence("x no")]) == [["A", "A"]]


def test_scores():
    train = [sentence("the/DET can/NOUN of")]
    test = [sentence("the/DET oil/NOUN of/ADP"), sentence("oil/VERB can")]
    assert score_tags(train, test, [["DET", "NOUN", "X"], ["NOUN", "X"]]) == (2 / 4, 1 / 2, 2 / 4)
    scores = score_tags(train, [sentence("the can")], [["DET", "NOUN"]])
    assert all(math.isnan(score) for score in scores)
    assert math.isnan(score_tags(train, [sentence("the/DET")], [["DET"]]).unseen_accuracy)
    for predicted in ([["DET"]], [["DET", "NOUN"], []], []):
        with pytest.raises(ValueError, match="one tag for each token"):
            score_tags(train, [sentence("the can")], predicted)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_viterbi_finds_the_best_of_all_paths(num_tags, num_steps, seed):
    rng = np.random.default_rng(seed)
    # Few different numbers, so that there are ties.
    transitions = rng.integers(-3, 0, (num_tags + 1,) * 3).astype(float)
    emissions = rng.integers(-3, 0, (num_steps, num_tags)).astype(float)
    emissions[(rng.random(emissions.shape) < 0.3) & (emissions < emissions.max(axis=1, keepdims=True))] = -np.inf

    def score(path):
        edges = [num_tags, num_tags, *path, num_tags]
        steps = sum(transitions[trigram] for trigram in zip(edges, edges[1:], edges[2:], strict=False))
        return steps + sum(emissions[step, tag] for step, tag in enumerate(path))

    paths = list(itertools.product(range(num_tags), repeat=num_steps))
    best = max(map(score, paths))
    found = viterbi(list(emissions), transitions)
    assert score(found) == best
    assert found == viterbi(list(emissions), transitions)


def trigrams_of(sequences, edge):
    for sequence in sequences:
        path = [edge, edge, *sequence, edge]
        yield from (path[i : i + 3] for i in range(len(path) - 2) if -1 not in path[i : i + 3])


def deleted_interpolation(sequences, num_tags):
    """Return probabilities by the algorithm of Brants (2000), figure 1, with dictionaries."""
    three, two, one, before_two, before_one = Counter(), Counter(), Counter(), Counter(), Counter()
    for a, b, c in trigrams_of(sequences, num_tags):
        three[a, b, c] += 1
        two[b, c] += 1
        one[c] += 1
        before_two[a, b] += 1
        before_one[b] += 1
    votes = [0, 0, 0]
    for (a, b, c), count in three.items():
        values = [
            (count - 1) / (before_two[a, b] - 1) if before_two[a, b] > 1 else 0,
            (two[b, c] - 1) / (before_one[b] - 1) if before_one[b] > 1 else 0,
            (one[c] - 1) / (one.total() - 1) if one.total() > 1 else 0,
        ]
        votes[values.index(max(values))] += count
    weights = [vote / sum(votes) for vote in votes]

    def probability(a, b, c):
        parts = (
            three[a, b, c] / before_two[a, b] if before_two[a, b] else 0,
            two[b, c] / before_one[b] if before_one[b] else 0,
            one[c] / one.total(),
        )
        return sum(weight * part for weight, part in zip(weights, parts, strict=True))

    return probability


tag_sequences = st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@settings(deadline=None, max_examples=100)
@given(tag_sequences.filter(lambda sequences: any(trigrams_of(sequences, 3))))
def test_deleted_interpolation(sequences):
    table = np.exp(log_transitions(sequences, 3))
    probability = deleted_interpolation(sequences, 3)
    for trigram in itertools.product(range(4), repeat=3):
        assert table[trigram] == pytest.approx(probability(*trigram), rel=1e-9, abs=1e-300)
    for a, b, _ in trigrams_of(sequences, 3):
        assert table[a, b].sum() == pytest.approx(1, rel=1e-9)


def test_transitions_without_any_trigram_leave_every_path_open():
    assert np.isfinite(log_transitions([[-1, -1]], 2)).all()


def ending_model(train, tags):
    """Return P(tag | ending) of words in small letters, every one of them rare, as a recursion over endings."""
    learnt = {(form, tag) for forms, form_tags in train for form, tag in zip(forms, form_tags, strict=True)}
    overall = Counter(tag for _, form_tags in train for tag in form_tags)

    def probability(tag, ending):
        shorter = probability(tag, ending[1:]) if ending else overall[tag] / overall.total()
        counts = Counter(known for form, known in learnt if form.endswith(ending))
        return (counts[tag] + len(counts) * shorter) / (counts.total() + len(counts)) if counts else shorter

    return lambda form: {tag: probability(tag, form[-5:]) for tag in tags}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_suffix_backoff_takes_the_likeliest_tag_of_the_ending(seed):
    rng = np.random.default_rng(seed)
    tags = ["A", "B", "C"]
    forms = ["".join(rng.choice(list("xy"), rng.integers(1, 8))) for _ in range(40)]
    train = [Sentence(tuple(forms[:20]), tuple(rng.choice(tags, 20).tolist()))]
    endings = ending_model(train, sorted(set(train[0].tags)))
    unseen = [form for form in forms if form not in train[0].forms]
    for form, tag in zip(
        unseen, suffix_backoff(train, [Sentence(tuple(unseen), (None,) * len(unseen))])[0], strict=True
    ):
        assert endings(form)[tag] == pytest.approx(max(endings(form).values()), rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_hmm_finds_the_best_of_all_tag_sequences(seed):
    rng = np.random.default_rng(seed)
    tags = ["A", "B", "C"]
    forms = ["".join(rng.choice(list("xyz"), rng.integers(1, 8))) for _ in range(10)]

    def draw(pool, length):
        return Sentence(tuple(rng.choice(pool, length).tolist()), tuple(rng.choice(tags, length).tolist()))

    train = [Sentence(("x", "y", "z"), ("A", "B", "C"))] + [draw(forms[:6], length) for length in (1, 4, 5)]
    words, totals = Counter(), Counter()
    for pair in train:
        words.update(zip(*pair, strict=True))
        totals.update(pair.tags)
    known = {form for form, _ in words}
    transition = deleted_interpolation([[tags.index(tag) for tag in pair.tags] for pair in train], 3)
    endings = ending_model(train, tags)

    def log_probability(sentence_forms, path):
        edges = [3, 3, *(tags.index(tag) for tag in path), 3]
        result = sum(math.log(max(transition(*edges[i : i + 3]), np.finfo(float).tiny)) for i in range(len(path) + 1))
        for form, tag in zip(sentence_forms, path, strict=True):
            value = words[form, tag] if form in known else endings(form)[tag]
            result += math.log(value / totals[tag]) if value else -math.inf
        return result

    test = [draw(forms, length) for length in (1, 2, 4)]
    for (sentence_forms, _), found in zip(test, hmm(train, test), strict=True):
        best = max(log_probability(sentence_forms, path) for path in itertools.product(tags, repeat=len(found)))
        assert log_probability(sentence_forms, found) == pytest.approx(best, rel=1e-9)


def read(part):
    sentences = []
    with gzip.open(corpus(part), "rt", encoding="utf-8") as file:
        blocks = file.read().strip().split("\n\n")
    for block in blocks:
        rows = [line.split("\t") for line in block.split("\n") if not line.startswith("#")]
        rows = [row for row in rows if row[0].isdigit()]
        sentences.append(Sentence(tuple(row[1] for row in rows), tuple(row[3] for row in rows)))
    return sentences


@pytest.mark.parametrize(
    ("corpus", "reference", "unseen", "backed_off", "markov"),
    [("ewt", 86.13, 8.30, 89.24, 92.60), ("lines", 88.41, 9.46, 90.76, 94.44)],
)
def test_real_corpora(corpus, reference, unseen, backed_off, markov):
    """Reference numbers for the first and the share of unseen words; what we measured for the other two."""
    train, dev = (read(f"ud-{corpus}/en_{corpus}-ud-{part}.conllu.gz") for part in ("train", "dev"))
    scores = [score_tags(train, dev, tagger(train, dev)) for tagger in (most_frequent, suffix_backoff, hmm)]
    accuracies = [100 * score.accuracy for score in scores]
    assert accuracies[:2] == pytest.approx([reference, backed_off], abs=0.005)
    assert accuracies[2] == pytest.approx(markov, abs=0.02)
    assert 100 * scores[0].unseen_share == pytest.approx(unseen, abs=0.005)
