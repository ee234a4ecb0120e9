"""The made-up language is what its tables say, and its optimum what enumeration of all tag sequences gives."""

from itertools import product

import numpy as np
import pytest

from rnnlab.data.ambiguous import (
    TAGS,
    bayes_accuracy,
    bayes_expected,
    bayes_tags,
    draw_sentences,
    make_language,
    posteriors,
)
from tests.covering import few

LANGUAGE = make_language()


def enumerated(language, forms):
    """Return the posterior (T, K) as a sum over all K ** T tag sequences."""
    words = [language.forms.index(form) for form in forms]
    result = np.zeros((len(words), len(TAGS)))
    for tags in product(range(len(TAGS)), repeat=len(words)):
        probability = language.start[tags[0]] * language.emission[tags[0], words[0]]
        for step in range(1, len(words)):
            probability *= language.transition[tags[step - 1], tags[step]] * language.emission[tags[step], words[step]]
        result[range(len(words)), tags] += probability
    return result / result.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("num_words", [1, 2, 3, 4])
def test_posteriors_are_those_of_enumeration(seed, num_words):
    language = make_language(seed)
    for sentence in draw_sentences(language, 3, seed):
        forms = sentence.forms[:num_words]
        np.testing.assert_allclose(posteriors(language, forms), enumerated(language, forms), rtol=1e-10, atol=1e-14)


def test_long_sentences_do_not_underflow():
    forms = [form for sentence in draw_sentences(LANGUAGE, 300, 0) for form in sentence.forms]
    found = posteriors(LANGUAGE, forms)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_distributions_over_different_forms(seed):
    language = make_language(seed)
    assert len(set(language.forms)) == len(language.forms) == 192
    for table in (language.start, language.transition, language.emission):
        assert (table >= 0).all()
        np.testing.assert_allclose(table.sum(axis=-1), 1)
    num_tags_of_forms = (language.emission > 0).sum(axis=0)
    assert np.bincount(num_tags_of_forms).tolist() == [0, 96, 96]
    np.testing.assert_allclose(np.sort(language.transition, axis=1)[:, [0, -2, -1]], [[0.04375, 0.04375, 0.69375]] * 8)


def test_everything_is_a_function_of_the_seed():
    again, other = make_language(), make_language(1)
    assert again.forms == LANGUAGE.forms and np.array_equal(again.transition, LANGUAGE.transition)
    assert other.forms != LANGUAGE.forms
    assert draw_sentences(LANGUAGE, 5, [3, 1]) == draw_sentences(again, 5, [3, 1]) != draw_sentences(again, 5, [3, 2])


def test_sentences_are_drawn_from_the_tables():
    sentences = draw_sentences(LANGUAGE, 4_000, 0)
    lengths = np.bincount([len(sentence.forms) for sentence in sentences])
    assert not lengths[:5].any() and len(lengths) == 16
    assert abs(lengths[5:] - 4_000 / 11).max() < 5 * np.sqrt(4_000 / 11)
    transitions, emissions = np.zeros_like(LANGUAGE.transition), np.zeros_like(LANGUAGE.emission)
    index = {form: number for number, form in enumerate(LANGUAGE.forms)}
    for sentence in sentences:
        tags = [TAGS.index(tag) for tag in sentence.tags]
        np.add.at(transitions, (tags[:-1], tags[1:]), 1)
        np.add.at(emissions, (tags, [index[form] for form in sentence.forms]), 1)
    for counts, table in ((transitions, LANGUAGE.transition), (emissions, LANGUAGE.emission)):
        total = counts.sum(axis=1, keepdims=True)
        deviation = np.sqrt(table * (1 - table) / total)
        assert (abs(counts / total - table) <= 5 * deviation).all()
    ends = [sentence.lines[-1] for sentence in sentences[:-1]]
    assert [sentence.lines[0] - end for sentence, end in zip(sentences[1:], ends, strict=True)] == [2] * 3_999


@pytest.mark.parametrize("seed", few(range(3), [1]))
def test_context_is_needed_and_the_optimum_is_reached_as_often_as_expected(seed):
    language = make_language(seed)
    sentences = draw_sentences(language, 1_000, [seed, 9])
    expected, reached = bayes_expected(language, sentences), bayes_accuracy(language, sentences)
    assert 0.93 < expected < 0.955
    num_words = sum(len(sentence.forms) for sentence in sentences)
    assert abs(reached - expected) < 4 * np.sqrt(expected * (1 - expected) / num_words)
    of_one_word = [
        TAGS[posteriors(language, [form]).argmax()] == tag
        for sentence in sentences
        for form, tag in zip(sentence.forms, sentence.tags, strict=True)
    ]
    assert np.mean(of_one_word) < reached - 0.15


def test_no_other_tags_are_right_more_often():
    sentences = draw_sentences(LANGUAGE, 300, 0)
    best = bayes_tags(LANGUAGE, sentences)
    assert [len(row) for row in best] == [len(sentence.forms) for sentence in sentences]
    # Viterbi's decoding, the likeliest sequence, is the rival.
    wrong = [sum(a != b for a, b in zip(viterbi(s.forms), s.tags, strict=True)) for s in sentences]
    assert bayes_accuracy(LANGUAGE, sentences) >= 1 - sum(wrong) / sum(len(s.forms) for s in sentences) - 0.002


def viterbi(forms):
    with np.errstate(divide="ignore"):
        transition, emission = np.log(LANGUAGE.transition), np.log(LANGUAGE.emission)
    words = [LANGUAGE.forms.index(form) for form in forms]
    score, back = emission[:, words[0]], []
    for word in words[1:]:
        paths = score[:, None] + transition
        back.append(paths.argmax(axis=0))
        score = paths.max(axis=0) + emission[:, word]
    tags = [int(score.argmax())]
    for pointers in reversed(back):
        tags.append(int(pointers[tags[-1]]))
    return [TAGS[tag] for tag in reversed(tags)]


@pytest.mark.parametrize(("forms", "got"), [([LANGUAGE.forms[0], "table"], "table"), ([], "no word")])
def test_other_sentences_are_refused(forms, got):
    with pytest.raises(ValueError, match=f"a sentence consists of words of the language, got '{got}'"):
        posteriors(LANGUAGE, forms)
